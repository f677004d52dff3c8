"""Run the notebooks and keep what they show: `python notebooks/execute.py [NOTEBOOK ...]`, all of them by default."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted(Path(__file__).parent.glob("[0-9]*.ipynb"))
MAX_BYTES = 400_000
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

_DATA = re.compile(r"base64,[A-Za-z0-9+/=]+")
_FORBIDDEN = (
    ("a presigned URL", re.compile(r"X-Amz-|Signature=")),
    ("an access key", re.compile(r"(AKIA|ASIA)[0-9A-Z]{16}")),
    ("an address of this machine", re.compile(r"127\.0\.0\.1|localhost|::1\b")),
    ("a path of a machine", re.compile(r"(?<![\w:/])(/(tmp|home|root|Users|usr|opt|var|private)/|[A-Z]:\\)")),
)


def main(paths: list[str]) -> int:
    """Run each in a folder of its own, and write it back if nothing is wrong with it."""
    wrong = False
    for path in map(Path, paths or NOTEBOOKS):
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(nbformat.read(path, as_version=4), Path(folder))
        faults = faults_of(notebook)
        if not faults:
            nbformat.write(notebook, path)
        print(f"{path.name}: {', '.join(faults) or 'done'}")
        wrong |= bool(faults)
    return int(wrong)


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with its outputs, run in ``folder`` by a kernel of this Python, and no trace of when and where.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # IPython's history goes with the folder. BLAS's threads only wait for each other on matrices as small as these.
    own = {"IPYTHONDIR": str(folder / ".ipython"), "OPENBLAS_NUM_THREADS": "1"}
    client.execute(env={**os.environ, **own})
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
    return notebook


def faults_of(notebook: NotebookNode) -> list[str]:
    """What must not be in a notebook that is handed on."""
    faults = []
    if (size := len(nbformat.writes(notebook).encode())) > MAX_BYTES:
        faults.append(f"{size:,} bytes are more than {MAX_BYTES:,}")
    if notebook.metadata != METADATA or any(cell.metadata for cell in notebook.cells):
        faults.append("metadata")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                faults.append(f"{cell.id} has errors or warnings")
            text = _text(output)
            found = [(what, pattern.search(text)) for what, pattern in _FORBIDDEN]
            faults += [f"{cell.id} holds {what}: {match[0]}" for what, match in found if match]
    return faults


def _text(output: NotebookNode) -> str:
    """What an output says, without pictures and films: chance may write anything into these."""
    texts = [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return _DATA.sub("", "\n".join([output.get("text", ""), *map(str, texts)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

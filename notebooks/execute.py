"""Run notebooks and save their outputs: `python notebooks/execute.py [NOTEBOOK ...]`, by default all of them."""

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
    ("a local address", re.compile(r"127\.0\.0\.1|localhost|::1\b")),
    ("a local path", re.compile(r"(?<![\w:/])(/(tmp|home|root|Users|usr|opt|var|private)/|[A-Z]:\\)")),
)


def main(paths: list[str]) -> int:
    """Run each notebook in a temporary folder, and save it if it has no problems."""
    failed = False
    for path in map(Path, paths or NOTEBOOKS):
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(nbformat.read(path, as_version=4), Path(folder))
        problems = problems_of(notebook)
        if not problems:
            nbformat.write(notebook, path)
        print(f"{path.name}: {', '.join(problems) or 'done'}")
        failed |= bool(problems)
    return int(failed)


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a notebook in ``folder`` with this Python, and remove metadata about when and where it ran.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an error.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # IPython's history is deleted with the folder. On small matrices, BLAS is faster with one thread.
    overrides = {"IPYTHONDIR": str(folder / ".ipython"), "OPENBLAS_NUM_THREADS": "1"}
    client.execute(env={**os.environ, **overrides})
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = NotebookNode()
    return notebook


def problems_of(notebook: NotebookNode) -> list[str]:
    """The reasons not to publish a notebook."""
    problems = []
    if (size := len(nbformat.writes(notebook).encode())) > MAX_BYTES:
        problems.append(f"{size:,} bytes; at most {MAX_BYTES:,} are allowed")
    if notebook.metadata != METADATA or any(cell.metadata for cell in notebook.cells):
        problems.append("unexpected metadata")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                problems.append(f"{cell.id} has errors or warnings")
            text = _text(output)
            found = [(what, pattern.search(text)) for what, pattern in _FORBIDDEN]
            problems += [f"{cell.id} contains {what}: {match[0]}" for what, match in found if match]
    return problems


def _text(output: NotebookNode) -> str:
    """The text of an output, without embedded images and video, whose data may contain any string by chance."""
    texts = [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return _DATA.sub("", "\n".join([output.get("text", ""), *map(str, texts)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

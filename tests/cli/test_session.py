"""The session of docs/cli.md, line by line, as a reader types it."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REEL = ROOT / "marengo_local/marengo_local/reel"


@pytest.fixture
def session():
    """The lines of the second shell."""
    text = (ROOT / "docs/cli.md").read_text("utf-8").partition("## A session")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [line for line in lines if not line.startswith("marengo local")]


def test_each_line_does_what_the_page_says(session, local, marengo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    for name, own in (
        ("big_buck_bunny.mp4", "rabbit.mp4"),
        ("grand_prix_1906.mp4", "race.mp4"),
        ("cat.jpg", "cat.jpg"),
    ):
        shutil.copy(REEL / name, Path("clips", own))
        local.put(REEL / name, f"clips/{own}")
    said = {}
    for line in session:
        _, *words = shlex.split(line.replace("s3://bucket/", f"s3://{local.bucket}/"))
        result = marengo(*words)
        assert result.exit_code == 0, (line, result.output)
        said[line] = result.stdout
    assert len(said) == 6
    assert Path("out.html").exists()
    assert len(local.calls.of("StartAsyncInvoke")) == 2

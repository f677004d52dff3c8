"""What reaches a terminal or a file: letters may be lost, the result isn't; and nothing in it gives orders."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# A letter of no 8-bit encoding, an escape sequence, a line break, and a mark that reorders the line.
NAME = "視\x1b[31m\n\u202e.jpg"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(REEL / "cat.jpg", tmp_path / NAME)
    (tmp_path / f"bad{NAME}").write_bytes(b"x" * 6_000_000)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, C_LOCALE], ids=["cp1252", "ascii", "C"]
)
@pytest.mark.parametrize("command", ["search --local cat", "embed --local --yes -v"], ids=["search", "embed"])
def test_letters_that_the_encoding_lacks(folder, env, command):
    words = [sys.executable, "-m", "marengo_cli", *command.split(), str(folder)]
    ended = subprocess.run(words, capture_output=True, env={**os.environ, **env}, timeout=120)
    assert ended.returncode == 1, ended.stderr
    said = (ended.stdout + ended.stderr).decode("ascii")
    # In the C locale, Python reads the name as bytes that it can't decode.
    shown = ascii(NAME.encode().decode("ascii", "surrogateescape") if env is C_LOCALE else NAME)[1:-1]
    assert f"bad{shown}: " in said
    if command.startswith("search"):
        assert f"1 | {shown}" in said
    assert "\x1b" not in said
    assert "Traceback" not in said


def test_the_stand_in_prints_no_name_that_gives_orders(tmp_path):
    """Its output is meant to be pasted into a shell."""
    (tmp_path / "視 \x1b[31m").mkdir()
    (tmp_path / "視 \x1b[31m" / "a.mp4").write_bytes(b"x")
    words = [sys.executable, "-m", "marengo_local", str(tmp_path / "視 \x1b[31m")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"}) as server:
        lines = [line.decode("ascii") for line in iter(server.stdout.readline, b"")] if server.poll() else []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(server.stdout.readline().decode("ascii"))
        server.terminate()
    assert all(line.startswith(("export ", "unset ", "# ")) for line in lines)
    assert "\\u8996 \\x1b[31m is uploaded" in "".join(lines)

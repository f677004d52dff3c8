"""The command line against the stand-in's real HTTP, as a user types it."""

import contextlib
import os
import pty
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from bedrock_marengo import MarengoClient
from marengo_cli.app import app

MEDIA_SEC = 12.0


@pytest.fixture(autouse=True)
def _default_width(monkeypatch):
    """Tables are as wide as in a pipe, whatever terminal the suite runs in."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path_factory):
    """Where vectors of local files are kept: not in the cache of whoever runs the suite."""
    folder = tmp_path_factory.mktemp("cache")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr("marengo_cli.local_cache.default_folder", lambda: folder / "default")
    return folder


@pytest.fixture
def local(marengo_bedrock):
    """The stand-in: each file lasts 12 s, vectors are drawn from a hash. The environment points at it."""
    marengo_bedrock.synthetic_sec = MEDIA_SEC
    return marengo_bedrock


@pytest.fixture
def marengo(local):
    """Run a command in this process."""

    def run(*words, **settings):
        return CliRunner().invoke(app, [str(word) for word in words], **settings)

    return run


@pytest.fixture
def shell(local):
    """Start a command in a process of its own; nothing of it is left at the end."""
    started = []

    def start(*words, **settings):
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
        command = [sys.executable, "-m", "marengo_cli", *map(str, words)]
        started.append(subprocess.Popen(command, text=True, env={**os.environ, "COLUMNS": "100"}, **settings))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def in_terminal(shell):
    """Run a command with a terminal for stdin, stdout and stderr; answer its question by typing, or by a signal."""

    def run(*words, answer, question=b"[y/N]"):
        ours, theirs = pty.openpty()
        process = shell(*words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said, asked = b"", False
        # Linux reports the other side's end as an error.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                said += piece
                if question in said and not asked:
                    asked = True
                    # A signal between the question and Python's read would be lost until a key is pressed.
                    time.sleep(0.3)
                    process.send_signal(answer) if isinstance(answer, int) else os.write(ours, answer.encode())
        os.close(ours)
        process.wait(15)
        return process, said.decode()

    return run


@pytest.fixture
def client(local):
    with MarengoClient(**local.client_options) as client:
        yield client


@pytest.fixture
def bucket(local):
    """A prefix with three videos."""
    for name in ("a", "b", "c"):
        local.put(f"video {name}".encode(), f"videos/{name}.mp4")
    return f"s3://{local.bucket}/videos/"

"""Media decoded in a process of its own, which is ended if it takes too long: a hostile file ends at most that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import numpy as np

from marengo_local.output import OutputRow

__all__ = ["NotDecoded", "describe_video", "embed_media", "listen_to"]

_LEAST_SEC: Final = 30.0
# Real media, even slides or speech, have more bytes a second, and take less than a second for one.
_BYTES_PER_SEC: Final = 2_000
# An 8K video needs about half of it.
_MEMORY_BYTES: Final = 3 * 1024**3


class NotDecoded(Exception):  # noqa: N818 - named after the file
    """The file is not media, or decoding it takes too long or too much memory."""

    def __init__(self, reason: str, duration_sec: float | None = None) -> None:
        super().__init__(reason)
        self.duration_sec = duration_sec


def embed_media(
    file: BinaryIO, kind: str, dimension: int, longest_sec: float, task: Mapping[str, Any]
) -> tuple[float, list[OutputRow]]:
    """The duration of media in an open file, and the rows of `ContentModel.media`; none if it is over `longest_sec`.

    Raises NotDecoded, with the duration if it is known.
    """
    asked = {"work": "embed", "kind": kind, "dimension": dimension, "task": dict(task)}
    answer, rows = _answer(file, asked, longest_sec)
    return answer["duration_sec"], rows


def describe_video(
    file: BinaryIO, dimension: int, longest_sec: float, task: Mapping[str, Any]
) -> tuple[float, list[dict[str, Any]], list[OutputRow]]:
    """The duration of a video, and its scenes as `descriptions.describe` returns them. Raises NotDecoded."""
    answer, rows = _answer(file, {"work": "describe", "dimension": dimension, "task": dict(task)}, longest_sec)
    return answer["duration_sec"], answer["scenes"], rows


def listen_to(file: BinaryIO, longest_sec: float) -> dict[str, Any]:
    """The fields of `listening.Heard` for media in an open file. Raises NotDecoded."""
    return _answer(file, {"work": "listen", "dimension": 1}, longest_sec)[0]


def _answer(file: BinaryIO, asked: dict[str, Any], longest_sec: float) -> tuple[dict[str, Any], list[OutputRow]]:
    limit_sec = _LEAST_SEC + min(longest_sec, file.seek(0, os.SEEK_END) / _BYTES_PER_SEC)
    file.flush()
    limits = {
        "longest_sec": longest_sec,
        "memory_bytes": _MEMORY_BYTES,
        # Should this process not be there to end it.
        "cpu_sec": int(limit_sec) * (os.cpu_count() or 1),
    }
    said, _, vectors = _run(file, json.dumps({**asked, **limits}), limit_sec).partition(b"\n")
    answer = json.loads(said)
    if "undecodable" in answer:
        raise NotDecoded(answer["undecodable"], answer.get("duration_sec"))
    table = np.frombuffer(vectors, np.float32).reshape(-1, asked["dimension"])
    return answer, [OutputRow(vector, *row) for vector, row in zip(table, answer["rows"], strict=True)]


def _run(file: BinaryIO, request: str, limit_sec: float) -> bytes:
    # -P: a module in the current folder must not take the place of an installed one.
    command = [sys.executable, "-P", "-m", "marengo_local.content.worker", request]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    streams: dict[str, Any] = {"stdin": file, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, **streams, env=environment, timeout=limit_sec, check=True)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise NotDecoded(f"it takes longer than {limit_sec:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise NotDecoded(f"the decoder ended with {error.returncode}") from None
    answer: bytes = done.stdout
    return answer

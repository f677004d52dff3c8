"""`python -m marengo_local.content.worker`: reads the media on stdin within limits, for `marengo_local.decoding`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from marengo_local.content import ContentModel, Row, UndecodableMedia
from marengo_local.content.descriptions import describe
from marengo_local.content.listening import listen

__all__ = ["main"]


def main(request: str) -> None:
    """Write a line of JSON to stdout, then the vectors as float32."""
    asked = json.loads(request)
    _limit(asked["memory_bytes"], asked["cpu_sec"])
    try:
        said, rows = _WORK[asked["work"]](asked)
    except UndecodableMedia as error:
        said, rows = {"undecodable": str(error)}, []
    except MemoryError:
        said, rows = {"undecodable": "it needs too much memory"}, []
    said["rows"] = [(row.option, row.scope, row.start_sec, row.end_sec) for row in rows]
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + b"".join(row.vector.tobytes() for row in rows))


def _embed(asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    model, file = ContentModel(asked["dimension"]), sys.stdin.buffer
    duration_sec = model.duration_sec(file)
    said: dict[str, Any] = {"duration_sec": duration_sec}
    if duration_sec > asked["longest_sec"]:
        return said, []
    try:
        return said, model.media(asked["kind"], file, **asked["task"])
    except ValueError as error:
        # The range is not in the file; the caller, which knows the duration now, says so.
        return {**said, "undecodable": str(error)}, []


def _describe(asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    model, file = ContentModel(asked["dimension"]), sys.stdin.buffer
    duration_sec = model.duration_sec(file)
    if duration_sec > asked["longest_sec"] or asked["task"]["start_sec"] >= duration_sec:
        return {"duration_sec": duration_sec, "scenes": []}, []
    scenes, rows = describe(model, file, **asked["task"])
    return {"duration_sec": duration_sec, "scenes": scenes}, rows


def _listen(asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    return asdict(listen(sys.stdin.buffer)), []


_WORK: Final = {"embed": _embed, "describe": _describe, "listen": _listen}


def _limit(memory_bytes: int, cpu_sec: int) -> None:
    """Let the system refuse memory beyond `memory_bytes` more (on Linux), and end this process after `cpu_sec`."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_sec, cpu_sec))
    status = Path("/proc/self/status")
    held = re.search(r"VmData:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if held is not None:
        bytes_ = int(held[1]) * 1024 + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))


if __name__ == "__main__":
    main(sys.argv[1])

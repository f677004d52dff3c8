"""AWS's binary event stream, as InvokeModelWithResponseStream sends it."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["EVENT_STREAM", "chunk", "exception"]

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
_STRING: Final = 7


def chunk(body: Mapping[str, Any]) -> bytes:
    """One part of a model's response."""
    payload = {"bytes": b64encode(json.dumps(body).encode()).decode()}
    return _message({":event-type": "chunk", ":message-type": "event"}, payload)


def exception(kind: str, message: str) -> bytes:
    """An error in the middle of a stream, such as modelStreamErrorException."""
    return _message({":exception-type": kind, ":message-type": "exception"}, {"message": message})


def _message(headers: Mapping[str, str], payload: Mapping[str, str]) -> bytes:
    """Lengths and their checksum, headers, payload, and the checksum of all."""
    head = b"".join(_header(*pair) for pair in {**headers, ":content-type": "application/json"}.items())
    body = json.dumps(payload).encode()
    lengths = struct.pack(">II", 16 + len(head) + len(body), len(head))
    whole = lengths + struct.pack(">I", zlib.crc32(lengths)) + head + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def _header(name: str, value: str) -> bytes:
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(value)) + value.encode()

"""Responses and output.json as the service writes them: rows of JSON, vectors rounded to bfloat16."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["OutputRow", "bfloat16", "output_json", "response_json", "row_dicts"]

Vector = NDArray[np.float32]


class OutputRow(NamedTuple):
    """One row of output.json; rows of texts and images have no option, scope or times."""

    vector: Vector
    option: str | None = None
    scope: str | None = None
    start_sec: float | None = None
    end_sec: float | None = None


def bfloat16(vector: Vector) -> Vector:
    """`vector` rounded to bfloat16 (half to even), as float32."""
    return (_codes(vector).astype(np.uint32) << np.uint32(16)).view(np.float32)


def response_json(vector: Vector) -> bytes:
    """The response body of InvokeModel."""
    return b'{"data":[{"embedding":' + _vector_json(vector) + b"}]}"


def output_json(rows: Iterable[OutputRow], *, scopes: bool) -> bytes:
    """The complete output.json; without `scopes`, in the format of Marengo 2.7."""
    return b'{"data":[' + b",".join(_row_json(row, scopes) for row in rows) + b"]}"


def row_dicts(rows: Iterable[OutputRow], *, scopes: bool) -> list[dict[str, Any]]:
    """The rows of output.json as plain dicts, for `mutate_output`."""
    return [{"embedding": bfloat16(row.vector).tolist(), **_labels(row, scopes)} for row in rows]


def _row_json(row: OutputRow, scopes: bool) -> bytes:
    embedding = b'{"embedding":' + _vector_json(row.vector)
    labels = _labels(row, scopes)
    return embedding + (b"," + json.dumps(labels).encode()[1:] if labels else b"}")


def _labels(row: OutputRow, scopes: bool) -> dict[str, Any]:
    if row.option is None:
        return {}
    scope = {"embeddingScope": row.scope} if scopes else {}
    return {
        "embeddingOption": row.option,
        **scope,
        "startSec": _time(row.start_sec, scopes),
        "endSec": _time(row.end_sec, scopes),
    }


def _time(sec: float | None, scopes: bool) -> float | None:
    # Marengo 2.7 stores times as float32, which JSON then prints as double: 6.2 becomes 6.199999809265137.
    return sec if scopes or sec is None else float(np.float32(sec))


def _vector_json(vector: Vector) -> bytes:
    # There are only 65,536 bfloat16 values: a lookup is ten times as fast as formatting floats.
    return b"[" + b",".join(map(_texts().__getitem__, _codes(vector).tolist())) + b"]"


def _codes(vector: Vector) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(vector, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@cache
def _texts() -> list[bytes]:
    values = (np.arange(65_536, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    return [repr(value).encode() for value in values.tolist()]

"""What S3 Vectors refuses: requests that don't fit their schema, vectors, and metadata."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from marengo_local.contract.schemas import reason
from marengo_local.errors import S3_VECTORS_STATUS, ServiceError

__all__ = [
    "MAX_BODY_BYTES",
    "OPERATIONS",
    "Vector",
    "check_metadata",
    "check_request",
    "invalid",
    "refused",
    "vector_of",
]

Vector = np.ndarray[Any, np.dtype[np.float32]]

MAX_BODY_BYTES: Final = 20 * 1024 * 1024
_FILTERABLE_BYTES: Final = 2048
_METADATA_BYTES: Final = 40 * 1024
_METADATA_KEYS: Final = 50

_SCHEMAS: Final = json.loads(files(__package__).joinpath("requests.json").read_text("utf-8"))
OPERATIONS: Final = frozenset(name for name in _SCHEMAS if not name.startswith("$"))


def refused(code: str, message: str) -> ServiceError:
    """An error of S3 Vectors, whose statuses are not Bedrock's."""
    return ServiceError(code, message, S3_VECTORS_STATUS[code])


def invalid(path: str, why: str) -> ServiceError:
    """A ValidationException about one member of a request; `path` is like `/vectors/0/key`."""
    error = refused("ValidationException", f"1 validation error detected. Value at '{path}': {why}")
    error.fields = [{"path": path, "message": why}]
    return error


def check_request(op: str, body: Any) -> None:
    """Raise ServiceError for a body that doesn't fit the operation's schema."""
    error = best_match(_validator(op).iter_errors(body))
    if error is not None:
        raise invalid("".join(f"/{part}" for part in error.absolute_path) or "/", reason(error))


@cache
def _validator(op: str) -> Draft202012Validator:
    return Draft202012Validator({**_SCHEMAS[op], "$defs": _SCHEMAS["$defs"]})


def vector_of(data: Mapping[str, Any], dimension: int, metric: str, path: str) -> Vector:
    """The vector of a request, as float32."""
    values = data["float32"]
    # A bool is no number in JSON.
    if not set(map(type, values)) <= {float, int}:
        raise invalid(f"{path}/float32", "every value must be a number")
    if len(values) != dimension:
        raise invalid(f"{path}/float32", f"vector has {len(values)} dimensions; the index has {dimension}")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, np.float64).astype(np.float32)
    except OverflowError:
        raise invalid(f"{path}/float32", "a value is out of range") from None
    if not np.isfinite(vector).all():
        raise invalid(f"{path}/float32", "NaN and infinite values are not allowed in float32")
    if metric == "cosine" and not vector.any():
        raise invalid(f"{path}/float32", "a zero vector is not allowed with the cosine distance metric")
    return vector


def check_metadata(metadata: Mapping[str, Any], non_filterable: Collection[str], path: str) -> None:
    """Refuse metadata that is too large, or of another type than string, number, boolean and list of these."""
    if len(metadata) > _METADATA_KEYS:
        raise invalid(path, f"Metadata must have at most {_METADATA_KEYS} keys")
    for key, value in metadata.items():
        if not 1 <= len(key) <= 63:
            raise invalid(path, f"Metadata key {key[:80]!r} must have 1 to 63 characters")
        if not all(isinstance(item, (str, int, float)) for item in (value if isinstance(value, list) else [value])):
            raise invalid(f"{path}/{key}", "Metadata values must be strings, numbers, booleans or lists of these")
    if _size({key: value for key, value in metadata.items() if key not in non_filterable}) > _FILTERABLE_BYTES:
        raise invalid(path, f"Filterable metadata must have at most {_FILTERABLE_BYTES} bytes")
    if _size(metadata) > _METADATA_BYTES:
        raise invalid(path, f"Metadata must have at most {_METADATA_BYTES} bytes")


def _size(metadata: Mapping[str, Any]) -> int:
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))

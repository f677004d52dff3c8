"""A response, or a stream of output.json -> vectors."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

try:
    import simdjson
except ImportError:  # the extra "fast"
    simdjson = None  # type: ignore[assignment]

from bedrock_marengo.contract.models import KINDS, MODELS, Kind
from bedrock_marengo.contract.segments import MAX_SEC, SegmentEmbeddings, is_label, milliseconds
from bedrock_marengo.errors import OutputError

__all__ = ["read_output", "read_vector"]

PIECE_BYTES = 1 << 20
"""How many bytes of output.json are decoded at once: about 90 rows of 512 dimensions."""

_TRACKS = {
    name: i
    for i, name in enumerate(
        dict.fromkeys(
            [
                *(o for m in MODELS.values() for os in m.options.values() for o in os),
                "fused",
                *(rules.track for rules in KINDS.values() if rules.track),
            ]
        )
    )
}
_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*\[')
_COMMA = re.compile(rb"\s*,")
_HEAD_BYTES = 1 << 16
_CUTS = 32
_KEPT = "The output is kept and is not paid for again: update this package, and report this row if that does not help."
_NOT_FLOAT32 = "A vector contains a number that is NaN, infinite, or too large for float32."


class _Labels(msgspec.Struct, rename="camel", kw_only=True):
    # AWS's page shows lists, but real runs have strings.
    embedding_option: str | list[str] | None = None
    embedding_scope: str | list[str] | None = None
    start_sec: float | None = None
    end_sec: float | None = None


class _Row(_Labels, rename="camel"):
    embedding: list[float]


class _Reply(_Labels, rename="camel"):
    # A list of one in real runs, an object on AWS's page. Public code also expects one row without "data", from 2.7.
    data: list[_Row] | _Row | None = None
    embedding: list[float] | None = None


_reply = msgspec.json.Decoder(_Reply)
_rows = msgspec.json.Decoder(list[_Row])
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError, KeyError)


def read_vector(body: bytes, dimension: int) -> npt.NDArray[np.float32]:
    """InvokeModel's response as one float32 vector of ``(dimension,)``.

    Raises:
        OutputError: Not the documented JSON, more or less than one vector, or another dimension.
    """
    rows = _decode(body)
    if len(rows) != 1:
        raise OutputError(f"InvokeModel's response has {len(rows)} vectors: expected one.")
    return _vector(rows[0], dimension)


def read_output(
    chunks: Iterable[bytes], *, dimension: int, source: str, job: str, model_id: str, media_type: Kind
) -> SegmentEmbeddings:
    """A job's output.json, read as a stream: a few MB more than the vectors, however long the file.

    Rows may be out of order, duplicated or missing; the result is sorted (clips before assets, then time, then track)
    and has each segment once. Which of two different vectors belongs to a segment is never guessed.

    Args:
        chunks: the bytes of output.json, cut anywhere.
        dimension: what each vector must have.
        source: raw S3 URI of the file.
        job: first 16 hex digits of the fingerprint.
        model_id: the base model's ID.
        media_type: "video", "audio" or "image".

    Raises:
        OutputError: Cut off, not JSON, NaN, no rows, a row without vector or times, another dimension, or a segment
            with two vectors. With ``is_kept``: a row that names an option or a scope we don't know, or several.
    """
    vectors = bytearray()
    start: list[float | None] = []
    end: list[float | None] = []
    option: list[str] = []
    scope: list[str] = []
    pack = struct.Struct(f"{dimension}f").pack
    for row in _stream(chunks):
        vectors += _packed(row, dimension, pack)
        start.append(row.start_sec)
        end.append(row.end_sec)
        number = len(option)
        option.append(_one(row.embedding_option, "option", number) or _default_option(media_type, number))
        scope.append(_one(row.embedding_scope, "scope", number) or "clip")
        if not is_label(option[-1], scope[-1]):
            raise OutputError(
                f"Row {number} of output.json has option {option[-1]!r} and scope {scope[-1]!r}, which are not "
                f"supported. {_KEPT}",
                is_kept=True,
            )
    if not option:
        raise OutputError("output.json contains no vectors.")
    starts, ends = _times(start, end, scope, media_type)
    array = np.frombuffer(vectors, np.float32).reshape(-1, dimension)
    # A number that isn't finite makes its row's sum not finite: no second array as large as the first.
    if not np.isfinite(array.sum(axis=1)).all():
        raise OutputError(_NOT_FLOAT32)
    keep = _order(array, starts, ends, option, scope)
    if keep != list(range(len(option))):
        array, starts, ends = _in_order(array, keep), starts[keep], ends[keep]
        option, scope = [option[i] for i in keep], [scope[i] for i in keep]
    # The caller and the cache of segment vectors share this array.
    array.flags.writeable = False
    return SegmentEmbeddings(
        vectors=array,
        start_sec=starts,
        end_sec=ends,
        option=option,
        scope=scope,
        source=source,
        job=job,
        model_id=model_id,
        media_type=media_type,
    )


def _stream(chunks: Iterable[bytes]) -> Iterator[_Row]:
    """The rows of ``{"data": [...]}``, decoded in pieces that end at a row's end."""
    buffer = bytearray()
    inside = False
    rows_seen = False
    wanted = PIECE_BYTES
    for chunk in chunks:
        buffer += chunk
        if not inside:
            head = _HEAD.match(buffer)
            if head is None:
                if len(buffer) > _HEAD_BYTES:
                    # Other keys come before "data", or it is an object: read it whole.
                    wanted = 1 << 62
                continue
            del buffer[: head.end()]
            inside = True
        if len(buffer) < wanted:
            continue
        if rows_seen and not _COMMA.match(buffer):
            continue
        rows, used = _complete_rows(buffer, rows_seen)
        if not used:
            wanted = 2 * len(buffer)
            continue
        wanted = PIECE_BYTES
        del buffer[:used]
        rows_seen = True
        yield from rows
    yield from _last_rows(buffer, inside, rows_seen)


def _complete_rows(buffer: bytearray, rows_seen: bool) -> tuple[list[_Row], int]:
    """The rows up to the last brace that ends one, and their length in bytes; none if no brace does."""
    comma = _COMMA.match(buffer) if rows_seen else None
    begin = comma.end() if comma else 0
    cut = len(buffer)
    for _ in range(_CUTS):
        cut = buffer.rfind(b"}", begin, cut)
        if cut < 0:
            break
        # A cut inside a row or a string leaves invalid JSON, so decoding is the proof that it was a row's end.
        try:
            return _decode_rows(b"[" + buffer[begin : cut + 1] + b"]"), cut + 1
        except _UNDECODABLE:
            continue
    return [], 0


def _decode_rows(piece: bytes | bytearray) -> list[_Row]:
    if simdjson is None:
        return _rows.decode(piece)
    rows: Any = simdjson.Parser().parse(bytes(piece))
    return [_simd_row(row) for row in rows]


def _simd_row(row: Any) -> _Row:
    # Numbers go straight from the text into an array: no Python float for each.
    vector = np.frombuffer(row["embedding"].as_buffer(of_type="d"), np.float64)
    found = {name: row[name] for name in _Labels.__struct_encode_fields__ if name in row}
    plain = {name: value.as_list() if hasattr(value, "as_list") else value for name, value in found.items()}
    labels = msgspec.convert(plain, _Labels)
    return _Row(embedding=cast(list[float], vector), **msgspec.structs.asdict(labels))


def _last_rows(buffer: bytearray, inside: bool, rows_seen: bool) -> list[_Row]:
    if not inside:
        return _decode(bytes(buffer))
    comma = _COMMA.match(buffer) if rows_seen else None
    rest = buffer[comma.end() :] if comma else buffer
    if rows_seen and not comma and not rest.lstrip().startswith(b"]"):
        raise OutputError("output.json is not JSON: a comma is missing between two rows.")
    rows = _decode(b'{"data":[' + bytes(rest))
    if comma and not rows:
        raise OutputError("output.json is not JSON: a comma without a row after it.")
    return rows


def _decode(data: bytes) -> list[_Row]:
    try:
        if data.lstrip()[:1] == b"[":
            return _rows.decode(data)
        found = _reply.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The decoder's message names a position, never the content.
        raise OutputError(f"The response is cut off or not in Marengo's format: {error}") from None
    if found.data is not None:
        return [found.data] if isinstance(found.data, _Row) else found.data
    if found.embedding is None:
        raise OutputError("The response is not in Marengo's format: it has neither 'data' nor 'embedding'.")
    labels = {name: getattr(found, name) for name in _Labels.__struct_fields__}
    return [_Row(embedding=found.embedding, **labels)]


def _vector(row: _Row, dimension: int) -> npt.NDArray[np.float32]:
    _check_dimension(row, dimension)
    with np.errstate(over="ignore"):
        vector = np.array(row.embedding, np.float32)
    if not np.isfinite(vector).all():
        raise OutputError(_NOT_FLOAT32)
    return vector


def _packed(row: _Row, dimension: int, pack: Callable[..., bytes]) -> bytes:
    """A row's vector as the bytes of float32: three times as fast as an array of a list."""
    _check_dimension(row, dimension)
    if isinstance(row.embedding, np.ndarray):
        with np.errstate(over="ignore"):
            return row.embedding.astype(np.float32).tobytes()
    try:
        return pack(*row.embedding)
    except OverflowError:
        raise OutputError(_NOT_FLOAT32) from None


def _check_dimension(row: _Row, dimension: int) -> None:
    if len(row.embedding) != dimension:
        raise OutputError(f"A vector has {len(row.embedding)} dimensions: this model has {dimension}.")


def _one(value: str | list[str] | None, what: str, row: int) -> str | None:
    """The one name of a row's option or scope; None if it has none. Which of several is meant is never guessed."""
    if not isinstance(value, list):
        return value
    names = list(dict.fromkeys(value))
    if len(names) > 1:
        raise OutputError(
            f"Row {row} of output.json names several values for its {what} ({', '.join(names)}), so its vector can't "
            f"be assigned to one. {_KEPT}",
            is_kept=True,
        )
    return names[0] if names else None


def _default_option(kind: Kind, row: int) -> str:
    track = KINDS[kind].track
    if track is None:
        raise OutputError(f"Row {row} of output.json has no embeddingOption, which every row of a {kind} needs.")
    return track


def _times(
    start: list[float | None], end: list[float | None], scope: list[str], kind: Kind
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Times as columns; an asset row without times gets its clips' range, an image gets 0.0."""
    clips = [i for i, s in enumerate(scope) if s == "clip"]
    if KINDS[kind].timed and any(start[i] is None or end[i] is None for i in clips):
        raise OutputError("A clip in output.json has no times.")
    first = min((start[i] or 0.0 for i in clips), default=0.0)
    last = max((end[i] or 0.0 for i in clips), default=first)
    starts = np.array([first if t is None else t for t in start], np.float64)
    ends = np.array([last if t is None else t for t in end], np.float64)
    if (starts < 0).any() or (ends < starts).any():
        raise OutputError("A segment in output.json ends before it starts.")
    if (ends >= MAX_SEC - 0.0005).any():
        raise OutputError("A segment in output.json ends after more than 115 days.")
    return starts, ends


def _order(
    rows: npt.NDArray[np.float32],
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    option: list[str],
    scope: list[str],
) -> list[int]:
    """Row numbers in order, each segment once: times equal to 1 ms are the same segment."""
    keys: dict[tuple[bool, int, int, int, str], int] = {}
    for i, name in enumerate(option):
        track = _TRACKS.get(name, len(_TRACKS))
        place = (scope[i] == "asset", milliseconds(start[i]), milliseconds(end[i]), track, name)
        first = keys.setdefault(place, i)
        if first != i and not np.array_equal(rows[first], rows[i]):
            raise OutputError(
                f"Rows {first} and {i} of output.json have different vectors for one segment: {start[i]:g} to "
                f"{end[i]:g} s of {name!r}, scope {scope[i]!r}."
            )
    return [keys[key] for key in sorted(keys)]


def _in_order(rows: npt.NDArray[np.float32], order: list[int]) -> npt.NDArray[np.float32]:
    """The rows in a new order; in place, because a second copy for a 4-hour video is 118 MB."""
    if len(order) != len(rows):
        return rows[order]
    done = bytearray(len(order))
    for first in range(len(order)):
        if done[first]:
            continue
        held, at = rows[first].copy(), first
        while order[at] != first:
            rows[at] = rows[order[at]]
            done[at] = 1
            at = order[at]
        rows[at] = held
        done[at] = 1
    return rows

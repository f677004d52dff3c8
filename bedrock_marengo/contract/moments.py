"""The file and the time range that a value stands for: media, a segment, a moment, or what a framework made of one.

And whether a file may be read that a stored text names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bedrock_marengo.contract.inputs import Media, kind_of_name, split_s3_uri
from bedrock_marengo.contract.models import UNTIMED_TRACKS
from bedrock_marengo.contract.paths import is_path
from bedrock_marengo.contract.segments import Segment, time_range
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import require_many, short_repr

__all__ = ["FileRange", "check_allowed_prefixes", "is_allowed", "range_of"]


class FileRange(NamedTuple):
    """A part of a file, in seconds from its start; None for its start and its end."""

    media: Media
    start_sec: float | None = None
    end_sec: float | None = None


def range_of(value: Any) -> FileRange:
    """The part of a file that a value stands for.

    The text of a document or node is only read as a segment's URI, in its first line: it opens nothing else.

    Args:
        value: ``Media``, ``s3://bucket/key``, a ``pathlib.Path``; a ``Segment``, its URI, or that of a moment; what a
            search returned; LangChain's Document, or LlamaIndex's node, with or without score, of a segment or moment.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(value, Segment):
        return _part(value, value.start_sec, value.end_sec)
    if isinstance(value, str):
        return _named(value) or FileRange(Media.of(value))
    if isinstance(value, Media) or is_path(value):
        return FileRange(Media.of(value))
    segment = getattr(value, "segment", None) or getattr(getattr(value, "best", None), "segment", None)
    if isinstance(segment, Segment):
        return _part(
            segment, getattr(value, "start_sec", segment.start_sec), getattr(value, "end_sec", segment.end_sec)
        )
    node = getattr(value, "node", value)
    text = getattr(node, "page_content", None) or getattr(node, "text", None)
    if (found := _named(text)) is None:
        raise InputError(
            f"{short_repr(value)} names no file: pass s3://bucket/key, a pathlib.Path, Media, a Segment or its URI, or "
            "a document or node whose first line is a segment's URI."
        )
    return found


def _named(text: Any) -> FileRange | None:
    segment, times = Segment.find(text), time_range(text)
    return None if segment is None or times is None else _part(segment, *times)


def _part(segment: Segment, start_sec: float, end_sec: float) -> FileRange:
    kind = UNTIMED_TRACKS.get(segment.option) or kind_of_name(segment.source) or "video"
    return FileRange(Media.from_s3(segment.source, kind=kind), start_sec, end_sec)


def check_allowed_prefixes(allowed_prefixes: Sequence[str] | None) -> None:
    """Refuse what is not a list of S3 prefixes: of a string, each letter would be one.

    Raises:
        InputError: Not a list, or not S3 URIs.
    """
    if allowed_prefixes is None:
        return
    for prefix in require_many(allowed_prefixes, "allowed_prefixes=", "S3 prefixes"):
        split_s3_uri(prefix)


def is_allowed(source: str, allowed_prefixes: Sequence[str] | None) -> bool:
    """Whether a source is one of some S3 URIs or is stored under one of these prefixes; None allows all.

    A key with ``..`` is under none of them: S3 takes it literally, but a proxy in front of S3 may not.
    """
    if allowed_prefixes is None:
        return True
    has_dots = not {".", ".."}.isdisjoint(source.split("/"))
    return any(
        source == prefix or (not has_dots and source.startswith(prefix if prefix.endswith("/") else f"{prefix}/"))
        for prefix in allowed_prefixes
    )

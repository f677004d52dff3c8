"""Segment, SegmentEmbeddings (columns), and the one URI grammar."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from bedrock_marengo.contract.html_tables import html_table
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_number, short_repr

__all__ = [
    "METADATA_KEYS",
    "Segment",
    "SegmentEmbeddings",
    "checked_metadata",
    "milliseconds",
    "seconds_text",
    "time_range",
]

MAX_SEC = 1e7
"""Times of segments are below this: 7 digits in the URI, 115 days."""

METADATA_KEYS = (
    "source",
    "start_sec",
    "end_sec",
    "embedding_option",
    "embedding_scope",
    "media_type",
    "model_id",
    "job_id",
)
"""The keys of a segment's metadata: reserved, always present, never None."""

TIME = r"(?:0|[1-9]\d{0,6})(?:\.\d{0,2}[1-9])?"
_TRACK = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_MOST_SHOWN = 10
"""Rows of a table in a notebook."""
_JOB = re.compile(r"[0-9a-f]{16}")
_SCOPES = ("clip", "asset")
URI = (
    r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<key>(?:[A-Za-z0-9._~/-]++|%[0-9A-F]{2})++)"
    rf"#t=(?P<start>{TIME}),(?P<end>{TIME})"
    r"&track=(?P<track>[A-Za-z0-9._~-]+)&job=(?P<job>[0-9a-f]{16})(?P<asset>&scope=asset)?"
    rf"(?:&clip=(?P<clip_start>{TIME}),(?P<clip_end>{TIME}))?"
)
_URI = re.compile(URI, re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """One time range of one file on one track, with one URI, one id and one vector.

    Times are seconds from the file's start, rounded to 1 ms. ``source`` is the raw S3 URI. ``job`` is the first 16 hex
    digits of the job's fingerprint, so other bytes, options or another model are another segment.

    Examples:
        >>> segment = Segment("s3://bucket/my match.mp4", 6.5, 13.0, "visual", "clip", "3fa9c1d27b041e55")
        >>> segment.uri
        's3://bucket/my%20match.mp4#t=6.5,13&track=visual&job=3fa9c1d27b041e55'
        >>> Segment.parse(segment.uri) == segment
        True
    """

    source: str
    start_sec: float
    end_sec: float
    option: str
    scope: str
    job: str

    def __post_init__(self) -> None:
        if not split_s3_uri(self.source)[1]:
            raise InputError(
                f"{short_repr(self.source)} is not an object that can have segments: pass s3://bucket/key."
            )
        for name in ("start_sec", "end_sec"):
            value = getattr(self, name)
            # Rounded first: the URI can't have an eighth digit.
            rounded = round(float(value), 3) + 0.0 if is_number(value) else -1.0
            if rounded < 0 or value < 0 or rounded >= MAX_SEC:
                raise InputError(
                    f"expected seconds, 0 or more and below {MAX_SEC:g}, for a segment of {self.source!r}.",
                    setting=name,
                    value=value,
                )
            object.__setattr__(self, name, rounded)
        if not is_label(self.option, self.scope) or not (isinstance(self.job, str) and _JOB.fullmatch(self.job)):
            raise InputError(
                f"option={short_repr(self.option)}, scope={short_repr(self.scope)}, job={short_repr(self.job)} are not "
                f"those of a segment of {self.source!r}: expected an option of letters, digits and . _ ~ -, the scope "
                "'clip' or 'asset', and a job of 16 hex digits."
            )

    @property
    def uri(self) -> str:
        """A W3C media fragment that names its job: the first line of the segment's text, and the source of its id."""
        return self._uri(self.start_sec, self.end_sec)

    def uri_within(self, start_sec: float, end_sec: float) -> str:
        """The URI of a moment whose best segment this is: ``#t=`` is the moment's range, ``&clip=`` the segment's.

        Equal to ``uri`` if the ranges are. ``find`` returns the segment, so a moment's text has the segment's vector.

        Args:
            start_sec: the moment's start, in seconds.
            end_sec: its end.
        """
        within = self._uri(start_sec, end_sec)
        clip = f"{seconds_text(self.start_sec)},{seconds_text(self.end_sec)}"
        return within if within == self.uri else f"{within}&clip={clip}"

    def _uri(self, start_sec: float, end_sec: float) -> str:
        bucket, key = split_s3_uri(self.source)
        return (
            f"s3://{bucket}/{quote(key, safe='/~')}#t={seconds_text(start_sec)},{seconds_text(end_sec)}"
            f"&track={self.option}&job={self.job}{'&scope=asset' if self.scope == 'asset' else ''}"
        )

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = [("file", self.source), ("time", self._times), ("track", self.option), ("scope", self.scope)]
        return html_table(row for row in rows if row[1])

    @property
    def _times(self) -> str:
        return f"{self.start_sec:g} to {self.end_sec:g} s" if self.end_sec > self.start_sec else ""

    @property
    def id(self) -> str:
        """``uuid5(NAMESPACE_URL, uri)``: an id that every store accepts."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.uri))

    @classmethod
    def parse(cls, text: str) -> Segment:
        """The segment that a URI names: the only inverse of ``uri``. Of a moment's URI, its best segment.

        Raises:
            InputError: Not exactly a segment's URI.
        """
        found = _found(text)
        if found is None or found[0].uri_within(*found[1:]) != text:
            raise InputError(
                f"{_cut(text)} is not a segment's URI: expected s3://bucket/key#t=START,END&track=OPTION&job=HEX16"
            )
        return found[0]

    @classmethod
    def of(cls, value: Segment | str) -> Segment:
        """A segment, or the one that a URI names.

        Raises:
            InputError: Neither.
        """
        return value if isinstance(value, Segment) else cls.parse(value)

    @classmethod
    def find(cls, text: str) -> Segment | None:
        """The segment whose URI is the first line of a text, or None: the text is just text.

        Of a moment's text, its best segment.
        """
        found = _found(text)
        return found[0] if found else None


def milliseconds(seconds: float) -> int:
    """Seconds as whole milliseconds, rounded in one way wherever times are compared: as in a segment's URI."""
    return round(round(float(seconds), 3) * 1000)


def time_range(text: Segment | str) -> tuple[float, float] | None:
    """Start and end, in seconds, of the segment or moment whose URI is the first line of a text; None of other text."""
    found = _found(text)
    return found[1:] if found else None


def _found(text: Segment | str) -> tuple[Segment, float, float] | None:
    if not isinstance(text, str) or not text.startswith("s3://"):
        return None
    line = text.partition("\n")[0].rstrip("\r ")
    match = _URI.fullmatch(line)
    if match is None:
        return None
    try:
        key = unquote(match["key"], errors="strict")
    except UnicodeDecodeError:
        return None
    start_sec, end_sec = float(match["start"]), float(match["end"])
    segment = Segment(
        source=f"s3://{match['bucket']}/{key}",
        start_sec=float(match["clip_start"] or start_sec),
        end_sec=float(match["clip_end"] or end_sec),
        option=match["track"],
        scope="asset" if match["asset"] else "clip",
        job=match["job"],
    )
    return (segment, start_sec, end_sec) if segment.uri_within(start_sec, end_sec) == line else None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentEmbeddings:
    """All segments of one file, as columns of equal length ``n``.

    Attributes:
        vectors: float32 ``(n, dimension)``, as the service returns them: unit vectors rounded to bfloat16.
        start_sec: float64 ``(n,)``, seconds from the file's start.
        end_sec: float64 ``(n,)``.
        option: the track of each row: "visual", "audio", "transcription", "fused", "image" or 2.7's.
        scope: "clip" or "asset" for each row.
        source: raw S3 URI of the file.
        job: first 16 hex digits of the job's fingerprint.
        model_id: the base model's ID.
        media_type: "video", "audio" or "image".
    """

    vectors: npt.NDArray[np.float32]
    start_sec: npt.NDArray[np.float64]
    end_sec: npt.NDArray[np.float64]
    option: Sequence[str]
    scope: Sequence[str]
    source: str
    job: str
    model_id: str
    media_type: Kind

    def __len__(self) -> int:
        return len(self.option)

    def __iter__(self) -> Iterator[Segment]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Segment:
        start, end = float(self.start_sec[i]), float(self.end_sec[i])
        return Segment(self.source, start, end, self.option[i], self.scope[i], self.job)

    def _repr_html_(self) -> str:
        """The first segments as a table, for notebooks."""
        name = self.source.rpartition("/")[2]
        first = [self[i] for i in range(min(len(self), _MOST_SHOWN))]
        shown = [(segment._times, segment.option, segment.scope) for segment in first]
        note = f"{name}: segments {len(self):,}, dimension {self.vectors.shape[1]:,}"
        return html_table(shown, head=("time", "track", "scope"), note=note)

    def select(self, *, option: str | None = None, scope: str | None = None) -> SegmentEmbeddings:
        """The rows of one track, of one scope, or of both."""
        keep = [i for i in range(len(self)) if option in (None, self.option[i]) and scope in (None, self.scope[i])]
        return SegmentEmbeddings(
            vectors=self.vectors[keep],
            start_sec=self.start_sec[keep],
            end_sec=self.end_sec[keep],
            option=[self.option[i] for i in keep],
            scope=[self.scope[i] for i in keep],
            source=self.source,
            job=self.job,
            model_id=self.model_id,
            media_type=self.media_type,
        )

    def metadata(self, i: int) -> dict[str, Any]:
        """What a store keeps for row ``i``: flat, the same keys for each segment (``METADATA_KEYS``)."""
        segment = self[i]
        values = (
            segment.source,
            segment.start_sec,
            segment.end_sec,
            segment.option,
            segment.scope,
            self.media_type,
            self.model_id,
            self.job,
        )
        return dict(zip(METADATA_KEYS, values, strict=True))


def checked_metadata(own: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A user's own fields for a source's segments, refused if stores would refuse or lose them.

    Raises:
        InputError: A reserved key, or a value that isn't flat: str, int, float, bool.
    """
    if not isinstance(own, Mapping):
        raise InputError(f"metadata for {source!r} is {type(own).__name__}: expected a flat dict, {{}} for none.")
    for key, value in own.items():
        if key in METADATA_KEYS:
            raise InputError(
                f"metadata for {source!r} sets {key!r}, which is reserved: use another name than "
                f"{', '.join(METADATA_KEYS)}."
            )
        if not isinstance(key, str) or not isinstance(value, str | int | float | bool):
            raise InputError(
                f"metadata for {source!r} has {key!r}: {type(value).__name__}. Stores accept str, int, float and bool "
                "values under str keys. Leave a field out instead of setting None."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"metadata for {source!r} has {key!r}: {value}, which JSON can't encode: leave it out.")
    return dict(own)


def is_label(option: str, scope: str) -> bool:
    """Whether a segment's URI can contain this option and this scope."""
    return isinstance(option, str) and bool(_TRACK.fullmatch(option)) and scope in _SCOPES


def _cut(text: object) -> str:
    return repr(text[:200]) if isinstance(text, str) else short_repr(text)


def seconds_text(value: float) -> str:
    """Seconds in up to three decimals: ``6.5``, ``12``."""
    return f"{value:.3f}".rstrip("0").rstrip(".")

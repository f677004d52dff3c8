"""Search results in one form, whichever framework found them: for pictures, prompts and pages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from bedrock_marengo.contract.html_tables import html_table
from bedrock_marengo.contract.inputs import Media, kind_of_name
from bedrock_marengo.contract.models import UNTIMED_TRACKS, Kind
from bedrock_marengo.contract.moments import check_allowed_prefixes, is_allowed
from bedrock_marengo.contract.segments import MAX_SEC, Segment, is_label, time_range
from bedrock_marengo.contract.words import span, words_in
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.fusion import Hit, Moment
from bedrock_marengo.validation import is_number, require_many

__all__ = [
    "OtherText",
    "SearchResult",
    "check_allowed_prefixes",
    "is_allowed",
    "kind_of",
    "names_of",
    "results_and_texts",
    "results_from",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A time range of a file that a search found.

    Attributes:
        segment: the best segment of the moment.
        start_sec: start of the moment, in seconds; a moment of several clips may start before its best segment.
        end_sec: its end, in seconds.
        media_type: "video", "audio" or "image".
        score: as the search returned it, which may be a distance: comparable only within that search.
        tracks: embedding option -> cosine similarity, None if the search didn't return one; "words" -> the score of the
            text, which is no cosine.
        words: its words, if there are any; what is said and what is seen are labelled only if both are there.
    """

    segment: Segment
    start_sec: float
    end_sec: float
    media_type: Kind
    score: float | None = None
    tracks: Mapping[str, float | None] = field(default_factory=dict)
    words: str = ""

    @property
    def source(self) -> str:
        """Raw S3 URI of the file."""
        return self.segment.source

    @property
    def name(self) -> str:
        """The file's name."""
        return self.source.rpartition("/")[2]

    def _repr_html_(self) -> str:
        """A table, for notebooks: where it is, the cosine of each track, and its words."""
        cosines = [(track, "" if cosine is None else f"{cosine:.3f}") for track, cosine in self.tracks.items()]
        words = [("words" if i == 0 else "", line) for i, line in enumerate(self.words.splitlines())]
        times = [("time", times)] if (times := span(self.start_sec, self.end_sec)) else []
        return html_table([("file", self.source), *times, *cosines, *words])

    @property
    def media(self) -> Media:
        """The file, with the media type that the search returned, whatever its suffix."""
        return Media.from_s3(self.source, kind=self.media_type)


class OtherText(NamedTuple):
    """A document that is no segment or moment, such as a page of a manual in the same store.

    Attributes:
        name: its title or the name of its file, as far as its metadata show.
        text: its text.
    """

    name: str
    text: str


def results_from(hits: Iterable[Any]) -> list[SearchResult]:
    """The segments and moments among some hits, in order; other documents are skipped.

    Times and media type come from a document's metadata if they are valid, else from its URI.

    Args:
        hits: LangChain Documents, or (Document, score) pairs; LlamaIndex nodes, with or without score; the core's
            ``Moment``, ``Hit``, ``Segment`` or ``SearchResult``, in any combination.

    Raises:
        InputError: One hit instead of a list.
    """
    return [result for result in results_and_texts(hits) if isinstance(result, SearchResult)]


def results_and_texts(hits: Iterable[Any]) -> list[SearchResult | OtherText]:
    """``results_from`` with the other documents that have a text, in order.

    Raises:
        InputError: One hit instead of a list.
    """
    if not isinstance(hits, tuple) and _result_of(hits) is not None:
        raise InputError("Expected a list of hits, got a single hit: pass a list, even for one hit.")
    found = (_result_of(hit) or _other_text(hit) for hit in require_many(hits, "This", "hits"))
    return [result for result in found if result is not None]


def names_of(sources: Iterable[str]) -> dict[str, str]:
    """A name for each source: its file's name, or its URI if two files have the same name."""
    by_name: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources:
        by_name[source.rpartition("/")[2]].add(source)
    return {source: name if len(same) == 1 else source for name, same in by_name.items() for source in same}


def kind_of(segment: Segment) -> Kind:
    """What kind of file a segment is of, as far as its URI shows."""
    return UNTIMED_TRACKS.get(segment.option) or kind_of_name(segment.source) or "video"


def _result_of(hit: Any) -> SearchResult | None:
    if isinstance(hit, SearchResult):
        return hit
    if isinstance(hit, Moment):
        tracks = {track: best.score for track, best in hit.tracks.items()}
        return _result(hit.best.segment, (hit.start_sec, hit.end_sec), score=hit.score, tracks=tracks)
    if isinstance(hit, Hit):
        return _result(hit.segment, score=hit.score, tracks={hit.track: hit.score})
    if isinstance(hit, Segment):
        return _result(hit)
    if isinstance(hit, tuple) and len(hit) == 2:
        return _of_document(*hit)
    return _of_document(getattr(hit, "node", hit), getattr(hit, "score", None))


def _of_document(document: Any, score: Any) -> SearchResult | None:
    text = _text(document)
    segment = Segment.find(text)
    if segment is None:
        return None
    metadata = _mapping(getattr(document, "metadata", None))
    tracks = {
        track: _number(_mapping(rank).get("score"))
        for track, rank in _mapping(metadata.get("tracks")).items()
        if is_label(track, segment.scope)
    }
    if _number(score) is None and tracks:
        score = metadata.get("score")
    return _result(
        segment,
        _times(metadata) or time_range(text),
        score=_number(score),
        tracks=tracks,
        media_type=metadata.get("media_type"),
        words=words_in(text),
    )


def _other_text(hit: Any) -> OtherText | None:
    document = hit[0] if isinstance(hit, tuple) and len(hit) == 2 else getattr(hit, "node", hit)
    text = _text(document).strip()
    metadata = _mapping(getattr(document, "metadata", None))
    named = (metadata.get(key) for key in ("title", "file_name", "source"))
    name = next((name for name in named if isinstance(name, str) and name.strip()), "")
    return OtherText(re.split(r"[/\\]", name.rstrip("/\\"))[-1], text) if text else None


def _text(document: Any) -> str:
    """By attributes, so that no framework is imported: LangChain's ``page_content``, or LlamaIndex's ``text``."""
    text = getattr(document, "page_content", None) or getattr(document, "text", None)
    return text if isinstance(text, str) else ""


def _result(
    segment: Segment,
    times: tuple[float, float] | None = None,
    *,
    score: float | None = None,
    tracks: Mapping[str, float | None] | None = None,
    media_type: Any = None,
    words: str = "",
) -> SearchResult:
    start_sec, end_sec = times or (segment.start_sec, segment.end_sec)
    return SearchResult(
        segment=segment,
        start_sec=start_sec,
        end_sec=end_sec,
        media_type=media_type if media_type in get_args(Kind) else kind_of(segment),
        score=score,
        tracks=tracks or {segment.option: None},
        words=words,
    )


def _times(metadata: Mapping[Any, Any]) -> tuple[float, float] | None:
    start_sec, end_sec = _number(metadata.get("start_sec")), _number(metadata.get("end_sec"))
    if start_sec is None or end_sec is None or not 0 <= start_sec <= end_sec < MAX_SEC:
        return None
    return start_sec, end_sec


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    # Bounded, since an int may be too large for a float.
    return float(value) if is_number(value) and -1e30 < value < 1e30 else None

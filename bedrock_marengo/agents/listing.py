"""The files of an archive, page by page: what the store lists, of which each is shown only if a search can find it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from typing import Any

from bedrock_marengo.agents.answers import ListedVideo, fitting_count, video_fields, video_line
from bedrock_marengo.agents.archive import Archive, Row
from bedrock_marengo.agents.scope import Scope
from bedrock_marengo.agents.specs import MAX_ID
from bedrock_marengo.contract.segments import MAX_SEC
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.results import results_from
from bedrock_marengo.validation import is_number

__all__ = ["VideoList"]

PAGE = 20
"""Files on one page. Ours."""
KEPT_SEC = 60.0
"""How long a listing of the store is kept, so that its pages belong together. Ours."""
_CHECKED = 200
"""Files that one page checks through the retriever's filter; each is a search of each track. Ours."""
_COUNTED = 500
"""Segments of one file and track that are counted through the filter. Ours."""


class VideoList:
    """The files of an archive.

    Args:
        archive: lists and searches.
        scope: which files may be shown.
        max_bytes: of a page.
    """

    def __init__(self, archive: Archive, scope: Scope, max_bytes: int) -> None:
        self._archive = archive
        self._scope = scope
        self._max_bytes = max_bytes
        # What is in the store but out of the retriever's reach is neither listed nor counted.
        self._is_limited = archive.is_filtered or archive.start_sec is not None or archive.end_sec is not None
        self._kept: tuple[float, dict[str, ListedVideo]] | None = None

    def page(self, cursor: str | None) -> tuple[list[dict[str, Any]], str, str | None]:
        """The fields of the files of a page, how to get more, and the cursor of the next page.

        Raises:
            InputError: The store can't list, or the cursor is of no page.
        """
        listed = self._listed()
        names = list(listed)
        first = 0 if cursor is None else self._after(names, cursor)
        videos, place = list[ListedVideo](), first
        # With a filter, what the store lists may be others': a page of it may show none.
        while place < len(names) and len(videos) < PAGE and place - first < _CHECKED:
            seen = self._seen(listed[names[place]])
            place += 1
            if seen is not None:
                videos.append(seen)
        fields = [video_fields(each) for each in videos]
        if fields:
            kept = fitting_count([video_line(each) for each in fields], fields, self._max_bytes)
            if kept < len(fields):
                place = names.index(videos[kept - 1].source) + 1
                fields = fields[:kept]
        if place >= len(names):
            return fields, "", None
        following = _mark(names[place - 1])
        # How many others there are is not for everyone.
        count = "There may be more" if self._is_limited else f"{len(names) - place:,} more"
        return fields, f"{count}: ask with cursor={following}.", following

    def _listed(self) -> dict[str, ListedVideo]:
        if self._kept is None or time.monotonic() > self._kept[0]:
            rows = self._archive.rows()
            if rows is None:
                raise InputError(
                    "This kind of store can't list what it holds. Use search_moments: it finds moments in all videos."
                )
            self._kept = (time.monotonic() + KEPT_SEC, self._by_source(rows))
        return self._kept[1]

    def _seen(self, video: ListedVideo) -> ListedVideo | None:
        """A file as the retriever can find it; None if it can't."""
        if not self._is_limited:
            return video
        times = {"start_sec": self._archive.start_sec, "end_sec": self._archive.end_sec}
        rows = self._archive.stored(video.source, **times, depth=_COUNTED)
        found = self._by_source(rows).get(video.source)
        if found is None:
            return None
        is_more = found.segments >= _COUNTED
        return found._replace(is_more=is_more)

    def _after(self, names: list[str], cursor: str) -> int:
        place = next((i for i, name in enumerate(names) if _mark(name) == cursor), None)
        if place is None:
            raise InputError("This cursor is not valid, or no longer: call list_videos without cursor.")
        return place + 1

    def _by_source(self, rows: Iterable[Row]) -> dict[str, ListedVideo]:
        """The files of some rows, sorted; forged ones and those that may not be shown are left out."""
        found: dict[str, ListedVideo] = {}
        for row in rows:
            source, track, end = (row.metadata.get(key) for key in ("source", "embedding_option", "end_sec"))
            if row.metadata.get("embedding_scope") != self._archive.scope or not isinstance(track, str):
                continue
            # Only the first row of a file is parsed: there may be millions.
            if (before := found.get(str(source)) or self._first(row, source)) is not None:
                found[before.source] = before._replace(
                    segments=before.segments + 1,
                    end_sec=max(
                        before.end_sec, min(float(end), MAX_SEC) if end is not None and is_number(end) else 0.0
                    ),
                    tracks=before.tracks | {track},
                )
        return dict(sorted(found.items()))

    def _first(self, row: Row, source: Any) -> ListedVideo | None:
        for result in results_from([row]):
            if result.source == source and len(result.segment.uri) <= MAX_ID and self._scope.holds(source):
                return ListedVideo(source, 0, False, 0.0, frozenset(), result.media_type)
        return None


def _mark(source: str) -> str:
    """Stands for a file in a cursor. Files of others can't be read from it."""
    return hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()[:16]

"""What earlier searches have shown of a store's contents: which tracks it lacks, and whether it holds others, too."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from itertools import count
from typing import NamedTuple
from weakref import ref

from bedrock_marengo.search.fusion import SearchTarget

__all__ = ["KEPT_SEC", "StoreContents", "contents_of", "forget_contents", "writes"]

KEPT_SEC = 10.0
"""How long it is kept: other processes write, too. Ours."""


class StoreContents:
    """What is known of one store. It decides only how to search: rows are checked, whatever is known."""

    def __init__(self) -> None:
        self._lacks: set[tuple[str, str]] = set()
        self._times: dict[tuple[str, str], int] = {}
        self.has_cosine: bool | None = None
        """Whether the store's scores are of the cosine; None until it was asked, if that takes a request."""

    def lacks(self, track: str, scope: str) -> bool:
        """Whether the store has no segment of this track and scope."""
        return (track, scope) in self._lacks

    def is_alone(self, target: SearchTarget, tracks: Iterable[str]) -> bool:
        """Whether a target's clips may be all that the store holds, of the tracks that it may hold."""
        return target.scope == "clip" and all(
            self.lacks(track, target.scope) for track in tracks if track != target.track
        )

    def note_lacks(self, target: SearchTarget) -> None:
        """A search for the target's track and scope, and nothing else, found nothing."""
        self._lacks.add((target.track, target.scope))

    def times(self, target: SearchTarget) -> int:
        """How many times as many rows must be requested as are needed, if the filter leaves out track and scope.

        0 if the store holds so many others that it must filter.
        """
        return self._times.get((target.track, target.scope), 1)

    def note_times(self, target: SearchTarget, times: int) -> None:
        """So many times were not enough before, and these are; or 0."""
        self._times[target.track, target.scope] = times


class _Kept(NamedTuple):
    store: ref[object]
    version: Hashable
    until: float
    contents: StoreContents


_kept: dict[int, _Kept] = {}
_writes = count(1)
_last_write = 0


def contents_of(store: object, version: Hashable = None) -> StoreContents:
    """What is known of a store. It is forgotten after ``KEPT_SEC``, or once its version differs.

    Args:
        store: any object that can be weakly referenced; of others nothing is kept.
        version: a value that differs once rows were added, if the store has such a value.
    """
    kept = _kept.get(id(store))
    if kept is None or kept.store() is not store or kept.version != version or time.monotonic() > kept.until:
        contents, key = StoreContents(), id(store)
        try:
            reference = ref(store, lambda _: _kept.pop(key, None))
        except TypeError:
            return contents
        kept = _kept[key] = _Kept(reference, version, time.monotonic() + KEPT_SEC, contents)
    return kept.contents


def forget_contents() -> None:
    """Forget it for all stores, since two objects may be the same collection. Call it after each write."""
    global _last_write
    _kept.clear()
    _last_write = next(_writes)


def writes() -> int:
    """How often this process has forgotten what stores contain."""
    return _last_write

"""What one search looks for: a track and scope, and the user's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bedrock_marengo.contract.segments import Segment

__all__ = ["WORDS", "SearchTarget", "exact_sources", "is_within"]

WORDS = "words"
"""The track of what a segment's text says: a ranked list next to those of the vectors."""


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What one search looks for: one track and scope, and the user's limits. Times in seconds.

    ``sources`` are raw S3 URIs; one that ends in "/" is a prefix. A time range keeps the segments
    that overlap it. If ``is_implied``, the store is expected to hold this track and scope alone, so that its filter
    leaves them out; what it returns is checked all the same.
    """

    track: str
    scope: str = "clip"
    sources: tuple[str, ...] = ()
    start_sec: float | None = None
    end_sec: float | None = None
    is_implied: bool = False

    @property
    def equals(self) -> dict[str, str]:
        """Which metadata a store must filter for: key -> value."""
        if self.is_implied:
            return {}
        track = {} if self.track == WORDS else {"embedding_option": self.track}
        return {**track, "embedding_scope": self.scope}

    def holds(self, segment: Segment) -> bool:
        """Whether a segment belongs to this target. The words of a clip are in its segments of any track."""
        return (
            self.track in (WORDS, segment.option)
            and segment.scope == self.scope
            and (not self.sources or any(is_within(segment.source, source) for source in self.sources))
            and (self.start_sec is None or segment.end_sec > self.start_sec)
            and (self.end_sec is None or segment.start_sec < self.end_sec)
        )


def is_within(source: str, limit: str) -> bool:
    """Whether a source is the one that a limit names, or under the prefix that it is; a prefix ends in "/"."""
    return source.startswith(limit) if limit.endswith("/") else source == limit


def exact_sources(sources: Sequence[str]) -> list[str]:
    """The sources, if a store can filter for them: a prefix is not an equality, and is filtered for later."""
    return [] if any(source.endswith("/") for source in sources) else list(sources)

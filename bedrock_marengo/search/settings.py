"""How to search, in any framework and store: checked once, before anything is embedded or searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bedrock_marengo.errors import InputError
from bedrock_marengo.search.targets import SearchTarget
from bedrock_marengo.validation import is_int, is_number, require_many, short_repr

__all__ = ["Fusion", "SearchSettings"]

Fusion = Literal["rrf", "scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How to search, in any framework and store.

    Args:
        weights: track -> weight; tracks of weight 0 are not searched.
        k: how many moments to return.
        fusion: "rrf", the sum of w / (60 + rank); or "scores", the sum of w * cosine over the sum of w.
        merge_gap_sec: clips of one source at most this far apart become one moment, if they are among the
            ``fusion.MERGED_CLIPS`` best; None keeps each clip separate.
        max_per_source: the most moments of one source.
        sources: only these sources; one that ends in "/" is a prefix.
        start_sec: only segments that end after this time.
        end_sec: only segments that start before this time.
        asset_gate: only clips of this many best assets. The store must hold assets (``scopes=["clip", "asset"]``).
        asset_boost: adds this multiple of the asset's fused score to each of its clips' scores.
        scope: "clip", or "asset" to find whole files.
        fetch_k: how many hits to count for each track. Default: 10 for each moment, at least 50; with ``merge_gap_sec``
            100, so that a moment's range does not depend on ``k``.
        distinct: drops a moment whose vector has this cosine or more to an earlier one's, such as 0.98: reposts, and
            static cameras. See ``choose_moments``; ``find_moments`` has no vectors.
        mmr_lambda: 0 to 1, maximal marginal relevance among the best: 1 is relevance alone, 0 is variety alone.
        min_confidence: drops moments of a lower ``Moment.confidence``: "low", "medium" or "high".

    Raises:
        InputError: A setting has a wrong value.
    """

    weights: Mapping[str, float]
    k: int = 5
    fusion: Fusion = "rrf"
    merge_gap_sec: float | None = None
    max_per_source: int | None = None
    sources: Sequence[str] = ()
    start_sec: float | None = None
    end_sec: float | None = None
    asset_gate: int | None = None
    asset_boost: float = 0.0
    scope: Literal["clip", "asset"] = "clip"
    fetch_k: int | None = None
    distinct: float | None = None
    mmr_lambda: float | None = None
    min_confidence: Literal["low", "medium", "high"] | None = None

    def __post_init__(self) -> None:
        for source in require_many(self.sources, "sources", "S3 URIs"):
            if not isinstance(source, str) or not source.startswith("s3://"):
                raise InputError(
                    f"sources has {short_repr(source)}: expected S3 URIs; one that ends in '/' is a prefix.",
                    setting="sources",
                )
        bands = ("low", "medium", "high")
        known = {"fusion": ("rrf", "scores"), "scope": ("clip", "asset"), "min_confidence": (*bands, None)}
        for name, choices in known.items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"expected {' or '.join(map(repr, choices))}.", setting=name, value=value)
        for name in ("k", "max_per_source", "asset_gate", "fetch_k"):
            value = getattr(self, name)
            if not (is_int(value) or (value is None and name != "k")):
                raise InputError("expected a whole number, 1 or more.", setting=name, value=value)
        for name in ("merge_gap_sec", "start_sec", "end_sec", "asset_boost"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < float("inf")):
                raise InputError("expected a number, 0 or more.", setting=name, value=value)
        for name in ("distinct", "mmr_lambda"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value <= 1):
                raise InputError("expected a number from 0 to 1.", setting=name, value=value)
        if self.end_sec is not None and self.end_sec <= (self.start_sec or 0):
            raise InputError(
                "expected a time after {start_sec}.",
                setting="end_sec",
                value=self.end_sec,
                remedy={"start_sec": self.start_sec or 0},
            )

    @property
    def targets(self) -> list[SearchTarget]:
        """What to search for: one target for each track, and one more for its assets if they gate or boost."""
        tracks = [track for track, weight in self.weights.items() if weight > 0]
        sources = tuple(self.sources)
        targets = [SearchTarget(track, self.scope, sources, self.start_sec, self.end_sec) for track in tracks]
        if self.with_assets:
            targets += [SearchTarget(track, "asset", sources) for track in tracks]
        return targets

    @property
    def depth(self) -> int:
        """How many hits count for each track."""
        return self.fetch_k or (max(10 * self.k, 50) if self.merge_gap_sec is None else max(self.k, 100))

    @property
    def with_assets(self) -> bool:
        """Whether assets gate or boost clips."""
        return self.scope == "clip" and (self.asset_gate is not None or self.asset_boost > 0)

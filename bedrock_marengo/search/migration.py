"""Moving a store to another Marengo version: what it holds, what to embed, what is missing. Makes no calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bedrock_marengo.contract.segments import METADATA_KEYS, Segment
from bedrock_marengo.search.results import kind_of

__all__ = ["Holding", "Inventory", "Plan", "missing", "plan_migration", "take_inventory"]

UNKNOWN_MODEL = "unknown"
"""The model of a segment whose metadata doesn't name one."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a store holds of one source by one model.

    Attributes:
        segments: how many.
        media_type: "video", "audio" or "image".
        seconds: where its last segment ends.
        user_fields: the user's own metadata fields, as its first segment has them.
    """

    segments: int
    media_type: str
    seconds: float
    user_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a store holds: model ID -> source -> ``Holding``; ``other`` counts rows that aren't segments."""

    models: Mapping[str, Mapping[str, Holding]]
    other: int = 0

    def of(self, model_id: str) -> Mapping[str, Holding]:
        """The sources of one model."""
        return self.models.get(model_id, {})

    def __str__(self) -> str:
        lines = [
            f"{model_id}: {sum(holding.segments for holding in sources.values())} segments of {len(sources)} sources"
            for model_id, sources in sorted(self.models.items())
        ]
        return "\n".join([*lines, *([f"rows that are not segments: {self.other}"] if self.other else [])]) or "nothing"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do.

    Attributes:
        model_id: the model to embed with.
        todo: source -> what the old store holds of it by other models.
        there: those that the new store already holds by this model: their jobs are done and are only read again,
            since an interrupted run may have stored part of a source.
        cost: the sum of what ``cost`` returned for the others; None without ``cost``.
    """

    model_id: str
    todo: Mapping[str, Holding]
    there: tuple[str, ...]
    cost: float | None = None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds to embed by media type, without the sources that are already there; images have none."""
        totals: dict[str, float] = {}
        for source, holding in self.todo.items():
            if source in self.there:
                continue
            totals[holding.media_type] = totals.get(holding.media_type, 0.0) + holding.seconds
        return totals

    def __str__(self) -> str:
        kinds = [holding.media_type for source, holding in self.todo.items() if source not in self.there]
        parts = [f"{kinds.count(kind)} {kind} ({seconds:.0f} s)" for kind, seconds in sorted(self.seconds.items())]
        cost = "unknown (pass cost=)" if self.cost is None else f"{self.cost:.2f}"
        segments = sum(holding.segments for holding in self.todo.values())
        return (
            f"{segments} segments of {len(self.todo)} sources. "
            f"To embed with {self.model_id}: {', '.join(parts) or 'nothing'}. "
            f"Already in the new store: {len(self.there)} sources. Cost: {cost}."
        )


def take_inventory(rows: Iterable[tuple[str | None, Mapping[str, Any] | None]]) -> Inventory:
    """Count a store's rows by model and source.

    A row is a segment if the first line of its text is a segment's URI, whichever keys its metadata has.

    Args:
        rows: (text, metadata) of each row, from any store.
    """
    models: dict[str, dict[str, Holding]] = {}
    other = 0
    for text, metadata in rows:
        segment, metadata = Segment.find(text or ""), metadata or {}
        if segment is None:
            other += 1
            continue
        sources = models.setdefault(metadata.get("model_id") or UNKNOWN_MODEL, {})
        known = sources.get(segment.source)
        sources[segment.source] = Holding(
            segments=1 + (known.segments if known else 0),
            media_type=known.media_type if known else metadata.get("media_type") or kind_of(segment),
            seconds=max(segment.end_sec, known.seconds if known else 0.0),
            user_fields=known.user_fields if known else _user_fields(metadata),
        )
    return Inventory(models, other)


def plan_migration(
    old: Inventory, new: Inventory, model_id: str, *, cost: Callable[[str, float], float] | None = None
) -> Plan:
    """What to embed so that ``new`` holds by ``model_id`` all sources that ``old`` holds by other models.

    Args:
        old: what the old store holds.
        new: what the new store holds; segments of models other than ``model_id`` are ignored.
        model_id: the model to embed with.
        cost: (media type, seconds) -> price.
    """
    sources: dict[str, Holding] = {}
    for other, holdings in old.models.items():
        if other != model_id:
            sources.update(holdings)
    there = sources.keys() & new.of(model_id).keys()
    to_embed = [holding for source, holding in sources.items() if source not in there]
    price = sum(cost(holding.media_type, holding.seconds) for holding in to_embed) if cost else None
    return Plan(model_id, sources, tuple(sorted(there)), price)


def missing(wanted: Mapping[str, int], stored: Inventory, model_id: str) -> dict[str, tuple[int, int]]:
    """Source -> (segments wanted, segments stored), for each source whose count is wrong."""
    sources = stored.of(model_id)
    counts = {source: (count, sources[source].segments if source in sources else 0) for source, count in wanted.items()}
    return {source: pair for source, pair in counts.items() if pair[0] != pair[1]}


def _user_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    # Stores add fields of their own, such as vectors: only what a user can have given is kept.
    return {
        key: value
        for key, value in metadata.items()
        if key not in METADATA_KEYS and not key.startswith("_") and isinstance(value, str | int | float | bool)
    }

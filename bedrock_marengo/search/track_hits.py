"""What each track finds for one query, before fusion: searched once, and fused in as many ways as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from bedrock_marengo.search.diversity import choose_moments
from bedrock_marengo.search.fusion import Hit, Moment, SearchSettings
from bedrock_marengo.search.queries import EmbeddedQuery
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, find_hits
from bedrock_marengo.search.targets import is_within
from bedrock_marengo.search.weights import ALPHA, intent_weights

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["Searches", "TrackHits", "missing_sources", "search_tracks", "stored_query"]

Searches = Callable[[EmbeddedQuery, SearchSettings], Iterable[StoreSearch[Sequence[StoreHit[Any]]]]]
"""A query and settings -> the searches of a framework's stores for their targets."""


@dataclass(frozen=True, slots=True)
class TrackHits:
    """What each track finds for one query.

    Attributes:
        client: knows the segments' own vectors.
        hits: of all tracks, as ``find_moments`` takes them.
        settings: how the retriever fuses them itself.
        intent: track -> weight by the query's intent; its keys are all tracks that were searched.
        is_text: whether the query is a text alone.
    """

    client: MarengoClient = field(repr=False)
    hits: Sequence[Hit]
    settings: SearchSettings
    intent: Mapping[str, float]
    is_text: bool = False

    def moments(self, **changes: Any) -> list[Moment]:
        """The moments, best first, with other ``weights`` or another ``fusion``: the same as a new search would find.

        Raises:
            InputError: A setting has a wrong value.
        """
        return choose_moments(self.client, self.hits, replace(self.settings, **changes), is_text=self.is_text)


def search_tracks(
    client: MarengoClient,
    query: EmbeddedQuery,
    settings: SearchSettings,
    tracks: Sequence[str],
    searches: Searches,
    alpha: float = ALPHA,
) -> TrackHits:
    """Search every track, those of weight 0 included.

    Args:
        client: the client that embedded the query; embeds the tracks' anchors at the first use.
        query: with the vector of each track.
        settings: how the retriever fuses.
        tracks: all tracks that the stores may hold, and "words" if these are searched, too.
        searches: the stores' searches.
        alpha: see ``intent_weights``.

    Raises:
        ConfigurationError: A store holds segments of another model.
    """
    every = replace(settings, weights=dict.fromkeys(tracks, 1.0))
    hits, _ = find_hits(client, query.array, every, searches(query, every))
    return TrackHits(client, hits, settings, intent_weights(client, query.array, tracks, alpha), query.is_text)


def missing_sources(
    client: MarengoClient,
    settings: SearchSettings,
    tracks: Sequence[str],
    sources: Iterable[str],
    searches: Searches,
) -> list[str]:
    """Those of some sources that a search can't find. Embeds nothing: any vector finds what there is.

    Args:
        client: the retriever's client.
        settings: how the retriever searches; its ``sources`` limit what it finds.
        tracks: all tracks that the stores may hold.
        sources: raw S3 URIs.
        searches: the stores' searches.
    """
    missing = []
    for source in sources:
        query, one = stored_query(client, tracks, source, scope=settings.scope)
        if (
            not _is_allowed(source, settings.sources)
            or not find_hits(client, query.array, one, searches(query, one))[0]
        ):
            missing.append(source)
    return missing


def stored_query(
    client: MarengoClient,
    tracks: Sequence[str],
    source: str,
    *,
    scope: Literal["clip", "asset"] = "clip",
    start_sec: float | None = None,
    end_sec: float | None = None,
    depth: int = 1,
) -> tuple[EmbeddedQuery, SearchSettings]:
    """The query and the settings that find what there is of one source: any vector does. Embeds nothing.

    Args:
        client: the retriever's client.
        tracks: all tracks that the stores may hold.
        source: raw S3 URI.
        scope: as the retriever's.
        start_sec: only segments that end after this time.
        end_sec: only segments that start before this time.
        depth: how many segments of each track.
    """
    settings = SearchSettings(
        weights=dict.fromkeys(tracks, 1.0),
        k=1,
        fetch_k=depth,
        sources=[source],
        scope=scope,
        start_sec=start_sec,
        end_sec=end_sec,
    )
    return EmbeddedQuery([client.dimension**-0.5] * client.dimension), settings


def _is_allowed(source: str, limits: Sequence[str]) -> bool:
    return not limits or any(is_within(source, limit) for limit in limits)

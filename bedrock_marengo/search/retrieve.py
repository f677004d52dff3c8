"""One query to moments, over any store: what both retrievers and ``marengo search`` share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import ConfigurationError, MarengoError, OutputError
from bedrock_marengo.search.fusion import Hit, Moment, SearchSettings, SearchTarget, cut_off, find_moments
from bedrock_marengo.search.weights import Vector, check_lengths, cosines

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = [
    "MAX_LIMIT",
    "StoreHit",
    "StoreSearch",
    "aretrieve",
    "check_models",
    "check_stored",
    "moment_document",
    "retrieve",
]

MAX_LIMIT = 10_000
"""The most hits that a search requests from a store; ours."""
_SAMPLE = 1_000

Item = TypeVar("Item")
Answer = TypeVar("Answer", covariant=True)


class StoreHit(NamedTuple, Generic[Item]):
    """One row that a store's search returned.

    Attributes:
        segment: the segment that its text names; None if it isn't a segment.
        item: the framework's document or node.
        score: its cosine similarity to the query; None if the store returns something else.
        model_id: the model ID in its metadata, if there is one.
    """

    segment: Segment | None
    item: Item
    score: float | None = None
    model_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoreSearch(Generic[Answer]):
    """How to search a store for some targets.

    Attributes:
        targets: what one search answers: a single target if the store can filter for it, else several.
        search: limit -> the nearest rows, as a list of ``StoreHit``, or an awaitable of one for ``aretrieve``.
        store: the store, as an error message names it, such as "This Chroma".
        max_limit: the most hits that the store allows.
    """

    targets: tuple[SearchTarget, ...]
    search: Callable[[int], Answer]
    store: str
    max_limit: int = MAX_LIMIT


def retrieve(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Iterable[StoreSearch[Sequence[StoreHit[Item]]]],
) -> tuple[list[Moment], dict[Segment, Item]]:
    """Search each target, and fuse what is found into moments.

    Args:
        client: the client that embedded the query; it knows the segments' own vectors.
        query: ``(dimension,)``.
        settings: how to fuse; its ``targets`` are those of the searches.
        searches: the stores' searches.

    Returns:
        The moments, best first, and the store's item for each segment found.

    Raises:
        ConfigurationError: A store holds segments of another model.
        InputError: The query's vector has another length than the model's.
    """
    check_lengths(len(query), client.dimension)
    searches = list(searches)
    # One more than counts: it tells whether the last ones have equals.
    found = [_search(search, settings.depth + 1) for search in searches]
    return _fuse(client, query, settings, searches, found)


async def aretrieve(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Iterable[StoreSearch[Awaitable[Sequence[StoreHit[Item]]]]],
) -> tuple[list[Moment], dict[Segment, Item]]:
    """``retrieve`` for stores with asynchronous searches, which run at the same time."""
    check_lengths(len(query), client.dimension)
    searches = list(searches)
    found = await asyncio.gather(*(_asearch(search, settings.depth + 1) for search in searches))
    return await client.run_async(_fuse, client, query, settings, searches, found)


def moment_document(moment: Moment, texts: Mapping[Segment, str]) -> tuple[str, dict[str, Any]]:
    """A moment as the text and the metadata of a framework's document.

    The text is the moment's URI, then the words of all its segments, each once, in order of time.

    Args:
        moment: from ``retrieve``.
        texts: the stored text of each of its segments.
    """
    words = dict.fromkeys(texts[hit.segment].partition("\n")[2] for hit in moment.hits)
    metadata = {
        "source": moment.source,
        "start_sec": moment.start_sec,
        "end_sec": moment.end_sec,
        "score": moment.score,
        "tracks": {track: {"rank": hit.rank, "score": hit.score} for track, hit in moment.tracks.items()},
    }
    return "\n".join([moment.uri, *filter(None, words)]), metadata


def check_models(model_ids: Iterable[str | None], query_model_id: str, store: str) -> None:
    """Refuse a search that would compare vectors of two models.

    Raises:
        ConfigurationError: There are segments of another model than the query's.
    """
    if others := sorted({model_id for model_id in model_ids if model_id not in (None, query_model_id)}):
        raise ConfigurationError(
            f"{store} holds segments of {', '.join(map(str, others))}, and the query is embedded with "
            f"{query_model_id}: vectors of two models can't be compared. Search with the store's own model, or move "
            "its sources to a new store (langchain_marengo.migrate)."
        )


def check_stored(client: MarengoClient, stored: Iterable[tuple[str, Mapping[str, Any]]], store: str) -> None:
    """Explain why a store refused a search, if its vectors are unlike the query's: each store says that differently.

    Args:
        client: the client that embedded the query.
        stored: (text, metadata) of what the store holds; a sample is read.
        store: the store, as the error message names it.

    Raises:
        ConfigurationError: It holds segments of another model, or vectors of another length.
    """
    rows = list(islice(stored, _SAMPLE))
    check_models((metadata.get("model_id") for _, metadata in rows), client.model_id, store)
    segment = next((segment for text, _ in rows if (segment := Segment.find(text)) is not None), None)
    if segment is None:
        return
    try:
        client.segment_vectors([segment])
    except OutputError as error:
        # The output of its job has vectors of another length.
        raise ConfigurationError(
            f"{store} holds segments that this client can't compare with a query, such as {segment.uri!r}: {error} "
            "Search with a client of the model and the dimension that the store was filled with."
        ) from error
    except MarengoError:
        return


def growing_limits(depth: int, max_limit: int = MAX_LIMIT) -> Iterator[int]:
    """How many hits to request from a store that can't filter for all of a target: more each time, until stopped."""
    limit = min(depth, max_limit)
    while True:
        yield limit
        if limit >= max_limit:
            return
        limit = min(4 * limit, max_limit)


def _search(search: StoreSearch[Sequence[StoreHit[Item]]], depth: int) -> list[StoreHit[Item]]:
    kept: list[StoreHit[Item]] = []
    for limit in growing_limits(depth * len(search.targets), search.max_limit):
        found = search.search(limit)
        kept, is_enough = _kept(found, search.targets, depth, limit)
        if is_enough:
            break
    return kept


async def _asearch(search: StoreSearch[Awaitable[Sequence[StoreHit[Item]]]], depth: int) -> list[StoreHit[Item]]:
    kept: list[StoreHit[Item]] = []
    for limit in growing_limits(depth * len(search.targets), search.max_limit):
        found = await search.search(limit)
        kept, is_enough = _kept(found, search.targets, depth, limit)
        if is_enough:
            break
    return kept


def _kept(
    found: Sequence[StoreHit[Item]], targets: Sequence[SearchTarget], depth: int, limit: int
) -> tuple[list[StoreHit[Item]], bool]:
    """The hits that belong to the targets, and whether each target has enough of them, or the store no more."""
    by_target: list[list[StoreHit[Item]]] = [[] for _ in targets]
    for hit in found:
        if hit.segment is not None:
            for target, hits in zip(targets, by_target, strict=True):
                if target.holds(hit.segment):
                    hits.append(hit)
    is_enough = len(found) < limit or all(len(hits) >= min(depth, limit) for hits in by_target)
    if len(targets) > 1:
        # One search for several targets finds more of some than of others.
        by_target = [hits[:depth] for hits in by_target]
    return [hit for hits in by_target for hit in hits], is_enough


def _fuse(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Sequence[StoreSearch[Any]],
    found: Sequence[Sequence[StoreHit[Item]]],
) -> tuple[list[Moment], dict[Segment, Item]]:
    items: dict[Segment, Item] = {}
    scores: dict[Segment, float | None] = {}
    for search, hits in zip(searches, found, strict=True):
        check_models((hit.model_id for hit in hits), client.model_id, search.store)
        for hit in hits:
            if hit.segment is not None:
                items[hit.segment], scores[hit.segment] = hit.item, hit.score
    if unknown := [segment for segment, score in scores.items() if score is None]:
        vectors = client.segment_vectors(unknown)
        for vector in vectors:
            check_lengths(len(query), len(vector))
        scores.update(zip(unknown, cosines(query, np.stack(vectors)).tolist(), strict=True))
    known = (Hit(segment, score) for segment, score in scores.items() if score is not None)
    return find_moments(cut_off(known, settings.depth), settings), items

"""One query to moments, over any store: what both retrievers and ``marengo search`` share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.contract.words import Words, heading, words_in
from bedrock_marengo.errors import MarengoError, http_status, warn_once
from bedrock_marengo.search.contents import StoreContents
from bedrock_marengo.search.diversity import choose_moments
from bedrock_marengo.search.fusion import Hit, Moment, SearchSettings, SearchTarget, cut_off
from bedrock_marengo.search.model_checks import check_models, check_stored
from bedrock_marengo.search.store_limits import MAX_LIMIT
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.weights import Vector, check_lengths, cosines

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = [
    "StoreHit",
    "StoreSearch",
    "aretrieve",
    "find_hits",
    "moment_document",
    "retrieve",
]

_SAMPLE = 1_000

_OTHER_ERRORS = (
    *(AttributeError, ConnectionError, ImportError, LookupError, MarengoError),
    *(NotImplementedError, PermissionError, TimeoutError, TypeError),
)
_OTHER_STATUS = {401, 403, 404, 408, 409, 429}
_OTHER_WORDS = re.compile(
    r"connect|time[d ]*out|unauthori[sz]ed|authenticat|credential|forbidden|denied|expired|throttl|rate.?limit"
    r"|unavailable|not.?found|no such|does not exist|dimension",
    re.IGNORECASE,
)

_ANYWHERE: Mapping[str, Any] = {"sources": (), "start_sec": None, "end_sec": None}
"""A target's limits that a filter may leave for later."""

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
        max_limit: the most hits that the store allows, or that are worth their time.
        is_capped: whether ``max_limit`` is less than the store allows: then tracks that were not found are reported.
        stored: some of the (text, metadata) that the store holds, which may explain why it fails.
        at_once: whether it may run at the same time as other searches, on another thread.
        contents: what is known of the store, and learned; None if what it finds shows nothing.
        search_implied: as ``search``, without a filter for the target's track and scope; None if the store may hold
            others.
        search_all: as ``search``, for the target's track and scope alone, without the user's limits.
        query: ``(dimension,)``, what it searches for if its targets have a query of their own.
    """

    targets: tuple[SearchTarget, ...]
    search: Callable[[int], Answer]
    store: str
    max_limit: int = MAX_LIMIT
    is_capped: bool = False
    stored: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]] = tuple
    at_once: bool = False
    contents: StoreContents | None = None
    search_implied: Callable[[int], Answer] | None = None
    search_all: Callable[[int], Answer] | None = None
    query: Vector | None = None


_Questions = Generator[tuple[Callable[[int], Any], int], Sequence[StoreHit[Item]] | Exception, list[StoreHit[Item]]]
_Implied = Generator[
    tuple[Callable[[int], Any], int], Sequence[StoreHit[Item]] | Exception, list[StoreHit[Item]] | None
]
"""Yields a search and how many hits to request, is sent what it answers or raises, and returns the hits."""


def retrieve(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Iterable[StoreSearch[Sequence[StoreHit[Item]]]],
    *,
    is_text: bool = False,
) -> tuple[list[Moment], dict[Segment, Item]]:
    """Search each target, and fuse what is found into moments.

    Args:
        client: the client that embedded the query; it knows the segments' own vectors.
        query: ``(dimension,)``.
        settings: how to fuse; its ``targets`` are those of the searches.
        searches: the stores' searches.
        is_text: whether the query is a text alone, whose cosines are documented.

    Returns:
        The moments, best first, and the store's item for each segment found.

    Raises:
        ConfigurationError: A store holds segments of another model.
        InputError: The query's vector has another length than the model's.
    """
    hits, items = find_hits(client, query, settings, searches)
    return choose_moments(client, hits, settings, is_text=is_text), items


def find_hits(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Iterable[StoreSearch[Sequence[StoreHit[Item]]]],
) -> tuple[list[Hit], dict[Segment, Item]]:
    """``retrieve`` without the fusion: the hits of each track that count, for ``choose_moments``."""
    check_lengths(len(query), client.dimension)
    searches = list(searches)
    # One more than counts: it tells whether the last ones have equals.
    depth = settings.depth + 1
    one_by_one = [i for i, search in enumerate(searches) if not search.at_once]
    turns = [one_by_one, *([i] for i, search in enumerate(searches) if search.at_once)]
    answers = client.run_together([partial(_search_each, client, searches, turn, depth) for turn in turns if turn])
    found = {i: hits for answer in answers for i, hits in answer.items()}
    return _hits(client, query, settings, searches, [found[i] for i in range(len(searches))])


async def aretrieve(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Iterable[StoreSearch[Awaitable[Sequence[StoreHit[Item]]]]],
    *,
    is_text: bool = False,
) -> tuple[list[Moment], dict[Segment, Item]]:
    """``retrieve`` for stores with asynchronous searches, which run at the same time."""
    check_lengths(len(query), client.dimension)
    searches = list(searches)
    found = await asyncio.gather(*(_asearch(search, settings.depth + 1) for search in searches))
    hits, items = await client.run_async(_hits, client, query, settings, searches, found)
    chosen = partial(choose_moments, client, hits, settings, is_text=is_text)
    return await client.run_async(chosen), items


def moment_document(moment: Moment, texts: Mapping[Segment, str]) -> tuple[str, dict[str, Any]]:
    """A moment as the text and the metadata of a framework's document.

    The text is the moment's URI, its file and time, then the words of all its segments, each once, in order of time.

    Args:
        moment: from ``retrieve``.
        texts: the stored text of each of its segments.
    """
    words = Words.joined(words_in(texts[hit.segment]) for hit in moment.hits)
    title = heading(moment.source, moment.start_sec, moment.end_sec)
    metadata = {
        "source": moment.source,
        "start_sec": moment.start_sec,
        "end_sec": moment.end_sec,
        "score": moment.score,
        **({"confidence": moment.confidence} if moment.confidence else {}),
        "tracks": {track: {"rank": hit.rank, "score": hit.score} for track, hit in moment.tracks.items()},
    }
    return "\n".join(filter(None, [moment.uri, title, words])), metadata


def _search_each(
    client: MarengoClient, searches: Sequence[StoreSearch[Sequence[StoreHit[Item]]]], turn: Sequence[int], depth: int
) -> dict[int, list[StoreHit[Item]]]:
    return {i: _search(client, searches[i], depth) for i in turn}


def _search(client: MarengoClient, search: StoreSearch[Sequence[StoreHit[Item]]], depth: int) -> list[StoreHit[Item]]:
    questions: _Questions[Item] = _ask(search, depth)
    call, limit = next(questions, (None, 0))
    while call is not None:
        answer: Sequence[StoreHit[Item]] | Exception
        try:
            answer = call(limit)
        except Exception as error:
            answer = error
        try:
            call, limit = questions.send(answer)
        except StopIteration as done:
            return cast("list[StoreHit[Item]]", done.value)
        except MarengoError:
            raise
        except Exception:
            check_stored(client, _sample(search), search.store)
            raise
    return []


async def _asearch(search: StoreSearch[Awaitable[Sequence[StoreHit[Item]]]], depth: int) -> list[StoreHit[Item]]:
    questions: _Questions[Item] = _ask(search, depth)
    call, limit = next(questions, (None, 0))
    while call is not None:
        answer: Sequence[StoreHit[Item]] | Exception
        try:
            answer = await call(limit)
        except Exception as error:
            answer = error
        try:
            call, limit = questions.send(answer)
        except StopIteration as done:
            return cast("list[StoreHit[Item]]", done.value)
    return []


def _ask(search: StoreSearch[Any], depth: int) -> _Questions[Item]:
    """Says as little in the filter as the store's contents allow, and asks again if that finds too few."""
    filtered: _Questions[Item] = _ask_filtered(search, depth)
    if search.contents is None:
        return (yield from filtered)
    [target] = search.targets
    if search.contents.lacks(target.track, target.scope):
        return []
    if search.search_implied is not None and search.contents.times(target):
        implied: _Implied[Item] = _ask_implied(search, search.search_implied, search.contents, depth)
        if (found := (yield from implied)) is not None:
            return found
    kept = yield from filtered
    if not kept and search.search_all is not None:
        answer = yield search.search_all, 1
        if not isinstance(answer, Exception) and not answer:
            search.contents.note_lacks(target)
    return kept


def _ask_implied(
    search: StoreSearch[Any], search_implied: Callable[[int], Any], contents: StoreContents, depth: int
) -> _Implied[Item]:
    """The nearest rows, whatever they are: of those, the target's are its nearest. None if others crowd them out."""
    [target] = search.targets
    times = contents.times(target)
    limit = min(times * depth, search.max_limit)
    while not isinstance(answer := (yield search_implied, limit), Exception):
        kept, is_enough = _kept(answer, search.targets, depth, limit)
        others = sum(hit.segment is None or not replace(target, **_ANYWHERE).holds(hit.segment) for hit in answer)
        if len(kept) >= min(depth, limit) or (is_enough and not others):
            return kept[:depth]
        if others:
            times = 2 if times == 1 else 0
            contents.note_times(target, times)
        if limit == search.max_limit or not times:
            break
        limit = min((2 if others else 4) * limit, search.max_limit)
    # If the store has refused so many, the filtered search will show how many it gives.
    return None


def _ask_filtered(search: StoreSearch[Any], depth: int) -> _Questions[Item]:
    """Asks for more until each target has enough, or the store has no more or refuses so many.

    If it refuses the first question, fewer are asked for.
    """
    limit = min(depth * len(search.targets), search.max_limit)
    refused: Exception | None = None
    while isinstance(answer := (yield search.search, limit), Exception):
        refused = refused or answer
        if limit == 1 or not _may_be_limit(answer):
            raise refused
        limit //= 2
    kept, is_enough = _kept(answer, search.targets, depth, limit)
    while not is_enough and refused is None and limit < search.max_limit:
        limit = min(4 * limit, search.max_limit)
        if isinstance(answer := (yield search.search, limit), Exception):
            refused = answer
        else:
            kept, is_enough = _kept(answer, search.targets, depth, limit)
    if isinstance(refused, MarengoError):
        raise refused
    if not is_enough and refused is None and search.is_capped:
        _warn_of_missing(search, kept, limit)
    if refused is not None:
        warn_once(
            f"limit of {search.store}",
            f"{search.store} refused a wider search, so that only the nearest segments were ranked. A store for each "
            f"track or a narrower search (sources=) needs fewer. It said: {type(refused).__name__}: {refused!s:.200}",
        )
    return kept


def _warn_of_missing(search: StoreSearch[Any], kept: Sequence[StoreHit[Any]], limit: int) -> None:
    found = {hit.segment.option for hit in kept if hit.segment is not None}
    if missing := [target.track for target in search.targets if target.track not in found]:
        warn_once(
            f"missing in {search.store} {missing}",
            f"{search.store} can't be searched by track, and none of its {limit:,} nearest segments is of "
            f"{', '.join(missing)}. If it holds some, use a store for each track, or pass fetch_k= to search further.",
        )


def _may_be_limit(error: Exception) -> bool:
    """Whether a store may have refused the number of hits. Each says that in its own words: this knows what else is."""
    response = getattr(error, "response", None)
    known = [http_status(error)] if isinstance(response, dict) else []
    known += [getattr(each, "status_code", None) for each in (error, response)]
    if isinstance(error, _OTHER_ERRORS) or any(
        isinstance(status, int) and (status in _OTHER_STATUS or status >= 500) for status in known
    ):
        return False
    return _OTHER_WORDS.search(f"{type(error).__name__} {error}") is None


def _sample(search: StoreSearch[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        return list(islice(search.stored(), _SAMPLE))
    except Exception:
        # The store's own error says more than that it can't list its rows.
        return []


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


def _hits(
    client: MarengoClient,
    query: Vector,
    settings: SearchSettings,
    searches: Sequence[StoreSearch[Any]],
    found: Sequence[Sequence[StoreHit[Item]]],
) -> tuple[list[Hit], dict[Segment, Item]]:
    items: dict[Segment, Item] = {}
    scores: dict[tuple[str, Segment], float] = {}
    unknown: dict[Segment, Vector] = {}
    for search, hits in zip(searches, found, strict=True):
        check_models((hit.model_id for hit in hits), client.model_id, search.store)
        for hit in hits:
            if hit.segment is None:
                continue
            if search.targets[0].track == WORDS:
                items.setdefault(hit.segment, hit.item)
                scores[WORDS, hit.segment] = hit.score or 0.0
                continue
            items[hit.segment] = hit.item
            if hit.score is None:
                unknown[hit.segment] = query if search.query is None else search.query
            else:
                scores[hit.segment.option, hit.segment] = hit.score
    if unknown:
        vectors = np.stack(client.segment_vectors(list(unknown)))
        for asked in {id(asked): asked for asked in unknown.values()}.values():
            mine = [i for i, other in enumerate(unknown.values()) if other is asked]
            segments = [segment for segment, other in unknown.items() if other is asked]
            for segment, cosine in zip(segments, cosines(asked, vectors[mine]).tolist(), strict=True):
                scores[segment.option, segment] = cosine
    known = (Hit(segment, score, track=track) for (track, segment), score in scores.items())
    return cut_off(known, settings.depth), items

"""One query for each track: which there are, and what each becomes. Each distinct one is embedded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bedrock_marengo.contract.inputs import Query
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.confidence import is_text
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.weights import Vector, check_weights
from bedrock_marengo.validation import short_repr

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["EmbeddedQuery", "Question", "check_queries", "embed_queries", "searched_tracks", "tracks_and_weights"]


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A question, and the queries of tracks that have their own.

    Attributes:
        vector: the question's; if no track is searched for it, that of another query.
        named: track -> the vector of its own query.
        text: what the words are searched for; None if there is no text.
        is_text: whether all queries are texts alone.
    """

    vector: Sequence[float]
    named: Mapping[str, Sequence[float]] = field(default_factory=dict)
    text: str | None = None
    is_text: bool = False

    @property
    def array(self) -> Vector:
        """``(dimension,)``."""
        return np.asarray(self.vector, np.float32)

    def of(self, track: str) -> list[float]:
        """The vector that a track is searched for."""
        return list(self.named.get(track, self.vector))

    def own(self, track: str) -> Vector | None:
        """The vector of a track's own query, ``(dimension,)``; None if it is searched for the question."""
        return np.asarray(self.named[track], np.float32) if track in self.named else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks.

    Attributes:
        query: what the retriever embeds: a text, a ``Query`` or a framework's own.
        text: its text; None if it has none.
        is_text: whether it is a text alone.
        queries: track -> a query of its own.
    """

    query: Any
    text: str | None
    is_text: bool
    queries: Mapping[str, str | Query] = field(default_factory=dict)

    @property
    def words(self) -> str | None:
        """What the words are searched for; None if there is no text."""
        own = self.queries.get(WORDS)
        return self.text if own is None else own.text if isinstance(own, Query) else own


def check_queries(queries: Any, tracks: Sequence[str]) -> dict[str, str | Query]:
    """One query for some tracks, if they are valid.

    Args:
        queries: track -> text or ``Query``; None for none.
        tracks: those that are searched.

    Raises:
        InputError: Not a mapping, an unknown track, an empty text, or a query of the words without a text.
    """
    if queries is None:
        return {}
    if not isinstance(queries, Mapping):
        raise InputError("expected a mapping of track to query.", setting="queries", value=queries)
    for track, query in queries.items():
        if track == WORDS and WORDS not in tracks:
            raise InputError(
                "queries has 'words', and words are not a track unless you pass {words}.",
                setting="queries",
                remedy={"words": "bm25"},
            )
        if track not in tracks:
            raise InputError(
                f"queries has {short_repr(track)}, which is not a track that is searched: expected "
                f"{', '.join(tracks)}.",
                setting="queries",
            )
        if not isinstance(query, str | Query) or not (query.strip() if isinstance(query, str) else True):
            raise InputError(
                f"queries has {track!r}: {short_repr(query)}; expected a text or a Query.", setting="queries"
            )
        if track == WORDS and isinstance(query, Query) and not query.text:
            raise InputError("queries has 'words' without a text: words are found by text alone.", setting="queries")
    return dict(queries)


def tracks_and_weights(
    tracks: Sequence[str], weights: str | Mapping[str, float], has_text: bool
) -> tuple[tuple[str, ...], str | Mapping[str, float]]:
    """The tracks to search, and their weights: without a text, all but the words.

    Raises:
        InputError: Nothing is left to search.
    """
    if has_text or WORDS not in tracks:
        return tuple(tracks), weights
    if not isinstance(weights, str):
        weights = {track: weight for track, weight in weights.items() if track != WORDS}
        if not sum(weights.values()):
            raise InputError("this query has no text, and 'words' is the only track above 0.", setting="weights")
    return tuple(track for track in tracks if track != WORDS), weights


def searched_tracks(weights: str | Mapping[str, float], tracks: Sequence[str]) -> list[str]:
    """The tracks with a weight above 0; all of them if the query decides."""
    return [track for track, weight in check_weights(weights, tracks).items() if weight > 0]


def embed_queries(
    client: MarengoClient,
    embed: Callable[[Any], Sequence[float]],
    question: Question,
    tracks: Iterable[str],
    *,
    is_question_needed: bool = False,
) -> EmbeddedQuery:
    """Embed a question and the queries of tracks, each distinct one once, at the same time.

    Args:
        client: runs them.
        embed: how the framework's retriever embeds one.
        question: with the queries of tracks.
        tracks: those that are searched.
        is_question_needed: whether the question's vector decides the weights, even if each track has its own query.
    """
    wanted = [track for track in tracks if track != WORDS]
    named = {track: question.queries[track] for track in wanted if track in question.queries}
    is_asked = is_question_needed or len(named) < len(wanted) or not wanted
    distinct: list[Any] = [question.query] if is_asked else []
    for query in named.values():
        if query not in distinct:
            distinct.append(query)
    vectors = client.run_together([partial(embed, query) for query in distinct])
    texts = [query for query in named.values() if isinstance(query, str) or is_text(query)]
    return EmbeddedQuery(
        vector=vectors[0],
        named={track: vectors[distinct.index(query)] for track, query in named.items()},
        text=question.words,
        is_text=len(texts) == len(named) and (question.is_text or len(named) == len(wanted)),
    )

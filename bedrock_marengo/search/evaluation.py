"""How well retrievers find the right moments of some questions: every track, fusion and preset, with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np

from bedrock_marengo.contract.inputs import Query
from bedrock_marengo.errors import InputError, MarengoWarning
from bedrock_marengo.search.evaluation_report import Evaluation
from bedrock_marengo.search.fusion import Fusion, Moment
from bedrock_marengo.search.metrics import metric_names, score
from bedrock_marengo.search.questions import Question, read_questions
from bedrock_marengo.search.results import SearchResult, results_from
from bedrock_marengo.search.track_hits import TrackHits
from bedrock_marengo.search.weights import INTENT, PRESETS, weights_of
from bedrock_marengo.validation import is_int, is_number, require_many, short_repr

__all__ = ["SearchesTracks", "check_evaluation", "evaluate", "tracks_found", "weights_by_name"]

_SHOWN = 5
"""Sources that a warning names."""

Ranking = list[SearchResult | None]
"""What was found, best first; None for what is not a segment, which takes a rank all the same."""


@runtime_checkable
class SearchesTracks(Protocol):
    """A retriever whose tracks can be searched once and fused in other ways: both ``MarengoRetriever``."""

    def search_tracks(self, query: str | Query, k: int | None = None) -> TrackHits:
        """What each track finds, before fusion."""

    def missing_sources(self, sources: Iterable[str]) -> list[str]:
        """Those of some sources that it can't find."""


def evaluate(
    retrievers: Any,
    questions: Any,
    *,
    k: int = 10,
    baseline: str | None = None,
    variants: bool | None = None,
    min_iou: float | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure how well retrievers find the right moments of some questions.

    A ``MarengoRetriever`` searches once for each question, all tracks, and is then measured with every track alone and
    with every fusion and preset, without further calls. Anything else is measured as it is.

    A hit is right if it is of a right moment's file, and the middle of one is within the other. A right moment counts
    once, at the first hit that finds it.

    Args:
        retrievers: a retriever of LangChain or LlamaIndex, or a function from a query to hits that ``results_from``
            reads; or several, as a list or as a mapping of name to retriever. A retriever of another package must
            return ``k`` hits itself.
        questions: a ``pathlib.Path`` of JSON Lines, a DataFrame, or a list of mappings, dataclasses or ``Question``,
            with ``query``, ``source``, ``start_sec`` and ``end_sec``; a row for each right moment.
        k: how many hits count.
        baseline: the row that the others are compared with. Default: the first.
        variants: whether to add rows for tracks, fusions and presets. Default: if there is one retriever.
        min_iou: 0 to 1. A hit is right if intersection over union with the right moment is at least this, instead of
            by its middle.
        seed: of the bootstrap.

    Returns:
        The table: print it, show it in a notebook, or take ``.to_pandas()``.

    Raises:
        InputError: A question, a retriever or a setting is wrong. All wrong questions are named at once.

    Warns:
        MarengoWarning: The store has no segments of a right moment's file, so that recall can't reach 1.
    """
    check_evaluation(k, min_iou, seed)
    named, asked = _named(retrievers), read_questions(questions)
    with_variants = len(named) == 1 if variants is None else variants
    scores: dict[str, list[list[float]]] = {}
    missing: dict[str, list[str]] = {}
    nothing = [score([], question.right, k, min_iou) for question in asked]
    for name, retriever in named.items():
        rows = _Rows(name, retriever, k, with_variants, prefix=f"{name}: " if len(named) > 1 else "")
        for i, question in enumerate(asked):
            for row, ranking in rows.of(question).items():
                scores.setdefault(row, list(nothing))[i] = score(ranking, question.right, k, min_iou)
        if absent := _missing(name, retriever, asked, rows.sources):
            missing[name] = absent
    if baseline is not None and baseline not in scores:
        raise InputError(f"there is no such row. Rows: {', '.join(scores)}.", setting="baseline", value=baseline)
    return Evaluation(
        questions=tuple(asked),
        k=k,
        names=tuple(scores),
        metrics=metric_names(k),
        values=np.array(list(scores.values()), np.float64),
        baseline=baseline or next(iter(scores)),
        min_iou=min_iou,
        seed=seed,
        missing_sources=missing,
    )


def check_evaluation(k: int, min_iou: float | None, seed: int) -> None:
    """Refuse wrong settings before anything is searched.

    Raises:
        InputError: The first of them.
    """
    if not is_int(k):
        raise InputError("expected a whole number, 1 or more.", setting="k", value=k)
    if min_iou is not None and not (is_number(min_iou) and 0 < min_iou <= 1):
        raise InputError("expected more than 0 and at most 1, such as 0.3.", setting="min_iou", value=min_iou)
    if not is_int(seed, 0):
        raise InputError("expected a whole number, 0 or more.", setting="seed", value=seed)


def weights_by_name(hits: TrackHits) -> dict[str, Mapping[str, float]]:
    """The presets and the query's intent -> the weights of the tracks that were searched."""
    tracks = tuple(hits.intent)
    return {**{preset: weights_of(preset, tracks) for preset in PRESETS}, INTENT: hits.intent}


def tracks_found(hits: Iterable[TrackHits]) -> list[str]:
    """The tracks that found anything, in the order in which they were searched."""
    found: set[str] = set()
    searched: dict[str, None] = {}
    for each in hits:
        searched.update(dict.fromkeys(each.intent))
        found.update(hit.track for hit in each.hits)
    return [track for track in searched if track in found]


class _Rows:
    """The rows of one retriever, and what they find. A track that finds nothing for any question has no row."""

    def __init__(self, name: str, retriever: Any, k: int, with_variants: bool, prefix: str) -> None:
        self._name, self._prefix, self._k = name, prefix, k
        self._search = _search_of(name, retriever)
        self._with_variants = with_variants
        self.sources: set[str] = set()

    def of(self, question: Question) -> dict[str, Ranking]:
        """Row -> what it finds."""
        found = self._search(question.query, self._k)
        if not isinstance(found, TrackHits):
            ranking = _ranking(found, self._name)
            self.sources.update(hit.source for hit in ranking if hit is not None)
            return {self._name: ranking}
        self.sources.update(hit.segment.source for hit in found.hits)
        rows = {self._name: _ranking(found.moments(), self._name)}
        if self._with_variants:
            variants = {f"{self._prefix}{row}": _ranking(moments, row) for row, moments in _variants(found)}
            # First and unchanged, even if it has the name of a variant.
            rows = {**rows, **variants, **rows}
        return rows


def _variants(hits: TrackHits) -> Iterator[tuple[str, list[Moment]]]:
    for track in tracks_found([hits]):
        yield f"{track} alone", hits.moments(weights={track: 1.0}, fusion="scores")
    for fusion in get_args(Fusion):
        for name, weights in weights_by_name(hits).items():
            yield f"{fusion}, {name}", hits.moments(weights=weights, fusion=fusion)


def _named(retrievers: Any) -> dict[str, Any]:
    if isinstance(retrievers, Mapping):
        named = {str(name): retriever for name, retriever in retrievers.items()}
    else:
        several = list(retrievers) if isinstance(retrievers, list | tuple) else [retrievers]
        named = {}
        for retriever in several:
            name = getattr(retriever, "__name__", type(retriever).__name__)
            same = sum(each == name or each.startswith(f"{name} ") for each in named)
            named[f"{name} {same + 1}" if same else name] = retriever
    if not named:
        raise InputError("There are no retrievers to evaluate: pass one, or a mapping of name to retriever.")
    for name, retriever in named.items():
        _search_of(name, retriever)
    return named


def _search_of(name: str, retriever: Any) -> Callable[[str | Query, int], Any]:
    """By attributes, so that no framework is imported: LangChain's ``invoke``, LlamaIndex's ``retrieve``."""
    # A class has the methods of its instances, too.
    if isinstance(retriever, SearchesTracks) and not isinstance(retriever, type):
        return retriever.search_tracks
    for call in (getattr(retriever, "invoke", None), getattr(retriever, "retrieve", None), retriever):
        if callable(call) and not isinstance(retriever, type):
            return lambda query, k: list(require_many(call(query), name, "hits"))[:k]
    raise InputError(
        f"{short_repr(retriever)} is not a retriever: expected one of LangChain or LlamaIndex, or a function from a "
        "query to a list of hits."
    )


def _ranking(hits: Sequence[Any], name: str) -> Ranking:
    ranking = [next(iter(results_from([hit])), None) for hit in hits]
    if ranking and not any(ranking):
        raise InputError(
            f"{name} returned {len(ranking)} documents, and none of them is a segment: a segment's text begins with "
            "its URI. Evaluate a retriever over a store that Marengo's segments were added to."
        )
    return ranking


def _missing(name: str, retriever: Any, questions: Sequence[Question], found: set[str]) -> list[str]:
    """The sources of right moments that can't be found, with a warning."""
    sources = dict.fromkeys(moment.source for question in questions for moment in question.right)
    unseen = [source for source in sources if source not in found]
    knows = isinstance(retriever, SearchesTracks)
    missing = list(retriever.missing_sources(unseen)) if knows and unseen else unseen
    if missing:
        said = "has no segments of" if knows else "never returned"
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        message = (
            f"{name} {said} {len(missing):,} of the {len(sources):,} files of right moments: "
            f"{', '.join(map(short_repr, missing[:_SHOWN]))}{more}. If they are not in its store, recall means nothing "
            "for their questions. Write a source as the segments' metadata have it (not percent-encoded), or add it to "
            "the store."
        )
        warnings.warn(MarengoWarning(message), stacklevel=3)
    return missing

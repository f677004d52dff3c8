"""MarengoRetriever: LangChain's retriever that knows tracks, over any store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, cast

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from bedrock_marengo import Query, Segment
from bedrock_marengo.search.fusion import (
    MOST_HITS,
    Fusion,
    Hit,
    Moment,
    SearchSettings,
    SearchTarget,
    check_models,
    describe_query,
    find_moments,
    growing_limits,
)
from bedrock_marengo.search.weights import (
    ALPHA,
    check_alpha,
    check_tracks,
    cosines,
    intent_weights,
    tracks_of,
    weights_of,
)
from bedrock_marengo.validation import reject_unknown
from langchain_marengo.embeddings import MarengoEmbeddings, validate_without_secrets
from langchain_marengo.known_stores import Found, KnownStore, find_known_store

__all__ = ["MarengoRetriever"]

# Fields of ours that are the core's search settings.
_SETTINGS = (
    "k",
    "fusion",
    "merge_gap_sec",
    "max_per_source",
    "sources",
    "start_sec",
    "end_sec",
    "asset_gate",
    "asset_boost",
    "scope",
    "fetch_k",
)
_IN_INVOKE = (*_SETTINGS, "weights", "alpha", "filter")

_Held = tuple[Segment, Document, float | None]


class MarengoRetriever(BaseRetriever):
    """Searches each track of a store and fuses what it finds into moments: one Document for each.

    The query is a string or a ``Query`` of text, image, audio or video. A Document's text and metadata are those of the
    moment's best segment, with ``start_sec`` and ``end_sec`` of the whole moment, ``score`` (good for comparing within
    one search) and ``tracks``: track -> ``{"rank": from 1, "score": cosine}``. All settings below but the stores and
    the embeddings can be given to ``invoke`` too.

    Examples:
        ```python
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=5, merge_gap_sec=0)
        retriever.invoke("a goal from a corner")
        retriever.invoke(Query(image=Path("goal.jpg")), weights="intent", filter={"tenant": "acme"})
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    embeddings: MarengoEmbeddings
    """What the query is embedded with, and whose segments the store holds."""
    vectorstore: VectorStore | None = None
    """One store for all tracks."""
    vectorstores: dict[str, VectorStore] | None = None
    """Or a store for each track."""
    weights: str | dict[str, float] = "visual"
    """A preset ("visual", "dialogue", "sound", "balanced"), "intent" (the query decides), or track -> weight."""
    alpha: float = ALPHA
    """How sharply "intent" decides."""
    filter: Any = None
    """A filter of your own, such as a tenant's, in the store's own language; joined with the track's."""
    k: int = 5
    """Moments wanted."""
    fusion: Fusion = "rrf"
    """"rrf": by ranks. "scores": by weighted cosines."""
    merge_gap_sec: float | None = None
    """Clips of one source at most this far apart become one moment; None keeps clips apart."""
    max_per_source: int | None = None
    """At most so many moments of one source."""
    sources: list[str] = Field(default_factory=list)
    """Only these sources; one that ends in "/" is a prefix."""
    start_sec: float | None = None
    """Only what overlaps this time and later."""
    end_sec: float | None = None
    """Only what overlaps the time before this."""
    asset_gate: int | None = None
    """Only clips of the so many best assets."""
    asset_boost: float = 0.0
    """Adds so much of its asset's score to a clip's."""
    scope: Literal["clip", "asset"] = "clip"
    """"asset" finds whole media."""
    fetch_k: int | None = None
    """Hits asked of each track. Default: 10 a moment, at least 50."""

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoRetriever:
        if (self.vectorstore is None) == (not self.vectorstores):
            raise ValueError("MarengoRetriever takes vectorstore=, or vectorstores={track: store}.")
        # Finds a wrong track, preset or number when it is typed.
        check_tracks(self._tracks, self.embeddings.core.model)
        self._check({})
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoRetriever]) -> MarengoRetriever:
        return validate_without_secrets(cls, values, handler)

    def invoke(self, input: str | Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The moments that answer a query, best first.

        Raises:
            bedrock_marengo.InputError: A setting that makes no sense, or of an unknown name.
            bedrock_marengo.ConfigurationError: The store holds segments of another model.
        """
        return super().invoke(_asked(input), config, **kwargs)

    async def ainvoke(self, input: str | Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """``invoke`` for asyncio; stores are searched on the embeddings' own threads."""
        return await super().ainvoke(_asked(input), config, **kwargs)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **given: Any
    ) -> list[Document]:
        return self._search(query, given, run_manager.metadata)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **given: Any
    ) -> list[Document]:
        return await self.embeddings.core.run_async(self._search, query, given, run_manager.metadata)

    def _get_ls_params(self, **given: Any) -> LangSmithRetrieverParams:
        weights = given.get("weights", self.weights)
        params = {
            **super()._get_ls_params(**given),
            "ls_vector_store_provider": ", ".join(sorted({type(store).__name__ for store in self._stores.values()})),
            "ls_embedding_provider": "MarengoEmbeddings",
            "ls_embedding_model": self.embeddings.core.model_id,
            "marengo_tracks": list(weights) if isinstance(weights, Mapping) else list(self._tracks),
            "marengo_weights": dict(weights) if isinstance(weights, Mapping) else weights,
            "marengo_fusion": given.get("fusion", self.fusion),
        }
        return cast("LangSmithRetrieverParams", params)

    @property
    def _stores(self) -> dict[str, VectorStore]:
        if self.vectorstore is not None:
            return dict.fromkeys(tracks_of(self.embeddings.core.model), self.vectorstore)
        return self.vectorstores or {}

    @property
    def _tracks(self) -> tuple[str, ...]:
        return tuple(self._stores)

    def _settings(self, given: Mapping[str, Any], weights: Mapping[str, float]) -> SearchSettings:
        return SearchSettings(weights=weights, **{name: given.get(name, getattr(self, name)) for name in _SETTINGS})

    def _search(self, query: str, given: dict[str, Any], run_metadata: dict[str, Any]) -> list[Document]:
        # A filter that is misspelt must not be passed over, nor a query be paid for that can't be answered.
        reject_unknown(set(given) - {"verbose"}, _IN_INVOKE, "MarengoRetriever")
        self._check(given)
        if isinstance(query, _Asked):
            query = self.embeddings.query_handle(query.query)
        vector = self.embeddings.embed_query(query)
        weights = self._weights(given, vector)
        # With "intent" they are known only now; tracers keep this mapping.
        run_metadata["marengo_weights"] = weights
        settings = self._settings(given, weights)
        documents: dict[Segment, Document] = {}
        hits = self._hits(vector, settings, given.get("filter", self.filter), documents)
        return [_document(moment, documents) for moment in find_moments(hits, settings)]

    def _check(self, given: Mapping[str, Any]) -> None:
        check_alpha(given.get("alpha", self.alpha))
        self._settings(given, weights_of(_preset(given.get("weights", self.weights)), self._tracks))

    def _weights(self, given: Mapping[str, Any], vector: list[float]) -> dict[str, float]:
        weights = given.get("weights", self.weights)
        if weights == "intent":
            query = np.asarray(vector, np.float32)
            return intent_weights(self.embeddings.core, query, self._tracks, given.get("alpha", self.alpha))
        return weights_of(weights, self._tracks)

    def _hits(
        self, vector: list[float], settings: SearchSettings, own: Any, documents: dict[Segment, Document]
    ) -> list[Hit]:
        scores: dict[Segment, float | None] = {}
        for store, places in _by_store(self._stores, settings.places):
            for segment, document, score in _found(store, self.embeddings, vector, places, settings.depth, own):
                documents[segment], scores[segment] = document, score
        if blank := [segment for segment, score in scores.items() if score is None]:
            # A distance, or nothing: the segment's own vector knows.
            vectors = np.stack(self.embeddings.core.segment_vectors(blank))
            scores.update(zip(blank, cosines(np.asarray(vector, np.float32), vectors).tolist(), strict=True))
        return [Hit(segment, score) for segment, score in scores.items() if score is not None]


class _Asked(str):
    """A Query on its way through LangChain, which knows strings: what a trace shows of it."""

    query: Query


def _asked(query: str | Query) -> str:
    if isinstance(query, str):
        return query
    asked = _Asked(describe_query(query))
    asked.query = query
    return asked


def _preset(weights: str | Mapping[str, float]) -> str | Mapping[str, float]:
    return "balanced" if weights == "intent" else weights


def _by_store(
    stores: Mapping[str, VectorStore], places: Sequence[SearchTarget]
) -> Iterator[tuple[VectorStore, list[SearchTarget]]]:
    one_of_each = {id(stores[place.track]): stores[place.track] for place in places}
    for store in one_of_each.values():
        yield store, [place for place in places if stores[place.track] is store]


def _found(
    store: VectorStore,
    embeddings: MarengoEmbeddings,
    vector: list[float],
    places: Sequence[SearchTarget],
    depth: int,
    own: Any,
) -> list[_Held]:
    """At least ``depth`` hits of each place, if the store holds so many."""
    known, model_id, name = find_known_store(store), embeddings.core.model_id, f"This {type(store).__name__}"
    try:
        if known is None:
            held = _sifted(store, embeddings, vector, places, depth, own)
        else:
            held = [hit for place in places for hit in _of_place(known, store, vector, place, depth, own)]
    except Exception:
        # Vectors of another model have another dimension, which each store refuses in its own words.
        if known is not None:
            rows = islice(known.rows(store, None), 1000)
            check_models((metadata.get("model_id") for _, metadata in rows), model_id, name)
        raise
    check_models((document.metadata.get("model_id") for _, document, _ in held), model_id, name)
    return held


def _of_place(
    known: KnownStore, store: VectorStore, vector: list[float], place: SearchTarget, depth: int, own: Any
) -> list[_Held]:
    held: list[_Held] = []
    for ask in growing_limits(depth, known.max_k or MOST_HITS):
        found = known.search(store, vector, ask, place, own)
        held = _held(found, [place])[0]
        # More is asked for only where the store could not filter for all of the place.
        if len(held) >= min(depth, ask) or len(found) < ask:
            break
    return held


def _sifted(
    store: VectorStore,
    embeddings: MarengoEmbeddings,
    vector: list[float],
    places: Sequence[SearchTarget],
    depth: int,
    own: Any,
) -> list[_Held]:
    """Of a store that nothing is known of: ever more of its nearest, till each place has enough."""
    settings = {} if own is None else {"filter": own}
    held: list[list[_Held]] = []
    for ask in growing_limits(depth * len(places)):
        try:
            documents = store.similarity_search_by_vector(vector, k=ask, **settings)
        except NotImplementedError:
            # A handle is known to the embeddings that made it: the store's, if it tells them.
            asked = store.embeddings if isinstance(store.embeddings, MarengoEmbeddings) else embeddings
            documents = store.similarity_search(asked.query_handle(vector), k=ask, **settings)
        held = _held([(document, None) for document in documents], places)
        if all(len(hits) >= depth for hits in held) or len(documents) < ask:
            break
    return [hit for hits in held for hit in hits[:depth]]


def _held(found: Iterable[Found], places: Sequence[SearchTarget]) -> list[list[_Held]]:
    """For each place the hits that lie there, by the segment that the text names."""
    held: list[list[_Held]] = [[] for _ in places]
    for document, score in found:
        if (segment := Segment.find(document.page_content)) is not None:
            for place, hits in zip(places, held, strict=True):
                if place.holds(segment):
                    hits.append((segment, document, score))
    return held


def _document(moment: Moment, documents: Mapping[Segment, Document]) -> Document:
    best = documents[moment.best.segment]
    uri = moment.best.segment.uri
    # The words of all its clips, each once, in order of time.
    words = dict.fromkeys(documents[hit.segment].page_content.partition("\n")[2] for hit in moment.hits)
    return Document(
        id=moment.best.segment.id,
        page_content="\n".join([uri, *filter(None, words)]),
        metadata={
            **best.metadata,
            "source": moment.source,
            "start_sec": moment.start_sec,
            "end_sec": moment.end_sec,
            "score": moment.score,
            "tracks": {track: {"rank": hit.rank, "score": hit.score} for track, hit in moment.tracks.items()},
        },
    )

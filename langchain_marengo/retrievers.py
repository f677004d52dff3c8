"""MarengoRetriever: a LangChain retriever that fuses the tracks of any store into moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from bedrock_marengo import ConfigurationError, Query, Segment
from bedrock_marengo.search.citations import describe_query
from bedrock_marengo.search.confidence import is_text
from bedrock_marengo.search.contents import contents_of
from bedrock_marengo.search.fusion import Fusion, Moment, SearchSettings, SearchTarget
from bedrock_marengo.search.queries import (
    EmbeddedQuery,
    Question,
    check_queries,
    embed_queries,
    searched_tracks,
    tracks_and_weights,
)
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, moment_document, retrieve
from bedrock_marengo.search.store_limits import default_limit, limit_of
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.track_hits import TrackHits, missing_sources, search_tracks
from bedrock_marengo.search.weights import ALPHA, INTENT, check_tracks, check_weights, query_weights, tracks_of
from bedrock_marengo.validation import reject_unknown
from langchain_marengo.copies import ValidatedCopies
from langchain_marengo.decomposing import adecompose, decompose
from langchain_marengo.embeddings import HANDLE, MarengoEmbeddings, validate_without_secrets
from langchain_marengo.known_stores import KnownStore, find_known_store
from langchain_marengo.text_searches import check_words, text_search

__all__ = ["MarengoRetriever"]

# Fields that are settings of the core's SearchSettings.
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
    "distinct",
    "mmr_lambda",
    "min_confidence",
)
_IN_INVOKE = (*_SETTINGS, "weights", "alpha", "filter", "words", "decompose", "queries")
_QUERY = "_query"

_Hits = list[StoreHit[Document]]


class MarengoRetriever(ValidatedCopies, BaseRetriever):
    """Searches each track of a store and fuses the results into moments. Returns one Document per moment.

    The query is a string or a ``Query`` of text, image, audio or video. A Document has the text and metadata of the
    moment's best segment, with the ``start_sec`` and ``end_sec`` of the whole moment, a ``score`` (comparable only
    within one search) and ``tracks``: track -> ``{"rank": from 1, "score": cosine}``. You can also pass all settings
    below, except the stores and the embeddings, to ``invoke``; and ``queries``, a text or a ``Query`` for each track:
    ``queries={"visual": "a red car", "words": "price"}``. Tracks that it doesn't name are searched for the question.

    Examples:
        ```python
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=5, merge_gap_sec=0)
        retriever.invoke("a goal from a corner")
        retriever.invoke(Query(image=Path("goal.jpg")), weights="intent", filter={"tenant": "acme"})
        retriever.invoke("the price of the red car", words="bm25", queries={"visual": "a red car"})
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    embeddings: MarengoEmbeddings
    """Embeds the query. The store must hold segments of the same model."""
    vectorstore: VectorStore | None = None
    """One store for all tracks."""
    vectorstores: dict[str, VectorStore] | None = None
    """Or a store for each track: track -> store."""
    weights: str | dict[str, float] = "visual"
    """A preset ("visual", "dialogue", "sound", "balanced"), "intent" (from the query), or track -> weight."""
    alpha: float = ALPHA
    """How strongly "intent" favors the best track."""
    filter: Any = None
    """Your own filter in the store's syntax, such as one for a tenant. It is combined with the track's filter."""
    k: int = 5
    """How many moments to return."""
    fusion: Fusion = "rrf"
    """"rrf" fuses ranks, "scores" fuses weighted cosines."""
    merge_gap_sec: float | None = None
    """Clips of one source that are at most this far apart become one moment. None keeps each clip separate."""
    max_per_source: int | None = None
    """The maximum number of moments per source."""
    sources: list[str] = Field(default_factory=list)
    """Search only these sources. A source that ends in "/" is a prefix."""
    start_sec: float | None = None
    """Only segments that end after this time."""
    end_sec: float | None = None
    """Only segments that start before this time."""
    asset_gate: int | None = None
    """Return only clips of this many best assets."""
    asset_boost: float = 0.0
    """Adds this multiple of the asset's score to each of its clips' scores."""
    scope: Literal["clip", "asset"] = "clip"
    """"asset" finds whole files."""
    fetch_k: int | None = None
    """How many hits to request for each track. Default: 10 for each moment, at least 50."""
    distinct: float | None = None
    """Drops moments whose vector has this cosine or more to an earlier one's, such as 0.98: reposts, static cameras."""
    mmr_lambda: float | None = None
    """Maximal marginal relevance among the best moments: 1 is relevance alone, 0 is variety alone."""
    min_confidence: Literal["low", "medium", "high"] | None = None
    """Drops moments of a lower ``confidence``. If none is left, the list is empty."""
    words: Any = None
    """Adds a track "words", for queries with a text: "bm25" ranks the words in the store's rows, "store" uses the
    store's own text search, and a LangChain retriever that returns segments must apply your filter itself."""
    decompose: Runnable[Any, Any] | None = None
    """A chat model that is asked once for ``queries``, if the query is a text alone and ``queries`` isn't given."""

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoRetriever:
        if (self.vectorstore is None) == (not self.vectorstores):
            raise ValueError("MarengoRetriever takes vectorstore= or vectorstores={track: store}: pass one of the two.")
        # A wrong track, preset or number is refused here.
        check_tracks(self._tracks, self.embeddings.core.model)
        self._check({})
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoRetriever]) -> MarengoRetriever:
        return validate_without_secrets(cls, values, handler)

    def invoke(self, input: str | Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The moments that answer a query, best first.

        Raises:
            bedrock_marengo.InputError: A setting has a wrong value or an unknown name, or the query can't be embedded.
            bedrock_marengo.ConfigurationError: The store holds segments of another model.
        """
        # LangChain and its tracers know strings: the query itself goes along as a keyword.
        return super().invoke(describe_query(input), config, **{**kwargs, _QUERY: input})

    async def ainvoke(self, input: str | Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """``invoke`` for asyncio; stores are searched on the embeddings' own threads."""
        return await super().ainvoke(describe_query(input), config, **{**kwargs, _QUERY: input})

    def search_tracks(self, query: str | Query, k: int | None = None) -> TrackHits:
        """What each track finds for a query, before fusion: for ``bedrock_marengo.search.evaluate``.

        Args:
            query: as for ``invoke``.
            k: how many moments. Default: the retriever's.

        Raises:
            bedrock_marengo.ConfigurationError: The store holds segments of another model.
        """
        given = {} if k is None else {"k": k}
        question = self._question(query, given)
        if (llm := self._to_decompose(question, given)) is not None:
            question = replace(question, queries=decompose(llm, question.text or "", self._searched(given), None))
        client = self.embeddings.core
        tracks, weights = tracks_and_weights(self._searched(given), self.weights, question.words is not None)
        embedded = embed_queries(client, self._vector, question, tracks, is_question_needed=True)
        settings = self._settings(given, query_weights(client, embedded.array, weights, tracks, self.alpha))
        return search_tracks(client, embedded, settings, tracks, self._searches_of, self.alpha)

    def missing_sources(self, sources: Iterable[str]) -> list[str]:
        """Those of some sources (raw S3 URIs) that a search can't find. Embeds nothing."""
        settings = self._settings({}, dict.fromkeys(self._tracks, 1.0))
        return missing_sources(self.embeddings.core, settings, self._tracks, sources, self._searches_of)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **given: Any
    ) -> list[Document]:
        question = self._question(given.pop(_QUERY, query), given)
        if (llm := self._to_decompose(question, given)) is not None:
            queries = decompose(llm, question.text or "", self._searched(given), run_manager.get_child())
            question = replace(question, queries=queries)
        return self._search(question, given, run_manager.metadata)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **given: Any
    ) -> list[Document]:
        question = self._question(given.pop(_QUERY, query), given)
        if (llm := self._to_decompose(question, given)) is not None:
            queries = await adecompose(llm, question.text or "", self._searched(given), run_manager.get_child())
            question = replace(question, queries=queries)
        return await self.embeddings.core.run_async(self._search, question, given, run_manager.metadata)

    def _get_ls_params(self, **given: Any) -> LangSmithRetrieverParams:
        weights = given.get("weights", self.weights)
        params = {
            **super()._get_ls_params(**given),
            "ls_vector_store_provider": ", ".join(sorted({type(store).__name__ for store in self._stores.values()})),
            "ls_embedding_provider": "MarengoEmbeddings",
            "ls_embedding_model": self.embeddings.core.model_id,
            "marengo_tracks": list(weights) if isinstance(weights, Mapping) else list(self._searched(given)),
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

    def _searched(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """All tracks of the stores, and the words if they are a track, too."""
        words = given.get("words", self.words)
        return self._tracks if words is None else (*self._tracks, WORDS)

    def _check(self, given: Mapping[str, Any]) -> None:
        words, llm = given.get("words", self.words), given.get("decompose", self.decompose)
        check_words(words, self._stores)
        has_own_filter = "filter" in given and given["filter"] != self.filter
        if isinstance(words, BaseRetriever) and has_own_filter and "words" not in given:
            raise ConfigurationError(
                "words= is a retriever that doesn't know the filter of this call, and might find what the filter "
                "excludes: pass words= with this filter in the same call, or words='bm25'."
            )
        if llm is not None and not isinstance(llm, Runnable):
            raise ConfigurationError("expected a chat model of LangChain.", setting="decompose", value=llm)
        weights, alpha = given.get("weights", self.weights), given.get("alpha", self.alpha)
        self._settings(given, check_weights(weights, self._searched(given), alpha))

    def _question(self, query: str | Query, given: Mapping[str, Any]) -> Question:
        """What is asked, once everything is checked that can be: before anything is paid for."""
        # A misspelt filter must not be ignored.
        reject_unknown(set(given) - {"verbose"}, _IN_INVOKE, "MarengoRetriever")
        self._check(given)
        text = query.text if isinstance(query, Query) else None if query.startswith(HANDLE) else query
        queries = check_queries(given.get("queries"), self._searched(given))
        question = Question(query, text or None, _is_text(query), queries)
        tracks_and_weights(self._searched(given), given.get("weights", self.weights), question.words is not None)
        return question

    def _to_decompose(self, question: Question, given: Mapping[str, Any]) -> Any:
        """The chat model to ask, if there is one, and a text that has no queries yet."""
        is_open = question.is_text and question.text and not question.queries
        return given.get("decompose", self.decompose) if is_open else None

    def _search(self, question: Question, given: Mapping[str, Any], run_metadata: dict[str, Any]) -> list[Document]:
        client = self.embeddings.core
        weights, alpha = given.get("weights", self.weights), given.get("alpha", self.alpha)
        tracks, weights = tracks_and_weights(self._searched(given), weights, question.words is not None)
        searched = searched_tracks(weights, tracks)
        query = embed_queries(client, self._vector, question, searched, is_question_needed=weights == INTENT)
        weights = query_weights(client, query.array, weights, tracks, alpha)
        # With "intent" they are known only now; tracers keep this mapping.
        run_metadata["marengo_weights"] = weights
        if question.queries:
            run_metadata["marengo_queries"] = {track: describe_query(own) for track, own in question.queries.items()}
        settings = self._settings(given, weights)
        user_filter, words = given.get("filter", self.filter), given.get("words", self.words)
        searches = self._store_searches(query, settings, user_filter, words)
        moments, documents = retrieve(client, query.array, settings, searches, is_text=query.is_text)
        return [_document(moment, documents) for moment in moments]

    def _vector(self, query: str | Query) -> list[float]:
        embeddings = self.embeddings
        if isinstance(query, Query):
            return embeddings.floats(embeddings.core.embed_query(query))
        return embeddings.embed_query(query)

    def _searches_of(self, query: EmbeddedQuery, settings: SearchSettings) -> Iterator[StoreSearch[_Hits]]:
        return self._store_searches(query, settings, self.filter, self.words)

    def _store_searches(
        self, query: EmbeddedQuery, settings: SearchSettings, user_filter: Any, words: Any
    ) -> Iterator[StoreSearch[_Hits]]:
        stores = self._stores
        for target in settings.targets:
            if target.track == WORDS:
                yield text_search(words, stores, query.text or "", target, user_filter)
        targets = [target for target in settings.targets if target.track != WORDS]
        for store, wanted in _by_store(stores, targets):
            known = find_known_store(store)
            if known is None:
                yield from _unknown_searches(store, self.embeddings, query, wanted, user_filter, settings)
            else:
                tracks = [track for track, other in stores.items() if other is store]
                yield from _known_searches(known, store, query, wanted, tracks, user_filter)


def _by_store(
    stores: Mapping[str, VectorStore], targets: Sequence[SearchTarget]
) -> Iterator[tuple[VectorStore, list[SearchTarget]]]:
    one_of_each = {id(stores[target.track]): stores[target.track] for target in targets}
    for store in one_of_each.values():
        yield store, [target for target in targets if stores[target.track] is store]


def _known_searches(
    known: KnownStore,
    store: VectorStore,
    query: EmbeddedQuery,
    targets: Sequence[SearchTarget],
    tracks: Sequence[str],
    user_filter: Any,
) -> Iterator[StoreSearch[_Hits]]:
    """The searches of a store for some targets; ``tracks`` are all that it may hold."""
    # What a store of one track lacks need not be known.
    learns = known.finds_all and len(tracks) > 1
    contents = contents_of(store, known.version(store) if learns else None)
    for target in targets:
        search = partial(_search_known, known, store, query.of(target.track))
        yield StoreSearch(
            (target,),
            partial(search, target, user_filter),
            f"This {type(store).__name__}",
            limit_of(store),
            stored=partial(_stored, known, store),
            at_once=known.at_once(store),
            contents=contents,
            search_implied=partial(search, replace(target, is_implied=True), user_filter)
            if contents.is_alone(target, tracks)
            else None,
            search_all=partial(search, SearchTarget(target.track, target.scope), None) if learns else None,
            query=query.own(target.track),
        )


def _search_known(
    known: KnownStore, store: VectorStore, vector: list[float], target: SearchTarget, user_filter: Any, limit: int
) -> _Hits:
    return [_hit(document, score) for document, score in known.search(store, vector, limit, target, user_filter)]


def _stored(known: KnownStore, store: VectorStore) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((row.text, row.metadata) for row in known.rows(store, None))


def _unknown_searches(
    store: VectorStore,
    embeddings: MarengoEmbeddings,
    query: EmbeddedQuery,
    targets: Sequence[SearchTarget],
    user_filter: Any,
    settings: SearchSettings,
) -> Iterator[StoreSearch[_Hits]]:
    """One search for all targets of the same query."""
    limit = default_limit(store, settings, len(targets))
    by_query: dict[tuple[float, ...], list[SearchTarget]] = {}
    for target in targets:
        by_query.setdefault(tuple(query.of(target.track)), []).append(target)
    for vector, wanted in by_query.items():
        search = partial(_search_unknown, store, embeddings, list(vector), user_filter)
        own = query.own(wanted[0].track)
        name, is_capped = f"This {type(store).__name__}", limit < limit_of(store)
        yield StoreSearch(tuple(wanted), search, name, limit, is_capped, query=own)


def _search_unknown(
    store: VectorStore, embeddings: MarengoEmbeddings, vector: list[float], user_filter: Any, limit: int
) -> _Hits:
    """The nearest of all tracks, without scores: what any store can do."""
    settings = {} if user_filter is None else {"filter": user_filter}
    try:
        documents = store.similarity_search_by_vector(vector, k=limit, **settings)
    except NotImplementedError:
        # Only the embeddings that made a handle know it: the store's own, if it shows them.
        own = store.embeddings if isinstance(store.embeddings, MarengoEmbeddings) else embeddings
        documents = store.similarity_search(own.query_handle(vector), k=limit, **settings)
    return [_hit(document, None) for document in documents]


def _hit(document: Document, score: float | None) -> StoreHit[Document]:
    return StoreHit(Segment.find(document.page_content), document, score, document.metadata.get("model_id"))


def _is_text(query: str | Query) -> bool:
    # A handle stands for anything.
    return is_text(query) if isinstance(query, Query) else not query.startswith(HANDLE)


def _document(moment: Moment, documents: Mapping[Segment, Document]) -> Document:
    text, metadata = moment_document(moment, {hit.segment: documents[hit.segment].page_content for hit in moment.hits})
    segment = moment.best.segment
    return Document(id=segment.id, page_content=text, metadata={**documents[segment].metadata, **metadata})

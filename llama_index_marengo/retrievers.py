"""MarengoRetriever: a LlamaIndex retriever that fuses the tracks of any vector store index into moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.vector_stores import MetadataFilters
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from bedrock_marengo import ConfigurationError, InputError, Query, Segment
from bedrock_marengo.search.citations import describe_query
from bedrock_marengo.search.confidence import is_text
from bedrock_marengo.search.fusion import Fusion, Moment, SearchSettings, SearchTarget
from bedrock_marengo.search.queries import (
    EmbeddedQuery,
    Question,
    check_queries,
    embed_queries,
    searched_tracks,
    tracks_and_weights,
)
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, aretrieve, moment_document, retrieve
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.track_hits import TrackHits, missing_sources, search_tracks
from bedrock_marengo.search.weights import ALPHA, INTENT, check_tracks, check_weights, query_weights, tracks_of
from bedrock_marengo.validation import short_repr
from llama_index_marengo.decomposing import adecompose, decompose
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.index_searches import IndexSearches
from llama_index_marengo.known_stores import find_known_store
from llama_index_marengo.text_searches import atext_search, check_words, text_search

__all__ = ["MarengoRetriever"]

dispatcher = get_dispatcher(__name__)

_Hits = list[StoreHit[BaseNode]]
_Result = tuple[list[Moment], dict[Segment, BaseNode]]


class MarengoRetriever(BaseRetriever):
    """Searches each track of an index and fuses the results into moments. Returns one node per moment.

    The query is a string, a ``QueryBundle``, or a ``Query`` of text, image, audio or video. A node has the text and
    metadata of the moment's best segment, with the ``start_sec`` and ``end_sec`` of the whole moment, a ``score``
    (comparable only within one search) and ``tracks``: track -> ``{"rank": from 1, "score": cosine}``.

    Args:
        index: one index for all tracks.
        indices: or an index for each track: track -> index.
        embed_model: embeds the query. The index must hold segments of the same model. Default: the index's model.
        similarity_top_k: how many moments to return.
        weights: a preset ("visual", "dialogue", "sound", "balanced"), "intent" (from the query), or track -> weight.
        alpha: how strongly "intent" favors the best track.
        filters: your own filters, such as one for a tenant. They are combined with the track's filter.
        fusion: "rrf" fuses ranks, "scores" fuses weighted cosines.
        merge_gap_sec: clips of one source that are at most this far apart become one moment. None keeps each clip
            separate.
        max_per_source: the maximum number of moments per source.
        sources: search only these sources. A source that ends in "/" is a prefix.
        start_sec: only segments that end after this time.
        end_sec: only segments that start before this time.
        asset_gate: return only clips of this many best assets.
        asset_boost: adds this multiple of the asset's score to each of its clips' scores.
        scope: "clip", or "asset" to find whole files.
        fetch_k: how many hits to request for each track. Default: 10 for each moment, at least 50.
        distinct: drops moments whose vector has this cosine or more to an earlier one's, such as 0.98: reposts, static
            cameras.
        mmr_lambda: maximal marginal relevance among the best moments: 1 is relevance alone, 0 is variety alone.
        min_confidence: drops moments of a lower ``confidence``: "low", "medium" or "high". If none is left, the list is
            empty.
        words: adds a track "words", for queries with a text: "bm25" ranks the words in the index's nodes, "store" uses
            the store's own text search, and a LlamaIndex retriever that returns segments must apply your filters
            itself.
        decompose: an LLM that is asked once for ``queries``, if the query is a text alone and has none.

    Raises:
        bedrock_marengo.InputError: A setting has a wrong value.
        bedrock_marengo.ConfigurationError: No index, two kinds of index, or another embedding model.

    Examples:
        ```python
        retriever = MarengoRetriever(index=index, similarity_top_k=5, merge_gap_sec=0)
        retriever.retrieve("a goal from a corner")
        retriever.retrieve(Query(image=Path("goal.jpg")))
        retriever.retrieve("the price of the red car", queries={"visual": "a red car"})
        ```
    """

    def __init__(
        self,
        index: VectorStoreIndex | None = None,
        *,
        indices: Mapping[str, VectorStoreIndex] | None = None,
        embed_model: MarengoEmbedding | None = None,
        similarity_top_k: int = 5,
        weights: str | Mapping[str, float] = "visual",
        alpha: float = ALPHA,
        filters: MetadataFilters | None = None,
        fusion: Fusion = "rrf",
        merge_gap_sec: float | None = None,
        max_per_source: int | None = None,
        sources: Sequence[str] = (),
        start_sec: float | None = None,
        end_sec: float | None = None,
        asset_gate: int | None = None,
        asset_boost: float = 0.0,
        scope: Literal["clip", "asset"] = "clip",
        fetch_k: int | None = None,
        distinct: float | None = None,
        mmr_lambda: float | None = None,
        min_confidence: Literal["low", "medium", "high"] | None = None,
        words: Literal["bm25", "store"] | BaseRetriever | None = None,
        decompose: LLM | None = None,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        if (index is None) == (not indices):
            raise ConfigurationError("MarengoRetriever takes index= or indices={track: index}: pass one of the two.")
        for given in [index] if index is not None else (indices or {}).values():
            if not isinstance(given, VectorStoreIndex):
                raise ConfigurationError(f"{short_repr(given)} is not an index: expected a VectorStoreIndex.")
        if filters is not None and not isinstance(filters, MetadataFilters):
            raise ConfigurationError(f"filters={short_repr(filters)}: expected LlamaIndex's MetadataFilters.")
        first = index if index is not None else next(iter((indices or {}).values()))
        self._embed_model = _marengo(embed_model if embed_model is not None else first._embed_model)
        tracks = tracks_of(self._embed_model.core.model)
        self._indices = dict.fromkeys(tracks, first) if index is not None else dict(indices or {})
        self._weights = dict(weights) if isinstance(weights, Mapping) else weights
        self._alpha = alpha
        self._filters = filters
        self._searches = IndexSearches(self._indices, filters, self._embed_model)
        self._settings: dict[str, Any] = {
            "k": similarity_top_k,
            "fusion": fusion,
            "merge_gap_sec": merge_gap_sec,
            "max_per_source": max_per_source,
            "sources": sources,
            "start_sec": start_sec,
            "end_sec": end_sec,
            "asset_gate": asset_gate,
            "asset_boost": asset_boost,
            "scope": scope,
            "fetch_k": fetch_k,
            "distinct": distinct,
            "mmr_lambda": mmr_lambda,
            "min_confidence": min_confidence,
        }
        # A wrong track, preset or number is refused here.
        check_tracks(self._indices, self._embed_model.core.model)
        check_words(words, self._indices)
        if decompose is not None and not isinstance(decompose, LLM):
            raise ConfigurationError("expected an LLM of LlamaIndex.", setting="decompose", value=decompose)
        self._words, self._decompose = words, decompose
        SearchSettings(weights=check_weights(weights, self._tracks, alpha), **self._settings)
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    def retrieve(
        self, str_or_query_bundle: QueryType | Query, *, queries: Mapping[str, str | Query] | None = None
    ) -> list[NodeWithScore]:
        """The moments that answer a query, best first.

        Args:
            str_or_query_bundle: the query.
            queries: track -> a query of its own, such as ``{"visual": "a red car", "words": "price"}``. Tracks that it
                doesn't name are searched for the query itself.

        Raises:
            bedrock_marengo.InputError: ``queries`` has an unknown track, or something that isn't a query.
            bedrock_marengo.ConfigurationError: The index holds segments of another model.
        """
        with self._tags():
            return super().retrieve(self._as_bundle(str_or_query_bundle, queries))

    async def aretrieve(
        self, str_or_query_bundle: QueryType | Query, *, queries: Mapping[str, str | Query] | None = None
    ) -> list[NodeWithScore]:
        """``retrieve`` for asyncio; stores are searched on the embedding model's own threads."""
        with self._tags():
            return await super().aretrieve(self._as_bundle(str_or_query_bundle, queries))

    def search_tracks(self, query: QueryType | Query, k: int | None = None) -> TrackHits:
        """What each track finds for a query, before fusion: for ``bedrock_marengo.search.evaluate``.

        Args:
            query: as for ``retrieve``.
            k: how many moments. Default: ``similarity_top_k``.

        Raises:
            bedrock_marengo.ConfigurationError: The index holds segments of another model.
        """
        bundle = self._as_bundle(query, None)
        question = self._question(QueryBundle(bundle) if isinstance(bundle, str) else bundle)
        if self._is_open(question) and self._decompose is not None:
            question = replace(question, queries=decompose(self._decompose, question.text or "", self._tracks))
        client = self._embed_model.core
        tracks, weights = tracks_and_weights(self._tracks, self._weights, question.words is not None)
        embedded = embed_queries(client, self._vector, question, tracks, is_question_needed=True)
        weights = query_weights(client, embedded.array, weights, tracks, self._alpha)
        settings = SearchSettings(weights=weights, **(self._settings if k is None else {**self._settings, "k": k}))
        return search_tracks(client, embedded, settings, tracks, self._searches_of, self._alpha)

    def missing_sources(self, sources: Iterable[str]) -> list[str]:
        """Those of some sources (raw S3 URIs) that a search can't find. Embeds nothing."""
        tracks = tuple(self._indices)
        settings = SearchSettings(weights=dict.fromkeys(tracks, 1.0), **self._settings)
        return missing_sources(self._embed_model.core, settings, tracks, sources, self._searches_of)

    @dispatcher.span
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = self._question(query_bundle)
        if self._is_open(question) and self._decompose is not None:
            question = replace(question, queries=decompose(self._decompose, question.text or "", self._tracks))
        return self._answer(question)

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = self._question(query_bundle)
        if self._is_open(question) and self._decompose is not None:
            queries = await adecompose(self._decompose, question.text or "", self._tracks)
            question = replace(question, queries=queries)
        client = self._embed_model.core
        stores = [index.vector_store for index in self._indices.values()]
        if not any(find_known_store(store).is_only_async(store) for store in stores):
            # Many stores' asynchronous searches run on the loop itself, or need a second client.
            return await client.run_async(self._answer, question)
        query, settings = await client.run_async(self._embedded, question)
        searches = [
            *(
                atext_search(client, self._words, self._indices, query.text or "", target, self._filters)
                for target in _of_words(settings)
            ),
            *self._searches.aof(query, settings),
        ]
        with self._tags(settings.weights):
            found = await aretrieve(client, query.array, settings, searches, is_text=query.is_text)
        return _nodes(found)

    def _answer(self, question: Question) -> list[NodeWithScore]:
        query, settings = self._embedded(question)
        with self._tags(settings.weights):
            searches = self._searches_of(query, settings)
            found = retrieve(self._embed_model.core, query.array, settings, searches, is_text=query.is_text)
        return _nodes(found)

    def _embedded(self, question: Question) -> tuple[EmbeddedQuery, SearchSettings]:
        client = self._embed_model.core
        tracks, weights = tracks_and_weights(self._tracks, self._weights, question.words is not None)
        searched = searched_tracks(weights, tracks)
        query = embed_queries(client, self._vector, question, searched, is_question_needed=weights == INTENT)
        weights = query_weights(client, query.array, weights, tracks, self._alpha)
        return query, SearchSettings(weights=weights, **self._settings)

    def _searches_of(self, query: EmbeddedQuery, settings: SearchSettings) -> Iterator[StoreSearch[_Hits]]:
        for target in _of_words(settings):
            yield text_search(self._words, self._indices, query.text or "", target, self._filters)
        yield from self._searches.of(query, settings)

    @property
    def _tracks(self) -> tuple[str, ...]:
        """All tracks of the indices, and the words if they are a track, too."""
        return tuple(self._indices) if self._words is None else (*self._indices, WORDS)

    def _as_bundle(self, query: QueryType | Query, queries: Mapping[str, str | Query] | None) -> QueryType:
        if not isinstance(query, Query | str | QueryBundle):
            raise InputError(
                f"{short_repr(query)} is not a query: expected a string, a QueryBundle, or Query(text=..., image=...)."
            )
        named = check_queries(queries, self._tracks)
        if isinstance(query, Query):
            return _OwnQuery(describe_query(query), query=query, queries=named)
        if not named:
            return query
        bundle = QueryBundle(query) if isinstance(query, str) else query
        given = (bundle.image_path, bundle.custom_embedding_strs, bundle.embedding)
        return _OwnQuery(bundle.query_str, *given, queries=named)

    def _question(self, bundle: QueryBundle) -> Question:
        """What is asked; nothing is paid for if it can't be answered."""
        own = bundle if isinstance(bundle, _OwnQuery) else _OwnQuery(bundle.query_str)
        query: Any = own.query if own.query is not None else bundle
        has_more = bundle.embedding is not None or bundle.image_path is not None or bundle.custom_embedding_strs
        if own.query is None and not has_more:
            # As the queries of tracks are given.
            query = bundle.query_str
        text = own.query.text if own.query is not None else bundle.query_str
        question = Question(query, text or None, _is_text(bundle), own.queries)
        tracks_and_weights(self._tracks, self._weights, question.words is not None)
        return question

    def _is_open(self, question: Question) -> bool:
        """Whether it is a text that has no queries yet."""
        return question.is_text and question.text is not None and not question.queries

    def _tags(self, weights: Mapping[str, float] | None = None) -> Any:
        """Tags on all spans and events of a retrieval; with "intent" the weights are known only inside it."""
        known = dict(weights or (self._weights if isinstance(self._weights, dict) else {}))
        return instrument_tags(
            {
                **active_instrument_tags.get(),
                "marengo_model": self._embed_model.core.model_id,
                "marengo_tracks": list(known or self._tracks),
                "marengo_weights": known or self._weights,
                "marengo_fusion": self._settings["fusion"],
            }
        )

    def _vector(self, query: str | Query | QueryBundle) -> list[float]:
        if isinstance(query, Query):
            return self._embed_model.floats(self._embed_model.core.embed_query(query))
        if isinstance(query, str):
            return self._embed_model.get_agg_embedding_from_queries([query] if query else [])
        if query.embedding is not None:
            return query.embedding
        if query.image_path is not None:
            if query.query_str:
                return self._embed_model.get_text_image_embedding(query.query_str, query.image_path)
            return self._embed_model.get_image_embedding(query.image_path)
        return self._embed_model.get_agg_embedding_from_queries(query.embedding_strs)


@dataclass
class _OwnQuery(QueryBundle):
    """What is ours on its way through LlamaIndex, whose events show a ``Query`` in words."""

    query: Query | None = None
    queries: Mapping[str, str | Query] = field(default_factory=dict)


def _is_text(bundle: QueryBundle) -> bool:
    if isinstance(bundle, _OwnQuery) and bundle.query is not None:
        return is_text(bundle.query)
    return bundle.embedding is None and bundle.image_path is None


def _of_words(settings: SearchSettings) -> list[SearchTarget]:
    return [target for target in settings.targets if target.track == WORDS]


def _marengo(embed_model: Any) -> MarengoEmbedding:
    if isinstance(embed_model, MarengoEmbedding):
        return embed_model
    raise ConfigurationError(
        f"The index embeds with {type(embed_model).__name__}: set embed_model=MarengoEmbedding(...)."
    )


def _nodes(found: _Result) -> list[NodeWithScore]:
    moments, nodes = found
    return [_node(moment, nodes) for moment in moments]


def _node(moment: Moment, nodes: Mapping[Segment, BaseNode]) -> NodeWithScore:
    texts = {hit.segment: nodes[hit.segment].get_content(MetadataMode.NONE) for hit in moment.hits}
    text, metadata = moment_document(moment, texts)
    node = nodes[moment.best.segment].model_copy()
    node.set_content(text)
    node.metadata = {**node.metadata, **metadata}
    node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, "score", "confidence", "tracks"]
    node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, "score", "confidence", "tracks"]
    return NodeWithScore(node=node, score=moment.score)

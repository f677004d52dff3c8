"""MarengoRetriever: a LlamaIndex retriever that fuses the tracks of any vector store index into moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from bedrock_marengo import ConfigurationError, InputError, Query, Segment
from bedrock_marengo.search.citations import describe_query
from bedrock_marengo.search.confidence import is_text
from bedrock_marengo.search.contents import contents_of
from bedrock_marengo.search.fusion import Fusion, Moment, SearchSettings, SearchTarget
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, aretrieve, moment_document, retrieve
from bedrock_marengo.search.store_limits import default_limit, limit_of
from bedrock_marengo.search.track_hits import TrackHits, missing_sources, search_tracks
from bedrock_marengo.search.weights import ALPHA, check_tracks, check_weights, query_weights, tracks_of
from bedrock_marengo.validation import short_repr
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.known_stores import UNKNOWN, find_known_store

__all__ = ["MarengoRetriever"]

dispatcher = get_dispatcher(__name__)

Answer = TypeVar("Answer")
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

    Raises:
        bedrock_marengo.InputError: A setting has a wrong value.
        bedrock_marengo.ConfigurationError: No index, two kinds of index, or another embedding model.

    Examples:
        ```python
        retriever = MarengoRetriever(index=index, similarity_top_k=5, merge_gap_sec=0)
        retriever.retrieve("a goal from a corner")
        retriever.retrieve(Query(image=Path("goal.jpg")))
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
        SearchSettings(weights=check_weights(weights, tuple(self._indices), alpha), **self._settings)
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    def retrieve(self, str_or_query_bundle: QueryType | Query) -> list[NodeWithScore]:
        """The moments that answer a query, best first.

        Raises:
            bedrock_marengo.ConfigurationError: The index holds segments of another model.
        """
        with self._tags():
            return super().retrieve(_as_bundle(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: QueryType | Query) -> list[NodeWithScore]:
        """``retrieve`` for asyncio; stores are searched on the embedding model's own threads."""
        with self._tags():
            return await super().aretrieve(_as_bundle(str_or_query_bundle))

    def search_tracks(self, query: QueryType | Query, k: int | None = None) -> TrackHits:
        """What each track finds for a query, before fusion: for ``bedrock_marengo.search.evaluate``.

        Args:
            query: as for ``retrieve``.
            k: how many moments. Default: ``similarity_top_k``.

        Raises:
            bedrock_marengo.ConfigurationError: The index holds segments of another model.
        """
        bundle = _as_bundle(query)
        bundle = QueryBundle(bundle) if isinstance(bundle, str) else bundle
        vector = self._vector(bundle)
        settings = self._search_settings(vector)
        settings = settings if k is None else replace(settings, k=k)
        client, tracks = self._embed_model.core, tuple(self._indices)
        return search_tracks(client, vector, settings, tracks, self._searches_of, self._alpha, _is_text(bundle))

    def missing_sources(self, sources: Iterable[str]) -> list[str]:
        """Those of some sources (raw S3 URIs) that a search can't find. Embeds nothing."""
        tracks = tuple(self._indices)
        settings = SearchSettings(weights=dict.fromkeys(tracks, 1.0), **self._settings)
        return missing_sources(self._embed_model.core, settings, tracks, sources, self._searches_of)

    def _searches_of(self, vector: list[float], settings: SearchSettings) -> Iterator[StoreSearch[_Hits]]:
        return self._store_searches(settings, vector, self._search)

    @dispatcher.span
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = self._vector(query_bundle)
        settings = self._search_settings(vector)
        searches = self._store_searches(settings, vector, self._search)
        with self._tags(settings.weights):
            array = np.asarray(vector, np.float32)
            found = retrieve(self._embed_model.core, array, settings, searches, is_text=_is_text(query_bundle))
        return _nodes(found)

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        client = self._embed_model.core
        stores = [index.vector_store for index in self._indices.values()]
        if not any(find_known_store(store).is_only_async(store) for store in stores):
            # Many stores' asynchronous searches run on the loop itself, or need a second client.
            return await client.run_async(self._retrieve, query_bundle)
        vector = await client.run_async(self._vector, query_bundle)
        settings = await client.run_async(self._search_settings, vector)
        searches = self._store_searches(settings, vector, self._asearch)
        with self._tags(settings.weights):
            array = np.asarray(vector, np.float32)
            found = await aretrieve(client, array, settings, searches, is_text=_is_text(query_bundle))
        return _nodes(found)

    def _tags(self, weights: Mapping[str, float] | None = None) -> Any:
        """Tags on all spans and events of a retrieval; with "intent" the weights are known only inside it."""
        known = dict(weights or (self._weights if isinstance(self._weights, dict) else {}))
        return instrument_tags(
            {
                **active_instrument_tags.get(),
                "marengo_model": self._embed_model.core.model_id,
                "marengo_tracks": list(known or self._indices),
                "marengo_weights": known or self._weights,
                "marengo_fusion": self._settings["fusion"],
            }
        )

    def _vector(self, query: QueryBundle) -> list[float]:
        if isinstance(query, _MediaQuery) and query.query is not None:
            return self._embed_model.floats(self._embed_model.core.embed_query(query.query))
        if query.embedding is not None:
            return query.embedding
        if query.image_path is not None:
            if query.query_str:
                return self._embed_model.get_text_image_embedding(query.query_str, query.image_path)
            return self._embed_model.get_image_embedding(query.image_path)
        return self._embed_model.get_agg_embedding_from_queries(query.embedding_strs)

    def _search_settings(self, vector: list[float]) -> SearchSettings:
        query, tracks = np.asarray(vector, np.float32), tuple(self._indices)
        weights = query_weights(self._embed_model.core, query, self._weights, tracks, self._alpha)
        return SearchSettings(weights=weights, **self._settings)

    def _store_searches(
        self,
        settings: SearchSettings,
        vector: list[float],
        search: Callable[[SearchTarget, MetadataFilters | None, list[float], int], Answer],
    ) -> Iterator[StoreSearch[Answer]]:
        for target in settings.targets:
            index = self._indices[target.track]
            store, known = index.vector_store, find_known_store(index.vector_store)
            tracks = [track for track, other in self._indices.items() if other.vector_store is store]
            # What a store of one track lacks need not be known.
            learns = known.finds_all and len(tracks) > 1
            contents = contents_of(store, known.version(store) if learns else None)
            alone = SearchTarget(target.track, target.scope)
            # An unknown store may ignore filters.
            limit = default_limit(store, settings, 1) if known is UNKNOWN else limit_of(store)
            yield StoreSearch(
                (target,),
                partial(search, target, self._filters, vector),
                "This index",
                limit,
                limit < limit_of(store),
                partial(self._stored, target),
                at_once=known.at_once(store),
                contents=contents,
                search_implied=partial(search, replace(target, is_implied=True), self._filters, vector)
                if contents.is_alone(target, tracks)
                else None,
                search_all=partial(search, alone, None, vector) if learns else None,
            )

    def _search(self, target: SearchTarget, filters: MetadataFilters | None, vector: list[float], limit: int) -> _Hits:
        index = self._indices[target.track]
        known = find_known_store(index.vector_store)
        if known.search_sources is not None:
            wanted = _filters(replace(target, sources=()), filters, known.only_equality)
            return self._hits(target, known.search_sources(index.vector_store, vector, limit, wanted, target.sources))
        if known.search is not None:
            wanted = _filters(target, filters, known.only_equality)
            return self._hits(target, known.search(index.vector_store, vector, limit, wanted))
        bundle = QueryBundle("", embedding=vector)
        try:
            found = self._retriever(target, filters, limit).retrieve(bundle)
        except known.nothing_found:
            return []
        except ValueError as error:
            if _ONLY_EQUALITY not in str(error):
                raise
            found = self._retriever(target, filters, limit, only_equality=True).retrieve(bundle)
        return self._hits(target, found)

    async def _asearch(
        self, target: SearchTarget, filters: MetadataFilters | None, vector: list[float], limit: int
    ) -> _Hits:
        store = self._indices[target.track].vector_store
        known = find_known_store(store)
        if known.asearch is not None:
            wanted = _filters(target, filters, known.only_equality)
            return self._hits(target, await known.asearch(store, vector, limit, wanted))
        if known.search is not None or known.search_sources is not None:
            return await self._embed_model.core.run_async(self._search, target, filters, vector, limit)
        bundle = QueryBundle("", embedding=vector)
        try:
            found = await self._retriever(target, filters, limit).aretrieve(bundle)
        except ValueError as error:
            if _ONLY_EQUALITY not in str(error):
                raise
            found = await self._retriever(target, filters, limit, only_equality=True).aretrieve(bundle)
        return self._hits(target, found)

    def _retriever(
        self, target: SearchTarget, filters: MetadataFilters | None, limit: int, *, only_equality: bool = False
    ) -> BaseRetriever:
        index = self._indices[target.track]
        only_equality = only_equality or find_known_store(index.vector_store).only_equality
        return index.as_retriever(
            similarity_top_k=limit,
            filters=_filters(target, filters, only_equality),
            embed_model=self._embed_model,
        )

    def _hits(self, target: SearchTarget, found: Iterable[NodeWithScore]) -> _Hits:
        store = self._indices[target.track].vector_store
        cosine_of = find_known_store(store).cosine(store)
        return [
            StoreHit(
                Segment.find(hit.node.get_content(MetadataMode.NONE)),
                hit.node,
                None if hit.score is None or cosine_of is None else cosine_of(hit.score),
                hit.node.metadata.get("model_id"),
            )
            for hit in found
        ]

    def _stored(self, target: SearchTarget) -> Iterable[tuple[str, Mapping[str, Any]]]:
        index = self._indices[target.track]
        known = find_known_store(index.vector_store)
        nodes: Iterable[BaseNode]
        if known.nodes is not None:
            nodes = known.nodes(index.vector_store)
        elif index.vector_store.stores_text:
            scope = MetadataFilter(key="embedding_scope", value=target.scope)
            nodes = index.vector_store.get_nodes(None, MetadataFilters(filters=[scope]))
        else:
            nodes = list(index.docstore.docs.values())
        return ((node.get_content(MetadataMode.NONE), node.metadata) for node in nodes)


@dataclass
class _MediaQuery(QueryBundle):
    """A Query on its way through LlamaIndex, whose events show it in words."""

    query: Query | None = None


def _is_text(bundle: QueryBundle) -> bool:
    if isinstance(bundle, _MediaQuery) and bundle.query is not None:
        return is_text(bundle.query)
    return bundle.embedding is None and bundle.image_path is None


def _as_bundle(query: QueryType | Query) -> QueryType:
    if not isinstance(query, Query | str | QueryBundle):
        raise InputError(
            f"{short_repr(query)} is not a query: expected a string, a QueryBundle, or Query(text=..., image=...)."
        )
    return _MediaQuery(describe_query(query), query=query) if isinstance(query, Query) else query


def _marengo(embed_model: Any) -> MarengoEmbedding:
    if isinstance(embed_model, MarengoEmbedding):
        return embed_model
    raise ConfigurationError(
        f"The index embeds with {type(embed_model).__name__}: set embed_model=MarengoEmbedding(...)."
    )


# In LlamaIndex's error for stores that know no filter but equality: hits are sifted later.
_ONLY_EQUALITY = "only supports exact match filters"


def _filters(target: SearchTarget, user_filters: MetadataFilters | None, only_equality: bool) -> MetadataFilters | None:
    filters: list[MetadataFilter | MetadataFilters] = [
        MetadataFilter(key=name, value=value) for name, value in target.equals.items()
    ]
    if not only_equality:
        filters += _limits(target)
    if user_filters is not None:
        # Not every store supports nested filters.
        filters += user_filters.filters if user_filters.condition == FilterCondition.AND else [user_filters]
    return MetadataFilters(filters=filters, condition=FilterCondition.AND) if filters else None


def _limits(target: SearchTarget) -> list[MetadataFilter]:
    limits = []
    # A prefix is not an equality, and PGVectorStore puts a quote into its SQL as it is: hits are sifted later.
    if target.sources and not any(source.endswith("/") or {*source} & {*"'\"\\"} for source in target.sources):
        limits.append(MetadataFilter(key="source", value=list(target.sources), operator=FilterOperator.IN))
    if target.start_sec is not None:
        limits.append(MetadataFilter(key="end_sec", value=float(target.start_sec), operator=FilterOperator.GT))
    if target.end_sec is not None:
        limits.append(MetadataFilter(key="start_sec", value=float(target.end_sec), operator=FilterOperator.LT))
    return limits


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

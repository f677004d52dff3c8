"""Searching the vectors of a LlamaIndex index, track by track, whatever its store can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from bedrock_marengo import Segment
from bedrock_marengo.search.contents import contents_of
from bedrock_marengo.search.fusion import SearchSettings, SearchTarget
from bedrock_marengo.search.queries import EmbeddedQuery
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch
from bedrock_marengo.search.store_limits import default_limit, limit_of
from bedrock_marengo.search.targets import WORDS
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.known_stores import UNKNOWN, find_known_store
from llama_index_marengo.rows import nodes_of

__all__ = ["IndexSearches", "store_filters"]

Answer = TypeVar("Answer")
_Hits = list[StoreHit[BaseNode]]


@dataclass(frozen=True, slots=True)
class IndexSearches:
    """The searches of indices for tracks.

    Attributes:
        indices: track -> index.
        filters: the user's own.
        embed_model: of the retriever.
    """

    indices: Mapping[str, VectorStoreIndex]
    filters: MetadataFilters | None
    embed_model: MarengoEmbedding

    def of(self, query: EmbeddedQuery, settings: SearchSettings) -> Iterator[StoreSearch[_Hits]]:
        """One for each target of the settings, except for the words."""
        return self._each(settings, query, self._search)

    def aof(self, query: EmbeddedQuery, settings: SearchSettings) -> Iterator[StoreSearch[Awaitable[_Hits]]]:
        """``of`` for asyncio."""
        return self._each(settings, query, self._asearch)

    def _each(
        self,
        settings: SearchSettings,
        query: EmbeddedQuery,
        search: Callable[[SearchTarget, MetadataFilters | None, list[float], int], Answer],
    ) -> Iterator[StoreSearch[Answer]]:
        for target in (target for target in settings.targets if target.track != WORDS):
            vector = query.of(target.track)
            index = self.indices[target.track]
            store, known = index.vector_store, find_known_store(index.vector_store)
            tracks = [track for track, other in self.indices.items() if other.vector_store is store]
            # What a store of one track lacks need not be known.
            learns = known.finds_all and len(tracks) > 1
            contents = contents_of(store, known.version(store) if learns else None)
            alone = SearchTarget(target.track, target.scope)
            # An unknown store may ignore filters.
            limit = default_limit(store, settings, 1) if known is UNKNOWN else limit_of(store)
            yield StoreSearch(
                (target,),
                partial(search, target, self.filters, vector),
                "This index",
                limit,
                limit < limit_of(store),
                partial(self.stored, target),
                at_once=known.at_once(store),
                contents=contents,
                search_implied=partial(search, replace(target, is_implied=True), self.filters, vector)
                if contents.is_alone(target, tracks)
                else None,
                search_all=partial(search, alone, None, vector) if learns else None,
                query=query.own(target.track),
            )

    def _search(self, target: SearchTarget, filters: MetadataFilters | None, vector: list[float], limit: int) -> _Hits:
        index = self.indices[target.track]
        known = find_known_store(index.vector_store)
        if known.search_sources is not None:
            wanted = store_filters(replace(target, sources=()), filters, known.only_equality)
            return self._hits(target, known.search_sources(index.vector_store, vector, limit, wanted, target.sources))
        if known.search is not None:
            wanted = store_filters(target, filters, known.only_equality)
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
        store = self.indices[target.track].vector_store
        known = find_known_store(store)
        if known.asearch is not None:
            wanted = store_filters(target, filters, known.only_equality)
            return self._hits(target, await known.asearch(store, vector, limit, wanted))
        if known.search is not None or known.search_sources is not None:
            return await self.embed_model.core.run_async(self._search, target, filters, vector, limit)
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
        index = self.indices[target.track]
        only_equality = only_equality or find_known_store(index.vector_store).only_equality
        return index.as_retriever(
            similarity_top_k=limit,
            filters=store_filters(target, filters, only_equality),
            embed_model=self.embed_model,
        )

    def _hits(self, target: SearchTarget, found: Iterable[NodeWithScore]) -> _Hits:
        store = self.indices[target.track].vector_store
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

    def stored(self, target: SearchTarget) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """(text, metadata) of all that the index of a target's track holds of its scope, whatever the filters."""
        scope = MetadataFilter(key="embedding_scope", value=target.scope)
        nodes = nodes_of(self.indices[target.track], MetadataFilters(filters=[scope]))
        return ((node.get_content(MetadataMode.NONE), node.metadata) for node in nodes)


# In LlamaIndex's error for stores that know no filter but equality: hits are sifted later.
_ONLY_EQUALITY = "only supports exact match filters"


def store_filters(
    target: SearchTarget, user_filters: MetadataFilters | None, only_equality: bool
) -> MetadataFilters | None:
    """A target's filters and the user's own, as LlamaIndex's stores take them."""
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

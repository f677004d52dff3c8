"""Words as a track: how a LlamaIndex retriever searches the text of segments."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters

from bedrock_marengo import ConfigurationError, MarengoClient, Segment
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch
from bedrock_marengo.search.store_words import check_words_setting, hits_by_words, no_text_search
from bedrock_marengo.search.text_index import TextIndex, TextRow, kept_index, once_each
from llama_index_marengo.index_searches import store_filters
from llama_index_marengo.known_stores import KNOWN_STORES, UNKNOWN, find_known_store
from llama_index_marengo.rows import nodes_of

__all__ = ["atext_search", "check_words", "text_search"]

_Hits = list[StoreHit[BaseNode]]


def check_words(words: Any, indices: Mapping[str, VectorStoreIndex]) -> None:
    """Refuse a setting that finds no words.

    Raises:
        ConfigurationError: Not "bm25", "store" or a retriever, or something that these stores lack.
    """
    if words is None or isinstance(words, BaseRetriever):
        return
    check_words_setting(words, "LlamaIndex")
    for index in indices.values():
        store, known = index.vector_store, find_known_store(index.vector_store)
        name = type(store).__name__
        if words == "bm25" and (known is UNKNOWN or known.is_only_async(store)):
            raise ConfigurationError(
                f"words='bm25' can't list the nodes of {name}{' by its asynchronous client' * (known is not UNKNOWN)}: "
                f"it supports {', '.join(KNOWN_STORES)}. Pass a retriever that returns segments as words=."
            )
        if words == "store" and known.text_search is None:
            raise no_text_search(store)


def text_search(
    words: Any,
    indices: Mapping[str, VectorStoreIndex],
    text: str,
    target: SearchTarget,
    filters: MetadataFilters | None,
) -> StoreSearch[_Hits]:
    """The search of the words.

    Args:
        words: as ``check_words`` has it.
        indices: track -> index.
        text: what to search for.
        target: the words' target.
        filters: the user's.
    """
    unique = list({id(index.vector_store): index for index in indices.values()}.values())
    if words == "bm25":
        return StoreSearch((target,), partial(_by_bm25, unique, text, target, filters), "The index", at_once=True)
    if words == "store":
        search = partial(_by_stores, unique, text, target, filters)
        at_once = all(find_known_store(index.vector_store).at_once(index.vector_store) for index in unique)
        return StoreSearch((target,), search, "The text search of this index", at_once=at_once)
    # It is asked once: what it finds does not depend on how much is requested.
    asked = cache(lambda: _by_place(words.retrieve(text)))
    return StoreSearch((target,), lambda limit: asked(), f"This {type(words).__name__}", at_once=True)


def atext_search(
    client: MarengoClient,
    words: Any,
    indices: Mapping[str, VectorStoreIndex],
    text: str,
    target: SearchTarget,
    filters: MetadataFilters | None,
) -> StoreSearch[Awaitable[_Hits]]:
    """``text_search`` for asyncio: a retriever by its own coroutine, the rest on the client's own threads."""
    search = text_search(words, indices, text, target, filters)
    found: list[_Hits] = []

    async def ask(limit: int) -> _Hits:
        if not isinstance(words, BaseRetriever):
            return await client.run_async(search.search, limit)
        if not found:
            found.append(_by_place(await words.aretrieve(text)))
        return found[0]

    return StoreSearch((target,), ask, search.store)


def _by_bm25(
    indices: list[VectorStoreIndex], text: str, target: SearchTarget, filters: MetadataFilters | None, limit: int
) -> _Hits:
    stores = [index.vector_store for index in indices]
    kept: TextIndex[BaseNode] = kept_index(
        stores,
        filters,
        tuple(find_known_store(store).version(store) for store in stores),
        partial(_rows, indices, filters),
        is_local=all(not store.stores_text for store in stores),
    )
    return kept.search(text, target, limit)


def _rows(indices: list[VectorStoreIndex], filters: MetadataFilters | None) -> Iterator[TextRow[BaseNode]]:
    for index in indices:
        for node in nodes_of(index, filters):
            if node.embedding is not None:
                # An index of words needs no vectors.
                node = node.model_copy(update={"embedding": None})
            yield TextRow(node.get_content(MetadataMode.NONE), node, node.metadata.get("model_id"))


def _by_stores(
    indices: list[VectorStoreIndex], text: str, target: SearchTarget, filters: MetadataFilters | None, limit: int
) -> _Hits:
    stores = [index.vector_store for index in indices]
    return hits_by_words([partial(_by_store, store, target, filters) for store in stores], text, limit)


def _by_store(
    store: Any, target: SearchTarget, filters: MetadataFilters | None, text: str, rows: int
) -> list[tuple[str, StoreHit[BaseNode]]]:
    known = find_known_store(store)
    wanted = store_filters(replace(target, sources=()), filters, known.only_equality)
    found = known.text_search(store, text, rows, wanted, target.sources) if known.text_search is not None else []
    return [(each.node.get_content(MetadataMode.NONE), _hit(each)) for each in found]


def _by_place(found: Iterable[NodeWithScore]) -> _Hits:
    # A rank is all that its results have in common with those of others.
    return once_each(_hit(node)._replace(score=1.0 / place) for place, node in enumerate(found, start=1))


def _hit(found: NodeWithScore) -> StoreHit[BaseNode]:
    node = found.node
    segment = Segment.find(node.get_content(MetadataMode.NONE))
    return StoreHit(segment, node, found.score, node.metadata.get("model_id"))

"""MarengoRetriever: LlamaIndex's retriever that knows tracks, over any vector store index."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from bedrock_marengo import ConfigurationError, InputError, Query, Segment
from bedrock_marengo.search.fusion import (
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
from bedrock_marengo.validation import short_repr
from llama_index_marengo.embeddings import MarengoEmbedding

__all__ = ["MarengoRetriever"]

dispatcher = get_dispatcher(__name__)


class MarengoRetriever(BaseRetriever):
    """Searches each track of an index and fuses what it finds into moments: one node for each.

    The query is a string, a ``QueryBundle``, or a ``Query`` of text, image, audio or video. A node's text and metadata
    are those of the moment's best segment, with ``start_sec`` and ``end_sec`` of the whole moment, ``score`` and
    ``tracks``: track -> ``{"rank": from 1, "score": cosine}``. The score is good for comparing within one search.

    Args:
        index: one index for all tracks.
        indices: or an index for each track.
        embed_model: what the query is embedded with, and whose segments the index holds. Default: the index's.
        similarity_top_k: moments wanted.
        weights: a preset ("visual", "dialogue", "sound", "balanced"), "intent" (the query decides), or track -> weight.
        alpha: how sharply "intent" decides.
        filters: filters of your own, such as a tenant's; joined with the track's.
        fusion: "rrf" by ranks, "scores" by weighted cosines.
        merge_gap_sec: clips of one source at most this far apart become one moment; None keeps clips apart.
        max_per_source: at most so many moments of one source.
        sources: only these sources; one that ends in "/" is a prefix.
        start_sec: only what overlaps this time and later.
        end_sec: only what overlaps the time before this.
        asset_gate: only clips of the so many best assets.
        asset_boost: adds so much of its asset's score to a clip's.
        scope: "clip", or "asset" to find whole media.
        fetch_k: hits asked of each track. Default: 10 a moment, at least 50.

    Raises:
        bedrock_marengo.InputError: A setting that makes no sense.
        bedrock_marengo.ConfigurationError: No index or both, or an embedding model that is not Marengo.

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
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        if (index is None) == (not indices):
            raise ConfigurationError("MarengoRetriever takes index=, or indices={track: index}.")
        for given in [index] if index is not None else (indices or {}).values():
            if not isinstance(given, VectorStoreIndex):
                raise ConfigurationError(f"{short_repr(given)} is no index: give a VectorStoreIndex.")
        if filters is not None and not isinstance(filters, MetadataFilters):
            raise ConfigurationError(f"filters={short_repr(filters)}: give LlamaIndex's MetadataFilters.")
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
        }
        # Finds a wrong track, preset or number when it is typed.
        check_tracks(self._indices, self._embed_model.core.model)
        check_alpha(alpha)
        typed = "balanced" if weights == "intent" else weights
        SearchSettings(weights=weights_of(typed, tuple(self._indices)), **self._settings)
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    def retrieve(self, str_or_query_bundle: QueryType | Query) -> list[NodeWithScore]:
        """The moments that answer a query, best first.

        Raises:
            bedrock_marengo.ConfigurationError: The index holds segments of another model.
        """
        with self._told():
            return super().retrieve(_asked(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: QueryType | Query) -> list[NodeWithScore]:
        """``retrieve`` for asyncio; stores are searched on the embedding model's own threads."""
        with self._told():
            return await super().aretrieve(_asked(str_or_query_bundle))

    @dispatcher.span
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = self._vector(query_bundle)
        settings = self._search_settings(vector)
        with self._told(settings.weights):
            found = [self._found(place, vector, settings.depth) for place in settings.places]
        return self._moments(found, vector, settings)

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        client = self._embed_model.core
        if not any(_is_only_async(index.vector_store) for index in self._indices.values()):
            # Many stores' asynchronous searches run on the loop itself, or want a second client.
            return await client.run_async(self._retrieve, query_bundle)
        vector = await client.run_async(self._vector, query_bundle)
        settings = await client.run_async(self._search_settings, vector)
        with self._told(settings.weights):
            found = await asyncio.gather(*(self._afound(place, vector, settings.depth) for place in settings.places))
        return await client.run_async(self._moments, found, vector, settings)

    def _told(self, weights: Mapping[str, float] | None = None) -> Any:
        """Tags on all spans and events of a retrieval; with "intent" the weights are known only within."""
        told = dict(weights or (self._weights if isinstance(self._weights, dict) else {}))
        return instrument_tags(
            {
                **active_instrument_tags.get(),
                "marengo_model": self._embed_model.core.model_id,
                "marengo_tracks": list(told or self._indices),
                "marengo_weights": told or self._weights,
                "marengo_fusion": self._settings["fusion"],
            }
        )

    def _vector(self, query: QueryBundle) -> list[float]:
        if isinstance(query, _Asked) and query.query is not None:
            return self._embed_model.floats(self._embed_model.core.embed_query(query.query))
        if query.embedding is not None:
            return query.embedding
        if query.image_path is not None:
            if query.query_str:
                return self._embed_model.get_text_image_embedding(query.query_str, query.image_path)
            return self._embed_model.get_image_embedding(query.image_path)
        return self._embed_model.get_agg_embedding_from_queries(query.embedding_strs)

    def _search_settings(self, vector: list[float]) -> SearchSettings:
        tracks = tuple(self._indices)
        if self._weights == "intent":
            query = np.asarray(vector, np.float32)
            weights = intent_weights(self._embed_model.core, query, tracks, self._alpha)
        else:
            weights = weights_of(self._weights, tracks)
        return SearchSettings(weights=weights, **self._settings)

    def _found(self, place: SearchTarget, vector: list[float], depth: int) -> list[NodeWithScore]:
        held: list[NodeWithScore] = []
        for ask in growing_limits(depth):
            try:
                found = self._retriever(place, ask).retrieve(QueryBundle("", embedding=vector))
            except Warning:
                # LlamaIndex's LanceDB raises one where nothing is found.
                return []
            except Exception:
                self._check_held(place)
                raise
            held = [node for node in found if _is_held(node, place)]
            # More is asked for only where the store could not filter for all of the place.
            if len(held) >= depth or len(found) < ask:
                break
        return held

    async def _afound(self, place: SearchTarget, vector: list[float], depth: int) -> list[NodeWithScore]:
        held: list[NodeWithScore] = []
        for ask in growing_limits(depth):
            found = await self._retriever(place, ask).aretrieve(QueryBundle("", embedding=vector))
            held = [node for node in found if _is_held(node, place)]
            if len(held) >= depth or len(found) < ask:
                break
        return held

    def _retriever(self, place: SearchTarget, ask: int) -> BaseRetriever:
        return self._indices[place.track].as_retriever(
            similarity_top_k=ask,
            filters=_filters(place, self._filters),
            embed_model=self._embed_model,
        )

    def _check_held(self, place: SearchTarget) -> None:
        # Vectors of another model have another dimension, which each store refuses in its own words.
        index = self._indices[place.track]
        nodes: Iterable[BaseNode] = index.docstore.docs.values()
        if index.vector_store.stores_text:
            scope = MetadataFilter(key="embedding_scope", value=place.scope)
            nodes = index.vector_store.get_nodes(None, MetadataFilters(filters=[scope]))
        self._check_models(nodes)

    def _check_models(self, nodes: Iterable[BaseNode]) -> None:
        check_models((node.metadata.get("model_id") for node in nodes), self._embed_model.core.model_id, "This index")

    def _moments(
        self, found: Sequence[Sequence[NodeWithScore]], vector: list[float], settings: SearchSettings
    ) -> list[NodeWithScore]:
        self._check_models(hit.node for hits in found for hit in hits)
        nodes: dict[Segment, BaseNode] = {}
        scores: dict[Segment, float | None] = {}
        for place, hits in zip(settings.places, found, strict=True):
            similar = _cosine_of(self._indices[place.track].vector_store)
            for hit in hits:
                if (segment := _segment(hit.node)) is not None:
                    nodes[segment] = hit.node
                    scores[segment] = None if hit.score is None or similar is None else similar(hit.score)
        if blank := [segment for segment, score in scores.items() if score is None]:
            # A distance, or nothing: the segment's own vector knows.
            vectors = np.stack(self._embed_model.core.segment_vectors(blank))
            scores.update(zip(blank, cosines(np.asarray(vector, np.float32), vectors).tolist(), strict=True))
        hits_ = [Hit(segment, score) for segment, score in scores.items() if score is not None]
        return [_node(moment, nodes) for moment in find_moments(hits_, settings)]


@dataclass
class _Asked(QueryBundle):
    """A Query on its way through LlamaIndex; its words are what events show."""

    query: Query | None = None


def _asked(query: QueryType | Query) -> QueryType:
    if not isinstance(query, Query | str | QueryBundle):
        raise InputError(
            f"{short_repr(query)} is no query: give a string, a QueryBundle, or Query(text=..., image=...)."
        )
    return _Asked(describe_query(query), query=query) if isinstance(query, Query) else query


def _marengo(embed_model: Any) -> MarengoEmbedding:
    if isinstance(embed_model, MarengoEmbedding):
        return embed_model
    raise ConfigurationError(
        f"The index embeds with {type(embed_model).__name__}: give embed_model=MarengoEmbedding(...)."
    )


def _filters(place: SearchTarget, own: MetadataFilters | None) -> MetadataFilters:
    filters: list[MetadataFilter | MetadataFilters] = [
        MetadataFilter(key="embedding_option", value=place.track),
        MetadataFilter(key="embedding_scope", value=place.scope),
    ]
    # A prefix is no equality, and PGVectorStore puts a quote into its SQL as it is: what comes back is sifted then.
    if place.sources and not any(source.endswith("/") or {*source} & {*"'\"\\"} for source in place.sources):
        filters.append(MetadataFilter(key="source", value=list(place.sources), operator=FilterOperator.IN))
    if place.start_sec is not None:
        filters.append(MetadataFilter(key="end_sec", value=float(place.start_sec), operator=FilterOperator.GT))
    if place.end_sec is not None:
        filters.append(MetadataFilter(key="start_sec", value=float(place.end_sec), operator=FilterOperator.LT))
    if own is not None:
        # Not every store takes filters within filters.
        filters += own.filters if own.condition == FilterCondition.AND else [own]
    return MetadataFilters(filters=filters, condition=FilterCondition.AND)


def _segment(node: BaseNode) -> Segment | None:
    return Segment.find(node.get_content(MetadataMode.NONE))


def _is_only_async(store: Any) -> bool:
    # Qdrant's, made with aclient= alone.
    return getattr(store, "_client", store) is None


def _is_held(hit: NodeWithScore, place: SearchTarget) -> bool:
    segment = _segment(hit.node)
    return segment is not None and place.holds(segment)


def _node(moment: Moment, nodes: Mapping[Segment, BaseNode]) -> NodeWithScore:
    best = nodes[moment.best.segment].model_copy()
    told = {
        "source": moment.source,
        "start_sec": moment.start_sec,
        "end_sec": moment.end_sec,
        "score": moment.score,
        "tracks": {track: {"rank": hit.rank, "score": hit.score} for track, hit in moment.tracks.items()},
    }
    # The words of all its clips, each once, in order of time.
    texts = (nodes[hit.segment].get_content(MetadataMode.NONE) for hit in moment.hits)
    words = dict.fromkeys(text.partition("\n")[2] for text in texts)
    best.set_content("\n".join([moment.best.segment.uri, *filter(None, words)]))
    best.metadata = {**best.metadata, **told}
    best.excluded_embed_metadata_keys = [*best.excluded_embed_metadata_keys, "score", "tracks"]
    best.excluded_llm_metadata_keys = [*best.excluded_llm_metadata_keys, "score", "tracks"]
    return NodeWithScore(node=best, score=moment.score)


def _always(store: Any) -> Callable[[float], float] | None:
    return float


def _of_chroma(store: Any) -> Callable[[float], float] | None:
    # It tells exp(-distance).
    settings = store._collection.configuration_json or {}
    space = next((settings[name]["space"] for name in ("hnsw", "spann") if settings.get(name)), None)
    return (lambda score: 1 + math.log(score)) if space == "cosine" else None


def _of_milvus(store: Any) -> Callable[[float], float] | None:
    return float if store.similarity_metric == "COSINE" else None


# A store's class -> what turns its score into a cosine similarity, if anything does.
_COSINES: Mapping[str, Callable[[Any], Callable[[float], float] | None]] = {
    "SimpleVectorStore": _always,
    "PGVectorStore": _always,
    "ChromaVectorStore": _of_chroma,
    "MilvusVectorStore": _of_milvus,
}


def _cosine_of(store: Any) -> Callable[[float], float] | None:
    # By name, so that no store's package is imported.
    names = [cls.__name__ for cls in type(store).__mro__]
    return next((of(store) for name, of in _COSINES.items() if name in names), None)

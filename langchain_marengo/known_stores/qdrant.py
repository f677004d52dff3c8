"""Qdrant (langchain-qdrant)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bedrock_marengo.search.targets import SearchTarget, exact_sources
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow


def _qdrant_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    from qdrant_client import models

    def field(name: str, **how: Any) -> Any:
        return models.FieldCondition(key=f"{store.metadata_payload_key}.{name}", **how)

    must = [field(name, match=models.MatchValue(value=value)) for name, value in target.equals.items()]
    if sources := exact_sources(target.sources):
        must.append(field("source", match=models.MatchAny(any=sources)))
    if target.start_sec is not None:
        must.append(field("end_sec", range=models.Range(gt=target.start_sec)))
    if target.end_sec is not None:
        must.append(field("start_sec", range=models.Range(lt=target.end_sec)))
    if user_filter is not None:
        must.append(user_filter)
    found = store.similarity_search_with_score_by_vector(vector, k, filter=models.Filter(must=must) if must else None)
    return [(document, score if store.distance == models.Distance.COSINE else None) for document, score in found]


def _qdrant_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    from qdrant_client import models

    key = f"{store.metadata_payload_key}.source"
    must: list[Any] = [] if user_filter is None else [user_filter]
    if source is not None:
        must.append(models.FieldCondition(key=key, match=models.MatchValue(value=source)))
    offset = None
    while True:
        rows, offset = store.client.scroll(
            store.collection_name,
            scroll_filter=models.Filter(must=must),
            limit=1000,
            offset=offset,
            with_payload=[store.content_payload_key, store.metadata_payload_key],
        )
        text, metadata = store.content_payload_key, store.metadata_payload_key
        yield from (StoredRow(str(row.id), row.payload.get(text, ""), row.payload.get(metadata) or {}) for row in rows)
        if offset is None:
            return


def _qdrant_create(new: NewStore) -> Any:
    from qdrant_client import models

    client = new.connection["client"]
    if not client.collection_exists(new.name):
        vectors = models.VectorParams(size=new.dimension, distance=models.Distance.COSINE)
        client.create_collection(new.name, vectors_config=vectors)
    return new.cls(collection_name=new.name, embedding=new.embeddings, **new.connection)


def _qdrant_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    kinds = {"embedding_option": "keyword", "embedding_scope": "keyword", "source": "keyword"}
    kinds |= {"start_sec": "float", "end_sec": "float"}
    for name, kind in kinds.items():
        # One that exists is left as it is.
        store.client.create_payload_index(store.collection_name, f"{store.metadata_payload_key}.{name}", kind)
    return [f"{store.metadata_payload_key}.{name}" for name in kinds]


def _is_remote(store: Any) -> bool:
    return not type(store.client._client).__name__.endswith("Local")


QDRANT = KnownStore(
    search=_qdrant_search,
    rows=_qdrant_rows,
    create=_qdrant_create,
    create_indexes=_qdrant_create_indexes,
    # Local mode is numpy and one SQLite.
    at_once=_is_remote,
    version=lambda store: store.client.count(store.collection_name, exact=False).count,
)

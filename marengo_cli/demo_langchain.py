"""The demo's store and questions with LangChain: segments in Chroma."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_chroma import Chroma

from langchain_marengo import MarengoEmbeddings, MarengoLoader, Query, add_segments

if TYPE_CHECKING:
    from marengo_cli.demo import Hits, Search


def index(uri: str, settings: Mapping[str, Any], path: Path) -> tuple[int, Search]:
    """Embed a video by an asynchronous job and store its segments with Marengo's own vectors."""
    embeddings = MarengoEmbeddings(**settings)
    store = Chroma(
        "marengo-demo",
        embeddings,
        persist_directory=str(path),
        collection_configuration={"hnsw": {"space": "cosine"}},
    )
    ids = add_segments(store, MarengoLoader(uri, embeddings=embeddings).lazy_load(), replace=True)

    def search(query: Query, k: int) -> Hits:
        text = query.text or embeddings.query_handle(query)
        # Chroma returns the distance.
        return [(hit.metadata, 1 - distance) for hit, distance in store.similarity_search_with_score(text, k=k)]

    return len(ids), search

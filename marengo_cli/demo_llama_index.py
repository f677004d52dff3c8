"""The demo's store and questions with LlamaIndex: segments in a VectorStoreIndex."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import QueryBundle

from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter, Media, Query

if TYPE_CHECKING:
    from marengo_cli.demo import Hits, Search


def index(uri: str, settings: Mapping[str, Any], path: Path) -> tuple[int, Search]:
    """Embed a video by an asynchronous job and store its segments with Marengo's own vectors."""
    embed_model = MarengoEmbedding(**settings)
    media = MarengoReader(uri, embed_model=embed_model).load_data()
    segmenter = MarengoSegmenter(embed_model=embed_model, show_progress=True)
    stored = VectorStoreIndex.from_documents(media, embed_model=embed_model, transformations=[segmenter])
    stored.storage_context.persist(str(path))

    def search(query: Query, k: int) -> Hits:
        image = BytesIO(Media.of(query.image).read()) if query.image is not None else None
        vector = embed_model.get_image_embedding(image) if image else None
        found = stored.as_retriever(similarity_top_k=k).retrieve(QueryBundle(query.text or "", embedding=vector))
        return [(hit.node.metadata, hit.score or 0.0) for hit in found]

    return len(stored.docstore.docs), search

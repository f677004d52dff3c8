"""The demo's store and questions with LlamaIndex: segments in a VectorStoreIndex, or in the stand-in's S3 Vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import QueryBundle

from bedrock_marengo import Transcribe
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter, Media, Query
from marengo_cli.demo import Found, Indexed
from marengo_cli.free import FREE

if TYPE_CHECKING:
    from marengo_cli.demo import Hits


BUCKET = "marengo-demo-llama-index"


def missing_for_s3_vectors() -> str | None:
    """The package that a store in S3 Vectors needs, if it is not installed."""
    is_there = find_spec("llama_index.vector_stores") and find_spec("llama_index.vector_stores.s3")
    return None if is_there else "llama-index-vector-stores-s3"


def index(uri: str, settings: Mapping[str, Any], path: Path | None) -> Indexed:
    """Embed a video by an asynchronous job and store its segments with Marengo's own vectors."""
    embed_model = MarengoEmbedding(**settings)
    embed_model.core.usage.prices = FREE
    media = MarengoReader(uri, embed_model=embed_model).load_data()
    segmenter = MarengoSegmenter(embed_model=embed_model, transcripts=Transcribe())
    segments = segmenter(media)
    context = _s3_vectors(settings) if path is None else None
    stored = VectorStoreIndex(segments, embed_model=embed_model, storage_context=context)
    if path is not None:
        stored.storage_context.persist(str(path))

    def search(query: Query, k: int) -> Hits:
        image = BytesIO(Media.of(query.image).read()) if query.image is not None else None
        vector = embed_model.get_image_embedding(image) if image else None
        found = stored.as_retriever(similarity_top_k=k).retrieve(QueryBundle(query.text or "", embedding=vector))
        return [Found(hit.node.metadata, hit.node.get_content(), hit.score or 0.0, hit) for hit in found]

    return Indexed(len(segments), search, embed_model.core)


def _s3_vectors(settings: Mapping[str, Any]) -> StorageContext:
    from llama_index.vector_stores.s3 import S3VectorStore

    # The store takes a session, which has no endpoint.
    os.environ["AWS_ENDPOINT_URL_S3VECTORS"] = settings["endpoint_url"]
    keys = ("region_name", "aws_access_key_id", "aws_secret_access_key")
    session = boto3.Session(**{name: settings[name] for name in keys})
    session.client("s3vectors").create_vector_bucket(vectorBucketName=BUCKET)
    store = S3VectorStore.create_index_from_bucket(BUCKET, "segments", 512, sync_session=session)
    return StorageContext.from_defaults(vector_store=store)

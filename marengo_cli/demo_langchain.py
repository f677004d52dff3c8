"""The demo's store and questions with LangChain: segments in Chroma, or in the stand-in's S3 Vectors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_chroma import Chroma
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, Transcribe
from langchain_marengo import MarengoEmbeddings, MarengoLoader, Query, add_segments
from marengo_cli.demo import Found, Indexed
from marengo_cli.free import FREE

if TYPE_CHECKING:
    from marengo_cli.demo import Hits


BUCKET = "marengo-demo-langchain"


def missing_for_s3_vectors() -> str | None:
    """The package that a store in S3 Vectors needs, if it is not installed."""
    return None if find_spec("langchain_aws") else "langchain-aws"


def index(uri: str, settings: Mapping[str, Any], path: Path | None) -> Indexed:
    """Embed a video by an asynchronous job and store its segments with Marengo's own vectors."""
    embeddings = MarengoEmbeddings(**settings)
    embeddings.core.usage.prices = FREE
    store = _s3_vectors(embeddings, settings) if path is None else _chroma(embeddings, path)
    loader = MarengoLoader(uri, embeddings=embeddings, transcripts=Transcribe())
    ids = add_segments(store, loader.lazy_load(), replace=True)

    def search(query: Query, k: int) -> Hits:
        text = query.text or embeddings.query_handle(query)
        # Both return the distance.
        found = store.similarity_search_with_score(text, k=k)
        return [Found(hit.metadata, hit.page_content, 1 - distance, (hit, 1 - distance)) for hit, distance in found]

    return Indexed(len(ids), search, embeddings.core)


def _chroma(embeddings: MarengoEmbeddings, path: Path) -> VectorStore:
    settings: Any = {"persist_directory": str(path), "collection_configuration": {"hnsw": {"space": "cosine"}}}
    try:
        return Chroma("marengo-demo", embeddings, **settings)
    except Exception as error:  # Chroma's have no base of their own
        raise ConfigurationError(
            f"--store {path}: Chroma can't open this store ({error}). Delete it, or pass another folder."
        ) from error


def _s3_vectors(embeddings: MarengoEmbeddings, settings: Mapping[str, Any]) -> VectorStore:
    from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors

    connection = ("region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key")
    store = AmazonS3Vectors(
        vector_bucket_name=BUCKET,
        index_name="segments",
        embedding=embeddings,
        non_filterable_metadata_keys=["_page_content"],
        **{name: settings[name] for name in connection},
    )
    store.client.create_vector_bucket(vectorBucketName=BUCKET)
    return store

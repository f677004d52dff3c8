"""How many hits one search of a store may request: the stores' limits, and our own."""

from __future__ import annotations

from collections.abc import Mapping

from bedrock_marengo.search.fusion import SearchSettings

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "STORE_LIMITS", "default_limit", "limit_of"]

MAX_LIMIT = 10_000
"""The most hits that a search requests from a store; ours."""
DEFAULT_LIMIT = 1_000
"""The most hits that a search requests by default from a store that may not filter for a track; ours."""
STORE_LIMITS: Mapping[str, int] = {
    "AmazonS3Vectors": 10_000,
    "AstraDBVectorStore": 1_000,
    "AzureAISearchVectorStore": 1_000,
    "AzureSearch": 1_000,
    "CloudflareVectorizeVectorStore": 20,
    "ElasticsearchStore": 10_000,
    # Asks for 10 candidates for each hit, of at most 10,000.
    "llama_index.ElasticsearchStore": 1_000,
    "Milvus": 16_384,
    "MilvusVectorStore": 16_384,
    "MongoDBAtlasVectorSearch": 10_000,
    "OpenSearchVectorSearch": 10_000,
    "OpensearchVectorStore": 10_000,
    "PineconeVectorStore": 10_000,
    "S3VectorStore": 10_000,
    "Typesense": 250,
    "TypesenseVectorStore": 250,
    "UpstashVectorStore": 1_000,
}
"""The most hits of one search, from each product's documentation; by class of LangChain's and LlamaIndex's stores."""


def limit_of(store: object) -> int:
    """The most hits that a store lets a search ask for: that of its class or of a base class, by name."""
    for cls in type(store).__mro__:
        for name in (f"{cls.__module__.partition('.')[0]}.{cls.__name__}", cls.__name__):
            if name in STORE_LIMITS:
                return STORE_LIMITS[name]
    return MAX_LIMIT


def default_limit(store: object, settings: SearchSettings, targets: int) -> int:
    """The most hits to request by default from a store that may not filter for a track, of so many at once.

    It may lack a track, and then any number finds none of it. ``fetch_k`` lifts the limit.
    """
    limit = limit_of(store)
    return limit if settings.fetch_k else min(limit, max(DEFAULT_LIMIT, targets * (settings.depth + 1)))

"""An index for each track, and one index with its store's own indexes: the same ranking as by arithmetic."""

import asyncio
import threading
import uuid

import chromadb
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.postgres import PGVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from sqlalchemy.engine import make_url

from bedrock_marengo import ConfigurationError, InputError, Segment
from llama_index_marengo import (
    MarengoEmbedding,
    MarengoReader,
    MarengoRetriever,
    MarengoSegmenter,
    create_indexes,
    create_track_indices,
    insert_segments,
)
from llama_index_marengo.known_stores import find_known_store

from .searches import QUERIES, Searches, places

TRACKS = ("visual", "audio", "transcription")


def postgres(place):
    uri = make_url(place("postgres")(f"s{uuid.uuid4().hex}"))
    drivers = {"connection_string": "postgresql+psycopg2", "async_connection_string": "postgresql+asyncpg"}
    return {name: uri.set(drivername=driver) for name, driver in drivers.items()}


def folder(place):
    return str(place("tmp_path_factory").mktemp("store"))


# A store's class -> how it connects.
KINDS = {
    ChromaVectorStore: lambda place: {"client": chromadb.EphemeralClient()},
    QdrantVectorStore: lambda place: {"client": QdrantClient(":memory:")},
    LanceDBVectorStore: lambda place: {"uri": folder(place)},
    MilvusVectorStore: lambda place: {"uri": f"{folder(place)}/milvus.db", "use_async_client": False},
    PGVectorStore: postgres,
}
SLOW = {MilvusVectorStore, PGVectorStore}


@pytest.fixture(scope="module")
def embed_model(local):
    return MarengoEmbedding(**local.client_options)


@pytest.fixture(scope="module")
def nodes(embed_model, uris, how):
    """Clips and assets of three tracks."""
    reader = MarengoReader(
        list(uris), embed_model=embed_model, metadata=lambda source: {"tenant": uris.get(source, "acme")}
    )
    return MarengoSegmenter(embed_model=embed_model, **how)(reader.load_data())


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS],
    ids=lambda kind: kind.__name__,
)
def create(request, embed_model):
    """Creates, or opens, an index for each track."""
    connection = KINDS[request.param](request.getfixturevalue)
    return lambda name: create_track_indices(request.param, name, embed_model, **connection)


@pytest.fixture(scope="module", params=["an index for each track", "one index"])
def indices(request, create, nodes):
    """The settings of a retriever."""
    name = f"s{uuid.uuid4().hex}"
    indices = create(name)
    if request.param == "an index for each track":
        insert_segments(indices, nodes)
        return {"indices": create(name)}
    index = indices["visual"]
    index.insert_nodes(nodes)
    if find_known_store(index.vector_store).create_indexes is not None:
        assert create_indexes(index) == create_indexes(index)
    return {"index": index}


class TestSearch(Searches):
    @pytest.fixture
    def ask(self, indices):
        def ask(query, k=10, filter=None, **settings):  # noqa: A002
            found = MarengoRetriever(**indices, similarity_top_k=k, filters=filter, **settings).retrieve(query)
            return [{**hit.metadata, "score": hit.score} for hit in found]

        return ask

    @pytest.fixture
    def of_tenant(self):
        return lambda tenant: MetadataFilters(filters=[MetadataFilter(key="tenant", value=tenant)])

    async def test_async(self, indices, truth):
        found = await asyncio.gather(*(MarengoRetriever(**indices).aretrieve(query) for query in QUERIES))
        assert [places(hits) for hits in found] == [places(truth(query)) for query in QUERIES]


def test_rows_that_are_in_the_wrong_index_are_not_returned(create, nodes, truth):
    indices = create(f"s{uuid.uuid4().hex}")
    for track, index in indices.items():
        index.insert_nodes([n for n in nodes if n.metadata["embedding_option"] in (track, "transcription")])
    for query in QUERIES[:2] * 2:
        found = MarengoRetriever(indices=indices, similarity_top_k=30).retrieve(query)
        assert places(found) == places(truth(query, k=30))


class Recorded(ChromaVectorStore):
    """Keeps the filters that it is queried with; its queries may wait for each other."""

    def query(self, query, **kwargs):
        self.collection_kwargs.setdefault("filters", []).append(query.filters)
        if barrier := self.collection_kwargs.get("barrier"):
            barrier.wait(30)
        return super().query(query, **kwargs)


@pytest.fixture
def recorded(embed_model, nodes):
    indices = create_track_indices(Recorded, f"s{uuid.uuid4().hex}", embed_model, client=chromadb.EphemeralClient())
    insert_segments(indices, [node for node in nodes if node.metadata["embedding_scope"] == "clip"])
    return indices


@pytest.mark.parametrize("is_async", [False, True])
async def test_tracks_are_searched_unfiltered_and_at_the_same_time(recorded, is_async):
    retriever, barrier = MarengoRetriever(indices=recorded), threading.Barrier(3)
    for index in recorded.values():
        index.vector_store.collection_kwargs["barrier"] = barrier
    found = await (retriever.aretrieve("a goal") if is_async else asyncio.to_thread(retriever.retrieve, "a goal"))
    assert len(found) == 5
    assert [index.vector_store.collection_kwargs["filters"] for index in recorded.values()] == [[None]] * 3


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_tracks_that_a_store_lacks_are_found_once_it_has_them(kind, embed_model, nodes):
    if kind == "simple":
        index = VectorStoreIndex(nodes, embed_model=embed_model)
    else:
        client = chromadb.EphemeralClient()
        index = create_track_indices(ChromaVectorStore, f"s{uuid.uuid4().hex}", embed_model, client=client)["visual"]
        index.insert_nodes(nodes)
    retriever = MarengoRetriever(index=index, similarity_top_k=100, weights="balanced")
    for _ in range(2):
        assert {hit.metadata["embedding_option"] for hit in retriever.retrieve("a goal")} <= set(TRACKS)
    photo = Segment("s3://b/1.jpg", 0.0, 0.0, "image", "clip", nodes[0].metadata["job_id"])
    metadata = {**nodes[0].metadata, "embedding_option": "image", "source": photo.source}
    index.insert_nodes(
        [TextNode(text=photo.uri, metadata=metadata, embedding=embed_model.get_query_embedding("a goal"))]
    )
    assert photo.source in {hit.metadata["source"] for hit in retriever.retrieve("a goal")}


def test_a_track_without_an_index_is_named_before_anything_is_inserted(recorded, nodes):
    del recorded["audio"]
    before = recorded["visual"].vector_store._collection.count()
    with pytest.raises(InputError, match=r"track 'audio', .* indices only for 'visual', 'transcription'"):
        insert_segments(recorded, nodes)
    assert recorded["visual"].vector_store._collection.count() == before
    with pytest.raises(InputError, match="not the text of a segment"):
        insert_segments(recorded, [TextNode(text="a note")])


def test_classes_and_stores_that_are_not_known_are_refused(embed_model):
    with pytest.raises(ConfigurationError, match="support SimpleVectorStore: expected a class, one of Chroma"):
        create_track_indices(SimpleVectorStore, "videos", embed_model)
    with pytest.raises(ConfigurationError, match="create_indexes doesn't support SimpleVectorStore"):
        create_indexes(VectorStoreIndex([], embed_model=embed_model))

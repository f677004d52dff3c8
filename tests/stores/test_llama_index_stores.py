"""The matrix, LlamaIndex: the same corpus and queries give the same ranking on every store."""

import asyncio
import uuid

import chromadb
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.postgres import PGVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient
from sqlalchemy.engine import make_url

from bedrock_marengo import ConfigurationError
from bedrock_marengo.contract.words import words_in
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoRetriever, MarengoSegmenter, add_words

from .searches import QUERIES, Searches, places

# Exact: more candidates than there are vectors.
EXACT = {"hnsw": {"space": "cosine", "ef_search": 1000, "ef_construction": 1000}}


def simple(place):
    return SimpleVectorStore()


def chroma(place):
    client = chromadb.EphemeralClient()
    return ChromaVectorStore(client.create_collection(place("name"), configuration=EXACT))


def chroma_l2(place):
    client = chromadb.EphemeralClient()
    return ChromaVectorStore(client.create_collection(place("name"), configuration={"hnsw": {"ef_search": 1000}}))


def qdrant(place):
    return QdrantVectorStore("test", client=QdrantClient(":memory:"))


def lance(place):
    return LanceDBVectorStore(uri=str(place("tmp_path")), table_name="segments")


def milvus(place):
    return MilvusVectorStore(
        uri=str(place("tmp_path") / "milvus.db"),
        dim=512,
        similarity_metric="COSINE",
        index_config={"index_type": "FLAT"},
        use_async_client=False,
    )


def postgres(place):
    uri = make_url(place("postgres")(place("name")))
    return PGVectorStore.from_params(
        connection_string=uri.set(drivername="postgresql+psycopg2"),
        async_connection_string=uri.set(drivername="postgresql+asyncpg"),
        embed_dim=512,
        table_name="segments",
    )


def s3_vectors(place):
    module = pytest.importorskip("llama_index.vector_stores.s3")
    bucket = place("vector_bucket")(place("name"))
    return module.S3VectorStore.create_index_from_bucket(bucket, "segments", 512)


def s3_vectors_classic(place):
    place("local").vector_index_mode = "CLASSIC"
    store = s3_vectors(place)
    place("local").vector_index_mode = "ENHANCED"
    return store


@pytest.fixture(scope="module")
def embed_model(local):
    return MarengoEmbedding(**local.client_options)


@pytest.fixture(scope="module")
def load(embed_model, uris, how):
    def load(sources=None, **settings):
        documents = MarengoReader(
            list(uris) if sources is None else sources,
            embed_model=embed_model,
            metadata=lambda source: {"tenant": uris.get(source, "acme")},
        ).load_data()
        return MarengoSegmenter(embed_model=embed_model, **how, **settings)(documents)

    return load


@pytest.fixture(
    scope="module",
    params=[
        simple,
        chroma,
        chroma_l2,
        qdrant,
        lance,
        s3_vectors,
        s3_vectors_classic,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (milvus, postgres)),
    ],
    ids=lambda kind: kind.__name__,
)
def make(request, embed_model, tmp_path_factory):
    """Makes an index over a new store of this kind."""

    def make(nodes, embed_model=embed_model):
        name = f"s{uuid.uuid4().hex}"
        values = {"name": lambda: name, "tmp_path": lambda: tmp_path_factory.mktemp("store")}
        store = request.param(lambda what: values[what]() if what in values else request.getfixturevalue(what))
        context = StorageContext.from_defaults(vector_store=store)
        return VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)

    return make


@pytest.fixture(scope="module")
def index(make, load):
    """The corpus in a store; tests that change it make their own."""
    return make(load())


def sources_of(index):
    found = MarengoRetriever(index=index, similarity_top_k=100).retrieve(QUERIES[0])
    assert len(found) == len(set(places(found)))
    return {hit.metadata["source"]: places(found).count((hit.metadata["source"], 0.0)) for hit in found}


class TestSearch(Searches):
    @pytest.fixture
    def ask(self, index):
        def ask(query, k=10, filter=None, **settings):  # noqa: A002
            found = MarengoRetriever(index=index, similarity_top_k=k, filters=filter, **settings).retrieve(query)
            return [{**hit.metadata, "score": hit.score} for hit in found]

        return ask

    @pytest.fixture
    def of_tenant(self):
        return lambda tenant: MetadataFilters(filters=[MetadataFilter(key="tenant", value=tenant)])

    async def test_async(self, index, truth):
        retriever = MarengoRetriever(index=index)
        found = await asyncio.gather(*(retriever.aretrieve(query) for query in QUERIES))
        assert [places(hits) for hits in found] == [places(truth(query)) for query in QUERIES]

    def test_vectors_of_two_models_never_meet(self, index, local):
        other = MarengoEmbedding(**local.client_options | {"model_name": "2.7"})
        with pytest.raises(ConfigurationError, match=r"holds segments of .*marengo-embed-3-0.*can't be compared"):
            MarengoRetriever(index=index, embed_model=other).retrieve("a goal")


class TestChange:
    def test_segments_that_were_added_twice_are_found_once(self, make, load, uris):
        nodes = load()
        index = make(nodes)
        index.insert_nodes(nodes)
        assert sources_of(index) == dict.fromkeys(uris, 1)

    def test_a_source_is_deleted_and_replaced(self, make, load, local, uris):
        uri = local.put(b"the first cut", "llama.mp4")
        old = load([uri])
        index = make([*load(), *old])
        assert uri in sources_of(index)
        if isinstance(index.vector_store, LanceDBVectorStore):
            # Its own delete quotes the id as a column's name, which LanceDB refuses.
            index.vector_store.table.delete(f"doc_id = '{old[0].ref_doc_id}'")
        else:
            index.delete_ref_doc(old[0].ref_doc_id)
        assert sources_of(index) == dict.fromkeys(uris, 1)
        local.put(b"the second cut", "llama.mp4")
        new = load([uri])
        index.insert_nodes(new)
        found = MarengoRetriever(index=index, sources=[uri], similarity_top_k=20).retrieve(QUERIES[0])
        assert len(found) == 10
        assert {hit.metadata["job_id"] for hit in found} == {new[0].metadata["job_id"]}


class TestWords:
    @pytest.fixture
    def index(self, make, load):
        index = make(load(transcripts=False))
        if isinstance(index.vector_store, MilvusVectorStore):
            index.vector_store.upsert_mode = True
        return index

    def test_they_are_added_in_place(self, index, uris, local):
        if isinstance(index.vector_store, LanceDBVectorStore):
            with pytest.raises(ConfigurationError, match="doesn't support LanceDBVectorStore, only ChromaVectorStore"):
                add_words(index)
            return
        uri = next(iter(uris))
        search = MarengoRetriever(index=index, similarity_top_k=50)
        before = search.retrieve(QUERIES[0])
        local.calls.reset()
        transcripts = {uri: "WEBVTT\n\n00:00.000 --> 00:06.000\nHe shoots\n"}
        # The first clip and the whole file, on each of three tracks.
        assert add_words(index, transcripts=transcripts) == 6
        assert add_words(index, transcripts=transcripts) == 0
        assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0
        after = search.retrieve(QUERIES[0])
        assert [(hit.node_id, hit.score, hit.metadata) for hit in after] == [
            (hit.node_id, hit.score, hit.metadata) for hit in before
        ]
        found = {(hit.metadata["source"], hit.metadata["start_sec"]): words_in(hit.text) for hit in after}
        assert {place for place, words in found.items() if words} == {(uri, 0.0)}
        assert after[0].node.source_node == before[0].node.source_node


async def test_a_qdrant_with_an_asynchronous_client_alone(embed_model, load, truth):
    store = QdrantVectorStore("test", aclient=AsyncQdrantClient(":memory:"))
    nodes = await asyncio.to_thread(load)
    await store.async_add(nodes)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    found = await MarengoRetriever(index=index).aretrieve(QUERIES[0])
    assert places(found) == places(truth(QUERIES[0]))

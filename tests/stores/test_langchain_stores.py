"""The matrix, LangChain: the same corpus and queries give the same ranking on every store."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
import chromadb
import faiss
import lancedb
import pytest
from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors
from langchain_chroma import Chroma
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_community.vectorstores import LanceDB as CommunityLanceDB
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_lancedb import LanceDB
from langchain_milvus import Milvus
from langchain_postgres import PGEngine, PGVector, PGVectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from bedrock_marengo import ConfigurationError, SegmentNotFoundError
from bedrock_marengo.contract.words import words_in
from langchain_marengo import (
    MarengoEmbeddings,
    MarengoRetriever,
    add_segments,
    add_words,
    adelete_segments,
    delete_segments,
)
from langchain_marengo.known_stores import KNOWN_STORES, find_known_store

from .searches import QUERIES, Searches, places

# Exact: more candidates than there are vectors.
EXACT = {"hnsw": {"space": "cosine", "ef_search": 1000, "ef_construction": 1000}}


def in_memory(embeddings, place):
    return InMemoryVectorStore(embeddings)


def chroma(embeddings, place):
    client = chromadb.EphemeralClient()
    return Chroma(place("name"), embeddings, client=client, collection_configuration=EXACT)


def chroma_server(embeddings, place):
    client = chromadb.HttpClient("127.0.0.1", place("chroma_port"))
    return Chroma(place("name"), embeddings, client=client, collection_configuration=EXACT)


def qdrant(embeddings, place):
    client = QdrantClient(":memory:")
    client.create_collection("test", models.VectorParams(size=512, distance=models.Distance.COSINE))
    return QdrantVectorStore(client, "test", embeddings)


def faiss_l2(embeddings, place):
    return FAISS(embeddings, faiss.IndexFlatL2(512), InMemoryDocstore(), {})


def lance(embeddings, place):
    return LanceDB(embeddings, place("tmp_path"))


def community_lance(embeddings, place):
    connection = lancedb.connect(place("tmp_path"))
    return CommunityLanceDB(connection, embeddings, mode="append")


def milvus(embeddings, place):
    return Milvus(
        embeddings,
        connection_args={"uri": str(place("tmp_path") / "milvus.db")},
        index_params={"index_type": "FLAT", "metric_type": "COSINE"},
    )


def pgvector(embeddings, place):
    # A database of its own: its ids are unique over all collections.
    uri = place("postgres")(place("name"))
    return PGVector(embeddings, connection=uri.replace("postgresql://", "postgresql+psycopg://"))


def pgvectorstore(embeddings, place):
    uri = place("postgres")(place("name"))
    engine = PGEngine.from_connection_string(uri.replace("postgresql://", "postgresql+psycopg://"))
    engine.init_vectorstore_table("segments", 512)
    return PGVectorStore.create_sync(engine, embeddings, "segments")


def s3_vectors(embeddings, place, **how):
    return AmazonS3Vectors(
        vector_bucket_name=place("vector_bucket")(place("name")),
        index_name="segments",
        embedding=embeddings,
        non_filterable_metadata_keys=["_page_content"],
        client=boto3.Session().client("s3vectors"),
        **how,
    )


def s3_vectors_classic(embeddings, place):
    place("local").vector_index_mode = "CLASSIC"
    store = s3_vectors(embeddings, place)
    place("local").vector_index_mode = "ENHANCED"
    return store


def s3_vectors_euclidean(embeddings, place):
    return s3_vectors(embeddings, place, distance_metric="euclidean")


# A store, and how its own filter asks for a tenant.
KINDS = {
    in_memory: lambda tenant: lambda document: document.metadata["tenant"] == tenant,
    chroma: lambda tenant: {"tenant": tenant},
    chroma_server: lambda tenant: {"tenant": tenant},
    qdrant: lambda tenant: models.FieldCondition(key="metadata.tenant", match=models.MatchValue(value=tenant)),
    faiss_l2: lambda tenant: {"tenant": tenant},
    lance: lambda tenant: f"""metadata LIKE '%"tenant": "{tenant}"%'""",
    community_lance: lambda tenant: f"metadata.tenant = '{tenant}'",
    milvus: lambda tenant: f'tenant == "{tenant}"',
    pgvector: lambda tenant: {"tenant": {"$eq": tenant}},
    pgvectorstore: lambda tenant: {"tenant": {"$eq": tenant}},
    **dict.fromkeys((s3_vectors, s3_vectors_classic, s3_vectors_euclidean), lambda tenant: {"tenant": tenant}),
}


# Those that run a server.
SERVED = {chroma_server, milvus, pgvector, pgvectorstore}


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.slow if kind in SERVED else ()) for kind in KINDS],
    ids=lambda kind: kind.__name__,
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def make(request, kind, embeddings, tmp_path_factory):
    """Makes an empty store of this kind."""

    def make(embeddings=embeddings):
        values = {"name": lambda: name, "tmp_path": lambda: tmp_path_factory.mktemp("store")}
        name = f"s{uuid.uuid4().hex}"
        return kind(embeddings, lambda what: values[what]() if what in values else request.getfixturevalue(what))

    return make


@pytest.fixture(scope="module")
def store(make, corpus):
    """The corpus in a store; tests that change it make their own."""
    store = make()
    add_segments(store, corpus)
    return store


def rows(store):
    return {row.id: row.metadata for row in find_known_store(store).rows(store, None)}


class TestWords:
    def test_they_are_added_in_place(self, make, load, uris, local, embeddings):
        def seen():
            found = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=50).invoke(QUERIES[0])
            # Not in order: hits that are as similar may change places.
            return {(hit.id, track): each["score"] for hit in found for track, each in hit.metadata["tracks"].items()}

        store, uri = make(), next(iter(uris))
        add_segments(store, load(transcripts=False))
        known, before, metadata = find_known_store(store), seen(), rows(store)
        local.calls.reset()
        # Of each track's two clips and of the whole file, those in which it is said.
        starts = [row["start_sec"] for row in metadata.values() if row["source"] == uri]
        transcripts = {uri: "WEBVTT\n\n00:00.000 --> 00:06.000\nHe shoots\n"}
        assert add_words(store, embeddings=embeddings, transcripts=transcripts) == starts.count(0.0)
        assert add_words(store, embeddings=embeddings, transcripts=transcripts) == 0
        assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0
        words = [
            (row.metadata["source"], row.metadata["start_sec"], words_in(row.text)) for row in known.rows(store, None)
        ]
        assert {said for source, start, said in words if (source, start) == (uri, 0.0)} == {"He shoots"}
        assert {said for source, start, said in words if (source, start) != (uri, 0.0)} == {""}
        assert rows(store) == metadata
        # Qdrant sums up in another order after a write.
        assert seen() == pytest.approx(before, abs=1e-6)


class TestSearch(Searches):
    @pytest.fixture
    def ask(self, store, embeddings):
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=10)
        return lambda query, **settings: [document.metadata for document in retriever.invoke(query, **settings)]

    @pytest.fixture
    def of_tenant(self, kind):
        return KINDS[kind]

    def test_a_tenant_within_a_time_range(self, ask, of_tenant):
        found = ask(QUERIES[2], filter=of_tenant("globex"), start_sec=0, end_sec=12)
        assert [hit["start_sec"] for hit in found] in ([0.0, 6.0], [6.0, 0.0])

    def test_a_gate_of_assets(self, ask, truth):
        found = ask(QUERIES[0], asset_gate=1)
        assert places(found) == places(truth(QUERIES[0], k=10, asset_gate=1))
        assert len({hit["source"] for hit in found}) == 1

    async def test_async(self, store, embeddings, truth):
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings)
        queries = await asyncio.gather(*(retriever.ainvoke(query) for query in QUERIES))
        assert [places(found) for found in queries] == [places(truth(query)) for query in QUERIES]


class TestChange:
    def test_adding_again_leaves_one_of_each(self, make, corpus):
        store, documents = make(), corpus
        for _ in range(2):
            add_segments(store, documents)
        assert set(rows(store)) == {document.id for document in documents}
        assert len(list(find_known_store(store).rows(store, None))) == len(documents) == 99

    def test_a_replaced_video_leaves_only_its_new_segments(self, make, load, corpus, local):
        store, other = make(), corpus
        uri = local.put(b"the first cut", "cut.mp4")
        add_segments(store, [*load(uri), *other])
        local.put(b"the second cut", "cut.mp4")
        new = load(uri)
        add_segments(store, new, replace=True, chunk_size=10)
        assert set(rows(store)) == {document.id for document in [*new, *other]}

    @pytest.mark.slow
    @pytest.mark.promise("Replacing a source never leaves none of its segments")
    @pytest.mark.parametrize("before", ["old", "old and new"])
    def test_two_writers_at_once_leave_the_old_segments_or_the_new(self, make, load, local, before):
        store, uri = make(), local.put(b"the old cut", "cut.mp4")
        old = load(uri)
        local.put(b"the new cut", "cut.mp4")
        new = load(uri)
        add_segments(store, old if before == "old" else [*old, *new])
        added = threading.Barrier(2)

        def run(documents):
            def each():
                yield from documents
                added.wait(30)

            add_segments(store, each(), replace=True, chunk_size=len(documents))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, [old, new]))
        left = [row.id for row in find_known_store(store).rows(store, uri)]
        assert len(left) == len(set(left))
        assert {document.id for document in old} <= set(left) or {document.id for document in new} <= set(left)
        add_segments(store, new, replace=True)
        assert set(rows(store)) == {document.id for document in new}

    @pytest.mark.promise("Replacing a source never leaves none of its segments")
    def test_adding_again_loses_nothing_if_it_fails(self, make, corpus):
        store = make()
        add_segments(store, corpus)
        [document, *_] = corpus
        unknown = Document(
            document.page_content.replace(document.metadata["job_id"], "0" * 16), metadata=document.metadata
        )
        with pytest.raises(SegmentNotFoundError):
            add_segments(store, [*corpus, unknown])
        assert set(rows(store)) == {document.id for document in corpus}

    def test_changed_words_replace_the_old_ones(self, make, corpus):
        store = make()
        add_segments(store, corpus)
        changed = [Document(f"{document.page_content}\nGoal!", metadata=document.metadata) for document in corpus]
        add_segments(store, changed)
        found = list(find_known_store(store).rows(store, None))
        assert sorted(row.text for row in found) == sorted(document.page_content for document in changed)
        assert {row.id: row.metadata for row in found} == {document.id: document.metadata for document in corpus}

    async def test_a_source_is_deleted(self, make, corpus, uris):
        store = make()
        await asyncio.to_thread(add_segments, store, corpus)
        first, second, third = uris
        assert delete_segments(store, third) == 33
        assert {metadata["source"] for metadata in rows(store).values()} == {first, second}
        if store.embeddings is not None:
            assert await adelete_segments(store, second) == 33
            assert {metadata["source"] for metadata in rows(store).values()} == {first}

    def test_vectors_of_two_models_never_meet(self, store, local):
        other = MarengoEmbeddings(**local.client_options | {"model_id": "2.7"})
        with pytest.raises(ConfigurationError, match=r"holds segments of .*marengo-embed-3-0.*can't be compared"):
            MarengoRetriever(vectorstore=store, embeddings=other).invoke("a goal")


def test_each_known_store_is_tested_here_or_by_its_documented_calls():
    elsewhere = {"OpenSearchVectorSearch", "langchain_elasticsearch.ElasticsearchStore"}
    elsewhere |= {"MongoDBAtlasVectorSearch", "PineconeVectorStore"}
    here = {"InMemoryVectorStore", "Chroma", "QdrantVectorStore", "FAISS", "PGVector", "PGVectorStore", "Milvus"}
    assert set(KNOWN_STORES) == here | {"LanceDB", "langchain_lancedb.LanceDB", "AmazonS3Vectors"} | elsewhere


def test_a_lancedb_that_would_empty_itself_is_refused(embeddings, corpus, tmp_path):
    store = CommunityLanceDB(lancedb.connect(tmp_path), embeddings)
    with pytest.raises(ConfigurationError, match="mode='append'"):
        add_segments(store, corpus)


@pytest.mark.slow
def test_a_pgvector_whose_database_has_the_segment_elsewhere_is_refused(embeddings, corpus, postgres):
    uri = postgres("shared").replace("postgresql://", "postgresql+psycopg://")
    first, second = (PGVector(embeddings, connection=uri, collection_name=name) for name in ("one", "two"))
    add_segments(first, corpus)
    with pytest.raises(ConfigurationError, match="once across all collections"):
        add_segments(second, corpus)

"""A store for each track, and one store with its indexes: the same ranking as by arithmetic, and no search too many."""

import asyncio
import threading
import uuid

import chromadb
import numpy as np
import psycopg
import pytest
from langchain_chroma import Chroma
from langchain_community.vectorstores import LanceDB as CommunityLanceDB
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_lancedb import LanceDB
from langchain_milvus import Milvus
from langchain_postgres import PGEngine, PGVectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from bedrock_marengo import ConfigurationError, InputError, Segment
from langchain_marengo import (
    MarengoEmbeddings,
    MarengoLoader,
    MarengoRetriever,
    aadd_segments,
    add_segments,
    create_indexes,
    create_track_stores,
    delete_segments,
)
from langchain_marengo.known_stores import KNOWN_STORES, find_known_store

from .searches import QUERIES, Searches, places

TRACKS = ("visual", "audio", "transcription")


def engine(place):
    uri = place("postgres")(f"s{uuid.uuid4().hex}")
    return PGEngine.from_connection_string(uri.replace("postgresql://", "postgresql+psycopg://"))


def milvus(place):
    return {"connection_args": {"uri": str(place("tmp_path_factory").mktemp("milvus") / "milvus.db")}}


# A store's class -> how it connects, and how its own filter asks for a tenant.
KINDS = {
    Chroma: (
        lambda place: {"client": chromadb.EphemeralClient()},
        lambda tenant: {"tenant": tenant},
    ),
    QdrantVectorStore: (
        lambda place: {"client": QdrantClient(":memory:")},
        lambda tenant: models.FieldCondition(key="metadata.tenant", match=models.MatchValue(value=tenant)),
    ),
    CommunityLanceDB: (
        lambda place: {"uri": str(place("tmp_path_factory").mktemp("lance"))},
        lambda tenant: f"metadata.tenant = '{tenant}'",
    ),
    LanceDB: (
        lambda place: {"uri": str(place("tmp_path_factory").mktemp("lance"))},
        lambda tenant: f"""metadata LIKE '%"tenant": "{tenant}"%'""",
    ),
    Milvus: (milvus, lambda tenant: f'tenant == "{tenant}"'),
    PGVectorStore: (lambda place: {"engine": engine(place)}, lambda tenant: {"tenant": {"$eq": tenant}}),
}
SLOW = {Milvus, PGVectorStore}


@pytest.fixture(scope="module")
def load(embeddings, uris, how):
    def load(sources=None, **settings):
        metadata = {"metadata": lambda source: {"tenant": uris.get(source, "acme")}}
        settings = {**how, **metadata, "show_progress": False, **settings}
        return MarengoLoader(list(uris) if sources is None else sources, embeddings=embeddings, **settings).load()

    return load


@pytest.fixture(scope="module")
def corpus(load):
    """Clips and assets of three tracks."""
    return load()


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS],
    ids=lambda kind: f"{kind.__module__.partition('.')[0]}.{kind.__name__}",
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def create(request, kind, embeddings):
    """Creates, or opens, a store for each track."""
    connection = KINDS[kind][0](request.getfixturevalue)
    return lambda name, **settings: create_track_stores(kind, name, embeddings, **connection, **settings)


@pytest.fixture(scope="module", params=["a store for each track", "one store"])
def stores(request, create, corpus):
    """The settings of a retriever."""
    name = f"s{uuid.uuid4().hex}"
    stores = create(name)
    if request.param == "a store for each track":
        add_segments(stores, corpus)
        # Opened a second time, they are what they were.
        return {"vectorstores": create(name)}
    add_segments(stores["visual"], corpus)
    if find_known_store(stores["visual"]).create_indexes is not None:
        assert create_indexes(stores["visual"]) == create_indexes(stores["visual"])
    return {"vectorstore": stores["visual"]}


class TestSearch(Searches):
    @pytest.fixture
    def ask(self, stores, embeddings):
        retriever = MarengoRetriever(**stores, embeddings=embeddings, k=10)
        return lambda query, **settings: [document.metadata for document in retriever.invoke(query, **settings)]

    @pytest.fixture
    def of_tenant(self, kind):
        return KINDS[kind][1]

    def test_a_gate_of_assets(self, ask, truth):
        assert places(ask(QUERIES[0], asset_gate=1)) == places(truth(QUERIES[0], k=10, asset_gate=1))

    async def test_async(self, stores, embeddings, truth):
        retriever = MarengoRetriever(**stores, embeddings=embeddings)
        queries = await asyncio.gather(*(retriever.ainvoke(query) for query in QUERIES))
        assert [places(found) for found in queries] == [places(truth(query)) for query in QUERIES]


def test_rows_that_are_in_the_wrong_store_are_not_returned(create, corpus, embeddings, truth):
    stores = create(f"s{uuid.uuid4().hex}")
    for track, store in stores.items():
        # All of its own and, of the others, enough to crowd them out.
        add_segments(store, [d for d in corpus if d.metadata["embedding_option"] in (track, "transcription")])
    retriever = MarengoRetriever(vectorstores=stores, embeddings=embeddings, k=30)
    for query in QUERIES[:2] * 2:
        assert places(retriever.invoke(query)) == places(truth(query, k=30))


class TestAdd:
    @pytest.fixture
    def stores(self, embeddings):
        return {track: InMemoryVectorStore(embeddings) for track in TRACKS}

    async def test_each_segment_goes_to_the_store_of_its_track(self, stores, corpus):
        assert await aadd_segments(stores, iter(corpus)) == [document.id for document in corpus]
        for track, store in stores.items():
            assert {row["metadata"]["embedding_option"] for row in store.store.values()} == {track}
            assert len(store.store) == len(corpus) / 3

    def test_a_track_without_a_store_is_named_before_anything_is_written(self, stores, corpus):
        del stores["audio"]
        with pytest.raises(InputError, match=r"track 'audio', .* stores only for 'visual', 'transcription'"):
            add_segments(stores, corpus, chunk_size=1)
        assert not stores["visual"].store

    def test_a_replaced_source_loses_tracks_that_it_has_no_more(self, stores, corpus, load, local, uris):
        uri = local.put(b"with sound", "sound.mp4")
        add_segments(stores, [*corpus, *load(uri)])
        local.put(b"without sound", "sound.mp4")
        add_segments(stores, new := load(uri, options=["visual"]), replace=True)
        left = [row["metadata"] for store in stores.values() for row in store.store.values()]
        assert {m["embedding_option"] for m in left if m["source"] == uri} == {"visual"}
        assert len(left) == len(corpus) + len(new)
        assert delete_segments(stores, uri) == len(new)

    def test_what_is_not_a_mapping_of_stores_is_refused(self, stores, corpus):
        with pytest.raises(ConfigurationError, match="mapping of stores is empty"):
            add_segments({}, corpus)
        with pytest.raises(ConfigurationError, match="not a LangChain VectorStore"):
            add_segments({**stores, "audio": "store"}, corpus)


class Recorded(Chroma):
    """Keeps the filters that it is searched with; its searches may wait for each other."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.filters, self.barrier = [], None

    def similarity_search_by_vector_with_relevance_scores(self, embedding, k=4, filter=None, **rest):  # noqa: A002
        self.filters.append(filter)
        if self.barrier is not None:
            self.barrier.wait(30)
        return super().similarity_search_by_vector_with_relevance_scores(embedding, k, filter=filter, **rest)


@pytest.fixture
def recorded(embeddings, load):
    """Stores of clips, with the words of a search: its filter, as text."""
    client = chromadb.EphemeralClient()
    stores = create_track_stores(Recorded, f"s{uuid.uuid4().hex}", embeddings, client=client)
    add_segments(stores, load(scopes=["clip"]))
    return stores


class TestHowStoresAreSearched:
    def test_a_store_of_one_track_is_not_filtered(self, recorded, embeddings):
        retriever = MarengoRetriever(vectorstores=recorded, embeddings=embeddings)
        retriever.invoke("a goal")
        retriever.invoke("a goal", filter={"tenant": "acme"})
        assert [store.filters for store in recorded.values()] == [[None, {"tenant": "acme"}]] * 3

    def test_a_store_that_others_crowd_is_filtered(self, recorded, embeddings, corpus):
        add_segments(recorded["visual"], corpus)
        retriever = MarengoRetriever(vectorstores=recorded, embeddings=embeddings)
        for _ in range(2):
            retriever.invoke("a goal")
        filters = recorded["visual"].filters
        assert [where is None for where in filters] == [True, True, False, False]

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_tracks_are_searched_at_the_same_time(self, recorded, embeddings, is_async):
        retriever = MarengoRetriever(vectorstores=recorded, embeddings=embeddings)
        barrier = threading.Barrier(3)
        for store in recorded.values():
            store.barrier = barrier
        found = await (retriever.ainvoke("a goal") if is_async else asyncio.to_thread(retriever.invoke, "a goal"))
        assert len(found) == 5

    async def test_many_searches_share_a_few_threads(self, recorded, local):
        embeddings = MarengoEmbeddings(**local.client_options, max_concurrency=1)
        retriever = MarengoRetriever(vectorstores=recorded, embeddings=embeddings)
        found = await asyncio.wait_for(asyncio.gather(*(retriever.ainvoke("a goal") for _ in range(30))), 60)
        assert {len(moments) for moments in found} == {5}

    def test_tracks_that_a_store_lacks_are_not_searched_until_it_has_them(self, embeddings, load, local):
        store = Recorded(f"s{uuid.uuid4().hex}", embeddings, client=chromadb.EphemeralClient())
        add_segments(store, load(scopes=["clip"]))
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights="balanced", k=50)

        def searched():
            store.filters.clear()
            found = retriever.invoke("a goal", sources=[f"s3://{local.bucket}/"])
            return {where["$and"][0]["embedding_option"]["$eq"] for where in store.filters}, found

        assert searched()[0] == {*TRACKS, "fused", "image"}
        assert searched()[0] == set(TRACKS)
        photo = load(local.put(b"a photo", "photo.jpg"), scopes=None, segmentation=None)
        # By another program: its rows are counted.
        other = Chroma(store._collection.name, embeddings, client=store._client)
        other.add_documents(photo, ids=[document.id for document in photo])
        tracks, found = searched()
        assert "image" in tracks
        assert photo[0].metadata["source"] in {document.metadata["source"] for document in found}


def test_classes_and_stores_that_are_not_known_are_refused(embeddings):
    makes = {name for name, known in KNOWN_STORES.items() if known.create is not None}
    assert makes >= {"Chroma", "QdrantVectorStore", "PGVectorStore", "Milvus", "LanceDB", "langchain_lancedb.LanceDB"}
    with pytest.raises(ConfigurationError, match="support InMemoryVectorStore: expected a class, one of Chroma"):
        create_track_stores(InMemoryVectorStore, "videos", embeddings)
    with pytest.raises(InputError, match=r"'vision' is not a track of Marengo 3\.0"):
        create_track_stores(Chroma, "videos", embeddings, tracks=["vision"])
    with pytest.raises(ConfigurationError, match="create_indexes doesn't support InMemoryVectorStore"):
        create_indexes(InMemoryVectorStore(embeddings))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videos", "v" * 58])
def test_postgresql_finds_the_few_rows_of_a_tenant_among_many(embeddings, postgres, name):
    uri = postgres(f"s{uuid.uuid4().hex}")
    connection = PGEngine.from_connection_string(uri.replace("postgresql://", "postgresql+psycopg://"))
    [store] = create_track_stores(PGVectorStore, name, embeddings, tracks=["visual"], engine=connection).values()
    query = np.array(embeddings.embed_query("a goal"))
    random = np.random.default_rng(0)
    table, columns = f"{name}_visual"[:63], "langchain_id, content, embedding, embedding_option, embedding_scope"
    with psycopg.connect(uri) as direct, direct.cursor() as cursor:
        with cursor.copy(f"COPY {table} ({columns}, langchain_metadata) FROM STDIN") as copy:
            for i in range(3_000):
                # Those of the tenant are the farthest.
                segment = Segment(f"s3://b/{i}.mp4", 0.0, 6.0, "visual", "clip", "3fa9c1d27b041e55")
                vector = random.normal(size=512) / 20 + (-query if i < 30 else query)
                tenant = '{"tenant": "small"}' if i < 30 else "{}"
                copy.write_row((segment.id, segment.uri, str(vector.tolist()), "visual", "clip", tenant))
        direct.commit()
        direct.autocommit = True
        direct.execute("VACUUM ANALYZE")
    assert len(create_indexes(store)) == 6
    for retriever in ({"vectorstore": store}, {"vectorstores": {"visual": store}}):
        retriever = MarengoRetriever(**retriever, embeddings=embeddings, weights={"visual": 1.0}, k=50)
        found = retriever.invoke("a goal", filter={"tenant": "small"})
        assert len(found) == 30
        # More than hnsw.ef_search.
        assert len(retriever.invoke("a goal", k=1_500)) == 1_500

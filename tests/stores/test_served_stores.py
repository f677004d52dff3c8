"""LangChain stores that can't run here, through their own clients, against servers of their documented protocols."""

import uuid

import pytest
from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from langchain_marengo import (
    MarengoEmbeddings,
    MarengoLoader,
    MarengoRetriever,
    add_segments,
    create_indexes,
    create_track_stores,
    delete_segments,
)
from langchain_marengo.known_stores import find_known_store

from .searches import QUERIES, Searches, places
from .served import over_http
from .served.pinecone import Index

@pytest.fixture(scope="module")
def embeddings(local):
    return MarengoEmbeddings(**local.client_options)


@pytest.fixture(scope="module")
def load(embeddings, uris, how):
    def load(sources=None):
        return MarengoLoader(
            list(uris) if sources is None else sources,
            embeddings=embeddings,
            metadata=lambda source: {"tenant": uris.get(source, "acme")},
            show_progress=False,
            **how,
        ).load()

    return load


@pytest.fixture(scope="module")
def corpus(load):
    return load()


@pytest.fixture(scope="module")
def mongodb():
    pytest.importorskip("langchain_mongodb")
    from pymongo import MongoClient

    from .served import mongodb

    with mongodb.serve() as (uri, atlas), MongoClient(uri) as client:
        yield client["media"], atlas


def make_mongodb(embeddings, place):
    from langchain_mongodb import MongoDBAtlasVectorSearch

    database, _ = place("mongodb")
    options = {"auto_create_index": True, "dimensions": 512, "auto_index_timeout": 5}
    store = MongoDBAtlasVectorSearch(database[place("name")], embeddings, **options)
    # Its own index filters for nothing.
    create_indexes(store)
    fields = next(iter(store.collection.list_search_indexes("vector_index")))["latestDefinition"]["fields"]
    store.collection.update_search_index("vector_index", {"fields": [*fields, {"type": "filter", "path": "tenant"}]})
    return store


@pytest.fixture(scope="module")
def pinecone():
    pytest.importorskip("langchain_pinecone")
    from pinecone import Pinecone

    index = Index()
    with over_http.serve(index.answer) as url:
        yield Pinecone(api_key="no-key").Index(host=url), index


def make_pinecone(embeddings, place):
    from langchain_pinecone import PineconeVectorStore

    client, _ = place("pinecone")
    return PineconeVectorStore(client, embeddings, namespace=place("name"))


# A store, and how its own filter asks for a tenant.
KINDS = dict.fromkeys((make_mongodb, make_pinecone), lambda tenant: {"tenant": tenant})


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.removeprefix("make_"))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def make(request, kind, embeddings):
    """Makes an empty store of this kind."""

    def make():
        name = f"s{uuid.uuid4().hex}"
        return kind(embeddings, lambda what: name if what == "name" else request.getfixturevalue(what))

    return make


@pytest.fixture(scope="module")
def store(make, corpus):
    store = make()
    add_segments(store, corpus)
    return store


def ids(store):
    return sorted(row.id for row in find_known_store(store).rows(store, None))


class TestSearch(Searches):
    @pytest.fixture
    def ask(self, store, embeddings):
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=10)
        return lambda query, **settings: [document.metadata for document in retriever.invoke(query, **settings)]

    @pytest.fixture
    def of_tenant(self, kind):
        return KINDS[kind]


class TestChange:
    def test_adding_again_leaves_one_of_each(self, make, corpus):
        store = make()
        before = [dict(document.metadata) for document in corpus]
        for _ in range(2):
            add_segments(store, corpus)
        assert ids(store) == sorted(document.id for document in corpus)
        assert [document.metadata for document in corpus] == before

    def test_rows_are_what_was_added(self, store, corpus):
        found = {row.id: (row.text, row.metadata) for row in find_known_store(store).rows(store, None)}
        assert found == {document.id: (document.page_content, document.metadata) for document in corpus}

    def test_a_replaced_video_leaves_only_its_new_segments(self, make, load, corpus, local):
        store, uri = make(), local.put(b"the first cut", "cut.mp4")
        add_segments(store, [*load(uri), *corpus])
        local.put(b"the second cut", "cut.mp4")
        new = load(uri)
        add_segments(store, new, replace=True, chunk_size=10)
        assert ids(store) == sorted(document.id for document in [*new, *corpus])

    def test_a_source_is_deleted(self, make, corpus, uris):
        store = make()
        add_segments(store, corpus)
        *others, third = uris
        assert delete_segments(store, third) == 33
        assert {row.metadata["source"] for row in find_known_store(store).rows(store, None)} == {*others}

    def test_a_row_that_is_not_a_segment_is_skipped(self, make, embeddings, corpus):
        store = make()
        add_segments(store, corpus)
        store.add_documents([Document("a goal", metadata={"embedding_option": "visual", "embedding_scope": "clip"})])
        assert len(MarengoRetriever(vectorstore=store, embeddings=embeddings, k=30).invoke("a goal")) == 30


class TestMongoDB:
    def test_each_track_gets_a_collection_with_an_index(self, mongodb, embeddings, corpus, truth):
        from langchain_mongodb import MongoDBAtlasVectorSearch

        database, atlas = mongodb
        for _ in range(2):
            stores = create_track_stores(MongoDBAtlasVectorSearch, "films", embeddings, database=database)
        add_segments(stores, [document for document in corpus if document.metadata["embedding_scope"] == "clip"])
        atlas.asked.clear()
        found = MarengoRetriever(vectorstores=stores, embeddings=embeddings).invoke(QUERIES[0])
        assert places(found) == places(truth(QUERIES[0]))
        searches = [each["pipeline"][0]["$vectorSearch"] for each in atlas.asked if "$vectorSearch" in str(each)]
        # The collections hold one track, and say nothing else: no filter.
        assert [("filter" in search, search["limit"], search["numCandidates"]) for search in searches] == 3 * [
            (False, 51, 510)
        ]

    def test_more_candidates_than_allowed_are_not_requested(self, mongodb, store, embeddings):
        _, atlas = mongodb
        atlas.asked.clear()
        MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, fetch_k=5_000).invoke("x")
        [asked] = [each["pipeline"][0]["$vectorSearch"] for each in atlas.asked if "$vectorSearch" in str(each)]
        assert (asked["limit"], asked["numCandidates"]) == (5_001, 10_000)

    def test_a_field_that_is_not_indexed_is_said(self, mongodb, store, embeddings):
        _, atlas = mongodb
        atlas.asked.clear()
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0})
        with pytest.raises(ConfigurationError, match=r"can't filter for a field .*Path 'camera'.*create_indexes"):
            retriever.invoke("a goal", filter={"camera": "left"})
        assert len([each for each in atlas.asked if "$vectorSearch" in str(each)]) == 1

    @pytest.mark.parametrize("index", [{"similarity": "euclidean"}, {"quantization": "scalar"}])
    def test_scores_that_are_no_cosines_are_replaced_by_those_of_segment_vectors(
        self, mongodb, embeddings, corpus, truth, index
    ):
        database, _ = mongodb
        store = make_mongodb(embeddings, {"mongodb": mongodb, "name": f"s{uuid.uuid4().hex}"}.get)
        fields = next(iter(store.collection.list_search_indexes("vector_index")))["latestDefinition"]["fields"]
        store.collection.update_search_index("vector_index", {"fields": [fields[0] | index, *fields[1:]]})
        add_segments(store, corpus)
        found = MarengoRetriever(vectorstore=store, embeddings=embeddings, fusion="scores").invoke(QUERIES[0])
        for document, moment in zip(found, truth(QUERIES[0], fusion="scores"), strict=True):
            assert document.metadata["score"] == pytest.approx(moment.score, abs=1e-6)


class TestPinecone:
    def test_each_track_gets_a_namespace(self, pinecone, embeddings, corpus, truth):
        from langchain_pinecone import PineconeVectorStore

        client, index = pinecone
        stores = create_track_stores(PineconeVectorStore, "films", embeddings, index=client)
        add_segments(stores, [document for document in corpus if document.metadata["embedding_scope"] == "clip"])
        index.asked.clear()
        found = MarengoRetriever(vectorstores=stores, embeddings=embeddings).invoke(QUERIES[0])
        assert places(found) == places(truth(QUERIES[0]))
        searches = [body for name, body in index.asked if name == "query"]
        assert sorted((body["namespace"], body["topK"]) for body in searches) == [
            (f"films_{track}", 51) for track in sorted(stores)
        ]
        assert not any(body.get("filter") or body.get("includeValues") for body in searches)

    @pytest.mark.parametrize("other", [{"metric": "dotproduct"}, {"dimension": 1024}])
    def test_an_index_that_does_not_fit_is_refused(self, pinecone, embeddings, other):
        from langchain_pinecone import PineconeVectorStore

        with over_http.serve(Index(**other).answer) as url, pytest.raises(ConfigurationError, match="metric='cosine'"):
            connection = {"pinecone_api_key": "no-key", "host": url}
            create_track_stores(PineconeVectorStore, "films", embeddings, **connection)

    def test_scores_that_are_no_cosines_are_replaced_by_those_of_segment_vectors(
        self, pinecone, embeddings, corpus, truth
    ):
        from langchain_pinecone import PineconeVectorStore

        with over_http.serve(Index(metric="euclidean").answer) as url:
            store = PineconeVectorStore(embedding=embeddings, pinecone_api_key="no-key", host=url)
            add_segments(store, corpus)
            found = MarengoRetriever(vectorstore=store, embeddings=embeddings, fusion="scores").invoke(QUERIES[0])
        for document, moment in zip(found, truth(QUERIES[0], fusion="scores"), strict=True):
            assert document.metadata["score"] == pytest.approx(moment.score, abs=1e-6)

    def test_a_source_of_more_rows_than_one_query_finds(self, pinecone, embeddings, corpus, uris, monkeypatch):
        store, (first, *_) = make_pinecone(embeddings, {"pinecone": pinecone, "name": "many"}.get), uris
        add_segments(store, corpus)
        monkeypatch.setattr("bedrock_marengo.search.pinecone.MAX_TOP_K", 20)
        assert delete_segments(store, first) == 33
        assert first not in {row.metadata["source"] for row in find_known_store(store).rows(store, None)}
        assert len(ids(store)) == 66

    def test_a_missing_value_is_left_out(self, pinecone, embeddings, corpus):
        store = make_pinecone(embeddings, {"pinecone": pinecone, "name": "missing"}.get)
        add_segments(store, [Document(corpus[0].page_content, metadata={**corpus[0].metadata, "tenant": None})])
        [row] = find_known_store(store).rows(store, None)
        assert "tenant" not in row.metadata

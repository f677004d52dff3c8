"""LangChain stores that can't run here, through their own clients, against servers of their documented protocols."""

import uuid

import pytest
from langchain_community.vectorstores import OpenSearchVectorSearch
from langchain_core.documents import Document

from bedrock_marengo import Segment
from langchain_marengo import (
    MarengoRetriever,
    add_segments,
    create_indexes,
    delete_segments,
)
from langchain_marengo.known_stores import find_known_store

from .searches import Searches


def make_mongodb(embeddings, place):
    module = pytest.importorskip("langchain_mongodb")
    client, _ = place("mongodb")
    database = client["media"]
    options = {"auto_create_index": True, "dimensions": 512, "auto_index_timeout": 5}
    store = module.MongoDBAtlasVectorSearch(database[place("name")], embeddings, **options)
    # Its own index filters for nothing.
    create_indexes(store)
    fields = next(iter(store.collection.list_search_indexes("vector_index")))["latestDefinition"]["fields"]
    store.collection.update_search_index("vector_index", {"fields": [*fields, {"type": "filter", "path": "tenant"}]})
    return store


def make_pinecone(embeddings, place):
    module = pytest.importorskip("langchain_pinecone")
    client, _ = place("pinecone")
    return module.PineconeVectorStore(client, embeddings, namespace=place("name"))


def make_opensearch_serverless(embeddings, place):
    url, auth, _ = place("serverless")
    return OpenSearchVectorSearch(url, place("name"), embeddings, engine="faiss", **auth)


def make_elasticsearch(embeddings, place):
    module = pytest.importorskip("langchain_elasticsearch")
    return module.ElasticsearchStore(place("name"), embedding=embeddings, es_url=place("elasticsearch")[0])


# A store, and how its own filter asks for a tenant.
KINDS = {
    **dict.fromkeys((make_mongodb, make_pinecone), lambda tenant: {"tenant": tenant}),
    make_opensearch_serverless: lambda tenant: {"term": {"metadata.tenant.keyword": tenant}},
}


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


def segments(store):
    """The IDs of its segments; OpenSearch Serverless gives rows IDs of its own."""
    return sorted(Segment.find(row.text).id for row in find_known_store(store).rows(store, None))


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
        assert segments(store) == sorted(document.id for document in corpus)
        assert [document.metadata for document in corpus] == before

    def test_rows_are_what_was_added(self, store, corpus):
        found = {row.text: row.metadata for row in find_known_store(store).rows(store, None)}
        assert found == {document.page_content: document.metadata for document in corpus}

    def test_rows_can_be_those_of_a_tenant(self, store, kind, corpus, uris):
        rows = find_known_store(store).rows
        found = {row.text for row in rows(store, None, KINDS[kind]("acme"))}
        assert found == {document.page_content for document in corpus if document.metadata["tenant"] == "acme"}
        third = list(uris)[2]
        assert len(list(rows(store, third, KINDS[kind]("acme")))) == 33
        assert list(rows(store, third, KINDS[kind]("globex"))) == []

    def test_a_replaced_video_leaves_only_its_new_segments(self, make, load, corpus, local):
        store, uri = make(), local.put(b"the first cut", "cut.mp4")
        add_segments(store, [*load(uri), *corpus])
        local.put(b"the second cut", "cut.mp4")
        new = load(uri)
        add_segments(store, new, replace=True, chunk_size=10)
        assert segments(store) == sorted(document.id for document in [*new, *corpus])

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

"""LlamaIndex stores that can't run here, through their own clients, against servers of their documented protocols."""

import uuid

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from opensearchpy import TransportError

from llama_index_marengo import (
    MarengoEmbedding,
    MarengoReader,
    MarengoRetriever,
    MarengoSegmenter,
    create_indexes,
    create_track_indices,
    insert_segments,
)

from .searches import QUERIES, Searches, places


@pytest.fixture(scope="module")
def embed_model(local):
    return MarengoEmbedding(**local.client_options)


@pytest.fixture(scope="module")
def nodes(embed_model, uris, how):
    documents = MarengoReader(
        list(uris), embed_model=embed_model, metadata=lambda source: {"tenant": uris.get(source, "acme")}
    ).load_data()
    return MarengoSegmenter(embed_model=embed_model, **how)(documents)


def in_mongodb(place):
    module = pytest.importorskip("llama_index.vector_stores.mongodb")
    client, _ = place("mongodb")
    # It has a client of each kind, of which searches use one.
    clients = {"mongodb_client": client, "async_mongodb_client": place("mongodb_async"), "db_name": "media"}
    store = module.MongoDBAtlasVectorSearch(collection_name=place("name"), **clients)
    store.create_vector_search_index(512, "embedding", "cosine", ["metadata.tenant"])
    create_indexes(VectorStoreIndex.from_vector_store(store, embed_model=place("embed_model")))
    return store


def in_pinecone(place):
    module = pytest.importorskip("llama_index.vector_stores.pinecone")
    client, _ = place("pinecone")
    return module.PineconeVectorStore(client, namespace=place("name"))


def in_opensearch_serverless(place):
    module = pytest.importorskip("llama_index.vector_stores.opensearch")
    url, client, _ = place("serverless")
    return module.OpensearchVectorStore(module.OpensearchVectorClient(url, place("name"), 512, **client))


def in_elasticsearch(place):
    module = pytest.importorskip("llama_index.vector_stores.elasticsearch")
    return module.ElasticsearchStore(place("name"), es_url=place("elasticsearch")[0])


@pytest.fixture(scope="module")
def mongodb_async(mongodb):
    """A client that is never used: LlamaIndex's store wants one."""
    import pymongo

    return pymongo.AsyncMongoClient("mongodb://127.0.0.1:1", connect=False)


@pytest.fixture(
    scope="module",
    params=[in_mongodb, in_pinecone, in_opensearch_serverless, in_elasticsearch],
    ids=lambda kind: kind.__name__.removeprefix("in_"),
)
def open_store(request):
    """Opens one store of each kind, each time with a client of its own if it has one for one event loop."""
    name = f"s{uuid.uuid4().hex}"
    return lambda: request.param(lambda what: name if what == "name" else request.getfixturevalue(what))


@pytest.fixture(scope="module")
def index(open_store, nodes, embed_model):
    return VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=open_store()), embed_model=embed_model
    )


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

    def test_one_tenant_or_another(self, ask):
        either = [MetadataFilter(key="tenant", value=tenant) for tenant in ("globex", "nobody")]
        found = ask(QUERIES[0], filter=MetadataFilters(filters=either, condition=FilterCondition.OR), k=30)
        assert {hit["tenant"] for hit in found} == {"globex"}
        assert len(found) == 10

    def test_all_but_one_tenant(self, ask):
        other = MetadataFilter(key="tenant", value="acme", operator=FilterOperator.NE)
        assert {hit["tenant"] for hit in ask(QUERIES[0], filter=MetadataFilters(filters=[other]), k=30)} == {"globex"}

    async def test_async(self, index, open_store, embed_model, truth):
        opened = VectorStoreIndex.from_vector_store(open_store(), embed_model=embed_model)
        found = await MarengoRetriever(index=opened).aretrieve(QUERIES[0])
        assert places(found) == places(truth(QUERIES[0]))


class TestChange:
    @pytest.fixture
    def index(self, open_store, embed_model):
        return VectorStoreIndex.from_vector_store(open_store(), embed_model=embed_model)

    def test_a_segment_added_again(self, request, index, nodes):
        if "mongodb" in request.node.name:
            with pytest.raises(Exception, match="duplicate key"):
                index.insert_nodes(nodes[:3])
        else:
            index.insert_nodes(nodes[:3])
        found = MarengoRetriever(index=index, similarity_top_k=30).retrieve(QUERIES[0])
        assert len(set(places(found))) == len(found) == 30

    def test_a_source_is_deleted(self, request, index, nodes, uris):
        if "opensearch_serverless" in request.node.name:
            with pytest.raises(TransportError):
                index.delete_ref_doc(nodes[0].ref_doc_id)
            return
        index.delete_ref_doc(nodes[0].ref_doc_id)
        found = MarengoRetriever(index=index, similarity_top_k=30).retrieve(QUERIES[0])
        assert {hit.metadata["source"] for hit in found} == {*uris} - {nodes[0].metadata["source"]}
        index.insert_nodes([node for node in nodes if node.ref_doc_id == nodes[0].ref_doc_id])


def tracks(make, nodes, truth):
    indices = make()
    insert_segments(indices, [node for node in nodes if node.metadata["embedding_scope"] == "clip"])
    found = MarengoRetriever(indices=make()).retrieve(QUERIES[0])
    assert places(found) == places(truth(QUERIES[0]))


def test_each_track_gets_a_collection(mongodb, mongodb_async, embed_model, nodes, truth):
    cls = pytest.importorskip("llama_index.vector_stores.mongodb").MongoDBAtlasVectorSearch
    clients = {"mongodb_client": mongodb[0], "async_mongodb_client": mongodb_async, "db_name": "media"}
    tracks(lambda: create_track_indices(cls, "nodes", embed_model, **clients), nodes, truth)


def test_each_track_gets_a_namespace(pinecone, embed_model, nodes, truth):
    cls = pytest.importorskip("llama_index.vector_stores.pinecone").PineconeVectorStore
    pinecone[1].asked.clear()
    tracks(lambda: create_track_indices(cls, "nodes", embed_model, pinecone_index=pinecone[0]), nodes, truth)
    names = [name for name, _ in pinecone[1].asked]
    queries = [body for name, body in pinecone[1].asked if name == "query"]
    # Once as each is opened, twice, and once for its metric.
    assert names.count("describe_index_stats") <= 9
    assert not any(body.get("includeValues") for body in queries)

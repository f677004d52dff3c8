"""Words as a track on real stores: BM25 over their rows under the user's own filter, and their own text search."""

import time
import uuid

import pytest
from langchain_milvus import BM25BuiltInFunction, Milvus
from langchain_postgres import PGEngine, PGVectorStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.milvus.utils import BM25BuiltInFunction as LlamaBM25
from llama_index.vector_stores.postgres import PGVectorStore as LlamaPostgres
from sqlalchemy.engine import make_url

from bedrock_marengo import ConfigurationError
from langchain_marengo import MarengoRetriever, add_segments, create_indexes
from langchain_marengo.known_stores import find_known_store
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter
from llama_index_marengo import MarengoRetriever as LlamaRetriever
from llama_index_marengo import create_indexes as llama_create_indexes

from . import test_langchain_stores as matrix
from . import test_llama_index_stores as llama_matrix
from . import test_served_stores as served
from . import test_served_stores_llama_index as llama_served
from .searches import places

kind, make = matrix.kind, matrix.make
SAID = {
    "acme": "00:00.500 --> 00:05.000\nOrder 4711 is ready\n\n00:30.500 --> 00:35.000\nthe goal of the day",
    "globex": "00:12.500 --> 00:17.000\nthe goal 4711 was missed",
}
WORDS = {"weights": {"words": 1.0}, "k": 10}


@pytest.fixture(scope="module")
def said(uris):
    """Source -> captions, of one file of each tenant; and their sources."""
    first = {tenant: uri for uri, tenant in reversed(uris.items())}
    return {uri: f"WEBVTT\n\n{SAID[tenant]}\n" for tenant, uri in first.items()}, first


def names(found, sources):
    tenants = {uri: tenant for tenant, uri in sources.items()}
    return [(tenants[source], start) for source, start in places(found)]


def test_bm25_finds_a_tenants_rows_alone(make, kind, load, said, embeddings):
    captions, sources = said
    store = make()
    add_segments(store, load(transcripts=captions))
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="bm25", **WORDS)
    assert set(names(retriever.invoke("4711"), sources)) == {("acme", 0.0), ("globex", 12.0)}
    of_tenant = matrix.KINDS[kind]
    for tenant, start in (("acme", 0.0), ("globex", 12.0)):
        assert names(retriever.invoke("4711", filter=of_tenant(tenant)), sources) == [(tenant, start)]
    assert retriever.invoke("4711", filter=of_tenant("nobody")) == []
    assert len(retriever.invoke("4711", scope="asset")) == 2


def check_text_search(ask, sources, of_tenant):
    """``ask`` searches the words with (query, filter, **settings)."""
    assert set(names(ask("4711"), sources)) == {("acme", 0.0), ("globex", 12.0)}
    assert set(names(ask("what about order 4711?"), sources)) == {("acme", 0.0), ("globex", 12.0)}
    assert names(ask("what about order 4711?"), sources)[0] == ("acme", 0.0)
    assert names(ask("goal", filter=of_tenant("acme")), sources) == [("acme", 30.0)]
    assert names(ask("goal", sources=[sources["globex"]]), sources) == [("globex", 12.0)]
    assert names(ask("goal", sources=[sources["globex"].rpartition("/")[0] + "/"], end_sec=20.0), sources) == [
        ("globex", 12.0)
    ]
    # A segment's URI is indexed, too, and is not a word.
    assert ask("goal\0 \ud800", sources=[sources["globex"]])
    for nothing in ("zebra", "?! '&|", "visual", "visual transcription s3", '"', "\ud800", "\0"):
        assert ask(nothing) == []


def configure_text_search(store):
    index = {"vectorBucketName": store.vector_bucket_name, "indexName": "segments"}
    texts = {"textSearchConfigurations": [{"metadataKey": "_page_content", "language": "en"}]}
    store.client.update_metadata_configuration(**index, add=texts)
    while any(
        text["status"] != "ACTIVE"
        for text in store.client.get_index(**index)["index"]["metadataConfiguration"]["textSearchConfigurations"]
    ):
        time.sleep(0.05)


class TestLangChain:
    @pytest.fixture
    def ask(self, load, said, embeddings):
        def ask(store):
            add_segments(store, load(transcripts=said[0]))
            retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="store", **WORDS)
            return retriever.invoke

        return ask

    def test_s3_vectors(self, ask, embeddings, said, request, load):
        store = matrix.s3_vectors(embeddings, _place(request))
        search = ask(store)
        with pytest.raises(ConfigurationError, match="can't be searched by words"):
            search("4711")
        configure_text_search(store)
        check_text_search(search, said[1], lambda tenant: {"tenant": tenant})

    @pytest.mark.slow
    @pytest.mark.parametrize("column", ["", "content_tsv"])
    def test_postgresql(self, ask, embeddings, said, postgres, column):
        uri = postgres(f"s{uuid.uuid4().hex}")
        engine = PGEngine.from_connection_string(uri.replace("postgresql://", "postgresql+psycopg://"))
        config = HybridSearchConfig(tsv_column=column)
        engine.init_vectorstore_table("segments", 512, hybrid_search_config=config)
        store = PGVectorStore.create_sync(engine, embeddings, "segments", hybrid_search_config=config)
        check_text_search(ask(store), said[1], lambda tenant: {"tenant": tenant})
        plain = PGVectorStore.create_sync(engine, embeddings, "segments")
        retriever = MarengoRetriever(vectorstore=plain, embeddings=embeddings, words="store")
        with pytest.raises(ConfigurationError, match="hybrid_search_config"):
            retriever.invoke("4711")

    @pytest.mark.parametrize("kind", [matrix.lance, matrix.community_lance], ids=lambda kind: kind.__name__)
    def test_lancedb(self, ask, embeddings, said, request, kind, tmp_path):
        store = kind(embeddings, _place(request))
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="store", **WORDS)
        assert retriever.invoke("4711") == create_indexes(store) == []
        search = ask(store)
        with pytest.raises(ConfigurationError, match="no full-text index"):
            search("4711")
        assert "text" in create_indexes(store)
        check_text_search(search, said[1], matrix.KINDS[kind])
        assert create_indexes(store) == create_indexes(store)

    @pytest.mark.parametrize("kind", [served.make_opensearch_serverless, served.make_elasticsearch])
    def test_search_engines(self, ask, embeddings, said, request, kind):
        store = kind(embeddings, _place(request))
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="store", **WORDS)
        assert retriever.invoke("4711") == []
        tenant = served.KINDS[served.make_opensearch_serverless]
        check_text_search(ask(store), said[1], tenant)

    @pytest.mark.slow
    def test_milvus(self, ask, embeddings, said, tmp_path, truth, load):
        connection = {"connection_args": {"uri": str(tmp_path / "milvus.db")}}
        indexes = [
            {"index_type": "FLAT", "metric_type": "COSINE"},
            {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25"},
        ]
        both = {"builtin_function": BM25BuiltInFunction(), "vector_field": ["dense", "sparse"]}
        store = Milvus(embeddings, index_params=indexes, **both, **connection)
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="store", k=10)
        assert retriever.invoke("4711") == []
        check_text_search(ask(store), said[1], matrix.KINDS[matrix.milvus])
        found = retriever.invoke("a goal", weights={"visual": 1.0})
        assert places(found) == places(truth("a goal", weights={"visual": 1.0}, k=10))
        add_segments(store, load(transcripts=said[0]))
        rows = list(find_known_store(store).rows(store, None))
        assert len(rows) == 99 and not {"dense", "sparse"} & rows[0].metadata.keys()
        plain = Milvus(embeddings, "plain", **connection)
        with pytest.raises(ConfigurationError, match="BM25BuiltInFunction"):
            MarengoRetriever(vectorstore=plain, embeddings=embeddings, words="store").invoke("4711")

    def test_a_store_without_text_search_says_what_to_use(self, embeddings, request):
        store = matrix.in_memory(embeddings, _place(request))
        with pytest.raises((ConfigurationError, ValueError), match="words='bm25'"):
            MarengoRetriever(vectorstore=store, embeddings=embeddings, words="store")


def _place(request):
    name = f"s{uuid.uuid4().hex}"
    return lambda what: name if what == "name" else request.getfixturevalue(what)


def llama_tenant(tenant):
    return MetadataFilters(filters=[MetadataFilter(key="tenant", value=tenant)])


class TestLlamaIndex:
    @pytest.fixture(scope="class")
    def nodes(self, local, uris, how, said):
        model = MarengoEmbedding(**local.client_options)
        reader = MarengoReader(list(uris), embed_model=model, metadata=lambda source: {"tenant": uris[source]})
        return MarengoSegmenter(embed_model=model, transcripts=said[0], **how)(reader.load_data()), model

    @pytest.fixture
    def ask(self, nodes):
        def ask(store, words):
            index = VectorStoreIndex(
                [node.model_copy() for node in nodes[0]],
                embed_model=nodes[1],
                storage_context=StorageContext.from_defaults(vector_store=store),
            )

            def search(query, filter=None, **settings):  # noqa: A002
                how = {"weights": {"words": 1.0}, "similarity_top_k": 10, "filters": filter, **settings}
                return LlamaRetriever(index=index, words=words, **how).retrieve(query)

            return search

        return ask

    @pytest.mark.parametrize(
        "kind",
        [
            *(
                llama_matrix.simple,
                llama_matrix.chroma,
                llama_matrix.qdrant,
                llama_matrix.lance,
                llama_matrix.s3_vectors,
            ),
            *(pytest.param(kind, marks=pytest.mark.slow) for kind in (llama_matrix.milvus, llama_matrix.postgres)),
        ],
        ids=lambda kind: kind.__name__,
    )
    def test_bm25_finds_a_tenants_nodes_alone(self, ask, said, request, kind, tmp_path):
        place = _place(request)
        search = ask(kind(place), "bm25")
        assert set(names(search("4711"), said[1])) == {("acme", 0.0), ("globex", 12.0)}
        for tenant, start in (("acme", 0.0), ("globex", 12.0)):
            assert names(search("4711", filter=llama_tenant(tenant)), said[1]) == [(tenant, start)]
        assert search("4711", filter=llama_tenant("nobody")) == []
        assert len(search("4711", scope="asset")) == 2

    def test_lancedb(self, ask, nodes, said, request, tmp_path):
        store = llama_matrix.lance(_place(request))
        search = ask(store, "store")
        with pytest.raises(ConfigurationError, match="no full-text index"):
            search("4711")
        index = VectorStoreIndex.from_vector_store(store, embed_model=nodes[1])
        assert llama_create_indexes(index) == llama_create_indexes(index)
        check_text_search(search, said[1], llama_tenant)

    def test_s3_vectors_keeps_texts_within_json(self, nodes, request):
        index = VectorStoreIndex.from_vector_store(llama_matrix.s3_vectors(_place(request)), embed_model=nodes[1])
        with pytest.raises(ConfigurationError, match="S3VectorStore has none that is supported: use words='bm25'"):
            LlamaRetriever(index=index, words="store")

    def test_opensearch_serverless(self, ask, said, request):
        check_text_search(ask(llama_served.in_opensearch_serverless(_place(request)), "store"), said[1], llama_tenant)

    @pytest.mark.slow
    def test_milvus(self, ask, said, tmp_path):
        how = {"uri": str(tmp_path / "milvus.db"), "dim": 512, "similarity_metric": "COSINE", "use_async_client": False}
        store = MilvusVectorStore(enable_sparse=True, sparse_embedding_function=LlamaBM25(), **how)
        check_text_search(ask(store, "store"), said[1], llama_tenant)
        with pytest.raises(ConfigurationError, match="enable_sparse=True"):
            ask(MilvusVectorStore(collection_name="plain", **how), "store")("4711")

    @pytest.mark.slow
    def test_postgresql(self, ask, said, postgres):
        uri = make_url(postgres(f"s{uuid.uuid4().hex}"))
        store = LlamaPostgres.from_params(
            connection_string=uri.set(drivername="postgresql+psycopg2"),
            async_connection_string=uri.set(drivername="postgresql+asyncpg"),
            embed_dim=512,
            table_name="segments",
            hybrid_search=True,
            text_search_config="english",
        )
        check_text_search(ask(store, "store"), said[1], llama_tenant)

"""A store that nothing is known of, which may ignore filters: by default it is not asked for thousands of rows."""

import pytest
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from pydantic import PrivateAttr

import langchain_marengo
import llama_index_marengo
from bedrock_marengo import MarengoWarning, Segmentation

HOW = {"segmentation": Segmentation.fixed(1), "scopes": ["clip"]}


class OddStore(VectorStore):
    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def from_texts(cls, *_, **__):
        raise AssertionError

    def similarity_search(self, query, k=4, **_):
        raise AssertionError

    def similarity_search_by_vector(self, embedding, k=4, **_):
        return self.inner.similarity_search_by_vector(embedding, k)


class OddVectorStore(BasePydanticVectorStore):
    stores_text: bool = False
    _inner: SimpleVectorStore = PrivateAttr(default_factory=SimpleVectorStore)

    @property
    def client(self):
        return None

    def add(self, nodes, **_):
        return self._inner.add(nodes)

    def delete(self, ref_doc_id, **_):
        raise AssertionError

    def query(self, query, **_):
        return self._inner.query(VectorStoreQuery(query.query_embedding, query.similarity_top_k))


@pytest.fixture(scope="module")
def many(local):
    """The sources of 1,620 clips of a video's three tracks."""
    return [local.put(f"video {i}".encode(), f"many/{i}.mp4") for i in range(9)]


@pytest.fixture(scope="module")
def langchain(embeddings, many):
    inner = InMemoryVectorStore(embeddings)
    documents = langchain_marengo.MarengoLoader(many, embeddings=embeddings, show_progress=False, **HOW).load()
    langchain_marengo.add_segments(inner, documents)
    store = OddStore(inner)
    return lambda k, **settings: langchain_marengo.MarengoRetriever(
        vectorstore=store, embeddings=embeddings, k=k, **settings
    ).invoke("a goal")


@pytest.fixture(scope="module")
def llama_index(local, many):
    embed_model = llama_index_marengo.MarengoEmbedding(**local.client_options)
    documents = llama_index_marengo.MarengoReader(many, embed_model=embed_model).load_data()
    nodes = llama_index_marengo.MarengoSegmenter(embed_model=embed_model, **HOW)(documents)
    context = StorageContext.from_defaults(vector_store=OddVectorStore())
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)
    return lambda k, **settings: llama_index_marengo.MarengoRetriever(
        index=index, similarity_top_k=k, **settings
    ).retrieve("a goal")


@pytest.fixture(params=["langchain", "llama_index"])
def ask(request):
    return request.getfixturevalue(request.param)


def test_by_default_a_thousand_rows_are_the_most(ask, asked):
    with pytest.warns(MarengoWarning, match=r"none of its 1,000 nearest segments is of .*image"):
        assert len(ask(5)) == 5
    assert max(asked) == 1_000
    # Of each of five tracks: 51, 204, 816, 1,000. Or of all at once: 255, 1,000.
    assert len(asked) <= 20


@pytest.mark.filterwarnings("error")
def test_whoever_asks_for_more_gets_it(ask, asked):
    ask(5, fetch_k=300)
    # It has no more than 1,620.
    assert max(asked) > 1_620

"""Words for segments that an index holds already, and what a stock query engine shows a language model of them."""

import re

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient

from bedrock_marengo import ConfigurationError, InputError
from bedrock_marengo.contract.words import words_in
from llama_index_marengo import MarengoRetriever, SegmentDocumentStore, aadd_words, add_words

OTHER = "WEBVTT\n\n00:01.000 --> 00:02.000\nkick off\n"


@pytest.fixture
def nodes(segment, match):
    return segment(match, transcripts=False)


@pytest.fixture
def index(nodes, embed_model):
    """Two clips on three tracks, without words, and a page of something else."""
    storage = StorageContext.from_defaults(docstore=SegmentDocumentStore())
    page = TextNode(id_="page", text="Offside", embedding=[0.0] * 512)
    return VectorStoreIndex([*nodes, page], storage_context=storage, embed_model=embed_model)


def words(index):
    return {words_in(node.text) for node in index.docstore.docs.values()} - {""}


def test_captions_next_to_the_files(local, index, nodes):
    vectors = dict(index.vector_store.data.embedding_dict)
    local.calls.reset()
    assert add_words(index) == 6
    assert words(index) == {"He shoots", "Goal!"}
    for node in nodes:
        kept = index.docstore.get_node(node.node_id)
        assert (kept.metadata, kept.relationships) == (node.metadata, node.relationships)
    assert index.docstore.get_node("page").text == "Offside"
    assert index.vector_store.data.embedding_dict == vectors
    assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0
    assert add_words(index) == 0


async def test_other_words_for_some_files(index, match):
    assert await aadd_words(index, transcripts={match: OTHER}, sources=["s3://elsewhere/"]) == 0
    assert await aadd_words(index, transcripts={match: OTHER}, sources=[match]) == 3
    assert words(index) == {"kick off"}


def test_an_index_for_each_track(index, nodes, embed_model, match):
    audio = VectorStoreIndex(nodes, embed_model=embed_model)
    assert add_words({"visual": index, "transcription": index, "audio": audio}, transcripts={match: OTHER}) == 6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: QdrantVectorStore("test", aclient=AsyncQdrantClient(":memory:")), "only an asynchronous client"),
        (lambda: MilvusVectorStore.model_construct(upsert_mode=False), "with upsert_mode=True"),
    ],
    ids=["async Qdrant", "Milvus"],
)
def test_stores_that_cannot_replace_a_row(embed_model, make, said):
    index = VectorStoreIndex([], embed_model=embed_model)
    index._vector_store = make()
    with pytest.raises(ConfigurationError, match=said):
        add_words(index)


def test_wrong_settings_are_refused(index, nodes):
    with pytest.raises(ConfigurationError, match="transcripts="):
        add_words(index, transcripts=7)
    with pytest.raises(InputError, match="takes a list of S3 prefixes"):
        add_words(index, sources="s3://bucket/a.mp4")
    with pytest.raises(ConfigurationError, match="expected a VectorStoreIndex"):
        add_words(index.vector_store)
    with pytest.raises(ConfigurationError, match="MockEmbedding: expected MarengoEmbedding"):
        add_words(VectorStoreIndex(nodes, embed_model=MockEmbedding(512)))


@pytest.mark.parametrize("has_words", [True, False])
@pytest.mark.parametrize("retrieve", ["marengo", "plain"])
def test_what_a_stock_query_engine_shows_a_language_model(index, has_words, retrieve):
    prompts = []

    class Llm(MockLLM):
        def complete(self, prompt, *args, **kwargs):
            prompts.append(prompt)
            return super().complete(prompt, *args, **kwargs)

    if has_words:
        add_words(index)
    retriever = {
        "marengo": MarengoRetriever(index, similarity_top_k=2),
        "plain": index.as_retriever(similarity_top_k=7),
    }[retrieve]
    RetrieverQueryEngine.from_args(retriever, llm=Llm()).query("When is the goal?")
    for text in ("match.mp4, 00:00 to 00:06\nHe shoots", "match.mp4, 00:06 to 00:12\nGoal!"):
        assert (text if has_words else text.partition("\n")[0]) in prompts[0]
    assert not re.search("model_id|job_id|start_sec", prompts[0])

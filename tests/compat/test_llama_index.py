"""LlamaIndex's side, on whichever llama-index-core is installed."""

import asyncio
import pickle

import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from llama_index_marengo import (
    MarengoEmbedding,
    MarengoLinks,
    MarengoReader,
    MarengoRetriever,
    MarengoSegmenter,
    SegmentDocumentStore,
)


@pytest.fixture
def embed_model(options):
    embed_model = MarengoEmbedding(**options)
    yield embed_model
    embed_model.core.close()


@pytest.fixture
def media(embed_model, videos):
    return MarengoReader(videos, embed_model=embed_model).load_data()


@pytest.fixture
def nodes(embed_model, media):
    return MarengoSegmenter(embed_model=embed_model)(media)


def test_texts(embed_model):
    one = embed_model.get_query_embedding("a dog")
    same, other = embed_model.get_text_embedding_batch(["a dog", "a cat"])
    assert one == same != other and len(one) == 512 and type(one[0]) is float
    assert asyncio.run(embed_model.aget_query_embedding("a dog")) == one
    assert asyncio.run(embed_model.aget_text_embedding_batch(["a cat"])) == [other]


def test_images(embed_model, png, tmp_path):
    (tmp_path / "a.png").write_bytes(png)
    (one,) = embed_model.get_image_embedding_batch([tmp_path / "a.png"])
    assert one == embed_model.get_image_embedding(png) and len(embed_model.get_text_image_embedding("a", png)) == 512


def test_segments_have_their_own_vectors(embed_model, nodes, media, options):
    assert (len(media), len(nodes)) == (3, 18)
    assert {type(node) for node in nodes} == {TextNode}
    texts = [node.get_content() for node in nodes]
    assert embed_model.get_text_embedding_batch(texts) == [node.embedding for node in nodes]
    copied = pickle.loads(pickle.dumps(MarengoEmbedding(**options)))
    assert copied.get_text_embedding(texts[0]) == nodes[0].embedding
    found = asyncio.run(MarengoSegmenter(embed_model=embed_model).acall(media))
    assert {node.id_ for node in found} == {node.id_ for node in nodes}


def test_an_index_that_is_stored_and_loaded(embed_model, media, nodes, tmp_path):
    segmenter = MarengoSegmenter(embed_model=embed_model)
    made = VectorStoreIndex.from_documents(media, embed_model=embed_model, transformations=[segmenter])
    made.storage_context.persist(str(tmp_path))
    loaded = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=embed_model)
    bundle = QueryBundle("", embedding=nodes[4].embedding)
    assert loaded.as_retriever(similarity_top_k=1).retrieve(bundle)[0].node_id == nodes[4].node_id
    context = StorageContext.from_defaults(docstore=SegmentDocumentStore())
    assert len(VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model).docstore.docs) == 18


def test_a_pipeline_skips_what_it_knows(embed_model, media):
    pipeline = IngestionPipeline(
        transformations=[MarengoSegmenter(embed_model=embed_model), embed_model],
        vector_store=SimpleVectorStore(),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )
    assert len(pipeline.run(documents=media)) == 18
    assert pipeline.run(documents=media) == []


def test_an_answer_with_links(embed_model, nodes):
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=2),
        llm=MockLLM(),
        node_postprocessors=[MarengoLinks(embed_model=embed_model)],
    )
    sources = engine.query("When is the goal?").source_nodes
    assert all("#t=" in node.metadata["url"] and " at 00:" in node.metadata["citation"] for node in sources)
    assert len(asyncio.run(engine.aquery("When is the goal?")).source_nodes) == 2


def test_the_retriever(embed_model, nodes):
    retriever = MarengoRetriever(
        index=VectorStoreIndex(nodes, embed_model=embed_model), embed_model=embed_model, similarity_top_k=3
    )
    found = retriever.retrieve("a goal")
    assert len(found) == 3
    assert [hit.node_id for hit in asyncio.run(retriever.aretrieve("a goal"))] == [hit.node_id for hit in found]

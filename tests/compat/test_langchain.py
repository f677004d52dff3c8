"""LangChain's side, on whichever langchain-core is installed."""

import asyncio
import pickle

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.load import dumps, loads
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_marengo import (
    MarengoEmbeddings,
    MarengoLoader,
    MarengoRetriever,
    Media,
    Query,
    add_segments,
    delete_segments,
)


@pytest.fixture
def embeddings(options):
    embeddings = MarengoEmbeddings(**options)
    yield embeddings
    embeddings.core.close()


@pytest.fixture
def documents(embeddings, videos):
    return MarengoLoader(videos, embeddings=embeddings, show_progress=False).load()


@pytest.fixture
def store(embeddings, documents):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, documents)
    return store


def test_texts(embeddings):
    one, [same, other] = embeddings.embed_query("a dog"), embeddings.embed_documents(["a dog", "a cat"])
    assert one == same != other and len(one) == 512 and type(one[0]) is float
    assert asyncio.run(embeddings.aembed_query("a dog")) == one
    assert asyncio.run(embeddings.aembed_documents(["a cat"])) == [other]


def test_images(embeddings, png, tmp_path):
    (tmp_path / "a.png").write_bytes(png)
    assert embeddings.embed_image(png) == embeddings.embed_images([tmp_path / "a.png"])[0]
    assert embeddings.embed_image(uris=[png]) == [embeddings.embed_image(png)]


def test_segments_get_their_own_vectors(embeddings, documents, options):
    assert len(documents) == 3 * 2 * 3
    assert {type(document) for document in documents} == {Document}
    texts = [document.page_content for document in documents]
    vectors = embeddings.embed_documents(texts)
    assert len({tuple(vector) for vector in vectors}) == 18
    assert pickle.loads(pickle.dumps(MarengoEmbeddings(**options))).embed_documents(texts) == vectors
    assert loads(dumps(documents[0]), allowed_objects=[Document]) == documents[0]


def test_the_loader_for_asyncio(embeddings, videos, documents):
    async def load():
        return [d async for d in MarengoLoader(videos, embeddings=embeddings, show_progress=False).alazy_load()]

    found = asyncio.run(load())
    assert {document.id for document in found} == {document.id for document in documents}


def test_a_store(store, embeddings, documents, png):
    wanted = documents[4]
    assert store.similarity_search_by_vector(embeddings.embed_documents([wanted.page_content])[0], k=1)[0] == wanted
    image = Query(image=Media.from_bytes(png, kind="image"))
    assert len(store.as_retriever().invoke(embeddings.query_handle(image))) == 4
    delete_segments(store, wanted.metadata["source"])
    assert len(store.store) == 12


def test_the_retriever(store, embeddings):
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=3, weights="dialogue")
    found = retriever.invoke("a goal")
    assert len(found) == 3 and all(document.metadata["tracks"] for document in found)
    assert asyncio.run(retriever.ainvoke("a goal")) == found
    assert len(MarengoRetriever(vectorstore=store, embeddings=embeddings).invoke(Query(text="a goal"), k=2)) == 2


def test_an_index(embeddings, documents):
    records = InMemoryRecordManager("videos")
    records.create_schema()

    def run(documents):
        store = run.store = getattr(run, "store", None) or InMemoryVectorStore(embeddings)
        how = {"cleanup": "scoped_full", "source_id_key": "source", "key_encoder": lambda document: document.id}
        return index(documents, records, store, **how)

    assert run(documents)["num_added"] == 18
    assert run(documents)["num_skipped"] == 18

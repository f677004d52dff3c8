"""OpenSearch Serverless: no IDs, no scrolls, no refresh, and rows that show up late."""

import pytest
from langchain_community.vectorstores import OpenSearchVectorSearch

from langchain_marengo import MarengoRetriever, add_segments, delete_segments
from langchain_marengo.known_stores import find_known_store


@pytest.fixture
def collection(serverless):
    collection = serverless[-1]
    yield collection
    collection.refresh()
    collection.is_late = False


def make(serverless, embeddings, name):
    url, client, _ = serverless
    return OpenSearchVectorSearch(url, name, embeddings, engine="faiss", **client)


def rows(store):
    return list(find_known_store(store).rows(store, None))


def test_a_new_index_takes_replacements(serverless, embeddings, corpus):
    store = make(serverless, embeddings, "new")
    assert rows(store) == []
    add_segments(store, corpus, replace=True)
    assert len(rows(store)) == len(corpus)


def test_pages_of_rows_end_anywhere(serverless, collection, embeddings, corpus, uris, monkeypatch):
    store = make(serverless, embeddings, "pages")
    # Late rows are not seen, and so added twice.
    collection.is_late = True
    for _ in range(2):
        add_segments(store, corpus)
    collection.refresh()
    monkeypatch.setattr("langchain_marengo.known_stores.search_engines._PAGE", 7)
    assert len(rows(store)) == len({row.id for row in rows(store)}) == 2 * len(corpus)
    # A search finds each once, and what is added next, or deleted, leaves no second one.
    found = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=30).invoke("a goal")
    assert len({document.id for document in found}) == len(found) == 30
    collection.is_late = False
    add_segments(store, corpus)
    assert len(rows(store)) == len(corpus)
    assert delete_segments(store, next(iter(uris))) == 33


def test_a_replacement_that_does_not_show_yet_is_written_once(serverless, collection, embeddings, load, local):
    store, uri = make(serverless, embeddings, "late"), local.put(b"the first cut", "late.mp4")
    add_segments(store, load([uri]))
    local.put(b"the second cut", "late.mp4")
    new = load([uri])
    collection.is_late = True
    add_segments(store, new, replace=True)
    collection.refresh()
    assert sorted(row.text for row in rows(store)) == sorted(document.page_content for document in new)

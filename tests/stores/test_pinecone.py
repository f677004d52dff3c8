"""Pinecone: namespaces, limits and scores, by real clients against a server of its HTTP."""

import pytest
from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from langchain_marengo import MarengoRetriever, add_segments, create_track_stores, delete_segments
from langchain_marengo.known_stores import find_known_store

from .searches import QUERIES, places
from .served import over_http
from .served.pinecone import Index

PineconeVectorStore = pytest.importorskip("langchain_pinecone").PineconeVectorStore


def test_each_track_gets_a_namespace(pinecone, embeddings, corpus, truth):
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
def test_an_index_that_does_not_fit_is_refused(pinecone, embeddings, other):
    with over_http.serve(Index(**other).answer) as url, pytest.raises(ConfigurationError, match="metric='cosine'"):
        connection = {"pinecone_api_key": "no-key", "host": url}
        create_track_stores(PineconeVectorStore, "films", embeddings, **connection)


def test_scores_that_are_no_cosines_are_replaced_by_those_of_segment_vectors(pinecone, embeddings, corpus, truth):
    with over_http.serve(Index(metric="euclidean").answer) as url:
        store = PineconeVectorStore(embedding=embeddings, pinecone_api_key="no-key", host=url)
        add_segments(store, corpus)
        found = MarengoRetriever(vectorstore=store, embeddings=embeddings, fusion="scores").invoke(QUERIES[0])
    for document, moment in zip(found, truth(QUERIES[0], fusion="scores"), strict=True):
        assert document.metadata["score"] == pytest.approx(moment.score, abs=1e-6)


def test_a_source_of_more_rows_than_one_query_finds(pinecone, embeddings, corpus, uris, monkeypatch):
    store, (first, *_) = PineconeVectorStore(pinecone[0], embeddings, namespace="many"), uris
    add_segments(store, corpus)
    monkeypatch.setattr("bedrock_marengo.search.pinecone.MAX_TOP_K", 20)
    assert delete_segments(store, first) == 33
    assert first not in {row.metadata["source"] for row in find_known_store(store).rows(store, None)}
    assert len(list(find_known_store(store).rows(store, None))) == 66


def test_a_missing_value_is_left_out(pinecone, embeddings, corpus):
    store = PineconeVectorStore(pinecone[0], embeddings, namespace="missing")
    add_segments(store, [Document(corpus[0].page_content, metadata={**corpus[0].metadata, "tenant": None})])
    [row] = find_known_store(store).rows(store, None)
    assert "tenant" not in row.metadata

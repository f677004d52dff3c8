"""MongoDB Atlas: indexes, limits and scores, by real clients against a server of its wire protocol."""

import pytest

from bedrock_marengo import ConfigurationError
from langchain_marengo import MarengoRetriever, add_segments, create_track_stores

from .searches import QUERIES, places

MongoDBAtlasVectorSearch = pytest.importorskip("langchain_mongodb").MongoDBAtlasVectorSearch


@pytest.fixture(scope="module")
def store(mongodb, embeddings, corpus):
    client, _ = mongodb
    stores = create_track_stores(
        MongoDBAtlasVectorSearch, "all", embeddings, tracks=["visual"], database=client["media"]
    )
    add_segments(stores["visual"], corpus)
    return stores["visual"]


def test_each_track_gets_a_collection_with_an_index(mongodb, embeddings, corpus, truth):
    client, atlas = mongodb
    for _ in range(2):
        stores = create_track_stores(MongoDBAtlasVectorSearch, "films", embeddings, database=client["media"])
    add_segments(stores, [document for document in corpus if document.metadata["embedding_scope"] == "clip"])
    atlas.asked.clear()
    found = MarengoRetriever(vectorstores=stores, embeddings=embeddings).invoke(QUERIES[0])
    assert places(found) == places(truth(QUERIES[0]))
    searches = [each["pipeline"][0]["$vectorSearch"] for each in atlas.asked if "$vectorSearch" in str(each)]
    # The collections hold one track, and say nothing else: no filter.
    assert [("filter" in search, search["limit"], search["numCandidates"]) for search in searches] == 3 * [
        (False, 51, 510)
    ]


def test_an_index_is_asked_for_its_metric_once(mongodb, store, embeddings):
    _, atlas = mongodb
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings)
    retriever.invoke("a goal")
    atlas.asked.clear()
    retriever.invoke("a goal")
    assert not [each for each in atlas.asked if "$listSearchIndexes" in str(each)]


def test_more_candidates_than_allowed_are_not_requested(mongodb, store, embeddings):
    _, atlas = mongodb
    atlas.asked.clear()
    MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0}, fetch_k=5_000).invoke("x")
    [asked] = [each["pipeline"][0]["$vectorSearch"] for each in atlas.asked if "$vectorSearch" in str(each)]
    assert (asked["limit"], asked["numCandidates"]) == (5_001, 10_000)


def test_a_field_that_is_not_indexed_is_said(mongodb, store, embeddings):
    _, atlas = mongodb
    atlas.asked.clear()
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"visual": 1.0})
    with pytest.raises(ConfigurationError, match=r"can't filter for a field .*Path 'camera'.*create_indexes"):
        retriever.invoke("a goal", filter={"camera": "left"})
    assert len([each for each in atlas.asked if "$vectorSearch" in str(each)]) == 1


@pytest.mark.parametrize("index", [{"similarity": "euclidean"}, {"quantization": "scalar"}])
def test_scores_that_are_no_cosines_are_replaced_by_those_of_segment_vectors(mongodb, embeddings, corpus, truth, index):
    client, atlas = mongodb
    stores = create_track_stores(MongoDBAtlasVectorSearch, "odd", embeddings, tracks=["visual"], database=client["m"])
    [fields] = [other["fields"] for place, other in atlas.indexes.items() if place[0] == ("m", "odd_visual")]
    fields[0] |= index
    add_segments(stores["visual"], corpus)
    found = MarengoRetriever(vectorstores=stores, embeddings=embeddings, fusion="scores").invoke(QUERIES[0])
    for document, moment in zip(found, truth(QUERIES[0], {"visual": 1.0}, fusion="scores"), strict=True):
        assert document.metadata["score"] == pytest.approx(moment.score, abs=1e-6)

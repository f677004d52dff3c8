"""evaluate() and suggest_weights() over LlamaIndex's retrievers, on the reel's 20 questions."""

import pytest
from llama_index.core import VectorStoreIndex

from bedrock_marengo import MarengoWarning
from bedrock_marengo.search import PRESETS, evaluate, suggest_weights
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoRetriever, MarengoSegmenter

from ..reel_questions import film, rows


@pytest.fixture
def world(local):
    """An index of the reel, and its questions."""
    local.synthetic_sec = None
    embed_model = MarengoEmbedding(**local.client_options)
    uri = local.put(film(), "reel.mp4")
    media = MarengoReader(uri, embed_model=embed_model).load_data()
    segmenter = MarengoSegmenter(embed_model=embed_model)
    index = VectorStoreIndex.from_documents(media, embed_model=embed_model, transformations=[segmenter])
    local.calls.reset()
    return index, rows(uri)


def test_every_track_fusion_and_preset_of_one_search_a_question(local, world):
    index, questions = world
    found = evaluate(MarengoRetriever(index=index), questions)
    assert len(found.names) == 1 + 3 + 2 * (len(PRESETS) + 1)
    assert len(local.calls.of("InvokeModel")) == len(questions) + 5  # and the anchors of all tracks
    row = {row["row"]: row for row in found.records()}
    assert row["MarengoRetriever"]["recall@1"] * 20 == 16
    assert row["MarengoRetriever"]["recall@5"] == 1
    assert row["audio alone"]["nDCG@10 high"] < 0


def test_what_is_fused_again_is_what_a_search_finds(world):
    index, questions = world
    hits = MarengoRetriever(index=index).search_tracks(questions[0]["query"], 10)
    for weights in ({"audio": 1.0}, {"visual": 0.3, "audio": 0.6}):
        for fusion in ("rrf", "scores"):
            other = MarengoRetriever(index=index, weights=weights, fusion=fusion, similarity_top_k=10)
            found = [node.metadata for node in other.retrieve(questions[0]["query"])]
            moments = [(moment.start_sec, moment.end_sec) for moment in hits.moments(weights=weights, fusion=fusion)]
            assert moments == [(metadata["start_sec"], metadata["end_sec"]) for metadata in found]


def test_any_retriever_and_any_function(world):
    index, questions = world
    texts = [question for question in questions if isinstance(question["query"], str)]
    plain = index.as_retriever(similarity_top_k=10)
    found = evaluate({"plain": plain, "function": lambda query: plain.retrieve(query)[:1]}, texts)
    plain, function = found.records()
    assert 0 < function["recall@10"] == function["recall@1"] == plain["recall@1"] < plain["recall@10"]


def test_files_that_the_index_lacks_are_warned_of(world):
    index, [question, *_] = world
    other = question["source"].replace("reel", "real")
    with pytest.warns(MarengoWarning, match="has no segments of 1 of the 2 files"):
        evaluate(MarengoRetriever(index=index), [question, {**question, "query": "a goal", "source": other}])


def test_weights_are_recommended_only_if_they_are_clearly_better(world):
    index, questions = world
    assert suggest_weights(MarengoRetriever(index=index), questions).weights is None
    better = suggest_weights(MarengoRetriever(index=index, weights={"audio": 1.0}), questions, metric="recall@1")
    assert better.weights["visual"] > 0.5 and better.low > 0


async def test_near_duplicates_take_one_place(local, world):
    index, _ = world
    repost = local.put(film() + b"\0", "repost.mp4")
    media = MarengoReader(repost, embed_model=index._embed_model).load_data()
    index.insert_nodes(MarengoSegmenter(embed_model=index._embed_model)(media))
    plain = MarengoRetriever(index=index, similarity_top_k=8).retrieve("a cat")
    for settings in ({"distinct": 0.98}, {"mmr_lambda": 0.1}):
        retriever = MarengoRetriever(index=index, similarity_top_k=4, **settings)
        found = retriever.retrieve("a cat")
        assert found[0].metadata["start_sec"] == plain[0].metadata["start_sec"]
        assert len({node.metadata["start_sec"] for node in found}) == 4
        assert [node.node_id for node in await retriever.aretrieve("a cat")] == [node.node_id for node in found]


async def test_moments_have_a_confidence_and_can_be_left_out_by_it(world):
    index, _ = world
    seen = {"index": index, "weights": {"visual": 1.0}, "similarity_top_k": 9}
    found = MarengoRetriever(**seen).retrieve("a cat")
    for node in found:
        cosine = node.metadata["tracks"]["visual"]["score"]
        assert node.metadata["confidence"] == ("high" if cosine >= 0.07 else "medium" if cosine >= 0.05 else "low")
        assert "confidence" in node.node.excluded_llm_metadata_keys
    sure = MarengoRetriever(**seen, min_confidence="high")
    high = [node.node_id for node in found if node.metadata["confidence"] == "high"]
    assert [node.node_id for node in sure.retrieve("a cat")] == high
    assert [node.node_id for node in await sure.aretrieve("a cat")] == high

"""evaluate() and suggest_weights() over LangChain's retrievers, on the reel's 20 questions."""

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import InputError, MarengoWarning, Segment
from bedrock_marengo.search import PRESETS, evaluate, suggest_weights
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments

from ..reel_questions import film, rows


@pytest.fixture
def world(local):
    """Embeddings, a store with the reel and its questions."""
    local.synthetic_sec = None
    embeddings = MarengoEmbeddings(**local.client_options)
    uri = local.put(film(), "reel.mp4")
    store = InMemoryVectorStore(embeddings)
    add_segments(store, MarengoLoader(uri, embeddings=embeddings, show_progress=False).load())
    local.calls.reset()
    return embeddings, store, rows(uri)


def ranges(found):
    return [(d.metadata["start_sec"], d.metadata["end_sec"]) for d in found]


def test_every_track_fusion_and_preset_of_one_search_a_question(local, world):
    embeddings, store, questions = world
    found = evaluate(MarengoRetriever(vectorstore=store, embeddings=embeddings), questions)
    presets = [*PRESETS, "intent"]
    assert found.names == (
        "MarengoRetriever",
        *(f"{track} alone" for track in ("visual", "audio", "transcription")),
        *(f"{fusion}, {preset}" for fusion in ("rrf", "scores") for preset in presets),
    )
    assert len(local.calls.of("InvokeModel")) == len(questions) + 5  # and the anchors of all tracks
    row = {row["row"]: row for row in found.records()}
    # docs/search.md has the same numbers, from benchmarks/search.py.
    assert row["MarengoRetriever"]["recall@1"] * 20 == 16
    assert row["MarengoRetriever"]["recall@5"] == 1
    assert row["audio alone"]["nDCG@10 high"] < 0


def test_what_is_fused_again_is_what_a_search_finds(world):
    embeddings, store, questions = world
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=10)
    for question in questions[:2]:
        hits = retriever.search_tracks(question["query"])
        for change in ({"weights": PRESETS["sound"]}, {"weights": {"audio": 1.0}}, {"fusion": "scores"}):
            asked = {name: {t: w for t, w in v.items() if t in hits.intent} if name == "weights" else v
                     for name, v in change.items()}  # fmt: skip
            moments = [(moment.start_sec, moment.end_sec) for moment in hits.moments(**asked)]
            assert moments == ranges(retriever.invoke(question["query"], **asked))


def test_any_retriever_and_any_function(world):
    embeddings, store, questions = world
    texts = [question for question in questions if isinstance(question["query"], str)]
    plain = store.as_retriever(search_kwargs={"k": 10})
    found = evaluate(
        {
            "plain": plain,
            "marengo": MarengoRetriever(vectorstore=store, embeddings=embeddings),
            "chain": RunnableLambda(lambda query: plain.invoke(query)[:1]),
            "function": lambda query: store.similarity_search_with_score(query, k=10),
        },
        texts,
        baseline="marengo",
    )
    assert found.names == ("plain", "marengo", "chain", "function")
    plain, marengo, chain, function = found.records()
    assert plain["nDCG@10"] == function["nDCG@10"]
    assert chain["recall@1"] == chain["recall@10"] == plain["recall@1"]
    assert marengo["recall@5"] >= plain["recall@5"]


def test_files_that_the_store_lacks_are_warned_of_and_others_not(world):
    embeddings, store, [question, *_] = world
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, fetch_k=1)
    other = question["source"].replace("reel", "real")
    with pytest.warns(MarengoWarning, match="has no segments of 1 of the 2 files"):
        found = evaluate(retriever, [question, {**question, "query": "a goal", "source": other}])
    assert found.missing_sources == {"MarengoRetriever": [other]}
    # What no search returned may be there all the same; a limit of the retriever's hides it.
    assert retriever.missing_sources([question["source"], other]) == [other]
    limited = retriever.model_copy(update={"sources": ["s3://other/"]})
    assert limited.missing_sources([question["source"]]) == [question["source"]]


def test_a_row_keeps_its_place_whatever_its_name(world):
    embeddings, store, questions = world
    mine = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"audio": 1.0})
    found = evaluate({"rrf, visual": mine}, questions, baseline="visual alone")
    assert found.names[0] == "rrf, visual" and len(found.names) == len(set(found.names))
    assert found.records()[0]["recall@1 high"] < 0


@pytest.mark.filterwarnings("ignore:AWS ends Marengo 2.7")
def test_the_tracks_of_2_7(local):
    local.synthetic_sec = 12.0
    embeddings = MarengoEmbeddings(model_id="2.7", **local.client_options)
    uri = local.put(b"a video", "a.mp4")
    store = InMemoryVectorStore(embeddings)
    add_segments(store, MarengoLoader(uri, embeddings=embeddings, show_progress=False).load())
    row = {"query": "a goal", "source": uri, "start_sec": 0.0, "end_sec": 6.0}
    found = evaluate(MarengoRetriever(vectorstore=store, embeddings=embeddings), [row])
    assert {"visual-text alone", "visual-image alone", "audio alone"} <= set(found.names)
    assert all(row["recall@10"] == 1 for row in found.records())
    assets = MarengoRetriever(vectorstore=store, embeddings=embeddings, scope="asset")
    assert evaluate(assets, [row]).names[0] == "MarengoRetriever"


class TestWeights:
    def test_nothing_is_recommended_that_may_be_chance(self, world):
        embeddings, store, questions = world
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings)
        suggested = suggest_weights(retriever, questions)
        assert suggested.weights is None
        assert suggested.low <= 0 <= suggested.high

    def test_what_is_clearly_better_is(self, local, world):
        embeddings, store, questions = world
        retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"audio": 1.0})
        local.calls.reset()
        suggested = suggest_weights(retriever, questions, metric="recall@1")
        assert suggested.weights["visual"] > 0.5
        assert 0 < suggested.low < suggested.validated - suggested.current < suggested.high
        assert str(suggested).startswith("weights: ")
        better = retriever.model_copy(update={"weights": suggested.weights})
        assert evaluate([retriever, better], questions).records()[1]["recall@1 low"] > 0
        few = suggest_weights(retriever, questions[:8], metric="recall@1")
        assert few.weights is None and "8 questions are too few" in few.reason

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [({"metric": "recall"}, "metric='recall': expected recall@1"), ({"folds": 1}, "folds=1")],
    )
    def test_what_is_wrong_is_named(self, world, settings, problem):
        embeddings, store, questions = world
        with pytest.raises(InputError, match=problem):
            suggest_weights(MarengoRetriever(vectorstore=store, embeddings=embeddings), questions, **settings)
        with pytest.raises(InputError, match="no tracks to weigh"):
            suggest_weights(store.as_retriever(), questions)


def test_segments_of_a_photo_are_right_whenever_they_are(local, embeddings, load, png):
    uri = local.put(png(), "cat.jpg")
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(uri))
    assert Segment.find(next(iter(store.store.values()))["text"]).option == "image"
    found = evaluate(MarengoRetriever(vectorstore=store, embeddings=embeddings), [{"query": "a cat", "source": uri}])
    assert found.records()[0]["recall@1"] == 1
    assert "image alone" in found.names

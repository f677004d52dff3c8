"""words= adds what is said as a track; queries= and decompose= search each track for a query of its own."""

import json
import pickle
import warnings
from pathlib import Path

import pytest
from langchain_chroma import Chroma
from langchain_core.language_models import FakeListChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import ConfigurationError, InputError, MarengoWarning, Media
from bedrock_marengo.errors import _warned
from bedrock_marengo.search import evaluate
from langchain_marengo import MarengoLoader, MarengoRetriever, Query, add_segments, add_words

SAID = {
    "a.mp4": ["the price of the red car", "order 4711 is ready"],
    "b.mp4": ["黒猫がいる", "nothing but the weather"],
    "c.mp4": ["a song", "the car is gone"],
}


PHOTO = Media.from_bytes(b"\x89PNG\r\n\x1a\n" + b"a photograph")


def vtt(lines):
    times = ("00:00.500 --> 00:05.000", "00:06.500 --> 00:11.000")
    return "WEBVTT\n\n" + "\n\n".join(f"{time}\n{line}" for time, line in zip(times, lines, strict=True)) + "\n"


@pytest.fixture
def uris(local):
    return {name: local.put(name.encode() * 9, name) for name in SAID}


@pytest.fixture
def documents(uris, embeddings):
    """Two clips of each file on three tracks; the tenant of a.mp4 and b.mp4 is acme's."""

    def documents(**settings):
        captions = {uri: vtt(SAID[name]) for name, uri in uris.items()}
        tenant = {uri: {"tenant": "other" if name == "c.mp4" else "acme"} for name, uri in uris.items()}
        return MarengoLoader(
            list(uris.values()),
            embeddings=embeddings,
            show_progress=False,
            **{"transcripts": captions, "metadata": tenant.get, **settings},
        ).load()

    return documents


@pytest.fixture(params=["InMemoryVectorStore", "Chroma"])
def store(request, embeddings, documents):
    store = InMemoryVectorStore(embeddings) if request.param == "InMemoryVectorStore" else chroma(embeddings)
    add_segments(store, documents())
    return store


def chroma(embeddings):
    import chromadb

    store = Chroma(
        "hybrid", embeddings, client=chromadb.EphemeralClient(), collection_metadata={"hnsw:space": "cosine"}
    )
    store.reset_collection()
    return store


@pytest.fixture
def retriever(store, embeddings):
    return MarengoRetriever(vectorstore=store, embeddings=embeddings, words="bm25", k=6)


def of_tenant(store, name):
    if isinstance(store, Chroma):
        return {"tenant": name}
    return lambda document: document.metadata["tenant"] == name


def by_words(found):
    """(file, start) of the moments that words found, best first."""
    hits = [(d.metadata["tracks"]["words"]["rank"], d) for d in found if "words" in d.metadata["tracks"]]
    return [(Path(d.metadata["source"]).name, d.metadata["start_sec"]) for _, d in sorted(hits, key=lambda hit: hit[0])]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("4711", ("a.mp4", 6.0)),
        ("ORDER number", ("a.mp4", 6.0)),
        ("黒猫", ("b.mp4", 0.0)),
        ("猫", ("b.mp4", 0.0)),
        ("the red car", ("a.mp4", 0.0)),
    ],
)
def test_words_find_what_vectors_dont_know(retriever, query, first):
    found = retriever.invoke(query, weights={"visual": 0.1, "words": 0.9})
    assert by_words(found)[0] == first
    assert (Path(found[0].metadata["source"]).name, found[0].metadata["start_sec"]) == first


def test_the_name_of_a_file_counts_and_its_uri_and_times_do_not(retriever):
    assert {name for name, _ in by_words(retriever.invoke("B", weights={"words": 1.0}))} == {"b.mp4"}
    for nothing in ("s3", "visual", "00", "marengo", "clip", "?!"):
        assert retriever.invoke(nothing, weights={"words": 1.0}) == []


def test_each_clip_counts_once_and_tells_its_text_score(retriever):
    found = retriever.invoke("car", weights={"words": 1.0})
    assert [set(d.metadata["tracks"]) for d in found] == [{"words"}] * 2
    scores = [d.metadata["tracks"]["words"]["score"] for d in found]
    assert scores == sorted(scores, reverse=True) and min(scores) > 0
    # A text score is no cosine.
    assert all("confidence" not in d.metadata for d in found)
    assert all("car" in d.page_content for d in found)


def test_without_words_nothing_changes(local, store, embeddings):
    plain = MarengoRetriever(vectorstore=store, embeddings=embeddings, k=6)
    both = plain.model_copy(update={"words": "bm25"})
    for query in (Query(image=PHOTO), embeddings.query_handle([0.1] * 512)):
        assert plain.invoke(query) == both.invoke(query, weights="visual")
    assert plain.invoke("4711") == both.invoke("4711", words=None) != both.invoke("4711")


def test_the_filter_limits_what_is_found_and_what_is_counted(store, retriever):
    def scores(tenant):
        found = retriever.invoke("car", weights={"words": 1.0}, filter=of_tenant(store, tenant))
        return {Path(d.metadata["source"]).name: d.metadata["tracks"]["words"]["score"] for d in found}

    everyone = retriever.invoke("car", weights={"words": 1.0})
    assert scores("acme").keys() == {"a.mp4"} and scores("other").keys() == {"c.mp4"}
    # In acme's own four clips, "car" is rarer than in all six.
    assert scores("acme")["a.mp4"] > max(d.metadata["tracks"]["words"]["score"] for d in everyone)
    assert scores("nobody") == {}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"end_sec": 6.0}, [("a.mp4", 0.0)]),
        ({"start_sec": 6.0}, [("c.mp4", 6.0)]),
    ],
)
def test_settings_limit_the_words(retriever, uris, limits, expected):
    assert by_words(retriever.invoke("car", weights={"words": 1.0}, **limits)) == expected
    assert by_words(retriever.invoke("car", weights={"words": 1.0}, sources=[uris["c.mp4"]])) == [("c.mp4", 6.0)]
    folder = uris["a.mp4"].removesuffix("a.mp4")
    assert len(by_words(retriever.invoke("car", weights={"words": 1.0}, sources=[folder]))) == 2
    assert retriever.invoke("car", weights={"words": 1.0}, sources=["s3://other/"]) == []


def test_the_index_follows_the_store(retriever, store, embeddings, uris):
    def found(query):
        return by_words(retriever.invoke(query, weights={"words": 1.0}))

    assert found("zebra") == []
    add_words(store, embeddings=embeddings, transcripts={uris["c.mp4"]: vtt(["a zebra", "the end"])})
    assert found("zebra") == [("c.mp4", 0.0)] and found("song") == []
    gone = [key for key, text in rows(store) if text.startswith(uris["c.mp4"])]
    store.delete(gone)
    assert found("zebra") == []


def rows(store):
    if isinstance(store, Chroma):
        held = store.get()
        return list(zip(held["ids"], held["documents"], strict=True))
    return [(key, row["text"]) for key, row in store.store.items()]


def test_moments_merge_and_are_chosen_with_words_alone(retriever):
    [merged] = retriever.invoke("price 4711", weights={"words": 1.0}, merge_gap_sec=0)
    assert (merged.metadata["start_sec"], merged.metadata["end_sec"]) == (0.0, 12.0)
    assert "price" in merged.page_content and "4711" in merged.page_content
    alone = retriever.invoke("car", weights={"words": 1.0})
    for setting in ({"distinct": 1.0}, {"mmr_lambda": 1.0}, {"min_confidence": "high"}):
        assert retriever.invoke("car", weights={"words": 1.0}, **setting) == alone


def test_whole_files(embeddings, documents):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, documents(scopes=["clip", "asset"]))
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings, words="bm25", weights={"words": 1.0})
    [document] = retriever.invoke("4711", scope="asset")
    assert document.metadata["embedding_scope"] == "asset" and document.metadata["source"].endswith("a.mp4")
    [clip] = retriever.invoke("4711", asset_gate=1)
    assert clip.metadata["start_sec"] == 6.0


@pytest.mark.parametrize("fusion", ["rrf", "scores"])
def test_the_best_words_weigh_as_the_best_cosine(retriever, fusion):
    found = retriever.invoke("4711", weights={"visual": 1.0, "words": 1.0}, fusion=fusion)
    [document] = [d for d in found if "words" in d.metadata["tracks"]]
    ranks = document.metadata["tracks"]
    if fusion == "scores":
        best = max(d.metadata["tracks"]["visual"]["score"] for d in found)
        expected = (best + ranks["visual"]["score"]) / 2
    else:
        expected = 1 / (60 + 1) + 1 / (60 + ranks["visual"]["rank"])
    assert document.metadata["score"] == pytest.approx(expected)


class Listed(BaseRetriever):
    """Another search engine: whatever it is asked, it finds these."""

    found: list

    def _get_relevant_documents(self, query, *, run_manager):
        return self.found


def test_a_retriever_as_words(store, embeddings, documents):
    chosen = documents()[::-1]
    page = chosen[0].model_copy(update={"page_content": "a page of a manual"})
    retriever = MarengoRetriever(
        vectorstore=store, embeddings=embeddings, weights={"words": 1.0}, words=Listed(found=[page, *chosen])
    )
    found = retriever.invoke("anything", k=6)
    assert len(found) == 6 and found[0].metadata["source"] == chosen[0].metadata["source"]
    assert retriever.invoke("anything", sources=["s3://other/"]) == []
    with pytest.raises(ConfigurationError, match="doesn't know the filter"):
        retriever.invoke("anything", filter=of_tenant(store, "acme"))
    with pytest.raises((ConfigurationError, ValueError), match="words"):
        MarengoRetriever(vectorstore=store, embeddings=embeddings, words="tfidf")


def test_each_track_is_searched_for_its_own_query(local, retriever):
    local.calls.reset()
    weights = {"visual": 1.0, "audio": 1.0, "transcription": 1.0, "words": 1.0}
    queries = {"visual": "a red car", "audio": "a red car", "words": "4711"}
    found = retriever.invoke("the price", weights=weights, queries=queries)
    assert by_words(found) == [("a.mp4", 6.0)]
    # The question, for transcription; and the one text of two tracks.
    assert len(local.calls.of("InvokeModel")) == 2
    for text, track in (("a red car", "visual"), ("the price", "transcription")):
        alone = retriever.invoke(text, weights={track: 1.0}, fusion="scores")
        expected = sorted(d.metadata["tracks"][track]["score"] for d in alone)
        assert sorted(d.metadata["tracks"][track]["score"] for d in found) == pytest.approx(expected)
    local.calls.reset()
    retriever.invoke("x", weights={"visual": 1.0}, queries={"visual": Query(image=PHOTO)})
    assert len(local.calls.of("InvokeModel")) == 1


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"speech": "x"}, "not a track"),
        ({"visual": " "}, "expected a text"),
        ({"visual": 3}, "expected a text"),
        (["visual"], "mapping"),
        ({"words": Query(image=PHOTO)}, "text alone"),
    ],
)
def test_wrong_queries_are_refused_before_anything_is_paid(local, retriever, queries, message):
    local.calls.reset()
    with pytest.raises(InputError, match=message):
        retriever.invoke("x", queries=queries)
    assert not local.calls.of("InvokeModel")


def test_words_need_words(store, embeddings):
    retriever = MarengoRetriever(vectorstore=store, embeddings=embeddings)
    for given in ({"weights": {"words": 1.0}}, {"queries": {"words": "x"}}):
        with pytest.raises(InputError, match="unless you pass words="):
            retriever.invoke("x", **given)
    with pytest.raises(InputError, match="no text"):
        retriever.invoke(Query(image=PHOTO), words="bm25", weights={"words": 1.0})


ANSWER = {"visual": "a red car", "transcription": "price", "words": "4711", "smell": "petrol"}


@pytest.mark.parametrize("form", ["{}", "```json\n{}\n```", "Sure!\n{}"])
async def test_a_chat_model_makes_the_queries(local, retriever, form):
    llm = FakeListChatModel(responses=[form.replace("{}", json.dumps(ANSWER))])
    given = {"weights": {"visual": 1.0, "words": 1.0}}
    named = {track: ANSWER[track] for track in ("visual", "transcription", "words")}
    expected = retriever.invoke("which car costs 4711", **given, queries=named)
    local.calls.reset()
    decomposed = retriever.model_copy(update={"decompose": llm})
    assert decomposed.invoke("which car costs 4711", **given) == expected
    assert len(local.calls.of("InvokeModel")) == 1
    assert await decomposed.ainvoke("which car costs 4711", **given) == expected


@pytest.mark.parametrize(
    "answer",
    ["I can't help with that.", "[]", '{"visual": 3}', '{"visual": ""}', json.dumps({"visual": "x" * 501}), "{"],
)
def test_what_is_not_valid_falls_back_to_the_question(retriever, answer):
    _warned.pop("decompose", None)
    expected = retriever.invoke("4711")
    with pytest.warns(MarengoWarning, match="decompose="):
        assert retriever.invoke("4711", decompose=FakeListChatModel(responses=[answer])) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error", MarengoWarning)
        retriever.invoke("4711", decompose=FakeListChatModel(responses=[answer]))


class Counting(FakeListChatModel):
    """Counts how it was called."""

    calls: list

    def _call(self, *args, **kwargs):
        self.calls.append("sync")
        return super()._call(*args, **kwargs)

    async def _agenerate(self, *args, **kwargs):
        self.calls.append("async")
        return self._generate(*args, **kwargs)


async def test_the_model_is_asked_once_in_its_own_way_and_never_about_images(retriever):
    llm = Counting(responses=["{}"], calls=[])
    retriever = retriever.model_copy(update={"decompose": llm})
    await retriever.ainvoke("4711")
    assert llm.calls[0] == "async" and llm.calls.count("async") == 1
    llm.calls.clear()
    retriever.invoke(Query(image=PHOTO))
    retriever.invoke("4711", queries={"visual": "x"})
    assert llm.calls == []
    retriever.invoke("4711")
    assert llm.calls == ["sync"]


def test_evaluate_compares_plain_hybrid_and_decomposed(retriever, uris):
    questions = [
        {"query": "which order", "source": uris["a.mp4"], "start_sec": 6, "end_sec": 12},
        {"query": "the black cat", "source": uris["b.mp4"], "start_sec": 0, "end_sec": 6},
    ]
    plain = retriever.model_copy(update={"words": None})
    hybrid = retriever.model_copy(update={"weights": "dialogue"})
    llm = FakeListChatModel(responses=['{"words": "4711"}', '{"words": "黒猫"}'])
    decomposed = retriever.model_copy(update={"weights": {"words": 1.0, "visual": 0.01}, "decompose": llm})
    found = evaluate({"plain": plain, "hybrid": hybrid, "decomposed": decomposed}, questions, k=3)
    assert found.names == ("plain", "hybrid", "decomposed")
    assert found.records()[2]["recall@1"] == 1
    assert "words alone" in evaluate(hybrid, questions, k=3).names
    assert "words alone" not in evaluate(plain, questions, k=3).names


def test_a_retriever_with_an_index_is_copied_and_pickled_without_it(retriever):
    retriever.invoke("4711")
    assert retriever.model_copy(update={"k": 1}).invoke("4711", weights={"words": 1.0})
    if isinstance(retriever.vectorstore, InMemoryVectorStore):
        assert b"bm25s" not in pickle.dumps(retriever.model_copy(update={"vectorstore": retriever.vectorstore}))

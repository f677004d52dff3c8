"""distinct= and mmr_lambda=: reposts and static cameras take one place, by the segments' own vectors."""

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import InputError
from bedrock_marengo.search import evaluate
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, Query, add_segments

from ..reel_questions import film, rows

CAT = "a cat looking straight at the camera"


@pytest.fixture
def world(local):
    """A retriever over the reel and a repost of it, and the reel's URI."""
    local.synthetic_sec = None
    embeddings = MarengoEmbeddings(**local.client_options)
    uris = [local.put(film() + bytes(n), f"reel{n}.mp4") for n in range(2)]
    store = InMemoryVectorStore(embeddings)
    add_segments(store, MarengoLoader(uris, embeddings=embeddings, show_progress=False).load())
    local.calls.reset()
    return MarengoRetriever(vectorstore=store, embeddings=embeddings, k=4), uris


def starts(found):
    return [document.metadata["start_sec"] for document in found]


def test_a_repost_takes_one_place(local, world):
    retriever, _ = world
    plain = starts(retriever.invoke(CAT, k=8))
    assert plain[::2] == plain[1::2]
    assert starts(retriever.invoke(CAT, distinct=0.98)) == plain[::2]
    # Each query is embedded, and nothing else is called.
    assert len(local.calls.of("InvokeModel")) == 2


def test_what_differs_is_kept(world):
    retriever, _ = world
    plain = retriever.invoke(CAT, k=18)
    assert len(retriever.invoke(CAT, k=18, distinct=0.98)) == 9
    # Of vectors that are the same to the last bit, cosines are 1 but for rounding.
    assert len(retriever.invoke(CAT, k=18, distinct=1.0)) == 9 < len(plain) == 18
    assert len(retriever.invoke(CAT, k=18, distinct=0.0)) < 9


def test_a_near_duplicate_doesnt_take_the_place_of_another_of_its_source(world):
    retriever, uris = world
    found = retriever.invoke(CAT, k=8, distinct=0.98, max_per_source=3)
    sources = [document.metadata["source"] for document in found]
    assert len(set(starts(found))) == len(found) and max(map(sources.count, uris)) <= 3


def test_mmr_from_relevance_to_variety(world):
    retriever, _ = world
    plain = starts(retriever.invoke(CAT, k=4))
    assert starts(retriever.invoke(CAT, mmr_lambda=1.0)) == plain
    varied = starts(retriever.invoke(CAT, mmr_lambda=0.3))
    assert varied[0] == plain[0] and len(set(varied)) == 4 > len(set(plain))
    assert len(retriever.invoke(CAT, mmr_lambda=0.3, max_per_source=1)) == 2


def test_tracks_are_compared_only_with_the_same_track(world):
    retriever, _ = world
    found = retriever.invoke(Query(text=CAT), weights={"audio": 1.0}, fusion="scores", distinct=0.98)
    assert found and {track for document in found for track in document.metadata["tracks"]} == {"audio"}


def test_evaluate_measures_it(world):
    retriever, uris = world
    distinct = retriever.model_copy(update={"distinct": 0.98})
    texts = rows(uris[0], images=False)
    questions = texts + [{**row, "source": uris[1]} for row in texts]
    plain, varied = evaluate({"plain": retriever, "distinct": distinct}, questions, k=4).records()
    assert varied["recall@4"] < plain["recall@4"]


async def test_nothing_found_and_async(world):
    retriever, _ = world
    assert retriever.invoke(CAT, sources=["s3://other/"], distinct=0.98) == []
    assert retriever.invoke(CAT, sources=["s3://other/"], mmr_lambda=0.5) == []
    assert starts(await retriever.ainvoke(CAT, distinct=0.98)) == starts(retriever.invoke(CAT, distinct=0.98))


@pytest.mark.parametrize("setting", ["distinct", "mmr_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.9", True])
def test_what_is_no_share_is_refused(world, setting, value):
    with pytest.raises((InputError, ValueError), match=setting):
        world[0].invoke(CAT, **{setting: value})

"""confidence in a moment's metadata, and min_confidence= for "nothing found"."""

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import Segmentation
from langchain_marengo import MarengoRetriever, Query, add_segments


@pytest.fixture
def retriever(local, embeddings, load):
    """Over 24 clips whose vectors have nothing to do with any query."""
    uris = [local.put(key.encode(), key) for key in ("a.mp4", "b.mp4")]
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(uris, segmentation=Segmentation.fixed(1)))
    return MarengoRetriever(vectorstore=store, embeddings=embeddings, k=24)


def bands(found):
    return [document.metadata.get("confidence") for document in found]


def expected(document):
    cosine = document.metadata["tracks"]["visual"]["score"]
    return "high" if cosine >= 0.07 else "medium" if cosine >= 0.05 else "low"


def test_a_moment_has_a_band_and_can_be_left_out_by_it(retriever):
    seen = {"weights": {"visual": 1.0}}
    found = retriever.invoke("a goal", **seen)
    assert bands(found) == [expected(document) for document in found]
    for least, kept in (("low", "low medium high"), ("medium", "medium high"), ("high", "high")):
        few = retriever.invoke("a goal", min_confidence=least, **seen)
        assert [document.id for document in few] == [
            document.id for document in found if document.metadata["confidence"] in kept.split()
        ]


def test_the_documented_cosines_are_for_text(retriever):
    handle = retriever.embeddings.query_handle(retriever.embeddings.embed_query("a goal"))
    is_text = {query: retriever.search_tracks(query).is_text for query in ("a goal", Query(text="a goal"), handle)}
    assert list(is_text.values()) == [True, True, False]
    # A clip's own vector stands out of all others.
    clip = retriever.invoke("a goal")[0]
    [vector] = retriever.embeddings.embed_documents([clip.page_content])
    found = retriever.invoke(retriever.embeddings.query_handle(vector), weights={clip_track(clip): 1.0})
    assert (found[0].id, bands(found)[0]) == (clip.id, "high")


def clip_track(document):
    return next(iter(document.metadata["tracks"]))


async def test_no_confident_match_is_an_empty_list(retriever):
    seen = {"weights": {"visual": 1.0}}
    last = retriever.invoke("a goal", **seen)[-1].metadata
    assert last["confidence"] == "low"
    there = {"sources": [last["source"]], "start_sec": last["start_sec"] + 0.1, "end_sec": last["end_sec"] - 0.1}
    assert len(await retriever.ainvoke("a goal", **seen, **there)) == 1
    assert await retriever.ainvoke("a goal", **seen, **there, min_confidence="medium") == []


def test_what_is_no_band_is_refused(retriever):
    with pytest.raises(ValueError, match="min_confidence='sure': expected 'low' or 'medium' or 'high'"):
        retriever.invoke("a goal", min_confidence="sure")

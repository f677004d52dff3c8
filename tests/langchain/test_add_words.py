"""`add_words` with Amazon Transcribe and Pegasus: what a store's segments get, what it costs, and what stays."""

import warnings

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from bedrock_marengo import InputError, MarengoWarning, Pegasus, Transcribe
from bedrock_marengo.contract.words import Words, words_in
from langchain_marengo import aadd_words, add_segments, add_words
from marengo_local import Fault

from ..films import film

SAID = [(0.0, 2.0, "And there is the goal!")]
SEEN = Pegasus()
EACH = Pegasus(per="segment")
HEARD = Transcribe("en-US")
BOTH = {"transcripts": HEARD, "descriptions": SEEN}


@pytest.fixture
def uri(local):
    local.synthetic_sec = None
    local.say("*", SAID)
    return local.put(film(seconds=12.0, fps=5), "match.mp4")


@pytest.fixture
def store(embeddings, load, uri):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(uri, transcripts=False))
    return store


@pytest.fixture
def give(embeddings):
    """`add_words`; a warning is an error."""

    def give(store, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("error", MarengoWarning)
            return add_words(store, embeddings=embeddings, **settings)

    return give


def texts(store):
    """The words of the clips, in order."""
    rows = {row["metadata"]["start_sec"]: words_in(row["text"]) for row in store.store.values()}
    return [rows[start] for start in sorted(rows)]


def captions(text):
    return f"WEBVTT\n\n00:01.000 --> 00:02.000\n{text}\n"


def test_a_loader_with_both(load, uri):
    for document in load(uri, **BOTH):
        link, heading, *words = document.page_content.splitlines()
        assert link.startswith(uri) and heading.startswith("match.mp4, 00:0")
        labels = ["Said: And there is the goal!", "Seen: "] if document.metadata["start_sec"] == 0 else [""]
        assert len(words) == len(labels) and all(map(str.startswith, words, labels))


@pytest.mark.parametrize("seen", [SEEN, EACH], ids=["video", "segment"])
def test_both_are_those_of_a_loader_and_are_paid_once(local, load, store, give, uri, embeddings, seen):
    both = {**BOTH, "descriptions": seen}
    local.calls.reset()
    assert give(store, **both) == len(store.store)
    usage, services = local.usage, embeddings.core.usage.services
    paid = (len(local.transcriptions), usage.pegasus_calls)
    assert all(paid) and local.calls["StartAsyncInvoke"] == 0
    assert (services["transcribe"].calls, services["pegasus"].calls) == paid
    assert give(store, **both) == give(store, **both, max_cost_usd=0) == 0
    assert {row["text"] for row in store.store.values()} == {one.page_content for one in load(uri, **both)}
    assert (len(local.transcriptions), local.usage.pegasus_calls) == paid


@pytest.mark.parametrize("first", [0, 1])
def test_one_part_does_not_delete_the_other(store, give, first):
    parts = [{"transcripts": HEARD}, {"transcripts": False, "descriptions": SEEN}]
    one, other = parts[first], parts[1 - first]
    give(store, **one)
    give(store, **other)
    both = texts(store)
    assert Words.find(both[0]).said == "And there is the goal!" and both[1]
    assert give(store, **one) == give(store, **other) == 0 and texts(store) == both


@pytest.mark.parametrize("force", [False, True])
def test_new_words_of_a_part_replace_its_own(local, store, give, uri, force):
    give(store, transcripts=False, descriptions=Pegasus(prompt="Name the colors."))
    before = texts(store)
    give(store, transcripts=False, descriptions=SEEN, force=force)
    assert all(Words.find(text) is None for text in texts(store))
    give(store, transcripts={uri: captions("kick off")})
    give(store, transcripts={uri: captions("throw-in")})
    assert Words.find(texts(store)[0]).said == "throw-in" and len(texts(store)) == len(before)


def test_a_file_that_fails_is_a_warning_and_others_go_on(local, load, store, embeddings):
    gone, other = (local.put(film(seconds=12.0, fps=fps), f"{fps}.mp4") for fps in (6, 7))
    add_segments(store, load([gone, other], transcripts=False))
    local.s3.delete_object(Bucket=local.bucket, Key="6.mp4")
    with pytest.warns(MarengoWarning) as warned:
        add_words(store, embeddings=embeddings, **BOTH)
    assert sorted(str(one.message).partition(" has no words by ")[0] for one in warned) == [gone, gone]
    has_words = {row["metadata"]["source"] for row in store.store.values() if words_in(row["text"])}
    assert gone not in has_words and len(has_words) == 2


async def test_one_budget_for_all_stores(local, load, embeddings, uri):
    stores = {}
    for fps in (6, 7, 8):
        stores[fps] = InMemoryVectorStore(embeddings)
        add_segments(stores[fps], load(local.put(film(seconds=12.0, fps=fps), f"{fps}.mp4"), transcripts=False))
    with pytest.warns(MarengoWarning, match="max_cost_usd") as warned:
        await aadd_words(stores, embeddings=embeddings, transcripts=HEARD, max_cost_usd=0.0065)
    assert len(warned) == 2 and len(local.transcriptions) == 1


def test_what_is_not_a_setting(store, give):
    with pytest.raises(InputError, match="Did you mean 'timeout_sec'"):
        give(store, timeout=3)
    with pytest.raises(Exception, match="expected Pegasus"):
        give(store, descriptions=True)


def test_a_failed_service_keeps_what_is_there(local, store, embeddings, give, uri):
    give(store, transcripts={uri: captions("kick off")})
    local.faults.append(Fault("InvokeModel", error="AccessDeniedException", times=None))
    with pytest.warns(MarengoWarning, match=r"match\.mp4 has no words by TwelveLabs Pegasus"):
        assert add_words(store, embeddings=embeddings, descriptions=SEEN) == 0
    assert texts(store)[0] == "kick off"

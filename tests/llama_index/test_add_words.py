"""`add_words` with Amazon Transcribe and Pegasus over an index: the words of a segmenter, paid once."""

import warnings

import pytest
from llama_index.core import VectorStoreIndex

from bedrock_marengo import InputError, MarengoWarning, Pegasus, Transcribe
from bedrock_marengo.contract.words import Words, words_in
from llama_index_marengo import aadd_words, add_words

from ..films import film

BOTH = {"transcripts": Transcribe("en-US"), "descriptions": Pegasus()}


@pytest.fixture
def uri(local):
    local.synthetic_sec = None
    local.say("*", [(0.0, 2.0, "And there is the goal!")])
    return local.put(film(seconds=12.0, fps=5), "match.mp4")


@pytest.fixture
def index(segment, uri, embed_model):
    return VectorStoreIndex(segment(uri, transcripts=False), embed_model=embed_model)


def texts(index):
    return {key: node.text for key, node in index.docstore.docs.items()}


async def test_both_are_those_of_a_segmenter_and_are_paid_once(local, index, segment, uri):
    with warnings.catch_warnings():
        warnings.simplefilter("error", MarengoWarning)
        assert await aadd_words(index, **BOTH) == len(texts(index))
        assert add_words(index, **BOTH, max_cost_usd=0) == 0
    assert texts(index) == {node.node_id: node.text for node in segment(uri, **BOTH)}
    assert (len(local.transcriptions), local.usage.pegasus_calls) == (1, 1)


@pytest.mark.parametrize("first", ["transcripts", "descriptions"])
def test_one_part_does_not_delete_the_other(index, first):
    for name in (first, *(BOTH.keys() - {first})):
        add_words(index, **{"transcripts": False, name: BOTH[name]})
    first_clips = [words_in(node.text) for node in index.docstore.docs.values() if node.metadata["start_sec"] == 0]
    assert {Words.find(text).said for text in first_clips} == {"And there is the goal!"}


def test_one_budget_for_all_indexes(local, segment, embed_model):
    local.synthetic_sec = None
    indexes = {}
    for fps in (6, 7):
        nodes = segment(local.put(film(seconds=12.0, fps=fps), f"{fps}.mp4"), transcripts=False)
        indexes[fps] = VectorStoreIndex(nodes, embed_model=embed_model)
    with pytest.warns(MarengoWarning, match=r"mp4 has no words by Amazon Transcribe: .*max_cost_usd"):
        add_words(indexes, transcripts=BOTH["transcripts"], max_cost_usd=0.0065)
    assert len(local.transcriptions) == 1


def test_what_is_not_a_setting(index):
    with pytest.raises(InputError, match="Did you mean 'timeout_sec'"):
        add_words(index, timeout=3)

"""MarengoAsk in a query engine: answers in copies of nodes, for the LLM only."""

from functools import cache

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from pydantic import ValidationError

from bedrock_marengo import Pegasus
from llama_index_marengo import MarengoAsk, MarengoSegmenter

from ..films import film

film = cache(film)


@pytest.fixture
def index(local, segment, match, embed_model):
    """A film of 12 s with captions: two clips on three tracks."""
    local.put(film(seconds=12.0, fps=10), "match.mp4")
    index = VectorStoreIndex(segment(match), embed_model=embed_model)
    # What is asked about is decoded.
    local.synthetic_sec = None
    return index


def test_the_llm_reads_the_answer_and_nothing_stored_changes(local, index, embed_model):
    hits = index.as_retriever(similarity_top_k=4).retrieve("a goal")
    ask = MarengoAsk(embed_model=embed_model, max_moments=2)
    found = ask.postprocess_nodes(hits, query_bundle=QueryBundle("Who scores?"))
    assert [hit.node.node_id for hit in found] == [hit.node.node_id for hit in hits]
    assert [hit.score for hit in found] == [hit.score for hit in hits]
    for before, after in zip(hits[:2], found[:2], strict=True):
        answer = after.node.metadata["answer"]
        text = after.node.get_content(MetadataMode.LLM)
        assert "Answer: " in text and " ".join(answer.split()) in text and "answer_usd" not in text
        assert "answer" not in before.node.metadata and after.node.embedding == before.node.embedding
    assert found[2:] == hits[2:]
    assert {call.body["inputPrompt"] for call in local.calls.of("InvokeModel")[-2:]} == {"Who scores?"}
    assert local.usage.pegasus_calls == 2


async def test_in_a_query_engine(local, index, embed_model):
    ask = MarengoAsk(embed_model=embed_model, max_moments=1, pegasus_model="1.2", question="What is seen?")
    engine = index.as_query_engine(llm=MockLLM(), node_postprocessors=[ask], similarity_top_k=2)
    response = await engine.aquery("a goal")
    assert response.source_nodes[0].metadata["answer"] and "answer" not in response.source_nodes[1].metadata
    assert local.calls.of("InvokeModel")[-1].body["inputPrompt"] == "What is seen?"
    assert "Answer: " in str(response)


def test_what_is_no_segment_passes_through(embed_model, local):
    hits = [NodeWithScore(node=TextNode(text="plain", metadata={"source": "s3://bucket/match.mp4"}))]
    assert MarengoAsk(embed_model=embed_model).postprocess_nodes(hits, query_str="?") == hits
    assert local.usage.pegasus_calls == 0


def test_settings(embed_model):
    with pytest.raises(ValidationError, match="1 or more"):
        MarengoAsk(embed_model=embed_model, max_moments=0)
    with pytest.raises(ValidationError, match=r"expected '1\.5' or '1\.2'"):
        MarengoAsk(embed_model=embed_model, pegasus_model="2")
    ask = MarengoAsk(embed_model=embed_model, question="?")
    assert ask.model_copy(update={"max_moments": 1}).question == "?"


def test_a_segmenter_with_descriptions(local, embed_model, read, match):
    local.put(film(seconds=12.0, fps=10), "match.mp4")
    local.synthetic_sec = None
    given = {"embed_model": embed_model, "options": ["visual"], "descriptions": Pegasus(per="segment")}
    segmenter = MarengoSegmenter(**given, show_progress=False)
    nodes = segmenter(read(match))
    assert all("Seen: " in node.text for node in nodes)
    calls = local.usage.pegasus_calls
    again = MarengoSegmenter.from_dict(segmenter.to_dict(), embed_model=embed_model, show_progress=False)
    assert again.descriptions == Pegasus("twelvelabs.pegasus-1-5-v1:0", per="segment")
    assert [node.text for node in again(read(match))] == [node.text for node in nodes]
    assert local.usage.pegasus_calls == calls > 0
    assert segmenter.to_dict() != MarengoSegmenter(embed_model=embed_model, options=["visual"]).to_dict()

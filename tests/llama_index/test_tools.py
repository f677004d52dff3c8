"""Tools in real agents of LlamaIndex, with LlamaIndex's own mock of an LLM."""

import json
from functools import cache

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import ToolMetadata
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from qdrant_client import AsyncQdrantClient

from bedrock_marengo import ConfigurationError, InputError, Segmentation
from bedrock_marengo.agents import TOOLS
from llama_index_marengo import MarengoRetriever, MarengoToolSpec

from ..films import film

film = cache(film)


def llm_that_calls(name, given, answer="At 00:06."):
    def reply(messages, **settings):
        if any(message.role == "tool" for message in messages):
            return ChatMessage(role="assistant", content=answer)
        return ChatMessage(
            role="assistant", blocks=[ToolCallBlock(tool_call_id="1", tool_name=name, tool_kwargs=given)]
        )

    return MockFunctionCallingLLM(response_generator=reply)


@pytest.fixture
def match(local, match):
    # What is looked at is decoded.
    return local.put(film(seconds=12.0, fps=10), "match.mp4")


@pytest.fixture
def index(segment, match, embed_model, local):
    nodes = segment(match, options=["transcription"])
    for node in nodes:
        node.metadata["tenant"] = "acme"
    local.synthetic_sec = None
    return VectorStoreIndex(nodes, embed_model=embed_model)


@pytest.fixture
def retriever(index):
    return MarengoRetriever(index, weights={"transcription": 1.0})


async def results_of(agent, message):
    handler = agent.run(user_msg=message)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    return results, str(await handler)


async def test_an_agent_finds_the_right_second(retriever):
    spec = MarengoToolSpec(retriever)
    llm = llm_that_calls("search_moments", {"query": "a goal"})
    [found], answer = await results_of(FunctionAgent(tools=spec.to_tool_list(), llm=llm), "When is the goal?")
    assert '"match.mp4", 6-12 s (00:00:06-00:00:12)' in found.tool_output.content and answer == "At 00:06."
    moments = found.tool_output.raw_output["moments"]
    assert {(each["start_sec"], each["words"]) for each in moments} == {(0.0, "He shoots"), (6.0, "Goal!")}
    assert found.tool_output.raw_output == spec.search_moments("a goal").raw_output


async def test_an_agent_finds_what_is_seen_first(segment, embed_model, local):
    local.synthetic_sec = None
    # Blue, then red from second 6 on.
    colors = [np.full((96, 160, 3), color, np.uint8) for color in ((20, 20, 230), (230, 20, 20))]
    uri = local.put(film(seconds=12.0, fps=10, audio=None, pictures=lambda number: colors[number >= 60]), "colors.mp4")
    nodes = segment(uri, options=["visual"], segmentation=Segmentation.fixed(6))
    spec = MarengoToolSpec(MarengoRetriever(VectorStoreIndex(nodes, embed_model=embed_model)))
    llm = llm_that_calls("search_moments", {"query": "red"})
    [found], _ = await results_of(FunctionAgent(tools=spec.to_tool_list(), llm=llm), "When does it turn red?")
    assert found.tool_output.raw_output["moments"][0]["start_sec"] == 6.0


async def test_a_workflow_of_agents_sees_frames_and_errors(retriever):
    spec = MarengoToolSpec(retriever, links=True)
    moment = spec.search_moments("a goal", limit=1).raw_output["moments"][0]["id"]
    given = {"moment": moment, "frames": 2}
    agents = [FunctionAgent(name="viewer", tools=spec.to_tool_list(), llm=llm_that_calls("read_moment", given))]
    [read], _ = await results_of(AgentWorkflow(agents=agents), "Show me the goal")
    assert sum(isinstance(block, ImageBlock) for block in read.tool_output.blocks) == 2
    assert "X-Amz" in read.tool_output.raw_output["links"][moment] and "X-Amz" not in read.tool_output.content
    llm = llm_that_calls("read_moment", {"moment": "/etc/passwd"})
    [read], _ = await results_of(FunctionAgent(tools=spec.to_tool_list(), llm=llm), "Read it")
    assert read.tool_output.is_error and "not in this archive" in read.tool_output.content


async def test_a_store_that_only_an_event_loop_can_search(embed_model, segment, match, local):
    from llama_index.vector_stores.qdrant import QdrantVectorStore

    store = QdrantVectorStore("moments", aclient=AsyncQdrantClient(":memory:"))
    storage = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex([], embed_model=embed_model, storage_context=storage, use_async=True)
    await index.ainsert_nodes(segment(match))
    tools = {tool.metadata.name: tool for tool in MarengoToolSpec(MarengoRetriever(index)).to_tool_list()}
    listed = await tools["list_videos"].acall()
    assert "6 segments (audio, transcription, visual)" in listed.content
    found = (await tools["search_moments"].acall(query="a goal")).raw_output["moments"]
    read = await tools["read_moment"].acall(moment=found[0]["id"])
    assert found[0]["words"] in read.content and not read.is_error


@pytest.mark.parametrize(("tenant", "found"), [("acme", True), ("other", False)])
def test_a_tenants_filter_holds_for_every_tool(index, match, retriever, tenant, found):
    moment = MarengoToolSpec(retriever).search_moments("a goal").raw_output["moments"][0]["id"]
    own = MetadataFilters(filters=[MetadataFilter(key="tenant", value=tenant)])
    spec = MarengoToolSpec(MarengoRetriever(index, weights={"transcription": 1.0}, filters=own))
    assert bool(spec.search_moments("a goal").raw_output["moments"]) == found
    assert bool(spec.list_videos().raw_output["videos"]) == found
    assert spec.read_moment(moment).is_error != found and spec.estimate_cost(match).is_error != found


def test_a_model_gets_the_schemas_of_the_table(retriever):
    tools = MarengoToolSpec(retriever, allow=["ask", "describe"]).to_tool_list()
    assert [tool.metadata.name for tool in tools] == list(TOOLS)
    for tool in tools:
        function = tool.metadata.to_openai_tool()["function"]
        assert function["parameters"]["properties"] == TOOLS[tool.metadata.name].json_schema["properties"]
        assert json.loads(tool.metadata.fn_schema_str)["required"] == function["parameters"]["required"]
    assert "ask_video" not in MarengoToolSpec(retriever).spec_functions


def test_a_subset_with_other_metadata(retriever):
    short = {"search_moments": ToolMetadata(name="search", description="Search videos.")}
    [tool] = MarengoToolSpec(retriever).to_tool_list(["search_moments"], short)
    assert tool.metadata.name == "search" and tool("a goal", limit=1).tool_name == "search"
    with pytest.raises(InputError, match="ask_video"):
        MarengoToolSpec(retriever).to_tool_list(["ask_video"])


def test_a_question_is_billed_once(retriever, match, local):
    spec = MarengoToolSpec(retriever, allow=["ask"])
    answer = spec.ask_video(match, "Who scores?", end_sec=6)
    assert local.usage.pegasus_calls == 1 and spec.spent_usd == pytest.approx(answer.raw_output["usd"])
    assert MarengoToolSpec(retriever).ask_video(match, "Who scores?").is_error and local.usage.pegasus_calls == 1


def test_settings_are_checked(retriever, index):
    with pytest.raises(InputError, match="not a retriever"):
        MarengoToolSpec(index)
    with pytest.raises(ConfigurationError, match="link_sec=3600"):
        MarengoToolSpec(retriever, link_sec=3600)

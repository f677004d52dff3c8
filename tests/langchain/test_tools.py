"""Tools in a real agent of LangChain, with a chat model that calls them."""

import json
from functools import cache

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolCallLimitMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import ValidationError

from bedrock_marengo import ConfigurationError, InputError, Segment
from bedrock_marengo.agents import TOOLS
from langchain_marengo import MarengoRetriever, MarengoToolkit, add_segments, create_moment_tools

from ..films import film

film = cache(film)
SAID = b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n"


class Caller(GenericFakeChatModel):
    """A chat model that says what it is given, and accepts tools."""

    def bind_tools(self, tools, **settings):
        return self


def model_that_calls(*calls, answer="At 00:06."):
    messages = [AIMessage("", tool_calls=[{"name": name, "args": given, "id": name}]) for name, given in calls]
    return Caller(messages=iter([*messages, AIMessage(answer)]))


@pytest.fixture
def match(local):
    local.put(SAID, "match.srt")
    return local.put(film(seconds=12.0, fps=10), "match.mp4")


@pytest.fixture
def retriever(embeddings, load, match, local):
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(match, options=["transcription"]))
    local.synthetic_sec = None
    return MarengoRetriever(vectorstore=store, embeddings=embeddings, weights={"transcription": 1.0})


def call(tool, **given):
    return tool.invoke({"type": "tool_call", "name": tool.name, "args": given, "id": "1"})


def by_name(tools):
    return {tool.name: tool for tool in tools}


def test_an_agent_finds_the_right_second(retriever):
    search = by_name(create_moment_tools(retriever))["search_moments"]
    found = call(search, query="a goal").artifact["data"]["moments"]
    goal = next(each for each in found if each["words"] == "Goal!")
    model = model_that_calls(("search_moments", {"query": "a goal"}), ("read_moment", {"moment": goal["id"]}))
    state = create_agent(model, create_moment_tools(retriever)).invoke({"messages": [("user", "When is the goal?")]})
    searched, read = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert '"match.mp4", 6-12 s (00:00:06-00:00:12)' in searched.content and searched.status == "success"
    assert {document.metadata["start_sec"] for document in searched.artifact["documents"]} == {0.0, 6.0}
    assert [Segment.find(document.page_content).id for document in read.artifact["documents"]] == [
        read.artifact["documents"][0].id
    ]
    assert "<video_words>Goal!</video_words>" in read.content


async def test_an_async_agent_sees_frames(retriever, match):
    tools = create_moment_tools(retriever, links=True)
    found = call(by_name(tools)["search_moments"], query="a goal").artifact
    moment = found["data"]["moments"][0]["id"]
    model = model_that_calls(("read_moment", {"moment": moment, "frames": 2}))
    state = await create_agent(model, tools).ainvoke({"messages": [("user", "Show me the goal")]})
    [read] = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert [block["type"] for block in read.content] == ["text", "image", "image"]
    assert read.content[1]["mime_type"] == "image/jpeg" and "X-Amz" not in json.dumps(read.content)
    assert "X-Amz-Expires=300" in read.artifact["links"][moment]


def test_an_error_is_a_message_that_says_what_to_do(retriever):
    model = model_that_calls(
        ("read_moment", {"moment": "file:///etc/passwd"}), ("search_moments", {"query": "a goal", "limit": 99})
    )
    state = create_agent(model, create_moment_tools(retriever)).invoke({"messages": [("user", "?")]})
    path, limit = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert path.status == limit.status == "error"
    assert "not in this archive" in path.content and "from 1 to 20" in limit.content


def test_calls_are_limited_by_middleware(retriever):
    model = model_that_calls(*[("search_moments", {"query": "a goal"})] * 2)
    limit = ToolCallLimitMiddleware(tool_name="search_moments", run_limit=1)
    state = create_agent(model, create_moment_tools(retriever), middleware=[limit]).invoke(
        {"messages": [("user", "?")]}
    )
    first, second = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert first.status == "success" and second.status == "error" and "limit" in second.content.lower()


@pytest.mark.parametrize(("decision", "calls"), [("approve", 1), ("reject", 0)])
def test_a_person_approves_what_costs(retriever, match, local, decision, calls):
    model = model_that_calls(("ask_video", {"video": match, "question": "Who scores?"}))
    person = HumanInTheLoopMiddleware(interrupt_on={"ask_video": True, "describe_video": True})
    tools = create_moment_tools(retriever, allow=["ask"])
    agent = create_agent(model, tools, middleware=[person], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": decision}}
    state = agent.invoke({"messages": [("user", "Who scores?")]}, config)
    assert state["__interrupt__"] and local.usage.pegasus_calls == 0
    state = agent.invoke(Command(resume={"decisions": [{"type": decision}]}), config)
    assert local.usage.pegasus_calls == calls
    assert state["messages"][-1].content == "At 00:06."


def test_a_toolkit_shares_one_budget(retriever, match):
    toolkit = MarengoToolkit(retriever=retriever, allow=["ask"], max_session_usd=0.03)
    first, second = (by_name(toolkit.get_tools())["ask_video"] for _ in range(2))
    assert call(first, video=match, question="Who scores?", end_sec=6).status == "success"
    assert 0 < toolkit.spent_usd < 0.03
    toolkit = MarengoToolkit(retriever=retriever, allow=["ask"], max_session_usd=0.001)
    refused = call(by_name(toolkit.get_tools())["ask_video"], video=match, question="Who scores?")
    assert refused.status == "error" and "nothing was billed" in refused.content and toolkit.spent_usd == 0
    assert call(second, video=match, question="Who scores?").status == "error" or toolkit.spent_usd == 0


def test_a_model_gets_the_schemas_of_the_table(retriever):
    tools = create_moment_tools(retriever, allow=["ask", "describe"])
    assert [tool.name for tool in tools] == list(TOOLS) and all(isinstance(tool, BaseTool) for tool in tools)
    for tool in tools:
        function = convert_to_openai_tool(tool)["function"]
        assert function["description"] == TOOLS[tool.name].description
        assert function["parameters"]["properties"] == TOOLS[tool.name].json_schema["properties"]
        assert tool.metadata["read_only"] == TOOLS[tool.name].is_read_only
    assert "ask_video" not in by_name(create_moment_tools(retriever))


def test_settings_are_checked(retriever, embeddings):
    with pytest.raises(InputError, match="not a retriever"):
        create_moment_tools(embeddings)
    with pytest.raises(ConfigurationError, match="'ask' or 'describe'"):
        create_moment_tools(retriever, allow=["delete"])
    with pytest.raises(ValidationError, match="max_usd=-1"):
        MarengoToolkit(retriever=retriever, max_usd=-1)

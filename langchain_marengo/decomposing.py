"""One question as a query for each track, by a LangChain chat model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from bedrock_marengo import Query
from bedrock_marengo.search.decompose import decompose_prompt, queries_in, warn_of_failure

__all__ = ["adecompose", "decompose"]


def decompose(llm: Runnable[Any, Any], question: str, tracks: Sequence[str], callbacks: Any) -> dict[str, Query]:
    """Track -> its query, as far as the model's answer has one.

    Args:
        llm: a chat model, or a chain that takes a text and ends with one.
        question: the user's.
        tracks: those that are searched.
        callbacks: of the retriever's run.
    """
    try:
        answer = llm.invoke(decompose_prompt(question, tracks), {"callbacks": callbacks})
    except Exception as error:
        return warn_of_failure(error)
    return queries_in(_plain(answer), tracks)


async def adecompose(llm: Runnable[Any, Any], question: str, tracks: Sequence[str], callbacks: Any) -> dict[str, Query]:
    """``decompose`` with the model's own asynchronous method."""
    try:
        answer = await llm.ainvoke(decompose_prompt(question, tracks), {"callbacks": callbacks})
    except Exception as error:
        return warn_of_failure(error)
    return queries_in(_plain(answer), tracks)


def _plain(answer: Any) -> Any:
    """A message's text; structured output as a mapping."""
    if isinstance(answer, BaseMessage):
        return str(answer.text)
    return answer.model_dump() if isinstance(answer, BaseModel) else answer

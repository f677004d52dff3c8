"""One question as a query for each track, by a LlamaIndex LLM."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.llms import LLM

from bedrock_marengo import Query
from bedrock_marengo.search.decompose import decompose_prompt, queries_in, warn_of_failure

__all__ = ["adecompose", "decompose"]


def decompose(llm: LLM, question: str, tracks: Sequence[str]) -> dict[str, Query]:
    """Track -> its query, as far as the model's answer has one.

    Args:
        llm: the model.
        question: the user's.
        tracks: those that are searched.
    """
    try:
        answer = llm.complete(decompose_prompt(question, tracks)).text
    except Exception as error:
        return warn_of_failure(error)
    return queries_in(answer, tracks)


async def adecompose(llm: LLM, question: str, tracks: Sequence[str]) -> dict[str, Query]:
    """``decompose`` with the model's own asynchronous method."""
    try:
        answer = (await llm.acomplete(decompose_prompt(question, tracks))).text
    except Exception as error:
        return warn_of_failure(error)
    return queries_in(answer, tracks)

"""Answers about retrieved moments, in the texts that a chain gives its language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

from bedrock_marengo.contract.words import words_in
from bedrock_marengo.errors import ConfigurationError, MarengoError, MarengoWarning
from bedrock_marengo.search.results import SearchResult, check_allowed_prefixes, is_allowed
from bedrock_marengo.validation import is_int
from bedrock_marengo.words.asking import Answer, Question

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["MAX_MOMENTS", "QUESTION", "answer_fields", "answers_about", "check_asking", "text_with_answer"]

MAX_MOMENTS = 3
"""Each is a call that costs. Ours."""
QUESTION = "Describe what is seen and what happens, in one or two sentences."
"""Asked if there is no other question. Ours."""
_ANSWER = "Answer: "


def check_asking(max_moments: int, allowed_prefixes: Sequence[str] | None, **settings: Any) -> None:
    """Refuse settings that can't be used, before any question.

    Raises:
        InputError: A prefix, the schema or ``extra``.
        ConfigurationError: Another.
    """
    if not is_int(max_moments):
        raise ConfigurationError("expected a whole number, 1 or more.", setting="max_moments", value=max_moments)
    check_allowed_prefixes(allowed_prefixes)
    Question(**{"text": "?", **{name: value for name, value in settings.items() if name != "max_cost_usd"}})


def answers_about(
    client: MarengoClient,
    found: Sequence[SearchResult | None],
    question: str,
    *,
    max_moments: int = MAX_MOMENTS,
    allowed_prefixes: Sequence[str] | None = None,
    **settings: Any,
) -> list[Answer | None]:
    """The answers about the best moments of videos, in the places of their moments; None for the others.

    A moment that can't be asked about has none, with a warning: an answer from the others is better than none.

    Args:
        client: asks, with its credentials.
        found: the moments, best first; None for what is no moment.
        question: asked about each.
        max_moments: how many to ask about.
        allowed_prefixes: the only S3 prefixes and objects to read.
        settings: of ``MarengoClient.ask_each``; ``max_cost_usd`` is for all of them together.

    Raises:
        MarengoError: None of the moments could be asked about.
    """
    places = [
        i
        for i, hit in enumerate(found)
        if hit is not None and hit.media_type == "video" and is_allowed(hit.source, allowed_prefixes)
    ][:max_moments]
    answers: list[Answer | None] = [None] * len(found)
    asked = [hit for i in places if (hit := found[i]) is not None]
    replies = client.ask_each(asked, question, **settings) if asked else []
    errors = [reply for reply in replies if isinstance(reply, MarengoError)]
    if errors and len(errors) == len(replies):
        raise errors[0]
    for i, hit, reply in zip(places, asked, replies, strict=True):
        if isinstance(reply, Answer):
            answers[i] = reply
        else:
            warn(f"There is no answer about {hit.source}: {reply}", MarengoWarning, stacklevel=2)
    return answers


def answer_fields(answer: Answer, json_schema: Any) -> dict[str, Any]:
    """The metadata of a document with an answer: its text, or the value that fits the schema, and US dollars."""
    return {"answer": answer.text if json_schema is None else answer.data, "answer_usd": answer.usd}


def text_with_answer(text: str, answer: Answer) -> str:
    """A segment's or moment's text with an answer on its last line, labelled if there are other words."""
    line = " ".join(answer.text.split())
    return f"{text}\n{_ANSWER if words_in(text) else ''}{line}"

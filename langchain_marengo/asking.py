"""MarengoAsk: asks TwelveLabs Pegasus about the moments that a retriever found, between it and a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, ModelWrapValidatorHandler, model_validator

from bedrock_marengo import InputError
from bedrock_marengo.ask_calls import MAX_COST_USD
from bedrock_marengo.search.answers import (
    MAX_MOMENTS,
    QUESTION,
    answer_fields,
    answers_about,
    check_asking,
    text_with_answer,
)
from bedrock_marengo.search.results import results_from
from bedrock_marengo.validation import short_repr
from langchain_marengo.copies import ValidatedCopies
from langchain_marengo.embeddings import MarengoEmbeddings, validate_without_secrets

__all__ = ["MarengoAsk"]


class MarengoAsk(ValidatedCopies, RunnableSerializable[Any, list[Document]]):
    """Asks TwelveLabs Pegasus about retrieved moments. Put it between a retriever and a prompt.

    The input is a list of Documents, about which ``question`` is asked, or ``{"question": str, "documents": [...]}``.
    The output is the same Documents, in order: those of the best moments have the answer on the last line of their
    text, and ``metadata["answer"]`` (text, or the value that fits ``json_schema``) and ``metadata["answer_usd"]``.
    Other Documents, and moments of audio and images, are passed through. The input is not changed, and no store keeps
    answers.

    Each moment is a call that is billed. See ``MarengoClient.ask``.

    Examples:
        ```python
        ask = MarengoAsk(embeddings=embeddings, max_cost_usd=0.1)
        found = {"question": RunnablePassthrough(), "documents": retriever}
        chain = {"context": found | ask | format_moments, "question": RunnablePassthrough()} | prompt | llm
        ```
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, protected_namespaces=()
    )

    embeddings: MarengoEmbeddings
    """Its client asks, with its credentials and region."""
    question: str = QUESTION
    """Asked if the input has no question."""
    max_moments: int = MAX_MOMENTS
    """How many moments to ask about: the first ones."""
    max_cost_usd: float | None = MAX_COST_USD
    """What one invocation may cost, in US dollars. None for no limit."""
    model_id: str = "1.5"
    """"1.5", "1.2", or an inference profile's ID or ARN."""
    json_schema: dict[str, Any] | None = None
    """Answer in JSON that fits this JSON Schema."""
    max_tokens: int | None = None
    """The most tokens of an answer. Default: 2,048."""
    temperature: float | None = None
    """0 to 1. Default: the service's, 0.2."""
    extra: dict[str, Any] | None = None
    """Fields for the request as the service names them."""
    allowed_prefixes: Sequence[str] | None = None
    """Ask only about files under these S3 prefixes. Set it if others can write to your store: a forged segment could
    name any object that your credentials can read.
    """

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoAsk:
        check_asking(self.max_moments, self.allowed_prefixes, **self._settings)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoAsk]) -> MarengoAsk:
        return validate_without_secrets(cls, values, handler)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The Documents, with answers.

        Raises:
            bedrock_marengo.InputError: The input is neither Documents nor a question with Documents.
            bedrock_marengo.MarengoError: None of the moments could be asked about: the first error.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """``invoke`` for asyncio, on the embeddings' own threads."""

        async def answer(given: Any) -> list[Document]:
            return await self.embeddings.core.run_async(self._answer, given)

        return await self._acall_with_config(answer, input, config, **kwargs)

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("max_cost_usd", "json_schema", "max_tokens", "temperature", "extra")
        return {**{name: getattr(self, name) for name in names}, "model": self.model_id}

    def _answer(self, given: Any) -> list[Document]:
        question, documents = self._asked(given)
        moments = [next(iter(results_from([document])), None) for document in documents]
        answers = answers_about(
            self.embeddings.core,
            moments,
            question,
            max_moments=self.max_moments,
            allowed_prefixes=self.allowed_prefixes,
            **self._settings,
        )
        return [
            document
            if answer is None
            else Document(
                id=document.id,
                page_content=text_with_answer(document.page_content, answer),
                metadata={**document.metadata, **answer_fields(answer, self.json_schema)},
            )
            for document, answer in zip(documents, answers, strict=True)
        ]

    def _asked(self, given: Any) -> tuple[str, list[Document]]:
        is_mapping = isinstance(given, Mapping)
        question = given.get("question", self.question) if is_mapping else self.question
        documents = given.get("documents") if is_mapping else given
        if not isinstance(documents, list | tuple) or not all(isinstance(one, Document) for one in documents):
            raise InputError(
                f"MarengoAsk takes what a retriever returns, a list of Documents, or {{'question': str, 'documents': "
                f"[...]}}, not {short_repr(given)}."
            )
        return question, list(documents)

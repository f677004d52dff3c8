"""MarengoAsk: writes what TwelveLabs Pegasus answers about retrieved moments into their nodes, for the LLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, model_validator
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import ModelWrapValidatorHandler

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
from bedrock_marengo.validation import require_many
from bedrock_marengo.words.asking import Answer
from llama_index_marengo.copies import ValidatedCopies
from llama_index_marengo.embeddings import MarengoEmbedding, validate_with_embed_model

__all__ = ["MarengoAsk"]


class MarengoAsk(ValidatedCopies, BaseNodePostprocessor):
    """A node postprocessor that asks TwelveLabs Pegasus about retrieved moments.

    The answer is on the last line of a node's text, which the LLM reads, and in ``metadata["answer"]``, which it
    doesn't. It is set on copies of the nodes, which keep their id and vector; no store keeps it. The question is the
    query, or ``question``. Other nodes, and moments of audio and images, are left unchanged.

    Each moment is a call that is billed. See ``MarengoClient.ask``.

    Examples:
        ```python
        ask = MarengoAsk(embed_model=embed_model, max_cost_usd=0.1)
        engine = index.as_query_engine(node_postprocessors=[ask])  # engine.query("Who scores?")
        ```
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, protected_namespaces=()
    )

    embed_model: MarengoEmbedding
    """Its client asks, with its credentials and region. You can pass its settings as keywords instead."""
    question: str | None = None
    """What to ask. Default: the query, or a description if there is none."""
    max_moments: int = MAX_MOMENTS
    """How many moments to ask about: the first ones."""
    max_cost_usd: float | None = MAX_COST_USD
    """What one query may cost, in US dollars. None for no limit."""
    pegasus_model: str = "1.5"
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
        return validate_with_embed_model(cls, values, handler)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "MarengoAsk"

    @property
    def _settings(self) -> dict[str, Any]:
        names = ("max_cost_usd", "json_schema", "max_tokens", "temperature", "extra")
        return {**{name: getattr(self, name) for name in names}, "model": self.pegasus_model}

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        given = list(require_many(nodes, "MarengoAsk", "nodes"))
        asked = (query_bundle.query_str if query_bundle is not None else "").strip()
        answers = answers_about(
            self.embed_model.core,
            [next(iter(results_from([node])), None) for node in given],
            self.question or asked or QUESTION,
            max_moments=self.max_moments,
            allowed_prefixes=self.allowed_prefixes,
            **self._settings,
        )
        return [
            node if answer is None else self._with_answer(node, answer)
            for node, answer in zip(given, answers, strict=True)
        ]

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return await self.embed_model.core.run_async(self._postprocess_nodes, nodes, query_bundle)

    def _with_answer(self, found: NodeWithScore, answer: Answer) -> NodeWithScore:
        node = found.node.model_copy()
        own = answer_fields(answer, self.json_schema)
        node.metadata = {**node.metadata, **own}
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, *own]
        node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, *own]
        node.set_content(text_with_answer(found.node.get_content(), answer))
        return NodeWithScore(node=node, score=found.score)

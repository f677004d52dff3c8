"""MarengoLinks: a playable link on each retrieved segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, model_validator
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import ModelWrapValidatorHandler

from bedrock_marengo import InputError
from bedrock_marengo.s3.presign import check_lifetime
from bedrock_marengo.search.citations import citation
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, results_from
from bedrock_marengo.validation import require_many, short_repr
from llama_index_marengo.copies import ValidatedCopies
from llama_index_marengo.embeddings import MarengoEmbedding, validate_with_embed_model

__all__ = ["MarengoLinks"]


class MarengoLinks(ValidatedCopies, BaseNodePostprocessor):
    """Adds ``metadata["citation"]`` ("match.mp4 at 00:06") and a playable ``metadata["url"]`` to retrieved segments.

    The URL is presigned and expires. Its ``#t=start,end`` tells the player where to start and stop. It is set on copies
    of the nodes, after retrieval, so no store keeps it. It is meant for the page that shows the answer: the LLM's text
    contains only the citation. Other nodes are left unchanged.

    Examples:
        ```python
        engine = index.as_query_engine(node_postprocessors=[MarengoLinks(embed_model=embed_model)])
        engine.query("a goal from a corner").source_nodes[0].metadata["url"]
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    embed_model: MarengoEmbedding
    """Signs the URLs with its S3 settings and credentials. You can pass its settings as keywords instead."""
    expires_sec: int = 3600
    """How long the URL works: at most 7 days, and no longer than the credentials."""
    allowed_prefixes: Sequence[str] | None = None
    """Sign only URLs for these S3 prefixes and objects. Set it if others can write to your store: a forged segment
    could name any object that your credentials can read.
    """

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoLinks:
        check_lifetime(self.expires_sec)
        check_allowed_prefixes(self.allowed_prefixes)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoLinks]) -> MarengoLinks:
        return validate_with_embed_model(cls, values, handler)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "MarengoLinks"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [self._add_link(node) for node in require_many(nodes, "MarengoLinks", "nodes")]

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return await self.embed_model.core.run_async(self._postprocess_nodes, nodes, query_bundle)

    def _add_link(self, found: NodeWithScore) -> NodeWithScore:
        if not isinstance(found, NodeWithScore):
            raise InputError(
                f"{short_repr(found)} is not a NodeWithScore: MarengoLinks takes what a retriever returns."
            )
        moment = next(iter(results_from([found])), None)
        if moment is None:
            return found
        links = {"citation": citation(moment)}
        if is_allowed(moment.source, self.allowed_prefixes):
            # A player shows the whole moment, not just its best segment.
            shown = replace(moment.segment, start_sec=moment.start_sec, end_sec=moment.end_sec)
            links["url"] = self.embed_model.core.playable_url(shown, expires_sec=self.expires_sec)
        node = found.node.model_copy()
        node.metadata = {**node.metadata, **links}
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, *links]
        node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, "url"]
        return NodeWithScore(node=node, score=found.score)

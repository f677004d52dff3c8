"""Tools for LangChain agents over a MarengoRetriever: search moments, read them, list videos, ask about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, ToolException
from pydantic import ConfigDict, PrivateAttr

from bedrock_marengo import InputError, MarengoClient, Query, Segment
from bedrock_marengo.agents import Archive, MomentTools, Row, ToolAnswer, ToolSpec, stored_items
from bedrock_marengo.agents.answers import MAX_BYTES
from bedrock_marengo.agents.spending import MAX_SESSION_USD, MAX_USD
from bedrock_marengo.agents.tools import LINK_SEC
from bedrock_marengo.validation import short_repr
from langchain_marengo.context import content_block
from langchain_marengo.known_stores import find_known_store
from langchain_marengo.retrievers import MarengoRetriever

__all__ = ["MarengoToolkit", "archive_of", "create_moment_tools"]


class MarengoToolkit(BaseToolkit):
    """Tools for agents over one retriever: ``search_moments``, ``read_moment``, ``list_videos``, ``estimate_cost``.

    With ``allow``, also ``ask_video`` and ``describe_video``, which cost money. A model can narrow what it reaches, but
    can't widen it: the retriever's store, filter and sources, the prefixes and the budget are fixed here. No path or
    URL that a model passes is opened.

    Each tool returns short text, and frames if they were asked for. The ``artifact`` of its ``ToolMessage`` is for your
    program: ``{"documents": [Document, ...], "data": {...}, "links": {id: URL}}``. An error is a ``ToolMessage`` of the
    status "error" whose text says what to do.

    Raises:
        pydantic.ValidationError: A setting has a wrong value.

    Examples:
        ```python
        toolkit = MarengoToolkit(retriever=retriever, allow=["ask"], max_session_usd=0.5)
        agent = create_agent(model, toolkit.get_tools())
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, frozen=True)

    retriever: MarengoRetriever
    """Searches. Set its ``filter`` to a tenant's."""
    allow: Sequence[str] = ()
    """Tools that cost money: "ask" for ``ask_video``, "describe" for ``describe_video``."""
    allowed_prefixes: Sequence[str] | None = None
    """The only S3 prefixes and objects to search, list, read and link. Set it if others can write to your store."""
    max_usd: float = MAX_USD
    """What one call of a tool may cost, in US dollars, calculated before the call."""
    max_session_usd: float = MAX_SESSION_USD
    """What all calls of this toolkit's tools may cost, in US dollars."""
    links: bool = False
    """Whether artifacts have presigned URLs. The model doesn't see them."""
    link_sec: int = LINK_SEC
    """How long presigned URLs work: 60 to 300 seconds."""
    max_bytes: int = MAX_BYTES
    """The most bytes of an answer's text, 6,000 to 30,000: about four per token."""

    _tools: MomentTools = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the settings; the budget is shared by all that ``get_tools`` returns."""
        settings = {name: getattr(self, name) for name in type(self).model_fields if name != "retriever"}
        self._tools = MomentTools(archive_of(self.retriever), **settings)

    @property
    def spent_usd(self) -> float:
        """What the calls have cost so far, in US dollars; those that are running count with the most they may cost."""
        return self._tools.spending.spent_usd

    def get_tools(self) -> list[BaseTool]:
        """The tools, those that cost money last. All share one budget."""
        return [_tool(self._tools, spec) for spec in self._tools.specs]


def create_moment_tools(
    retriever: MarengoRetriever,
    *,
    allow: Sequence[str] = (),
    allowed_prefixes: Sequence[str] | None = None,
    max_usd: float = MAX_USD,
    max_session_usd: float = MAX_SESSION_USD,
    links: bool = False,
    link_sec: int = LINK_SEC,
    max_bytes: int = MAX_BYTES,
) -> list[BaseTool]:
    """Tools for an agent over a retriever. See ``MarengoToolkit``, whose fields these arguments are.

    Raises:
        bedrock_marengo.InputError: Not a retriever, or ``allowed_prefixes`` is not a list of S3 URIs.
        bedrock_marengo.ConfigurationError: Another setting has a wrong value.

    Examples:
        ```python
        agent = create_agent(model, create_moment_tools(retriever))
        agent.invoke({"messages": [("user", "When is the goal?")]})
        ```
    """
    tools = MomentTools(
        archive_of(retriever),
        allow=allow,
        allowed_prefixes=allowed_prefixes,
        max_usd=max_usd,
        max_session_usd=max_session_usd,
        links=links,
        link_sec=link_sec,
        max_bytes=max_bytes,
    )
    return [_tool(tools, spec) for spec in tools.specs]


def archive_of(retriever: MarengoRetriever) -> Archive:
    """A retriever as ``bedrock_marengo.agents.MomentTools`` uses it.

    Raises:
        bedrock_marengo.InputError: Not a MarengoRetriever.
    """
    if not isinstance(retriever, MarengoRetriever):
        raise InputError(f"{short_repr(retriever)} is not a retriever: expected langchain_marengo.MarengoRetriever.")
    return _Archive(retriever)


def _tool(tools: MomentTools, spec: ToolSpec) -> BaseTool:
    # Functions, since LangGraph reads their annotations, and can't read those of a partial.
    def call(**arguments: Any) -> tuple[Any, dict[str, Any]]:
        return _content_and_artifact(tools.call(spec.name, arguments))

    async def acall(**arguments: Any) -> tuple[Any, dict[str, Any]]:
        return _content_and_artifact(await tools.acall(spec.name, arguments))

    return StructuredTool(
        name=spec.name,
        description=spec.description,
        args_schema=spec.json_schema,
        func=call,
        coroutine=acall,
        response_format="content_and_artifact",
        handle_tool_error=True,
        metadata={"read_only": spec.is_read_only, "idempotent": spec.is_idempotent},
    )


def _content_and_artifact(answer: ToolAnswer) -> tuple[Any, dict[str, Any]]:
    if answer.is_error:
        raise ToolException(answer.text)
    content: Any = answer.text
    if answer.frames:
        content = [content_block(part) for part in answer.parts]
    documents = [
        Document(
            id=segment.id if (segment := Segment.find(row.text)) else None,
            page_content=row.text,
            metadata=dict(row.metadata),
        )
        for row in answer.rows
    ]
    return content, {"documents": documents, "data": answer.data, "links": dict(answer.links)}


class _Archive:
    def __init__(self, retriever: MarengoRetriever) -> None:
        self._retriever = retriever
        self.client: MarengoClient = retriever.embeddings.core
        self.sources: Sequence[str] = tuple(retriever.sources)
        self.start_sec = retriever.start_sec
        self.end_sec = retriever.end_sec
        self.scope = retriever.scope
        self.is_filtered = retriever.filter is not None

    def search(self, query: str, *, limit: int, **narrowed: Any) -> list[Row]:
        # A Query is text, whatever it says: a string could be a handle that stands for a file.
        found = self._retriever.invoke(Query(text=query), k=limit, **narrowed)
        return [Row(document.page_content, document.metadata) for document in found]

    def stored(
        self, source: str, *, start_sec: float | None = None, end_sec: float | None = None, depth: int = 1
    ) -> list[Row]:
        retriever = self._retriever
        found = stored_items(
            self.client,
            retriever._searches_of,
            retriever._tracks,
            source,
            scope=retriever.scope,
            start_sec=start_sec,
            end_sec=end_sec,
            depth=depth,
        )
        return [Row(document.page_content, document.metadata) for document in found]

    def rows(self) -> Iterator[Row] | None:
        stores = list({id(store): store for store in self._retriever._stores.values()}.values())
        known = [(store, find_known_store(store)) for store in stores]
        if any(each is None for _, each in known):
            return None
        return (
            Row(row.text, row.metadata) for store, each in known if each is not None for row in each.rows(store, None)
        )

"""Tools for LlamaIndex agents over a MarengoRetriever: search moments, read them, list videos, ask about them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from copy import copy
from typing import Any, ClassVar, TypeVar

from llama_index.core.bridge.pydantic import BaseModel, create_model
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from llama_index.core.tools import FunctionTool, ToolMetadata, ToolOutput
from llama_index.core.tools.tool_spec.base import SPEC_FUNCTION_TYPE, BaseToolSpec

from bedrock_marengo import InputError, MarengoClient, Query
from bedrock_marengo.agents import Archive, MomentTools, Row, ToolAnswer, ToolSpec, stored_items, stored_query
from bedrock_marengo.agents.answers import MAX_BYTES
from bedrock_marengo.agents.archive import loop_of_caller
from bedrock_marengo.agents.spending import MAX_SESSION_USD, MAX_USD
from bedrock_marengo.agents.tools import LINK_SEC
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.retrieve import aretrieve
from bedrock_marengo.validation import reject_unknown, short_repr
from llama_index_marengo.context import content_block
from llama_index_marengo.known_stores import find_known_store
from llama_index_marengo.retrievers import MarengoRetriever

__all__ = ["MarengoToolSpec", "archive_of"]

T = TypeVar("T")


class MarengoToolSpec(BaseToolSpec):
    """Tools for agents over one retriever: ``search_moments``, ``read_moment``, ``list_videos``, ``estimate_cost``.

    With ``allow``, also ``ask_video`` and ``describe_video``, which cost money. A model can narrow what it reaches, but
    can't widen it: the retriever's index, filters and sources, the prefixes and the budget are fixed here. No path or
    URL that a model passes is opened.

    Each tool returns a ``ToolOutput``: short text, and frames as image blocks if they were asked for. Its
    ``raw_output`` is for your program: a dict with the same as plain values, and with ``links`` if there are any. An
    error is a ``ToolOutput`` with ``is_error`` whose text says what to do.

    Args:
        retriever: searches. Set its ``filters`` to a tenant's.
        allow: tools that cost money: "ask" for ``ask_video``, "describe" for ``describe_video``.
        allowed_prefixes: the only S3 prefixes and objects to search, list, read and link. Set it if others can write to
            your index.
        max_usd: what one call of a tool may cost, in US dollars, calculated before the call.
        max_session_usd: what all calls of these tools may cost.
        links: whether ``raw_output`` has presigned URLs. The model doesn't see them.
        link_sec: how long presigned URLs work: 60 to 300 seconds.
        max_bytes: the most bytes of an answer's text, 6,000 to 30,000: about four per token.

    Raises:
        bedrock_marengo.InputError: Not a retriever, or ``allowed_prefixes`` is not a list of S3 URIs.
        bedrock_marengo.ConfigurationError: Another setting has a wrong value.

    Examples:
        ```python
        spec = MarengoToolSpec(retriever, allow=["ask"], max_session_usd=0.5)
        agent = FunctionAgent(tools=spec.to_tool_list(), llm=llm)
        ```
    """

    spec_functions: list[SPEC_FUNCTION_TYPE]

    def __init__(
        self,
        retriever: MarengoRetriever,
        *,
        allow: Sequence[str] = (),
        allowed_prefixes: Sequence[str] | None = None,
        max_usd: float = MAX_USD,
        max_session_usd: float = MAX_SESSION_USD,
        links: bool = False,
        link_sec: int = LINK_SEC,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._tools = MomentTools(
            archive_of(retriever),
            allow=allow,
            allowed_prefixes=allowed_prefixes,
            max_usd=max_usd,
            max_session_usd=max_session_usd,
            links=links,
            link_sec=link_sec,
            max_bytes=max_bytes,
        )
        self.spec_functions = [spec.name for spec in self._tools.specs]

    @property
    def spent_usd(self) -> float:
        """What the calls have cost so far, in US dollars; those that are running count with the most they may cost."""
        return self._tools.spending.spent_usd

    def to_tool_list(
        self,
        spec_functions: list[SPEC_FUNCTION_TYPE] | None = None,
        func_to_metadata_mapping: dict[str, ToolMetadata] | None = None,
    ) -> list[FunctionTool]:
        """The tools, those that cost money last. All share one budget.

        Args:
            spec_functions: only these, by name.
            func_to_metadata_mapping: name -> other metadata, such as a shorter description.

        Raises:
            bedrock_marengo.InputError: There is no such tool.
        """
        specs = {spec.name: spec for spec in self._tools.specs}
        names = [each if isinstance(each, str) else each[0] for each in spec_functions or self.spec_functions]
        reject_unknown(names, specs, "MarengoToolSpec")
        metadata = func_to_metadata_mapping or {}
        return [_Tool(self._tools, specs[name], metadata.get(name)) for name in names]

    # Each tool as a method, for programs.

    def search_moments(self, query: str, **arguments: Any) -> ToolOutput:
        """Moments that answer a query, with ``limit``, ``sources``, ``start_sec`` and ``end_sec``."""
        return self._call("search_moments", query=query, **arguments)

    def read_moment(self, moment: str, **arguments: Any) -> ToolOutput:
        """The words of a moment by its id; with ``frames``, pictures."""
        return self._call("read_moment", moment=moment, **arguments)

    def list_videos(self, cursor: str | None = None) -> ToolOutput:
        """One page of the files."""
        return self._call("list_videos", cursor=cursor)

    def estimate_cost(self, video: str, action: str = "ask") -> ToolOutput:
        """What ``ask_video`` or ``describe_video`` would cost at most."""
        return self._call("estimate_cost", video=video, action=action)

    def ask_video(self, video: str, question: str, **arguments: Any) -> ToolOutput:
        """Pegasus' answer about a moment or a video. It is billed."""
        return self._call("ask_video", video=video, question=question, **arguments)

    def describe_video(self, video: str, cursor: int = 0) -> ToolOutput:
        """Pegasus' description of a video. The first one is billed."""
        return self._call("describe_video", video=video, cursor=cursor)

    def _call(self, name: str, **arguments: Any) -> ToolOutput:
        return _output(name, arguments, self._tools.call(name, arguments))


def archive_of(retriever: MarengoRetriever) -> Archive:
    """A retriever as ``bedrock_marengo.agents.MomentTools`` uses it.

    Raises:
        bedrock_marengo.InputError: Not a MarengoRetriever.
    """
    if not isinstance(retriever, MarengoRetriever):
        raise InputError(f"{short_repr(retriever)} is not a retriever: expected llama_index_marengo.MarengoRetriever.")
    return _Archive(retriever)


class _Tool(FunctionTool):
    """A tool whose output can be an error, or have pictures."""

    def __init__(self, tools: MomentTools, spec: ToolSpec, metadata: ToolMetadata | None) -> None:
        metadata = metadata or ToolMetadata(name=spec.name, description=spec.description, fn_schema=_schema(spec))
        self._tools = tools
        self._spec = spec
        super().__init__(fn=self.call, async_fn=self.acall, metadata=metadata)

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        arguments = self._arguments(args, kwargs)
        return _output(self.metadata.get_name(), arguments, self._tools.call(self._spec.name, arguments))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        arguments = self._arguments(args, kwargs)
        answer = await self._tools.acall(self._spec.name, arguments)
        return _output(self.metadata.get_name(), arguments, answer)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**dict(zip((each.name for each in self._spec.arguments), args, strict=False)), **kwargs}


def _output(name: str, arguments: dict[str, Any], answer: ToolAnswer) -> ToolOutput:
    return ToolOutput(
        tool_name=name,
        blocks=[content_block(part) for part in answer.parts],
        raw_input=arguments,
        raw_output={**answer.data, **({"links": dict(answer.links)} if answer.links else {})},
        is_error=answer.is_error,
    )


class _Schema(BaseModel):
    """Arguments whose JSON Schema is that of the table of tools."""

    table: ClassVar[dict[str, Any]] = {}

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return cls.table


def _schema(spec: ToolSpec) -> type[BaseModel]:
    fields: dict[str, Any] = {each.name: (Any, each.default) for each in spec.arguments}
    schema: type[_Schema] = create_model(spec.name, __base__=_Schema, **fields)
    schema.table = spec.json_schema
    return schema


class _Archive:
    def __init__(self, retriever: MarengoRetriever) -> None:
        settings = retriever._settings
        self._retriever = retriever
        self.client: MarengoClient = retriever._embed_model.core
        self.sources: Sequence[str] = tuple(settings["sources"])
        self.start_sec = settings["start_sec"]
        self.end_sec = settings["end_sec"]
        self.scope = settings["scope"]
        self.is_filtered = retriever._filters is not None

    def search(self, query: str, *, limit: int, **narrowed: Any) -> list[Row]:
        retriever = copy(self._retriever)
        retriever._settings = {**retriever._settings, **narrowed, "k": limit}
        loop = self._only_loop()
        # A Query is text, whatever it says.
        asked = Query(text=query)
        found = retriever.retrieve(asked) if loop is None else _on(loop, retriever.aretrieve(asked))
        return [_row(hit) for hit in found]

    def stored(
        self, source: str, *, start_sec: float | None = None, end_sec: float | None = None, depth: int = 1
    ) -> list[Row]:
        retriever, tracks = self._retriever, tuple(self._retriever._indices)
        limits = {"scope": self.scope, "start_sec": start_sec, "end_sec": end_sec, "depth": depth}
        if (loop := self._only_loop()) is None:
            nodes = stored_items(self.client, retriever._searches_of, tracks, source, **limits)
        else:
            query, settings = stored_query(self.client, tracks, source, **limits)
            searches = retriever._searches.aof(query, settings)
            found = _on(loop, aretrieve(self.client, query.array, settings, searches))
            nodes = list(found[1].values())
        return [_row(node) for node in nodes]

    def rows(self) -> Iterable[Row] | None:
        by_store = {id(index.vector_store): track for track, index in self._retriever._indices.items()}
        try:
            found = [self._listed(track) for track in by_store.values()]
        except NotImplementedError:
            return None
        return (Row(text, metadata) for rows in found for text, metadata in rows)

    def _listed(self, track: str) -> Iterable[tuple[str, Any]]:
        store, loop = self._retriever._indices[track].vector_store, self._only_loop()
        if loop is not None and find_known_store(store).nodes is None and store.stores_text:
            nodes = _on(loop, store.aget_nodes(None, None))
            return [(node.get_content(MetadataMode.NONE), node.metadata) for node in nodes]
        return self._retriever._searches.stored(SearchTarget(track, self.scope))

    def _only_loop(self) -> asyncio.AbstractEventLoop | None:
        """The caller's event loop, if a store can be searched only there; None if it can be searched on a thread."""
        stores = [index.vector_store for index in self._retriever._indices.values()]
        return loop_of_caller.get() if any(find_known_store(store).is_only_async(store) for store in stores) else None


def _row(found: NodeWithScore | BaseNode) -> Row:
    node = found.node if isinstance(found, NodeWithScore) else found
    return Row(node.get_content(MetadataMode.NONE), node.metadata)


def _on(loop: asyncio.AbstractEventLoop, call: Coroutine[Any, Any, T]) -> T:
    """Wait on this thread for what runs on the caller's loop."""
    return asyncio.run_coroutine_threadsafe(call, loop).result()

"""MarengoSegmenter: media Documents to segment nodes, each with Marengo's own vector."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from llama_index.core.bridge.pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from llama_index.core.schema import (
    BaseNode,
    Document,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
    TransformComponent,
)
from pydantic import ModelWrapValidatorHandler
from tqdm import TqdmWarning

from bedrock_marengo import MarengoError, Media, MediaResult, Segmentation
from bedrock_marengo.contract.segments import checked_metadata
from bedrock_marengo.search.records import Failures, OnError, SegmentRecord, Transcripts, check_transcripts, records_of
from llama_index_marengo.embeddings import MarengoEmbedding, check_nodes, made_with_embed_model
from llama_index_marengo.readers import DOCUMENT_KEYS

with warnings.catch_warnings():
    # In a notebook without ipywidgets it says so when imported, and draws with letters.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["MarengoSegmenter"]

# The model reads which file and when; the rest is for filters.
_NOT_FOR_LLM = ["embedding_option", "embedding_scope", "media_type", "model_id", "job_id"]


class MarengoSegmenter(TransformComponent):
    """Cuts a reader's Documents into segments: ``TextNode``s that have their vectors already.

    A node's text is the segment's URI, with the words spoken in it on the next line if there are captions; its ``id_``
    is the segment's; its metadata are flat: ``source``, ``start_sec``, ``end_sec``, ``embedding_option``,
    ``embedding_scope``, ``media_type``, ``model_id``, ``job_id`` and the Document's own. SOURCE is the Document,
    PREVIOUS and NEXT are the neighbours on the same track. Nodes that are no media pass through.

    Work that was done before is found again, so a second run pays nothing. A docstore in front skips what it knows by
    size and ETag; it does not see changed captions on S3, nor media that ``on_error`` skipped.

    Examples:
        ```python
        pipeline = IngestionPipeline(transformations=[MarengoSegmenter(embed_model=embed_model)])
        nodes = pipeline.run(documents=MarengoReader("s3://bucket/videos/", embed_model=embed_model).load_data())
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    embed_model: MarengoEmbedding = Field(exclude=True)
    """Whose model, output prefix and credentials to use; or its settings as plain keywords."""
    options: Sequence[str] | None = None
    """The tracks. Default: all that the model has, each its own vector."""
    scopes: Sequence[str] | None = ("clip",)
    """["clip"] (default), ["asset"] or both."""
    segmentation: Segmentation | None = None
    """``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's."""
    start_sec: float | None = None
    """Where to begin in each medium, seconds."""
    end_sec: float | None = None
    """Where to end, seconds."""
    fused: bool | Literal["only"] = False
    """"only" stores one vector a moment, the right choice for a plain ``as_retriever()``. Marengo 3.0."""
    transcripts: Transcripts = True
    """True takes captions (.vtt, .srt) that lie beside a medium; False none; a mapping or a callable gives them by
    source URI: a ``pathlib.Path``, or the captions' text.
    """
    on_error: OnError = Field(default="raise", exclude=True)
    """"raise" (after all other media are done), "skip", or a callable that gets the source and the error."""
    show_progress: bool = False
    """A progress bar."""
    jobs_at_once: int = 64
    """Jobs in flight."""
    force: bool = False
    """Pay again for what was embedded before."""

    @model_validator(mode="wrap")
    @classmethod
    def _made(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoSegmenter]) -> MarengoSegmenter:
        return made_with_embed_model(cls, values, handler)

    @field_validator("transcripts", mode="before")
    @classmethod
    def _give_captions(cls, value: Any) -> Any:
        check_transcripts(value)
        return value

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "MarengoSegmenter"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What changes results, and so the key of an IngestionCache."""
        chosen = self.model_dump(include={"options", "scopes", "segmentation", "start_sec", "end_sec", "fused"})
        own = {**chosen, "transcripts": _named(self.transcripts), "class_name": self.class_name()}
        return {**self.embed_model.to_dict(), **own}

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Segments in place of media, in the order of the nodes.

        Raises:
            bedrock_marengo.MarengoError: The one that failed, or ``MediaFailedError`` if several did, at the end.
        """
        work = _Work(self, nodes)
        with work.bar:
            for done in self.embed_model.core.embed_many(work.media, **work.settings):
                work.take(done)
        return work.result()

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """``__call__`` for asyncio."""
        work, client = _Work(self, nodes), self.embed_model.core
        with work.bar:
            async for done in client.aembed_many(work.media, **work.settings):
                await client.run_async(work.take, done)
        return work.result()

    def __getstate__(self) -> dict[str, Any]:
        # LlamaIndex's own drops what can't be pickled, such as a model with a client of your own.
        return BaseModel.__getstate__(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["__dict__"])  # type: ignore[misc]


class _Work:
    """One call's media, and the nodes they become."""

    def __init__(self, segmenter: MarengoSegmenter, nodes: Sequence[BaseNode]) -> None:
        check_nodes(nodes, "MarengoSegmenter")
        self._segmenter = segmenter
        self._nodes = nodes
        self._documents = {node.metadata["source"]: node for node in nodes if _is_medium(node)}
        self._made: dict[str, list[TextNode]] = {}
        self._failures = Failures(segmenter.on_error)
        # The ETag is asked anew: a Document may be old.
        self.media = [Media.from_s3(uri, node.metadata["media_type"]) for uri, node in self._documents.items()]
        shown = segmenter.show_progress
        self.bar = tqdm(desc="media", unit="medium", total=len(self.media), disable=not shown)
        names = ("options", "scopes", "segmentation", "start_sec", "end_sec", "fused", "force", "jobs_at_once")
        self.settings: dict[str, Any] = {name: getattr(segmenter, name) for name in names}
        self.settings |= {"read_ahead": True, "validate": self._own_fields}
        usage = segmenter.embed_model.core.usage
        self.settings["on_progress"] = lambda progress: self.bar.set_postfix_str(f"{progress}; {usage}")

    def take(self, done: MediaResult) -> None:
        """A medium is done, well or not."""
        self.bar.update()
        try:
            if done.segments is None:
                raise done.error or AssertionError("a medium has segments or an error")
            document = self._documents[done.segments.source]
            captions, transcripts = document.metadata.get("captions"), self._segmenter.transcripts
            rows = records_of(
                self._segmenter.embed_model.core,
                done.segments,
                source=done.segments.source,
                transcripts=(lambda uri: captions) if captions and transcripts is True else transcripts,
                metadata=self._own_fields(done.segments.source),
            )
        except MarengoError as error:
            self._failures.note(replace(done, error=error))
        else:
            self._made[done.segments.source] = _nodes(rows, document, self._segmenter.embed_model)

    def _own_fields(self, source: str) -> dict[str, Any]:
        own = self._documents[source].metadata.items()
        return checked_metadata({key: value for key, value in own if key not in DOCUMENT_KEYS}, source)

    def result(self) -> list[BaseNode]:
        """Nodes in the order of what they were made of; a medium that came twice counts once."""
        self._failures.raise_noted()
        result: list[BaseNode] = []
        for node in self._nodes:
            result += self._made.pop(node.metadata["source"], []) if _is_medium(node) else [node]
        return result


def _is_medium(node: BaseNode) -> bool:
    return isinstance(node, Document) and {"source", "media_type", "etag"} <= set(node.metadata)


def _nodes(rows: Sequence[SegmentRecord], document: BaseNode, embed_model: MarengoEmbedding) -> list[TextNode]:
    # Without the Document's metadata, which each of thousands of nodes would repeat.
    source = RelatedNodeInfo(node_id=document.node_id, node_type=ObjectType.DOCUMENT, hash=document.hash)
    nodes = [
        TextNode(
            id_=row.segment.id,
            text=row.text,
            embedding=embed_model.floats(row.vector),
            metadata=row.metadata,
            excluded_embed_metadata_keys=list(row.metadata),
            excluded_llm_metadata_keys=_NOT_FOR_LLM,
            relationships={NodeRelationship.SOURCE: source},
        )
        for row in rows
    ]
    last: dict[tuple[str, str], TextNode] = {}
    for row, node in sorted(zip(rows, nodes, strict=True), key=lambda pair: pair[0].segment.start_sec):
        track = row.segment.option, row.segment.scope
        if (before := last.get(track)) is not None:
            before.relationships[NodeRelationship.NEXT] = _related(node)
            node.relationships[NodeRelationship.PREVIOUS] = _related(before)
        last[track] = node
    return nodes


def _related(node: TextNode) -> RelatedNodeInfo:
    return RelatedNodeInfo(node_id=node.node_id, node_type=ObjectType.TEXT)


def _named(transcripts: Transcripts) -> Any:
    """A callable by its name: its address would differ in each process."""
    if isinstance(transcripts, bool | Mapping):
        return transcripts if isinstance(transcripts, bool) else dict(transcripts)
    return f"{transcripts.__module__}.{getattr(transcripts, '__qualname__', type(transcripts).__qualname__)}"

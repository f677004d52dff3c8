"""MarengoSegmenter: Documents of media files to nodes of segments, each with Marengo's own vector."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
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

from bedrock_marengo import ConfigurationError, MarengoError, Media, MediaResult, Pegasus, Segmentation
from bedrock_marengo.contract.segments import METADATA_KEYS, checked_metadata
from bedrock_marengo.embedding.run_options import bar_settings
from bedrock_marengo.errors import visible
from bedrock_marengo.search.records import (
    Failures,
    OnError,
    SegmentRecord,
    Transcripts,
    check_transcripts,
    records_of,
    word_sources,
)
from llama_index_marengo.cache_keys import callable_key
from llama_index_marengo.copies import ValidatedCopies
from llama_index_marengo.embeddings import MarengoEmbedding, check_nodes, validate_with_embed_model
from llama_index_marengo.readers import DOCUMENT_KEYS

with warnings.catch_warnings():
    # Without ipywidgets in a notebook, it warns when imported and draws the bar as text.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["MarengoSegmenter"]

_logger = logging.getLogger(__name__)

# The LLM reads the file and the times in the text; these are for filters.
_NOT_FOR_LLM = list(METADATA_KEYS)


class MarengoSegmenter(ValidatedCopies, TransformComponent):
    """Turns the Documents of ``MarengoReader`` into segments: ``TextNode``s that already have their vectors.

    A node's text is the segment's URI, a line with its file and time, and its words, if there are any. Its ``id_`` is
    the segment's ID. Its metadata is flat: ``source``, ``start_sec``, ``end_sec``, ``embedding_option``,
    ``embedding_scope``, ``media_type``, ``model_id``, ``job_id`` and the Document's own fields. Its relationships are
    SOURCE (the Document), and PREVIOUS and NEXT (the neighbors on the same track). Other nodes are left unchanged.

    Finished jobs are reused, so a second run costs nothing. A pipeline with a docstore skips files whose size and ETag
    are unchanged. It doesn't notice changed captions on S3, or files that ``on_error`` skipped.

    Examples:
        ```python
        pipeline = IngestionPipeline(transformations=[MarengoSegmenter(embed_model=embed_model)])
        nodes = pipeline.run(documents=MarengoReader("s3://bucket/videos/", embed_model=embed_model).load_data())
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    embed_model: MarengoEmbedding
    """The model, output prefix and credentials to use. You can pass its settings as keywords instead."""
    options: Sequence[str] | None = None
    """The embedding options. Default: all that the model has, each with its own vector."""
    scopes: Sequence[str] | None = ("clip",)
    """["clip"] (default), ["asset"] or both."""
    segmentation: Segmentation | None = None
    """``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's default."""
    start_sec: float | None = None
    """Where to start in each file, in seconds."""
    end_sec: float | None = None
    """Where to end, in seconds."""
    fused: bool | Literal["only"] = False
    """"only" stores one vector per time range. Use it with a plain ``as_retriever()``. Marengo 3.0."""
    transcripts: Transcripts = True
    """True reads captions next to a file, False reads none. ``Transcribe(...)`` reads them too, and transcribes
    files without captions with Amazon Transcribe. Or a mapping or callable from source URI to captions: a
    ``pathlib.Path``, or the text of the captions.
    """
    descriptions: Pegasus | None = None
    """``Pegasus(...)`` has TwelveLabs Pegasus describe what is seen in videos. None for no descriptions."""
    on_error: OnError = Field(default="raise", exclude=True)
    """"raise" (after all other files are done), "skip", or a callable that gets the source and the error."""
    show_progress: bool = False
    """Show a progress bar."""
    jobs_at_once: int = 64
    """The maximum number of jobs at the same time."""
    force: bool = False
    """Embed finished files again, and pay again."""

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoSegmenter]) -> MarengoSegmenter:
        return validate_with_embed_model(cls, values, handler)

    @field_validator("transcripts", mode="before")
    @classmethod
    def _give_captions(cls, value: Any) -> Any:
        check_transcripts(value)
        return value

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "MarengoSegmenter"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The settings that change results, for the key of an IngestionCache. ``model_dump`` holds all of them."""
        chosen = self.model_dump(include={"options", "scopes", "segmentation", "start_sec", "end_sec", "fused"})
        identity, transcripts = self.embed_model.identity, self.transcripts
        return {
            **self.embed_model.to_dict(),
            **chosen,
            **({} if self.descriptions is None else {"descriptions": self.descriptions.canonical()}),
            "identity": identity if isinstance(identity, str) else callable_key(identity),
            "transcripts": transcripts if isinstance(transcripts, bool) else callable_key(transcripts),
            "class_name": self.class_name(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> MarengoSegmenter:
        """The segmenter that ``to_dict`` describes, with the credentials and ``output_s3_uri`` of ``embed_model``.

        Args:
            data: what ``to_dict`` returned.
            kwargs: ``embed_model`` or its settings, which ``data`` lacks; and what is to be different.

        Raises:
            ConfigurationError: ``data`` is for another model than ``embed_model``, or for one with other settings.
        """
        data = {**data, **kwargs}
        if (embed_model := kwargs.get("embed_model")) is not None:
            own = cls(embed_model=embed_model).to_dict()
            for name in data.keys() - cls.model_fields.keys() - {"class_name"}:
                if data.pop(name) != own.get(name):
                    raise ConfigurationError(
                        f"This segmenter has another {name} than embed_model, {own.get(name)!r}, and so other vectors: "
                        "pass the embed_model that it had."
                    )
        segmenter: MarengoSegmenter = super().from_dict(data)
        return segmenter

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Segments instead of Documents of media files, in the order of the nodes.

        Raises:
            bedrock_marengo.MarengoError: The error of the file that failed, or ``MediaFailedError``, at the end.
        """
        call = _Call(self, nodes)
        with call.bar:
            for done in self.embed_model.core.embed_many(call.media, **call.settings):
                call.take(done)
        return call.result()

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """``__call__`` for asyncio."""
        call, client = _Call(self, nodes), self.embed_model.core
        with call.bar:
            async for done in client.aembed_many(call.media, **call.settings):
                await client.run_async(call.take, done)
        return call.result()

    def __getstate__(self) -> dict[str, Any]:
        # LlamaIndex's own drops what can't be pickled, such as a model with a client of the user's.
        return BaseModel.__getstate__(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["__dict__"])  # type: ignore[misc]


class _Call:
    """The files of one call, and their nodes."""

    def __init__(self, segmenter: MarengoSegmenter, nodes: Sequence[BaseNode]) -> None:
        check_nodes(nodes, "MarengoSegmenter")
        self._segmenter = segmenter
        self._nodes = nodes
        self._documents = {node.metadata["source"]: node for node in nodes if _is_media(node)}
        self._segments: dict[str, list[TextNode]] = {}
        self._failures = Failures(segmenter.on_error)
        # Without the ETag, which is read again: a Document may be old.
        self.media = [
            replace(
                Media.from_s3(uri, node.metadata["media_type"]), captions=uri if node.metadata.get("captions") else None
            )
            for uri, node in self._documents.items()
        ]
        self.bar = tqdm(**bar_settings(segmenter.show_progress, len(self.media)))
        names = ("options", "scopes", "segmentation", "start_sec", "end_sec", "fused", "force", "jobs_at_once")
        self.settings: dict[str, Any] = {name: getattr(segmenter, name) for name in names}
        self.settings |= {
            "read_ahead": True,
            "validate": self._user_fields,
            **word_sources(segmenter.transcripts, segmenter.descriptions),
        }
        usage = segmenter.embed_model.core.usage
        self.settings["on_progress"] = lambda progress: self.bar.set_postfix_str(f"{progress}; {usage}")

    def take(self, done: MediaResult) -> None:
        """A file is done or has failed."""
        self.bar.update()
        try:
            if done.segments is None:
                raise done.error or AssertionError("a file has segments or an error")
            document = self._documents[done.segments.source]
            captions, transcripts = document.metadata.get("captions"), self._segmenter.transcripts
            # Captions of a local file are next to it, not next to its upload.
            is_read = transcripts is True or bool(word_sources(transcripts))
            records = records_of(
                self._segmenter.embed_model.core,
                done.segments,
                source=done.segments.source,
                transcripts=(lambda uri: captions) if captions and is_read else transcripts,
                words=done.words,
                metadata=self._user_fields(done.segments.source),
            )
        except MarengoError as error:
            self._failures.note(replace(done, error=error))
        else:
            _logger.debug("%s: %d nodes", visible(done.segments.source), len(records))
            self._segments[done.segments.source] = _nodes(records, document, self._segmenter.embed_model)

    def _user_fields(self, source: str) -> dict[str, Any]:
        items = self._documents[source].metadata.items()
        return checked_metadata({key: value for key, value in items if key not in DOCUMENT_KEYS}, source)

    def result(self) -> list[BaseNode]:
        """Nodes in the order of their Documents; a file that came twice counts once."""
        self._failures.raise_noted()
        result: list[BaseNode] = []
        for node in self._nodes:
            result += self._segments.pop(node.metadata["source"], []) if _is_media(node) else [node]
        return result


def _is_media(node: BaseNode) -> bool:
    # Also a node that a text splitter made of the Document.
    return {"source", "media_type", "etag"} <= set(node.metadata)


def _nodes(records: Sequence[SegmentRecord], document: BaseNode, embed_model: MarengoEmbedding) -> list[TextNode]:
    whole = document.source_node
    if whole is None or isinstance(document, Document):
        whole = document.as_related_node_info()
    # Without the Document's metadata, which thousands of nodes would repeat.
    source = RelatedNodeInfo(node_id=whole.node_id, node_type=ObjectType.DOCUMENT, hash=whole.hash)
    nodes = [
        TextNode(
            id_=record.segment.id,
            text=record.text,
            embedding=embed_model.floats(record.vector),
            metadata=record.metadata,
            excluded_embed_metadata_keys=list(record.metadata),
            excluded_llm_metadata_keys=_NOT_FOR_LLM,
            relationships={NodeRelationship.SOURCE: source},
        )
        for record in records
    ]
    last: dict[tuple[str, str], TextNode] = {}
    for record, node in sorted(zip(records, nodes, strict=True), key=lambda pair: pair[0].segment.start_sec):
        track = record.segment.option, record.segment.scope
        if (before := last.get(track)) is not None:
            before.relationships[NodeRelationship.NEXT] = _related(node)
            node.relationships[NodeRelationship.PREVIOUS] = _related(before)
        last[track] = node
    return nodes


def _related(node: TextNode) -> RelatedNodeInfo:
    return RelatedNodeInfo(node_id=node.node_id, node_type=ObjectType.TEXT)

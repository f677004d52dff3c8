"""MarengoLoader: media to Documents, one for each segment."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from tqdm import TqdmWarning

from bedrock_marengo import ConfigurationError, MarengoError, MediaResult, Segmentation
from bedrock_marengo.contract.inputs import Sources
from bedrock_marengo.embedding.pipeline import Progress
from bedrock_marengo.embedding.pricing import Usage
from bedrock_marengo.search.records import Failures, OnError, Transcripts, check_transcripts, records_of, user_fields
from bedrock_marengo.validation import require_many, short_repr
from langchain_marengo.embeddings import MarengoEmbeddings

with warnings.catch_warnings():
    # In a notebook without ipywidgets it says so when imported, and draws with letters.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["MarengoLoader"]


class MarengoLoader(BaseLoader):
    """Loads video, audio and images as segments, each a Document that any store gives Marengo's own vector.

    A Document's text is the segment's URI, with the words spoken in it on the next lines if there are captions; its
    ``id`` is the segment's; its metadata are flat: ``source``, ``start_sec``, ``end_sec``, ``embedding_option``,
    ``embedding_scope``, ``media_type``, ``model_id``, ``job_id`` and your own.

    Args:
        source: ``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a file or folder, ``Media``, a
            ``Manifest``, or a list or iterator of these.
        embeddings: whose model, output prefix and credentials to use.
        options: the tracks. Default: all that the model has, each its own vector.
        scopes: ["clip"] (default), ["asset"] or both.
        segmentation: ``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's.
        start_sec: where to begin in each medium, seconds.
        end_sec: where to end, seconds.
        fused: "only" stores one vector a moment, the right choice for a plain ``as_retriever()``. Marengo 3.0.
        suffixes: of a prefix or folder only these, such as [".mp4"].
        exclude: glob patterns of keys to leave out.
        modified_after: of a prefix, folder or manifest only what was modified after this time, which names its zone.
        limit: at most this many media.
        transcripts: True takes captions (.vtt, .srt) that lie beside a medium; False none; a mapping or a callable
            gives them by source URI: a ``pathlib.Path``, or the captions' text.
        metadata: source URI -> flat dict of your own fields, such as a tenant.
        object_tags: these tags of each S3 object become fields of your own, "" where it has none.
        on_error: "raise" (after all other media are done), "skip", or a callable that gets the source and the error.
        show_progress: a progress bar.
        jobs_at_once: jobs in flight.
        force: pay again for what was embedded before.

    Examples:
        ```python
        loader = MarengoLoader("s3://bucket/videos/", embeddings=embeddings)
        store = Chroma.from_documents(loader.load(), embeddings)
        ```
    """

    def __init__(
        self,
        source: Sources,
        *,
        embeddings: MarengoEmbeddings,
        options: Sequence[str] | None = None,
        scopes: Sequence[str] | None = ("clip",),
        segmentation: Segmentation | None = None,
        start_sec: float | None = None,
        end_sec: float | None = None,
        fused: bool | Literal["only"] = False,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        modified_after: datetime | None = None,
        limit: int | None = None,
        transcripts: Transcripts = True,
        metadata: Callable[[str], Mapping[str, Any]] | None = None,
        object_tags: Sequence[str] = (),
        on_error: OnError = "raise",
        show_progress: bool = True,
        jobs_at_once: int = 64,
        force: bool = False,
    ) -> None:
        if not isinstance(embeddings, MarengoEmbeddings):
            raise ConfigurationError(f"embeddings is {type(embeddings).__name__}: give MarengoEmbeddings(...).")
        if metadata is not None and not callable(metadata):
            raise ConfigurationError(
                f"metadata={short_repr(metadata)}: give a callable from a source's URI to a flat dict, such as "
                "lambda source: {'tenant': 'acme'}."
            )
        check_transcripts(transcripts)
        Failures(on_error)
        self._client = embeddings.core
        self._listing = self._client.list_media(
            source, suffixes=suffixes, exclude=exclude, modified_after=modified_after, limit=limit
        )
        self._settings: dict[str, Any] = {
            "options": options,
            "scopes": scopes,
            "segmentation": segmentation,
            "start_sec": start_sec,
            "end_sec": end_sec,
            "fused": fused,
            "force": force,
            "jobs_at_once": jobs_at_once,
            "read_ahead": True,
        }
        self._transcripts = transcripts
        self._metadata = metadata
        self._object_tags = tuple(require_many(object_tags, "object_tags", "names"))
        self._on_error = on_error
        self._show_progress = show_progress

    @property
    def skipped(self) -> Counter[str]:
        """Why how many files of a prefix or folder were left out in the last load: "not media", "empty", ..."""
        return self._listing.skipped

    def lazy_load(self) -> Iterator[Document]:
        """Documents as media finish: the first can be used while later media still run.

        Raises:
            bedrock_marengo.MarengoError: The one that failed, or ``MediaFailedError`` if several did, at the end.
        """
        failures, own = Failures(self._on_error), _OwnFields(self._own_fields)
        with self._bar() as bar:
            settings = {"on_progress": bar.tell, "validate": own.read, **self._settings}
            for done in self._client.embed_many(self._listing, **settings):
                bar.count()
                yield from self._documents(done, own, failures)
        failures.raise_noted()

    async def alazy_load(self) -> AsyncIterator[Document]:
        """``lazy_load`` for asyncio."""
        failures, own = Failures(self._on_error), _OwnFields(self._own_fields)
        with self._bar() as bar:
            settings = {"on_progress": bar.tell, "validate": own.read, **self._settings}
            async for done in self._client.aembed_many(self._listing, **settings):
                bar.count()
                for document in await self._client.run_async(self._documents, done, own, failures):
                    yield document
        failures.raise_noted()

    def _documents(self, done: MediaResult, own: _OwnFields, failures: Failures) -> list[Document]:
        try:
            if done.segments is None:
                raise done.error or AssertionError("a medium has segments or an error")
            rows = records_of(
                self._client,
                done.segments,
                source=done.media or done.source,
                transcripts=self._transcripts,
                metadata=own.take(done.segments.source),
            )
        except MarengoError as error:
            failures.note(replace(done, error=error))
            return []
        return [Document(id=row.segment.id, page_content=row.text, metadata=row.metadata) for row in rows]

    def _bar(self) -> _Bar:
        return _Bar(self._show_progress, self._listing.known_total, self._client.usage)

    def _own_fields(self, source: str) -> dict[str, Any]:
        return user_fields(self._client, source, metadata=self._metadata, object_tags=self._object_tags)


class _OwnFields:
    """The user's own fields by source: read before a medium is paid for, taken once it is done."""

    def __init__(self, read: Callable[[str], dict[str, Any]]) -> None:
        self._read = read
        self._held: dict[str, dict[str, Any]] = {}

    def read(self, source: str) -> None:
        """Called by the threads that embed."""
        self._held[source] = self._read(source)

    def take(self, source: str) -> dict[str, Any]:
        """The fields; read anew for a source that came twice."""
        held = self._held.pop(source, None)
        return self._read(source) if held is None else held


class _Bar:
    """A bar that counts media, with what happened last and what the client has done so far beside it."""

    def __init__(self, show: bool, total: int | None, usage: Usage) -> None:
        self._bar = tqdm(desc="media", unit="medium", total=total, disable=not show)
        self._usage = usage

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, progress: Progress) -> None:
        """Called by the threads that work."""
        self._bar.set_postfix_str(f"{progress}; {self._usage}")

    def count(self) -> None:
        """One medium is done, well or not."""
        self._bar.update()

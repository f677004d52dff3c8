"""MarengoLoader: media files to Documents, one for each segment."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError, MarengoError, MediaResult, Pegasus, Segmentation
from bedrock_marengo.contract.inputs import Sources
from bedrock_marengo.embedding.pricing import Usage
from bedrock_marengo.embedding.run_options import Progress, bar_settings
from bedrock_marengo.errors import visible
from bedrock_marengo.search.records import (
    Failures,
    OnError,
    Transcripts,
    check_transcripts,
    records_of,
    user_fields,
    word_sources,
)
from bedrock_marengo.settings import check_run
from bedrock_marengo.validation import require_many, short_repr
from langchain_marengo.embeddings import MarengoEmbeddings

__all__ = ["MarengoLoader"]

_logger = logging.getLogger(__name__)


class MarengoLoader(BaseLoader):
    """Loads video, audio and images as segments: Documents that any vector store adds with their Marengo vectors.

    A Document's text is the segment's URI, a line with its file and time, and its words, if there are any. Its ``id``
    is the segment's ID. Its metadata is flat: ``source``, ``start_sec``, ``end_sec``, ``embedding_option``,
    ``embedding_scope``, ``media_type``, ``model_id``, ``job_id`` and your own fields.

    Args:
        source: ``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a file or folder, ``Media``, a
            ``Manifest``, or a list or iterator of these.
        embeddings: the model, output prefix and credentials to use.
        options: the embedding options. Default: all that the model has, each with its own vector.
        scopes: ["clip"] (default), ["asset"] or both.
        segmentation: ``Segmentation.fixed(6)`` or ``.dynamic(4)``. Default: the service's default.
        start_sec: where to start in each file, in seconds.
        end_sec: where to end, in seconds.
        fused: "only" stores one vector per time range. Use it with a plain ``as_retriever()``. True stores it in
            addition to the tracks. Marengo 3.0.
        suffixes: load only files with these suffixes, such as [".mp4"], from a prefix or folder.
        exclude: glob patterns of keys to leave out.
        modified_after: load only files modified after this time (with a time zone) from a prefix, folder or manifest.
        limit: the maximum number of files.
        transcripts: True reads captions next to a file, False reads none. ``Transcribe(...)`` reads them too, and
            transcribes files without captions with Amazon Transcribe. Or a mapping or callable from source URI to
            captions: a ``pathlib.Path``, or the text of the captions.
        descriptions: ``Pegasus(...)`` has TwelveLabs Pegasus describe what is seen in videos. None for no descriptions.
        metadata: source URI -> flat dict of your own fields, such as a tenant.
        object_tags: the S3 object tags to add as your own fields; "" if an object lacks one.
        on_error: "raise" (after all other files are done), "skip", or a callable that gets the source and the error.
        show_progress: show a progress bar. Default: in a terminal or a notebook, not in a log.
        jobs_at_once: the maximum number of jobs at the same time.
        force: embed finished files again, and pay again.

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
        descriptions: Pegasus | None = None,
        metadata: Callable[[str], Mapping[str, Any]] | None = None,
        object_tags: Sequence[str] = (),
        on_error: OnError = "raise",
        show_progress: bool | None = None,
        jobs_at_once: int = 64,
        force: bool = False,
    ) -> None:
        if not isinstance(embeddings, MarengoEmbeddings):
            raise ConfigurationError(f"embeddings is {type(embeddings).__name__}: expected MarengoEmbeddings(...).")
        if metadata is not None and not callable(metadata):
            raise ConfigurationError(
                f"metadata={short_repr(metadata)}: expected a callable from a source's URI to a flat dict, such as "
                "lambda source: {'tenant': 'acme'}."
            )
        check_transcripts(transcripts)
        check_run(descriptions=descriptions)
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
            **word_sources(transcripts, descriptions),
        }
        self._transcripts = transcripts
        self._metadata = metadata
        self._object_tags = tuple(require_many(object_tags, "object_tags", "names"))
        self._on_error = on_error
        self._show_progress = show_progress

    @property
    def skipped(self) -> Counter[str]:
        """How many files of a prefix or folder the last load skipped, by reason: "hidden", "not media", ..."""
        return self._listing.skipped

    def lazy_load(self) -> Iterator[Document]:
        """Documents as files finish: the first can be used while later files are still running.

        Raises:
            bedrock_marengo.MarengoError: The error of the file that failed, or ``MediaFailedError``, at the end.
        """
        failures, fields = Failures(self._on_error), _UserFields(self._user_fields)
        with self._bar() as bar:
            settings = {"on_progress": bar.show, "validate": fields.read, **self._settings}
            for done in self._client.embed_many(self._listing, **settings):
                bar.count()
                yield from self._documents(done, fields, failures)
        failures.raise_noted()

    async def alazy_load(self) -> AsyncIterator[Document]:
        """``lazy_load`` for asyncio."""
        failures, fields = Failures(self._on_error), _UserFields(self._user_fields)
        with self._bar() as bar:
            settings = {"on_progress": bar.show, "validate": fields.read, **self._settings}
            async for done in self._client.aembed_many(self._listing, **settings):
                bar.count()
                for document in await self._client.run_async(self._documents, done, fields, failures):
                    yield document
        failures.raise_noted()

    def _documents(self, done: MediaResult, fields: _UserFields, failures: Failures) -> list[Document]:
        try:
            if done.segments is None:
                raise done.error or AssertionError("a file has segments or an error")
            records = records_of(
                self._client,
                done.segments,
                source=done.media or done.source,
                transcripts=self._transcripts,
                words=done.words,
                metadata=fields.take(done.segments.source),
            )
        except MarengoError as error:
            failures.note(replace(done, error=error))
            return []
        _logger.debug("%s: %d documents", visible(done.segments.source), len(records))
        return [
            Document(id=record.segment.id, page_content=record.text, metadata=record.metadata) for record in records
        ]

    def _bar(self) -> _Bar:
        return _Bar(self._show_progress, self._listing.known_total, self._client.usage)

    def _user_fields(self, source: str) -> dict[str, Any]:
        return user_fields(self._client, source, metadata=self._metadata, object_tags=self._object_tags)


class _UserFields:
    """The user's own fields by source: read before a file is paid for, taken when it is done."""

    def __init__(self, read: Callable[[str], dict[str, Any]]) -> None:
        self._read = read
        self._fields: dict[str, dict[str, Any]] = {}

    def read(self, source: str) -> None:
        """Called by the threads that embed."""
        self._fields[source] = self._read(source)

    def take(self, source: str) -> dict[str, Any]:
        """The fields; read again for a source that came twice."""
        fields = self._fields.pop(source, None)
        return self._read(source) if fields is None else fields


class _Bar:
    """A bar that counts files, with the latest event and the usage of the client so far."""

    def __init__(self, show: bool | None, total: int | None, usage: Usage) -> None:
        from tqdm import TqdmWarning  # 0.04 s that an import of this package must not cost

        with warnings.catch_warnings():
            # Without ipywidgets in a notebook, it warns when imported and draws the bar as text.
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.auto import tqdm
        self._bar = tqdm(**bar_settings(show, total))
        self._usage = usage

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, progress: Progress) -> None:
        """Called by the threads that work."""
        self._bar.set_postfix_str(f"{progress}; {self._usage}")

    def count(self) -> None:
        """One file is done or has failed."""
        self._bar.update()

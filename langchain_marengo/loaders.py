"""MarengoLoader: media to Documents, one for each segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from tqdm.auto import tqdm

from bedrock_marengo import Done, MarengoError, Segmentation
from bedrock_marengo.inputs import Sources
from bedrock_marengo.media import Progress
from bedrock_marengo.prices import Usage
from bedrock_marengo.rows import Failures, OnError, Transcripts, rows_of
from langchain_marengo.embeddings import MarengoEmbeddings

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

    Example:
        .. code-block:: python

            loader = MarengoLoader("s3://bucket/videos/", embeddings=embeddings)
            store = Chroma.from_documents(loader.load(), embeddings)
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
        self._client = embeddings.marengo
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
        self._object_tags = object_tags
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
        failures = Failures(self._on_error)
        with self._bar() as bar:
            for done in self._client.embed_many(self._listing, on_progress=bar.tell, **self._settings):
                bar.count()
                yield from self._documents(done, failures)
        failures.raise_noted()

    async def alazy_load(self) -> AsyncIterator[Document]:
        """``lazy_load`` for asyncio."""
        failures = Failures(self._on_error)
        with self._bar() as bar:
            async for done in self._client.aembed_many(self._listing, on_progress=bar.tell, **self._settings):
                bar.count()
                for document in await self._client.run_async(self._documents, done, failures):
                    yield document
        failures.raise_noted()

    def _documents(self, done: Done, failures: Failures) -> list[Document]:
        try:
            if done.segments is None:
                raise done.error or AssertionError("a medium has segments or an error")
            own = self._own_fields(done.segments.source)
            rows = rows_of(
                self._client,
                done.segments,
                source=done.media or done.source,
                transcripts=self._transcripts,
                metadata=own,
            )
        except MarengoError as error:
            failures.note(replace(done, error=error))
            return []
        return [Document(id=row.segment.id, page_content=row.text, metadata=row.metadata) for row in rows]

    def _bar(self) -> _Bar:
        return _Bar(self._show_progress, self._listing.known_total, self._client.usage)

    def _own_fields(self, source: str) -> dict[str, Any]:
        tags = self._client.object_tags(source) if self._object_tags else {}
        own = self._metadata(source) if self._metadata else {}
        return {**{name: tags.get(name, "") for name in self._object_tags}, **own}


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

"""Many files: each result as it is ready, and finished jobs found without a request for each file."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.parallel import as_finished
from bedrock_marengo.contract.inputs import Media, MediaLike
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.embedding.file_words import AskedWords, FileWords, RunWords
from bedrock_marengo.embedding.pipeline import MediaEmbedder
from bedrock_marengo.embedding.run_options import RunOptions, log_failure
from bedrock_marengo.errors import MarengoError
from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.jobs.work_folder import Contents
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.validation import short_repr

__all__ = ["MediaResult", "embed_all"]

LOOKUPS = 8
"""Files looked up one by one before the whole output prefix is listed: a handful must not cost 1,000 LISTs. Ours."""


@dataclass(slots=True, eq=False)
class MediaResult:
    """One file of ``embed_many``: ``source`` as it was given, and either ``segments`` (with ``words``) or ``error``.

    The segments of a file that was embedded before are read at the first access, which may raise.
    """

    source: MediaLike
    uri: str | None
    error: MarengoError | None = None
    media: Media | None = field(default=None, repr=False)
    """The file as listed, with what the listing said: size, ETag, captions."""
    read: Callable[[], SegmentEmbeddings] | None = field(default=None, repr=False)
    _found: SegmentEmbeddings | None = field(default=None, repr=False)
    words: FileWords = field(default_factory=FileWords, repr=False)
    """What ``transcripts=`` and ``descriptions=`` gave for the file."""

    @property
    def name(self) -> str:
        """The file in messages: its URI or path, never its bytes."""
        file = self.media or self.source
        if isinstance(file, Media):
            return file.name
        # Of other path objects, any method may raise.
        return self.uri or (str(file) if isinstance(file, str | PurePath) else short_repr(file))

    @property
    def segments(self) -> SegmentEmbeddings | None:
        """The file's segments; None if it failed."""
        if self._found is None and self.read is not None:
            self._found = self.read()
        return self._found

    def __reduce__(self) -> tuple[Any, ...]:
        # How to read them stays in this process, so they are read first.
        return MediaResult, (self.source, self.uri, self.error, self.media, None, self.segments, self.words)


@dataclass(slots=True)
class _Task:
    """One file to embed, with its job's key and the contents of its folder, if listings gave them."""

    source: MediaLike
    media: Media
    request: MediaRequest
    key: JobKey | None
    contents: Contents | None = None


def embed_all(
    embedder: Callable[[], MediaEmbedder],
    listing: MediaListing,
    request: Callable[[Kind], MediaRequest],
    run: RunOptions,
    *,
    executor: CancellableExecutor,
    at_once: int,
    read_ahead: bool,
    token: CancelToken,
) -> Generator[MediaResult, None, None]:
    """Embed the files of a listing.

    Args:
        embedder: the embedder of the current process, made when it is first needed.
        listing: the files.
        request: what to request of each kind.
        run: how to embed them.
        executor: embeds at most ``at_once`` files at a time.
        at_once: files in progress.
        read_ahead: read the segments of finished files on the executor from the start, not from the first access on.
        token: ends it; cancelled when the caller stops taking results.
    """
    lookup, context = _Lookup(embedder, run), contextvars.copy_context()
    # Whoever reads one finished file's segments reads the next ones' too.
    is_read = threading.Event()

    def embed(task: _Task, words: AskedWords | None = None) -> SegmentEmbeddings:
        return embedder().embed(task.media, task.request, run, task.key, task.contents, lookup.index, words)

    def known(task: _Task | MediaResult) -> MediaResult | None:
        if isinstance(task, MediaResult):
            if task.error is not None:
                log_failure(task.name, task.error)
            return task
        task.contents = lookup.contents(task.media, task.key)
        return done_before(task) if run.words is None else None

    def done_before(task: _Task, words: FileWords | None = None) -> MediaResult | None:
        is_done = task.contents is not None and task.contents.outputs
        # With force=True a finished job is embedded again.
        if read_ahead or is_read.is_set() or run.force or not is_done:
            return None
        result = MediaResult(task.source, task.media.uri, media=task.media, read=functools.partial(read, task))
        return result if words is None else replace(result, words=words)

    def read(task: _Task) -> SegmentEmbeddings:
        is_read.set()
        return embed(task)

    def embed_one(task: _Task | MediaResult) -> MediaResult:
        assert isinstance(task, _Task)  # noqa: S101  the others are known
        words = run.words.of(task.media) if run.words else None
        try:
            with cancel_scope(token):
                # Words that are there need no segments, which are read at their first access.
                there = words.find(task.key.source) if words and task.key and task.contents else None
                if there is not None and (result := done_before(task, there)) is not None:
                    return result
                found = embed(task, words)
                found_words = words.embedded(found) if words else FileWords()
        except BaseException as error:
            if words is not None:
                words.failed(error)
            if not isinstance(error, MarengoError):
                raise
            return MediaResult(task.source, task.media.uri, error=error, media=task.media)
        return MediaResult(task.source, found.source, media=task.media, _found=found, words=found_words)

    def in_context(task: _Task | MediaResult) -> MediaResult:
        # The caller's: a file's span belongs to the caller's span.
        return context.copy().run(embed_one, task)

    tasks = _tasks(embedder, listing, request)
    results = as_finished(in_context, tasks, executor=executor, at_once=at_once, token=token, known=known)
    return results if run.words is None else _with_words(results, run.words)


def _with_words(results: Generator[MediaResult, None, None], words: RunWords) -> Generator[MediaResult, None, None]:
    """The results, with a warning for each file whose words are missing. At the end, all work on words has ended."""
    with ExitStack() as ended:
        for executor in words.executors.values():
            ended.enter_context(executor)
        ended.enter_context(closing(results))
        for done in results:
            done.words.warn(done.name)
            yield done


def _tasks(
    embedder: Callable[[], MediaEmbedder], listing: MediaListing, request: Callable[[Kind], MediaRequest]
) -> Iterator[_Task | MediaResult]:
    """What to embed, with its key; what can't be embedded is a result with an error."""
    for source, media in listing.items():
        if isinstance(media, MarengoError):
            yield MediaResult(source, None, error=media)
            continue
        try:
            wanted = request(media.kind)
        except MarengoError as error:
            yield MediaResult(source, media.uri, error=error, media=media)
            continue
        try:
            key = embedder().key(media, wanted)
        except MarengoError:
            # What is wrong with it is reported when it is embedded.
            key = None
        yield _Task(source, media, wanted, key)


class _Lookup:
    """What is there of each file's job: the first few are listed one by one, the rest by one listing of all.

    Attributes:
        index: all jobs, once they are listed.
    """

    def __init__(self, embedder: Callable[[], MediaEmbedder], run: RunOptions) -> None:
        self._embedder = embedder
        self._run = run
        self._count = 0
        self.index: JobIndex | None = None

    def contents(self, media: Media, key: JobKey | None) -> Contents | None:
        """A job's folder; None if that is unknown, such as without the file's version."""
        self._count += 1
        if self.index is None and self._count > LOOKUPS:
            self.index = self._embedder().load_index()
        if key is None:
            return None
        return self.index.contents(key) if self.index else self._embedder().contents(media, key, self._run)

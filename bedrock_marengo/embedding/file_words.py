"""The words of a run's files: asked for next to the embedding, waited for after it. Their failure loses no vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.errors import ClosedError, MarengoError, MarengoWarning
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.sources import SERVICES, Charges, Part, TimedWords, WordsFile, WordSource

__all__ = ["AskedWords", "FileWords", "RunWords"]


@dataclass(frozen=True, slots=True)
class FileWords:
    """The words of one file: what is said in it and what is seen, each None if it was not asked for or there is none.

    Attributes:
        said: by Amazon Transcribe.
        seen: by Pegasus.
        errors: service -> why its words are missing.
    """

    said: Transcript | None = None
    seen: TimedWords | None = None
    errors: Mapping[str, MarengoError] = field(default_factory=dict)

    def warn(self, name: str, *, stacklevel: int = 2) -> None:
        """Warn of each part that is missing from a file whose vectors are there."""
        for title, error in self.errors.items():
            # Unrendered, so that each front end names settings its own way.
            why = str(error) if error.setting is not None else Exception.__str__(error)
            warning = MarengoWarning(f"{name} has no words by {title}: {why}", remedy=error.remedy)
            warnings.warn(warning, stacklevel=stacklevel + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWords:
    """The sources of words of one run.

    Attributes:
        sources: each gives one part.
        costs: what pays.
        executors: the threads of each source: as many as it works on files at once, so that none waits for another.
        only_done: find words that are there, and ask no service.
        is_whole: whether whole files are embedded.
        force: pay again for words that are done or failed for good.
        timeout_sec: how long to wait for each call.
    """

    sources: Sequence[WordSource]
    costs: Charges
    executors: Mapping[Part, CancellableExecutor]
    only_done: bool = False
    is_whole: bool = True
    force: bool = False
    timeout_sec: float | None = None

    def of(self, media: Media) -> AskedWords:
        """The words of one file, which are not asked for yet."""
        return AskedWords(self, media)


class AskedWords:
    """The words of one file of a run.

    Args:
        run: the sources and how to use them.
        media: the file as it was given.
    """

    def __init__(self, run: RunWords, media: Media) -> None:
        self._run = run
        self._media = media
        self._segments: Future[SegmentEmbeddings] = Future()
        self._futures: dict[Part, tuple[WordSource, Future[TimedWords | None]]] = {}

    def begin(self, source: SourceIdentity) -> None:
        """Ask for the words of this version of the file, once; returns at once."""
        if self._futures:
            return
        run = self._run
        file = WordsFile(
            media=self._media,
            source=source,
            costs=run.costs,
            segments=self._segments,
            is_whole=run.is_whole,
            force=run.force,
            timeout_sec=run.timeout_sec,
        )
        for each in run.sources:
            self._futures[each.part] = (
                each,
                run.executors[each.part].submit(_make, each, file, only_done=run.only_done),
            )

    def find(self, source: SourceIdentity) -> FileWords | None:
        """The words that are there; None if some would have to be made."""
        found: dict[Part, TimedWords] = {}
        for each in self._run.sources:
            try:
                if not each.takes(self._media):
                    continue
                words = each.find(source) if self._run.only_done or not self._run.force else None
            except MarengoError:
                # What is wrong is reported when they are made.
                return None
            if words is not None:
                found[each.part] = words
            elif not self._run.only_done:
                return None
        return _words_of(found, {})

    def embedded(self, segments: SegmentEmbeddings) -> FileWords:
        """The file is embedded: wait for its words."""
        self._segments.set_result(segments)
        found: dict[Part, TimedWords] = {}
        errors: dict[str, MarengoError] = {}
        for part, (source, future) in self._futures.items():
            try:
                if (words := future.result()) is not None:
                    found[part] = words
            except CancelledError:
                errors[SERVICES[source.service]] = ClosedError("The run was ended before. The next run continues.")
            except MarengoError as error:
                errors[SERVICES[source.service]] = error
        for title, why in errors.items():
            instrumentation.emit("words failed", source=segments.source, service=title, error=why)
        return _words_of(found, errors)

    def failed(self, error: BaseException) -> None:
        """The file was not embedded: no one waits for its words, which the next run finds."""
        if not self._segments.done():
            self._segments.set_exception(error)


def _words_of(found: Mapping[Part, TimedWords], errors: Mapping[str, MarengoError]) -> FileWords:
    said = found.get("said")
    assert said is None or isinstance(said, Transcript)  # noqa: S101  the part of a transcript
    return FileWords(said, found.get("seen"), errors)


def _make(source: WordSource, file: WordsFile, *, only_done: bool) -> TimedWords | None:
    if not source.takes(file.media):
        return None
    return source.find(file.source) if only_done else source.make(file)

"""Calls that give files their words without embedding them: by Amazon Transcribe, or for segments that are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bedrock_marengo.async_calls import async_twin, one_by_one
from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope
from bedrock_marengo.aws.parallel import as_finished
from bedrock_marengo.contract.inputs import Media, MediaLike, Sources, split_s3_uri
from bedrock_marengo.embedding.batch import MediaResult
from bedrock_marengo.embedding.file_words import FileWords, RunWords
from bedrock_marengo.embedding.run_options import RunOptions, log_failure
from bedrock_marengo.errors import ConfigurationError, InputError, MarengoError
from bedrock_marengo.file_calls import FileCalls
from bedrock_marengo.media.durations import Durations
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.settings import WORDS
from bedrock_marengo.validation import reject_unknown
from bedrock_marengo.words.caption_files import write_captions
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.descriptions import Descriptions
from bedrock_marengo.words.pegasus import iter_described
from bedrock_marengo.words.sources import WordsFile
from bedrock_marengo.words.transcribe import Transcribe, TranscriptSource

__all__ = ["WordCalls"]

SETTINGS = ("force", "timeout_sec", "max_cost_usd", "durations", "assume_duration_sec")


class WordCalls(FileCalls):
    """The part of ``MarengoClient`` that transcribes files."""

    def transcribe(
        self,
        source: MediaLike,
        transcribe: Transcribe = Transcribe(),  # noqa: B008  immutable
        *,
        force: bool = False,
        timeout_sec: float | None = None,
        max_cost_usd: float | None = None,
        durations: Durations | None = None,
        assume_duration_sec: float | None = None,
    ) -> Transcript:
        """Transcribe one file with Amazon Transcribe; reuses a finished job. Captions next to the file are ignored.

        A local file is uploaded under ``output_s3_uri`` first.

        Args:
            source: a video or audio file, as for ``embed_media``.
            transcribe: language and other settings.
            force: pay again if it is done or failed.
            timeout_sec: how long to wait. After that the job continues, and the next call joins it.
            max_cost_usd: refuse a job that would cost more.
            durations: source URI (or path) -> seconds, for ``max_cost_usd``.
            assume_duration_sec: the duration to assume if it is unknown.

        Returns:
            Words with times. ``.captions`` has them as WebVTT. Both are empty if nothing is said.

        Raises:
            InputError: Transcribe can't read the file. Nothing is billed.
            MediaNotFoundError: The file does not exist.
            BudgetError: It would cost more than ``max_cost_usd``.
            JobError: Transcribe failed on the file, or did not finish within ``timeout_sec``.
            OutputError: The transcript can't be used.
            ServiceError: AWS refused a call.
        """
        run = self._run_options(
            force=force,
            timeout_sec=timeout_sec,
            max_cost_usd=max_cost_usd,
            durations=durations,
            assume_duration_sec=assume_duration_sec,
        )
        return self._transcribe(self._source_of(transcribe), Media.of(source), run)

    def transcribe_many(
        self,
        sources: Sources | MediaListing,
        transcribe: Transcribe = Transcribe(),  # noqa: B008  immutable
        **settings: Any,
    ) -> Generator[MediaResult, None, None]:
        """Transcribe many files that have no captions, and yield each result as soon as it is ready.

        ``client.plan(sources, transcripts=..., embed=False)`` shows the cost.

        Args:
            sources: as for ``embed_many``.
            transcribe: language and other settings.
            settings: those of ``transcribe``.

        Returns:
            A ``MediaResult`` for each file, without segments: ``.words.said`` has the words, None if the file has
            captions or is an image. A file that failed has an ``.error``.
        """
        reject_unknown(settings, SETTINGS, "transcribe_many")
        words, token = self._source_of(transcribe), CancelToken(self._runtime.limiter.cancel_token)
        return self._transcribe_all(sources, words, self._run_options(**settings), token)

    def write_captions(
        self, source: MediaLike, transcript: Transcript, *, output: Path | str | None = None
    ) -> str | None:
        """Write a transcript as WebVTT next to its file, where loaders find it. Never over a file that is there.

        Args:
            source: the file, as for ``embed_media``.
            transcript: of ``transcribe``, whose ``.captions`` are written.
            output: a ``pathlib.Path`` of a folder or an S3 prefix to write to instead.

        Returns:
            Path or S3 URI of ``match.vtt``; None if there is such a file already, or if nothing is said.

        Raises:
            InputError: The file can't be written, or ``output`` is neither.
            ServiceError: AWS refused: it needs s3:PutObject there.
        """
        if isinstance(output, str):
            split_s3_uri(output)
        elif output is not None and not isinstance(output, Path):
            raise InputError("expected a pathlib.Path or an S3 prefix.", setting="output", value=output)
        if not transcript.words(0.0, float("inf")):
            return None
        return write_captions(self._runtime.objects, Media.of(source), transcript.captions, output)

    atranscribe = async_twin(transcribe, "jobs")
    awrite_captions = async_twin(write_captions)

    def atranscribe_many(
        self,
        sources: Sources | MediaListing,
        transcribe: Transcribe = Transcribe(),  # noqa: B008  immutable
        **settings: Any,
    ) -> AsyncGenerator[MediaResult, None]:
        """``transcribe_many`` for asyncio: ``async for done in client.atranscribe_many(...)``."""
        reject_unknown(settings, SETTINGS, "atranscribe_many")
        words, token = self._source_of(transcribe), CancelToken(self._runtime.limiter.cancel_token)
        results = self._transcribe_all(sources, words, self._run_options(**settings), token)
        return one_by_one(results, lambda: self._runtime.pool("jobs"), lambda: self._runtime.pool("async"), token)

    # For segments that a store holds already.

    def open_words(self, **settings: Any) -> tuple[RunWords | None, CancelToken]:
        """The sources of words of one run that embeds nothing, and what ends it.

        Args:
            settings: transcripts, descriptions, and those of ``transcribe``.

        Raises:
            ConfigurationError: A setting is not valid, or there is no such setting.
        """
        reject_unknown(settings, (*WORDS, *SETTINGS), "add_words")
        token = CancelToken(self._runtime.limiter.token())
        words = self._run_options(token, **settings).words
        # The segments that a store holds may be a part of the file's.
        return (None if words is None else replace(words, is_whole=False)), token

    def descriptions_of(self, source: str) -> list[Descriptions]:
        """What Pegasus has said of a source, with any settings, as it is kept under ``output_s3_uri``. Costs nothing.

        Raises:
            OutputError: It can't be read.
            ServiceError: AWS refused.
        """
        prefix = self._settings.output_s3_uri
        return [] if prefix is None else list(iter_described(self._runtime.objects, prefix, source))

    def _source_of(self, transcribe: Transcribe) -> TranscriptSource:
        if not isinstance(transcribe, Transcribe):
            raise ConfigurationError("expected Transcribe(...).", setting="transcribe", value=transcribe)
        source = self._runtime.word_source(transcribe)
        assert isinstance(source, TranscriptSource)  # noqa: S101  of these settings
        return source

    def _transcribe(self, words: TranscriptSource, media: Media, run: RunOptions) -> Transcript:
        source = self._runtime.embedder.locate(media, run)
        file = WordsFile(
            media=media,
            source=source,
            costs=run.costs,
            is_whole=False,
            force=run.force,
            timeout_sec=run.timeout_sec,
        )
        return words.make(file)

    def _transcribe_all(
        self, sources: Sources | MediaListing, words: TranscriptSource, run: RunOptions, token: CancelToken
    ) -> Generator[MediaResult, None, None]:
        listing = sources if isinstance(sources, MediaListing) else self.list_media(sources)

        def transcribe(item: tuple[MediaLike, Media | MarengoError]) -> MediaResult:
            source, media = item
            if isinstance(media, MarengoError):
                log_failure(str(source), media)
                return MediaResult(source, None, error=media)
            result = MediaResult(source, media.uri, media=media)
            try:
                with cancel_scope(token):
                    if not words.takes(media):
                        return result
                    return replace(result, words=FileWords(self._transcribe(words, media, run)))
            except MarengoError as error:
                log_failure(media.name, error, kind=media.kind)
                return replace(result, error=error)

        executor = self._runtime.open_executor("words", words.at_once, token)
        return as_finished(transcribe, listing.items(), executor=executor, at_once=words.at_once, token=token)

"""One file's transcription: its record, its job, its output. Each attempt has one name, so none is paid for twice."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope
from bedrock_marengo.aws.retries import TRANSIENT_FAILURE
from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.errors import (
    InputError,
    JobError,
    MarengoError,
    MediaNotFoundError,
    OutputError,
    ServiceError,
    warn_once,
)
from bedrock_marengo.media.containers import has_av
from bedrock_marengo.media.sound import upload_sound
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.record import RecordFolder, WordsRecord
from bedrock_marengo.words.sources import SERVICES, Parts, Service, WordsFile
from bedrock_marengo.words.transcript_json import read_words, transcript_of
from bedrock_marengo.words.transcription_jobs import (
    NAMES,
    TranscriptionJobs,
    TranscriptionStatus,
    UncertainStartError,
)

__all__ = ["Transcription", "billed_sec", "read_done"]

SERVICE: Service = "transcribe"
TITLE = SERVICES[SERVICE]
LONGEST_SEC = 4 * 3600.0
LEAST_SEC = 15
"""The least that a job is billed for: public code, unchecked."""
ATTEMPTS = 3
"""Attempts of one file over all runs, without force; ours."""
_NO_SOUND = re.compile(r"no audio|not contain audio|without audio", re.IGNORECASE)
"""What a failed job says of a video without a sound track: there is nothing to transcribe, which is not an error."""
_NOT_READ = re.compile(r"format|too large|sample rate|channels", re.IGNORECASE)
"""What a failed job says of a file that can be transcribed once its sound is extracted."""


def billed_sec(length_sec: float) -> int:
    """The seconds that a file is billed for."""
    return max(LEAST_SEC, math.ceil(length_sec))


def read_done(objects: S3Objects, record: WordsRecord) -> Transcript:
    """The words that a record says are done.

    Raises:
        JobError: They are gone.
        OutputError: They can't be read.
        ServiceError: AWS refused.
    """
    output = (record.done or {}).get("output")
    if output is None:
        # There was no sound.
        return transcript_of([])
    try:
        return transcript_of(read_words(objects.get(output)[0], output))
    except ServiceError as error:
        if error.code != "NoSuchKey":
            raise
        raise JobError(
            f"The transcript of {record.uri} is gone: {output}. {{force}} makes it again, and it is billed again.",
            source=record.uri,
            arn=None,
            remedy={"force": True},
        ) from error


@dataclass(slots=True)
class _Claim:
    """The record as this process knows it. ``is_ours``: this process wrote the present attempt."""

    record: WordsRecord
    etag: str
    is_ours: bool


@dataclass(slots=True)
class _Run:
    """An attempt's job while it is followed.

    Attributes:
        name: of the job.
        is_paid_here: whether this process started it.
        is_older: whether it was there before the record: ``forget`` deleted what came of it.
        since: when it was started, by the monotonic clock; None if by another process.
        length_sec: of what is transcribed; None if unknown.
        charged_usd: what the budget was charged for it.
    """

    name: str
    is_paid_here: bool = False
    is_older: bool = False
    since: float | None = None
    length_sec: float | None = None
    charged_usd: float = 0.0


class Transcription:
    """Finds, joins or starts the job of one file, and reads its words.

    Args:
        parts: the client's.
        jobs: Transcribe.
        folder: where the record and the output are.
        file: the file.
        request: the languages and other settings of the job.
        price: length -> US dollars.
    """

    def __init__(
        self,
        parts: Parts,
        jobs: TranscriptionJobs,
        folder: RecordFolder,
        file: WordsFile,
        request: Mapping[str, Any],
        price: Callable[[float | None], float | None],
    ) -> None:
        self._parts = parts
        self._objects = parts.objects
        self._jobs = jobs
        self._folder = folder
        self._file = file
        self._request = request
        self._price = price
        self._token: CancelToken = parts.limiter.token()

    def words(self, new: WordsRecord) -> Transcript:
        """The words; ``new`` is the record of a file that has none."""
        claim = self._claimed(new)
        while True:
            if claim.record.done:
                return read_done(self._objects, claim.record)
            if claim.record.failed:
                raise JobError(
                    f"{TITLE} failed on {self._file.source.uri}: {claim.record.failed} {{force}} tries again.",
                    source=self._file.source.uri,
                    arn=None,
                    remedy={"force": True},
                )
            run = self._job(claim)
            if run is None:
                return self._done(claim, transcript_of([]), {"output": None, "why": "It has no sound track."})
            status = self._status_at_end(run)
            self._remove_sound(claim, run)
            ended = self._ended(claim, run, status)
            if isinstance(ended, Transcript):
                return ended
            claim = ended

    # Which attempt.

    def _claimed(self, new: WordsRecord) -> _Claim:
        """The record: ours if there was none, and with force a new attempt of one that has ended."""
        found = self._folder.read()
        if found is None:
            return self._written(new, None)
        claim = _Claim(*found, is_ours=False)
        has_ended = claim.record.done or claim.record.failed
        return self._next(claim) if has_ended and self._file.force else claim

    def _written(self, record: WordsRecord, etag: str | None) -> _Claim:
        """The record as written; if another process was first, as that wrote it."""
        written = self._folder.write(record, etag)
        if written is not None:
            return _Claim(record, written, is_ours=True)
        found = self._folder.read()
        # It was withdrawn since.
        return _Claim(*found, is_ours=False) if found else self._written(record, None)

    def _next(self, claim: _Claim, *, sound: bool = False) -> _Claim:
        """Another attempt."""
        record = claim.record
        record.attempt, record.done, record.failed = record.attempt + 1, None, None
        record.sound = record.sound or sound
        return self._written(record, claim.etag)

    # Its job.

    def _job(self, claim: _Claim) -> _Run | None:
        """The attempt's job: joined if Transcribe knows its name, else started; None if there is no sound."""
        uri = self._file.source.uri
        # Below another prefix, another output is wanted.
        place = hashlib.sha256(self._folder.prefix.encode()).hexdigest()[:16]
        run = _Run(f"{NAMES}{claim.record.fingerprint[:32]}-{place}-{claim.record.attempt}")
        if not claim.is_ours and (self._jobs.get(run.name, uri) is not None or self._has_output(run)):
            instrumentation.emit("words joined", service=TITLE, source=uri)
            return run
        length = self._file.costs.length_of(self._file.media, self._file.source)
        charged = 0.0
        try:
            if length is not None and length > LONGEST_SEC:
                raise InputError(
                    f"{uri} lasts {length / 3600:.1f} h: the limit of {TITLE} is {LONGEST_SEC / 3600:g} h."
                )
            charged = self._file.costs.charge(
                f"{TITLE} on {self._file.media.name}", self._price(length or self._file.costs.assume_duration_sec)
            )
            if (sound := self._media_uri(claim, run)) is None:
                self._file.costs.refund(charged)
                return None
            run.is_paid_here = self._jobs.start(self._start(run, sound), uri, token=self._token)
        except UncertainStartError as error:
            # The job may run: its record must stay.
            raise error.error from error
        except BaseException:
            self._file.costs.refund(charged)
            if claim.is_ours and claim.record.attempt == 1:
                with cancel_scope(CancelToken()):
                    self._folder.withdraw(claim.etag)
            raise
        run.length_sec = run.length_sec or length
        if run.is_paid_here:
            self._file.costs.called(SERVICE)
            run.since, run.charged_usd = time.monotonic(), charged
        else:
            self._file.costs.refund(charged)
            run.is_older = claim.is_ours
        instrumentation.emit(f"words {'started' if run.is_paid_here else 'joined'}", service=TITLE, source=uri)
        return run

    def _media_uri(self, claim: _Claim, run: _Run) -> str | None:
        """What Transcribe reads: the file, or its sound, which is extracted; None if there is no sound in it."""
        if not claim.record.sound:
            return self._file.source.uri
        media = self._file.media if self._file.media.uri is None else Media("video", uri=self._file.source.uri)
        uri = self._sound_uri(run)
        run.length_sec = upload_sound(self._objects, media, uri, token=self._token)
        return None if run.length_sec is None else uri

    def _start(self, run: _Run, sound: str) -> dict[str, Any]:
        """The request of StartTranscriptionJob."""
        bucket, key = split_s3_uri(self._output_uri(run))
        request = {
            **self._request,
            "TranscriptionJobName": run.name,
            "Media": {"MediaFileUri": sound},
            "OutputBucketName": bucket,
            "OutputKey": key,
        }
        if self._parts.output_kms_key_id:
            request["OutputEncryptionKMSKeyId"] = self._parts.output_kms_key_id
        if self._parts.tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in self._parts.tags.items()]
        return request

    def _status_at_end(self, run: _Run) -> TranscriptionStatus:
        """How a job ended.

        Raises:
            JobError: It still runs after ``timeout_sec``, or Transcribe no longer knows it.
            ClosedError: The wait was cancelled.
        """
        uri, timeout_sec = self._file.source.uri, self._file.timeout_sec
        until = None if timeout_sec is None else time.monotonic() + timeout_sec
        try:
            while True:
                left = None if until is None else until - time.monotonic()
                self._jobs.wait(run.name, since=run.since, timeout_sec=left, token=self._token)
                self._token.check(f"The wait for the words of {uri}")
                status = self._jobs.get(run.name, uri)
                if status is None and self._has_output(run):
                    return TranscriptionStatus("COMPLETED")
                if status is None:
                    raise JobError(
                        f"{TITLE} no longer knows the job of {uri} ({run.name}), and it wrote no transcript. Run "
                        "again.",
                        source=uri,
                        arn=None,
                        transient=True,
                    )
                if not status.is_running:
                    return status
                if until is not None and time.monotonic() >= until:
                    raise JobError(
                        f"{TITLE} is still transcribing {uri} after {timeout_sec:g} s ({run.name}). The next run joins "
                        "its job.",
                        source=uri,
                        arn=None,
                        running=True,
                    )
        finally:
            if run.is_paid_here:
                self._jobs.release()

    # What came of it.

    def _ended(self, claim: _Claim, run: _Run, status: TranscriptionStatus) -> Transcript | _Claim:
        """The words, or what is to be done next."""
        if status.status != "COMPLETED":
            self._count(run, 0.0)
            # A job that failed is free: the next attempt has its budget.
            self._file.costs.refund(run.charged_usd)
            return self._after_failure(claim, run, status.reason or "it gives no reason.")
        uri = self._output_uri(run)
        try:
            words = read_words(self._objects.get(uri)[0], uri)
        except ServiceError as error:
            if error.code != "NoSuchKey":
                raise
            return self._after_failure(claim, run, f"its transcript {uri} is gone.")
        finally:
            self._count(run, run.length_sec)
        if self._has_changed():
            # The next attempt is for the version that this record is about, should it come back.
            self._next(claim)
            raise OutputError(
                f"{self._file.source.uri} was replaced while it was transcribed, so the transcript is unusable. Run "
                "again."
            )
        return self._done(claim, transcript_of(words), {"output": uri, "words": len(words)})

    def _done(self, claim: _Claim, words: Transcript, done: dict[str, Any]) -> Transcript:
        claim.record.done = done
        instrumentation.emit("words done", service=TITLE, source=self._file.source.uri)
        try:
            self._folder.write(claim.record, claim.etag)
        except ServiceError as error:
            # The words are there: a note that can't be written must not lose them.
            warn_once(
                "words note",
                f"The transcript of {self._file.source.uri} was read, but words.json could not be updated to say so. "
                f"{error} (Shown once.)",
            )
        return words

    def _after_failure(self, claim: _Claim, run: _Run, why: str) -> Transcript | _Claim:
        if _NO_SOUND.search(why):
            return self._done(claim, transcript_of([]), {"output": None, "why": why})
        if _NOT_READ.search(why) and not claim.record.sound and has_av():
            return self._next(claim, sound=True)
        if (run.is_older or TRANSIENT_FAILURE.search(why)) and claim.record.attempt < ATTEMPTS:
            return self._next(claim)
        claim.record.failed = why
        return self._written(claim.record, claim.etag)

    def _has_changed(self) -> bool:
        source = self._file.source
        try:
            now = locate(self._objects, Media("video", uri=source.uri), self._parts.identity, to_read=False)
        except MediaNotFoundError:
            # Its words are right, as its vectors are.
            return False
        return now.canonical() != source.canonical()

    def _count(self, run: _Run, length_sec: float | None) -> None:
        """Count what a job cost, if this process started it; a length that is unknown is that of the segments."""
        if not run.is_paid_here:
            return
        if length_sec is None and self._file.is_whole:
            with contextlib.suppress(MarengoError, CancelledError):
                length_sec = float(self._file.segments.result().end_sec.max())
        if length_sec is not None:
            seconds = billed_sec(length_sec) if length_sec else 0
            self._file.costs.priced(SERVICE, seconds, (self._price(length_sec) or 0.0) if length_sec else 0.0)

    def _remove_sound(self, claim: _Claim, run: _Run) -> None:
        """Delete the extracted sound of a job that has ended."""
        if claim.record.sound:
            # If it may not be deleted, forget() or a lifecycle rule does it.
            with contextlib.suppress(ServiceError):
                self._objects.delete(self._sound_uri(run))

    def _has_output(self, run: _Run) -> bool:
        return self._objects.find(self._output_uri(run)) is not None

    def _output_uri(self, run: _Run) -> str:
        return f"{self._folder.prefix}{run.name}.json"

    def _sound_uri(self, run: _Run) -> str:
        return f"{self._folder.prefix}{run.name}.flac"

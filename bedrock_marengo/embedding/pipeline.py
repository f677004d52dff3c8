"""One medium to its segments: find it, put it on S3, find or start its work, follow, read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.contract.models import Model
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.responses import read_output
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.embedding.invoke import Invoker
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.errors import (
    JobError,
    MarengoError,
    MediaNotFoundError,
    NotEmbeddedError,
    OutputError,
    SegmentNotFoundError,
    ServiceError,
)
from bedrock_marengo.jobs.fingerprint import fingerprint, work_prefix
from bedrock_marengo.jobs.job import Job, invocation_id
from bedrock_marengo.jobs.runner import Jobs
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.uploads import find_upload, upload

__all__ = ["MediaEmbedder", "Progress"]

Stage = Literal["uploading", "reused", "joined", "started", "running", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens to one medium. ``uri`` is None for a local medium that isn't on S3 yet."""

    stage: Stage
    name: str
    uri: str | None = None

    def __str__(self) -> str:
        return f"{self.stage} {self.name.rsplit('/', 1)[-1]}"


Tell = Callable[[Stage], None]

RUNS = 4
"""Jobs that one call follows for one medium at most; request.json bounds the attempts of the same work at 3."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    force: bool
    repay_expired: bool
    timeout_sec: float | None
    stopped: CancelToken
    outlay: JobCosts


class MediaEmbedder:
    """Turns media into segments under one output prefix."""

    def __init__(
        self,
        aws: Aws,
        gate: RetryLimiter,
        model: Model,
        invoker: Invoker,
        jobs: Jobs,
        output_s3_uri: str,
        *,
        outlay: JobCosts,
        identity: Identity = "etag",
    ) -> None:
        self._aws = aws
        self._gate = gate
        self._model = model
        self._invoker = invoker
        self._jobs = jobs
        self._output_s3_uri = output_s3_uri
        self._outlay = outlay
        self._identity = identity

    def embed(
        self,
        media: Media,
        request: MediaRequest,
        *,
        force: bool = False,
        repay_expired: bool = False,
        timeout_sec: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        outlay: JobCosts | None = None,
        validate: Callable[[str], None] = lambda uri: None,
    ) -> SegmentEmbeddings:
        """All segments of one medium; what ``validate`` raises of its URI calls it off."""

        def tell(stage: Stage) -> None:
            if on_progress is not None:
                on_progress(Progress(stage, media.name, media.uri))

        try:
            source = self._source(media, tell)
            validate(source.uri)
            how = RunOptions(force, repay_expired, timeout_sec, self._gate.stopping(), outlay or self._outlay)
            if request.kind == "image":
                found = self._embed_image(source, request, tell, how)
            else:
                found = self._run_job(source, request, tell, how)
        except MarengoError:
            tell("failed")
            raise
        tell("completed")
        return found

    def job_id(self, media: Media, request: MediaRequest) -> str | None:
        """The fingerprint of a listed medium's work, without a call; None if its identity is not known yet."""
        if media.uri is None or media.size is None or media.etag is None or self._identity == "checksum":
            return None
        return fingerprint(request, locate(self._aws, media, self._identity))

    def is_done(self, media: Media, request: MediaRequest) -> bool:
        """Whether a medium's work lies finished on S3. A refusal to say so is the embedding's to tell."""
        try:
            return self._jobs.find(request, self.locate(media)).output_uri is not None
        except MarengoError:
            return False

    def read_done(self, media: Media, request: MediaRequest) -> SegmentEmbeddings:
        """The segments of work that lies finished on S3; nothing is uploaded, started or waited for.

        Raises:
            NotEmbeddedError: There is none.
        """
        found = media if media.uri else find_upload(self._aws, media, self._output_s3_uri)
        job = self._jobs.find(request, locate(self._aws, found, self._identity)) if found else None
        if job is None or job.output_uri is None:
            raise NotEmbeddedError(f"{media.name} is not embedded with these options under {self._output_s3_uri}.")
        return self._jobs.read(job.output_uri, source=job.source, job=job.id, kind=job.kind)

    def locate(self, media: Media) -> SourceIdentity:
        """The medium where Bedrock can read it: as it is on S3 now, a local one uploaded."""
        return self._source(media, lambda stage: None)

    def start(self, media: Media, request: MediaRequest, *, force: bool = False, repay_expired: bool = False) -> Job:
        """The medium's job, started, joined or found done."""
        source = self.locate(media)
        digest = fingerprint(request, source)
        return self._jobs.start(
            request,
            source,
            uri=self._outlay.place(source.uri, digest),
            force=force,
            repay_expired=repay_expired,
            stopped=self._gate.stopping(),
            before_start=lambda: self._outlay.before_start(request, source, digest),
        )

    def collect(self, job: Job, *, timeout_sec: float | None = None) -> SegmentEmbeddings:
        """Follow a job to its end and read its segments, those of the bytes that it was started for."""
        output = self._jobs.wait(job, timeout_sec=timeout_sec, stopped=self._gate.stopping())
        self._outlay.job_ended(job.source, job.fingerprint)
        found = self._jobs.read(output, source=job.source, job=job.id, kind=job.kind)
        if job.arn is not None:
            self._check_source(job, output)
        return found

    def recall(self, segment: Segment) -> SegmentEmbeddings:
        """The embeddings of the job that a segment names, from its output under our own prefix."""
        prefix = work_prefix(self._output_s3_uri, segment.source, segment.job)
        outputs = self._jobs.outputs(prefix)
        if not outputs:
            raise SegmentNotFoundError(
                f"No vector for the segment {segment.uri!r}: {prefix} has no output.json. It was made under another "
                "output_s3_uri, its output is gone, or someone else wrote this text. Embed the medium again, or keep "
                "the first line from looking like a segment."
            )
        kind = segment.option if segment.option in ("image", "audio") else "video"
        return self._jobs.read(outputs[0], source=segment.source, job=segment.job, kind=kind)

    def _source(self, media: Media, tell: Tell) -> SourceIdentity:
        """The medium where Bedrock can read it, after every check that costs nothing."""
        self._invoker.check_size(media)
        self._aws.check_bucket(split_s3_uri(self._output_s3_uri)[0])
        if media.uri is None:
            tell("uploading")
            media = upload(self._aws, media, self._output_s3_uri)
        elif self._outlay.stage is None:
            self._aws.check_bucket(split_s3_uri(media.uri)[0])
        source = locate(self._aws, media, self._identity)
        self._invoker.check_size(Media(media.kind, uri=source.uri, size=source.size))
        return source

    def _run_job(self, source: SourceIdentity, request: MediaRequest, tell: Tell, how: RunOptions) -> SegmentEmbeddings:
        """Segments by an asynchronous invocation, with a new attempt for what a new attempt may cure."""
        force, useless, last = how.force, None, None
        for _ in range(RUNS):
            digest = fingerprint(request, source)
            pay = functools.partial(how.outlay.before_start, request, source, digest)
            try:
                job = self._jobs.start(
                    request,
                    source,
                    uri=how.outlay.place(source.uri, digest),
                    force=force,
                    repay_expired=how.repay_expired,
                    instead_of=useless,
                    hold=True,
                    stopped=how.stopped,
                    before_start=pay,
                )
            except JobError as error:
                # That the attempts are used up says less than what the last one died of.
                raise last or error from error
            tell("reused" if job.output_uri else "joined" if job.joined else "started")
            force = False
            try:
                found, output = self._finish(job, how)
                if job.output_uri is None and not job.joined:
                    how.outlay.count(request.kind, request, found)
            except (JobError, OutputError) as error:
                if isinstance(error, JobError) and not error.transient:
                    raise
                useless, last = invocation_id(job.output_uri or job.arn), error
                # It may be of no use because the medium was replaced: another attempt is for what it is now.
                source = self._now(source)
                continue
            now = source if job.output_uri else self._now(source)
            if now.canonical() == source.canonical():
                self._jobs.note_output(job, output)
                return found
            # Bedrock may have read the new bytes under the old name.
            self._jobs.void(output, f"{source.uri} changed while its job ran")
            source, useless = now, None
        raise last or _unsettled(source)

    def _finish(self, job: Job, how: RunOptions) -> tuple[SegmentEmbeddings, str]:
        """A job's segments and where its output lies; an output of no use is marked so."""
        try:
            output = self._jobs.wait(job, timeout_sec=how.timeout_sec, stopped=how.stopped)
        except JobError as error:
            if not (error.transient or error.running):
                how.outlay.job_ended(job.source, job.fingerprint)
            raise
        if job.output_uri is None:
            how.outlay.job_ended(job.source, job.fingerprint)
        try:
            return self._jobs.read(output, source=job.source, job=job.id, kind=job.kind), output
        except OutputError as error:
            try:
                self._jobs.void(output, str(error))
            except ServiceError as refused:
                # Unmarked it would be met again: another attempt would not end that.
                raise ServiceError(
                    f"{error} | Nor could it be marked as of no use: {refused}",
                    code=refused.code,
                    operation=refused.operation,
                ) from error
            raise

    def _check_source(self, job: Job, output: str) -> None:
        """Refuse an output whose source may have been replaced before Bedrock read it, unless somebody has looked."""
        record, etag = self._jobs.read_record(job.prefix)
        if record.output == output:
            return
        started = SourceIdentity(record.uri, record.source["size"], record.source["etag"])
        if self._now(started).canonical() != record.source:
            raise OutputError(
                f"{record.uri} is no longer what its job was started for ({job.arn}): it was replaced while the job "
                "ran, or since. Embed it anew, or collect with the identity= that the job was started with."
            )
        self._jobs.note_output(replace(job, _record=(record, etag)), output)

    def _now(self, source: SourceIdentity) -> SourceIdentity:
        """The medium's identity as it is now. A medium that is gone keeps the one it had: its segments are right.

        Raises:
            InputError: It was replaced by what Bedrock can't read.
            ServiceError: AWS would not list.
        """
        media = Media("video", uri=source.uri)
        try:
            now = locate(self._aws, media, self._identity, to_read=False)
            return now if now.canonical() == source.canonical() else locate(self._aws, media, self._identity)
        except MediaNotFoundError:
            return source

    def _embed_image(
        self, source: SourceIdentity, request: MediaRequest, tell: Tell, how: RunOptions
    ) -> SegmentEmbeddings:
        """An image as a segment: one synchronous call, its reply kept where a job's output would lie."""
        for _ in range(RUNS):
            job = self._jobs.find(request, source)
            if job.output_uri is not None and not how.force:
                tell("reused")
                return self._jobs.read(job.output_uri, source=job.source, job=job.id, kind="image")
            tell("started")
            self._jobs.check_place(job)
            reply, found = self._ask_image(job, source, request, how)
            now = self._now(source)
            if now.canonical() == source.canonical():
                self._jobs.put_output(job, reply)
                return found
            # Bedrock may have read the new bytes under the old name.
            source = now
        raise _unsettled(source)

    def _ask_image(
        self, job: Job, source: SourceIdentity, request: MediaRequest, how: RunOptions
    ) -> tuple[bytes, SegmentEmbeddings]:
        how.outlay.before_start(request, source, job.fingerprint)
        place = how.outlay.place(source.uri, job.fingerprint) or source.uri
        body = payloads.encode(request.body(self._invoker.location(Media("image", uri=place))))

        def call() -> tuple[bytes, SegmentEmbeddings]:
            reply = self._invoker.reply(body)
            found = read_output(
                [reply],
                dimension=self._model.dimension,
                source=source.uri,
                job=job.id,
                model_id=self._model.model_id,
                media_type="image",
            )
            return reply, found

        reply, found = self._gate.call(call, "InvokeModel", source.uri)
        how.outlay.usage.image()
        how.outlay.job_ended(source.uri, job.fingerprint)
        return reply, found


def _unsettled(source: SourceIdentity) -> JobError:
    return JobError(
        f"{source.uri} was replaced each of {RUNS} times it was embedded: embed it when it has settled.",
        source=source.uri,
        arn=None,
    )

"""One file to its segments: find it, upload it, find or start its job, wait, read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.contract.models import KINDS, Model
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.responses import read_output
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.embedding.file_words import AskedWords
from bedrock_marengo.embedding.invoke import Invoker, check_size
from bedrock_marengo.embedding.run_options import RunOptions, Stage, log_failure, log_stage
from bedrock_marengo.embedding.start import JOBS_A_CALL, JobStarter, SourceChangedError, never_settled, seen_at
from bedrock_marengo.embedding.vector_cache import VectorCache
from bedrock_marengo.errors import (
    JobError,
    MarengoError,
    NotEmbeddedError,
    OutputError,
    SegmentNotFoundError,
    ServiceError,
)
from bedrock_marengo.jobs.fingerprint import JobKey, work_prefix
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.jobs.job import Job, invocation_id
from bedrock_marengo.jobs.runner import JobRunner
from bedrock_marengo.jobs.work_folder import REPLY, Contents
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import find_upload, upload

__all__ = ["MediaEmbedder"]


class MediaEmbedder:
    """Turns files into segments under one output prefix.

    Args:
        objects: S3.
        limiter: retries InvokeModel.
        model: what embeds.
        invoker: embeds images.
        runner: starts and finds jobs.
        cache: keeps the vectors that were read.
        output_s3_uri: the prefix of jobs and uploads.
        identity: what identifies a version of a file.
    """

    def __init__(
        self,
        objects: S3Objects,
        limiter: RetryLimiter,
        model: Model,
        invoker: Invoker,
        runner: JobRunner,
        cache: VectorCache,
        *,
        output_s3_uri: str,
        identity: Identity = "etag",
    ) -> None:
        self._objects = objects
        self._limiter = limiter
        self._model = model
        self._invoker = invoker
        self._runner = runner
        self._cache = cache
        self._output_s3_uri = output_s3_uri
        self._identity = identity
        self._starter = JobStarter(objects, limiter, runner, identity=identity, output_s3_uri=output_s3_uri)

    # Which job.

    def key(self, media: Media, request: MediaRequest) -> JobKey | None:
        """The key of a listed file's job, without a call; None if its version needs one."""
        if media.uri is None or media.size is None or media.etag is None or self._identity == "checksum":
            return None
        return self._key(request, locate(self._objects, media, self._identity))

    def load_index(self) -> JobIndex:
        """Which jobs are started or done under the output prefix."""
        return JobIndex.load(self._objects, self._output_s3_uri)

    def contents(self, media: Media, key: JobKey, run: RunOptions) -> Contents | None:
        """What the folder of a listed file's job holds. A refusal is left to the embedding to report."""
        try:
            self.locate(media, run)
            return self._runner.contents(key.prefix)
        except MarengoError:
            return None

    def locate(self, media: Media, run: RunOptions) -> SourceIdentity:
        """The file where Bedrock can read it, after every check that costs nothing; a local one is uploaded."""
        check_size(self._model, media)
        self._objects.check_bucket(split_s3_uri(self._output_s3_uri)[0])
        if media.uri is None:
            run.report("uploading", media)
            media = upload(self._objects, media, self._output_s3_uri)
        elif run.costs.copies is None:
            self._objects.check_bucket(split_s3_uri(media.uri)[0])
        source = locate(self._objects, media, self._identity)
        check_size(self._model, Media(media.kind, uri=source.uri, size=source.size))
        return source

    def _key(self, request: MediaRequest, source: SourceIdentity) -> JobKey:
        return JobKey.of(request, source, self._output_s3_uri)

    # To segments.

    def embed(
        self,
        media: Media,
        request: MediaRequest,
        run: RunOptions,
        key: JobKey | None = None,
        contents: Contents | None = None,
        index: JobIndex | None = None,
        words: AskedWords | None = None,
    ) -> SegmentEmbeddings:
        """All segments of one file.

        Args:
            media: the file.
            request: what to ask for.
            run: how to embed it.
            key: its job's, if a listing of the files gave it.
            contents: its job's folder, if that was listed already.
            index: all jobs, if they were listed already.
            words: to ask for as soon as the file is on S3.
        """
        if run.only_done:
            return self._read_done(media, request, key, run, words)
        began = time.monotonic()
        # One token from start to end: a client that is closed between two steps cancels the later one, too.
        with (
            cancel_scope(self._limiter.token()),
            instrumentation.file_span(source=media.uri or media.name, kind=media.kind, model=self._model.version),
        ):
            try:
                source = self.locate(media, run)
                run.validate(source.uri)
                if words is not None:
                    words.begin(source)
                key = key or self._key(request, source)
                contents = contents or (index.contents(key) if index else None)
                listed = self._read_listed(media, key, run, contents)
                if listed is not None:
                    found = listed
                elif KINDS[request.kind].synchronous:
                    found = self._embed_image(media, key, run)
                else:
                    found = self._run_job(media, key, run, is_new=contents is not None and contents.is_empty)
            except MarengoError as error:
                log_failure(media.uri or media.name, error, kind=media.kind)
                run.report("failed", media)
                raise
            run.report("completed", media, segments=len(found), seconds=time.monotonic() - began)
        self._cache.remember(found)
        return found

    def start(self, media: Media, request: MediaRequest, run: RunOptions) -> Job:
        """The file's job: started, joined or found done."""
        key, listed = self._key(request, self.locate(media, run)), seen_at(media)
        job, _ = self._starter.start(key, run.costs, listed, force=run.force, repay_expired=run.repay_expired)
        log_stage(_stage_of(job), job.source, job.kind, job=job.id, arn=job.arn)
        return job

    def collect(self, job: Job, run: RunOptions) -> SegmentEmbeddings:
        """Wait for a job and read its segments, if they are those of the bytes that it was started for."""
        began = time.monotonic()
        output = self._runner.wait(job, timeout_sec=run.timeout_sec, token=self._limiter.token())
        self._ended(job, run)
        found = self._runner.read(job, output)
        if job.arn is not None:
            run.costs.measured(job.arn, found)
        self._check_source(replace(job, output_uri=output))
        self._cache.remember(found)
        seconds = time.monotonic() - began
        log_stage("completed", job.source, job.kind, job=job.id, segments=len(found), seconds=seconds)
        return found

    def segment_vectors(self, segments: Iterable[Segment]) -> list[npt.NDArray[np.float32]]:
        """One vector for each segment, in order: from the cache, else from its job's output.

        Raises:
            SegmentNotFoundError: No such job under the output prefix, or a job without that segment.
        """
        return self._cache.vectors(list(segments), self._read_job_of)

    def _read_done(
        self, media: Media, request: MediaRequest, key: JobKey | None, run: RunOptions, words: AskedWords | None
    ) -> SegmentEmbeddings:
        found = media if media.uri else find_upload(self._objects, media, self._output_s3_uri)
        if found is not None and key is None:
            key = self._key(request, locate(self._objects, found, self._identity))
        for _ in range(JOBS_A_CALL):
            job = self._runner.find(key, run.costs.copy_of(key.source.uri, key.prefix, 1)) if key else None
            if key is None or job is None or job.output_uri is None:
                break
            segments = self._runner.read(job, job.output_uri)
            now = key if self._runner.is_checked(job)[0] else self._starter.now(key)
            if now.fingerprint == key.fingerprint:
                self._cache.remember(segments)
                if words is not None:
                    words.begin(key.source)
                return segments
            key = now
        raise NotEmbeddedError(f"{media.name} is not embedded with these options under {self._output_s3_uri}.")

    def _read_job_of(self, segment: Segment) -> SegmentEmbeddings:
        """The embeddings of the job that a segment names, from its output under our own prefix."""
        prefix = work_prefix(self._output_s3_uri, segment.source, segment.job)
        outputs = self._runner.outputs(prefix)
        if not outputs:
            raise SegmentNotFoundError(
                f"No vector for the segment {segment.uri!r}: {prefix} has no output.json. It was made under another "
                "output_s3_uri, its output was deleted, or the text is not a segment's. Embed the file again, or make "
                "sure that the first line of a text does not look like a segment."
            )
        kind = self._model.kind_of_option(segment.option)
        return self._runner.read(Job(segment.source, kind, segment.job, prefix, None), outputs[0])

    def _read_listed(
        self, media: Media, key: JobKey, run: RunOptions, contents: Contents | None
    ) -> SegmentEmbeddings | None:
        """The segments of an output that a listing showed; None if it is gone, or not known to be right."""
        if contents is None or not contents.outputs or run.force:
            return None
        job = self._runner.find(key, run.costs.copy_of(key.source.uri, key.prefix, 1), contents)
        output = job.output_uri or ""
        if not (job._is_checked or invocation_id(output) == REPLY):
            return None
        try:
            found = self._runner.read(job, output)
        except OutputError:
            return None
        except ServiceError as error:
            if error.code != "NoSuchKey":
                raise
            return None
        run.report("reused", media, job=job.id)
        return found

    # By an asynchronous job.

    def _run_job(self, media: Media, key: JobKey, run: RunOptions, *, is_new: bool) -> SegmentEmbeddings:
        """Segments by an asynchronous job, with a new attempt where a new attempt may help."""
        force, unusable, last = run.force, None, None
        listed = seen_at(media)
        for _ in range(JOBS_A_CALL):
            try:
                job, key = self._starter.start(
                    key,
                    run.costs,
                    listed,
                    force=force,
                    repay_expired=run.repay_expired,
                    instead_of=unusable,
                    hold=True,
                    most=run.jobs_at_once,
                    is_new=is_new,
                )
                is_new = False
            except JobError as error:
                # Why the last attempt failed says more than that the attempts are used up.
                raise last or error from error
            stage = _stage_of(job)
            run.report(stage, media, job=job.id, arn=job.arn)
            force = False
            try:
                found, output = self._finish(job, run)
            except (JobError, OutputError) as error:
                if error.is_kept if isinstance(error, OutputError) else error.running:
                    raise
                now, listed = self._starter.after_failure(job, key, error), time.monotonic()
                last = error if now.fingerprint == key.fingerprint else None
                key, unusable = now, invocation_id(job.output_uri or job.arn)
                continue
            is_checked, job = self._runner.is_checked(job) if job.output_uri else (False, job)
            now = key if is_checked else self._starter.now(key)
            if now.fingerprint == key.fingerprint:
                if not is_checked:
                    self._runner.note_output(job, output)
                return found
            if not job.output_uri:
                self._starter.mark_changed(job, output)
            # Why an earlier version's job failed is not why this ends.
            key, unusable, last, listed = now, None, None, time.monotonic()
        raise last or never_settled(key.source)

    def _finish(self, job: Job, run: RunOptions) -> tuple[SegmentEmbeddings, str]:
        """A job's segments and its output's URI; an unusable output is marked."""
        # Whoever joined a job looks whether others marked its output.
        output = self._wait(job, run, look=job.joined)
        job = replace(job, counts_as_running=False)
        try:
            found = self._read(job, output, listed=job.joined or job.output_uri is not None)
        except ServiceError as error:
            if error.code != "NoSuchKey":
                raise
            # It failed, or its output is late; one that is gone is not marked, as someone may have used it.
            output = self._wait(job, run, look=True)
            found = self._read(job, output)
        if job.arn is not None:
            run.costs.measured(job.arn, found)
        return found, output

    def _read(self, job: Job, output: str, *, listed: bool = True) -> SegmentEmbeddings:
        """A job's segments; an unusable output is marked."""
        try:
            return self._runner.read(job, output, listed=listed)
        except OutputError as error:
            if not error.is_kept:
                self._mark_unusable(output, error)
            raise

    def _wait(self, job: Job, run: RunOptions, *, look: bool) -> str:
        """Wait for a job, and delete the copy that it has read."""
        try:
            output = self._runner.wait(job, timeout_sec=run.timeout_sec, look=look, token=self._limiter.token())
        except JobError as error:
            if not error.running:
                self._ended(job, run)
            raise
        self._ended(job, run)
        return output

    def _mark_unusable(self, output: str, error: OutputError) -> None:
        try:
            self._runner.mark_unusable(output, str(error))
        except ServiceError as refused:
            # Without the mark each attempt would find it again.
            raise ServiceError(
                f"{error} | It could not be marked as unusable either: {refused}",
                code=refused.code,
                operation=refused.operation,
            ) from error

    def _ended(self, job: Job, run: RunOptions) -> None:
        """Delete the copy that a job has read, if it is this attempt's."""
        if job.output_uri is not None or run.costs.copies is None:
            return
        record = job._record[0] if job._record else self._runner.read_request(job.prefix)[0]
        if record.arn == job.arn:
            run.costs.ended(job.source, job.prefix, record.attempt)

    def _check_source(self, job: Job) -> None:
        """Refuse an output whose file may have been replaced before Bedrock read it, unless it was checked before."""
        is_checked, job = self._runner.is_checked(job)
        if is_checked:
            return
        record, _ = job._record or self._runner.read_request(job.prefix)
        started = SourceIdentity(record.uri, record.source["size"], record.source["etag"])
        if self._starter.version_of(started).canonical() != record.source:
            raise OutputError(
                f"{record.uri} is no longer the file that its job was started for ({job.arn}): it was replaced while "
                "the job ran, or since. Embed it again, or collect with the identity= that the job was started with."
            )
        self._runner.note_output(job, job.output_uri or "")

    def _embed_image(self, media: Media, key: JobKey, run: RunOptions) -> SegmentEmbeddings:
        """An image as a segment: one synchronous call, its reply stored like a job's output."""
        listed = seen_at(media)
        for _ in range(JOBS_A_CALL):
            job = self._runner.find(key)
            try:
                if job.output_uri is not None and not run.force:
                    if not self._runner.is_checked(job)[0]:
                        self._starter.look(key, None)
                    run.report("reused", media, job=job.id)
                    return self._runner.read(job, job.output_uri)
                self._starter.look(key, listed)
                run.report("started", media, job=job.id)
                self._runner.check_writable(job)
                found, now = self._invoke_image(job, key, run)
            except SourceChangedError as changed:
                key, listed = self._key(key.request, changed.now), time.monotonic()
                continue
            if now.fingerprint == key.fingerprint:
                return found
            # Bedrock may have read the new bytes under the old name.
            key, listed = now, time.monotonic()
        raise never_settled(key.source)

    def _invoke_image(self, job: Job, key: JobKey, run: RunOptions) -> tuple[SegmentEmbeddings, JobKey]:
        """An image's segment, its reply stored if the file is as it was; and the key of the file as it is now."""
        # Each call has a copy of its own: another process may embed the same image at this moment.
        call_id = uuid.uuid4().hex[:8]
        try:
            self._starter.pay(key, run.costs, call_id)
            uri = run.costs.copy_of(job.source, job.prefix, call_id) or job.source
            body = payloads.encode(key.request.body(self._invoker.location(Media(job.kind, uri=uri))))
            reply = self._limiter.call(lambda: self._invoker.reply(body), "InvokeModel", job.source)
            # Paid for, whatever it contains: a client that is closed now must not lose it.
            run.costs.usage.image()
            with cancel_scope(CancelToken()):
                now = self._starter.now(key)
                return self._read_reply(job, reply, is_unchanged=now.fingerprint == key.fingerprint), now
        finally:
            with cancel_scope(CancelToken()):
                run.costs.ended(key.source.uri, key.prefix, call_id)

    def _read_reply(self, job: Job, reply: bytes, *, is_unchanged: bool) -> SegmentEmbeddings:
        try:
            found = read_output(
                [reply],
                dimension=self._model.dimension,
                source=job.source,
                job=job.id,
                model_id=self._model.model_id,
                media_type=job.kind,
            )
        except OutputError as error:
            if error.is_kept and is_unchanged:
                self._runner.write_reply(job, reply)
            raise
        if is_unchanged:
            self._runner.write_reply(job, reply)
        return found


def _stage_of(job: Job) -> Stage:
    return "reused" if job.output_uri else "joined" if job.joined else "started"

"""Asynchronous invocations: start, follow, collect.

A job is known by its fingerprint. Its work lies in one folder, so that a second run, another process or a later day
finds the output, or the running job, in place of paying again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.retries import TRANSIENT_FAILURE, UNKNOWN_JOB, RetryLimiter
from bedrock_marengo.aws.session import Aws, _whole
from bedrock_marengo.aws.start_rate import StartLimiter
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Model
from bedrock_marengo.contract.payloads import MediaRequest, s3_location
from bedrock_marengo.contract.responses import read_output
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.errors import (
    JobError,
    OutputError,
    ServiceError,
    error_code,
    http_status,
    warn_once,
)
from bedrock_marengo.jobs.fingerprint import FORMAT, RequestFile, fingerprint, token, work_prefix
from bedrock_marengo.jobs.job import _OUTPUT, InvocationStatus, Job, invocation_id
from bedrock_marengo.jobs.poller import JobPoller
from bedrock_marengo.s3.object_version import SourceIdentity

__all__ = ["Jobs"]


ATTEMPTS = 3
_REQUEST = "request.json"
_VOID = "/void.json"
_MANIFEST = "/manifest.json"
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNCONDITIONAL = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})
"""How S3-like stores refuse If-None-Match and If-Match."""
_LATE_SEC = 15.0
"""How long an output may lag behind the status Completed."""
STUCK_SEC = 24 * 3600.0
"""How old a job in progress must be before force=True starts another: media last 4 h at most, jobs took a minute."""
_SKEW_SEC = 300.0
"""How far our clock may be off from AWS's: more, and no signature would hold."""


class Jobs:
    """Starts, follows and collects the jobs of one model under one output prefix."""

    def __init__(
        self,
        aws: Aws,
        gate: RetryLimiter,
        starts: StartLimiter,
        model: Model,
        output_s3_uri: str,
        *,
        tags: Mapping[str, str] | None = None,
        output_kms_key_id: str | None = None,
    ) -> None:
        self._aws = aws
        self._gate = gate
        self._starts = starts
        self._model = model
        self._output_s3_uri = output_s3_uri
        self._tags = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        self._kms_key_id = output_kms_key_id
        self._follower = JobPoller(self._running)
        self._conditional = True
        self._keeps = False

    def start(
        self,
        request: MediaRequest,
        source: SourceIdentity,
        *,
        uri: str | None = None,
        force: bool = False,
        repay_expired: bool = False,
        instead_of: str | None = None,
        hold: bool = False,
        stopped: CancelToken,
        before_start: Callable[[], None] = lambda: None,
    ) -> Job:
        """The job of this work: its output if there is one, else the running one, else a new one.

        Args:
            request: what is asked.
            source: of which medium.
            uri: where Bedrock reads it, if not at its own place.
            force: pay again for work that is done or failed for good.
            repay_expired: pay again for work whose output was read before and is gone.
            instead_of: the id of an invocation that turned out to be of no use.
            hold: count a started job as running until ``wait`` has seen its end.
            stopped: calls the start off.
            before_start: called before a start that costs; what it raises calls the start off.

        Raises:
            JobError: It failed for good, or its output expired.
            ServiceError: AWS refused.
        """
        job = self.find(request, source)
        if job.output_uri is not None and not force:
            return job
        record, etag, mine = self._claim(job, request, source, uri)
        if record.arn is not None:
            running = self._job(job, record, etag, joined=True)
            useless = invocation_id(record.arn) in job._void | {instead_of}
            if not self._wants_another(running, record, force, repay_expired, useless):
                return running
            record, etag = self._next_attempt(job, record, etag)
            mine = True
            if record.arn is not None:
                return self._job(job, record, etag, joined=True)
        sent = False

        def send() -> str:
            nonlocal sent
            before, sent = sent, True
            try:
                return self._start(job, record)
            except ClientError as error:
                if 400 <= (http_status(error) or 0) < 500:
                    # Refused, as by a quota: nothing runs of it.
                    sent = before
                raise

        try:
            before_start()
            record.arn = self._starts.call(send, job.source, hold=hold, stopped=stopped)
        except BaseException:
            # Of a start that was sent the reply may be lost: a job may run.
            if mine and record.attempt == 1 and not sent:
                self._withdraw(job, etag)
            raise
        try:
            etag = self._write(job, record, etag) or etag
        except BaseException:
            # It runs, and its token finds it again; but nobody here will wait for it.
            if hold:
                self._starts.release()
            raise
        return replace(self._job(job, record, etag, joined=not mine), held=hold)

    def find(self, request: MediaRequest, source: SourceIdentity) -> Job:
        """The job of this work as it lies on S3: with ``output_uri`` if it is done. One listing, no call that costs."""
        digest = fingerprint(request, source)
        prefix = work_prefix(self._output_s3_uri, source.uri, digest)
        outputs, void = self._look(prefix)
        output = outputs[0] if outputs else None
        return Job(source.uri, request.kind, digest, prefix, None, output, _ask=self.ask, _void=void)

    def outputs(self, prefix: str) -> list[str]:
        """S3 URIs of the usable outputs in a work folder, newest first."""
        return self._look(prefix)[0]

    def check_place(self, job: Job) -> None:
        """Write a manifest where a synchronous reply will lie, unless one was kept before: else it would be paid for
        and lost.

        Raises:
            ServiceError: AWS refused.
        """
        if not self._keeps:
            self._put_reply(job, _MANIFEST, msgspec.json.encode({"source": job.source}))

    def put_output(self, job: Job, body: bytes) -> None:
        """Keep a synchronous reply where a job's output would lie, so that it is found again, too."""
        self._put_reply(job, _OUTPUT, body)

    def _put_reply(self, job: Job, name: str, body: bytes) -> None:
        self._keeps = False
        bucket, key = split_s3_uri(f"{job.prefix}invoke{name}")
        self._s3(lambda: self._aws.s3.put_object(Bucket=bucket, Key=key, Body=body), "PutObject", job.source)
        self._keeps = True

    def void(self, output_uri: str, why: str) -> None:
        """Mark an output as of no use, so that no run takes it for this work's: cut off, or of other bytes."""
        bucket, key = split_s3_uri(output_uri.removesuffix(_OUTPUT) + _VOID)
        body = msgspec.json.encode({"why": why})
        self._s3(lambda: self._aws.s3.put_object(Bucket=bucket, Key=key, Body=body), "PutObject", output_uri)

    def note_output(self, job: Job, output_uri: str) -> None:
        """Note in request.json that the output was read and is right: if it is gone one day, it expired."""
        if job._record is None:
            return
        record, etag = job._record
        try:
            # Twice, for whoever joined may have noted it, or the reply to our own last note was lost.
            for _ in range(2):
                if record.output == output_uri or record.arn != job.arn:
                    return
                record.output = output_uri
                if self._write(job, record, etag) is not None:
                    return
                record, etag = self.read_record(job.prefix)
        except ServiceError as error:
            # The segments are here and right: what can't be noted must not lose them.
            warn_once(
                "note",
                f"The output of {job.source} was read, but that could not be noted: if it is deleted one day, it is "
                f"made, and paid for, anew. {error} (Said once.)",
            )

    def ask(self, job: Job) -> InvocationStatus:
        """What Bedrock says about a job.

        Raises:
            JobError: Bedrock no longer knows the job.
            ServiceError: AWS refused to say.
        """
        if job.output_uri is not None or job.arn is None:
            return InvocationStatus("Completed", "", job.prefix, settled=True)
        try:
            return self.get_invocation(job.arn, job.source)
        except ServiceError as error:
            if error.code not in UNKNOWN_JOB:
                raise
            raise JobError(
                f"Bedrock no longer knows the job of {job.source} ({job.arn}), and there is no output under "
                f"{job.prefix}. {{force}} starts, and pays for, it again.",
                source=job.source,
                arn=job.arn,
                transient=True,
                remedy={"force": True},
            ) from error

    def get_invocation(self, arn: str, what: str) -> InvocationStatus:
        """What Bedrock says about an invocation.

        Raises:
            ServiceError: AWS refused to say; with a code of ``UNKNOWN_JOB`` it does not know the invocation.
        """
        reply = self._gate.call(
            lambda: _whole(self._aws.bedrock.get_async_invoke(invocationArn=arn), "status"), "GetAsyncInvoke", what
        )
        settled = _passed(reply.get("endTime"), _LATE_SEC)
        stuck = reply["status"] == "InProgress" and _passed(reply.get("submitTime"), STUCK_SEC)
        return InvocationStatus(reply["status"], reply.get("failureMessage", ""), _folder(reply), settled, stuck)

    def wait(self, job: Job, *, timeout_sec: float | None = None, stopped: CancelToken) -> str:
        """Follow a job to its end.

        Returns:
            S3 URI of the output.

        Raises:
            JobError: It failed, did not end within ``timeout_sec``, or nobody waits for it any more.
            OutputError: It ended without an output.
        """
        if job.output_uri is not None or job.arn is None:
            return job.output_uri or self._written(job, job.prefix, 0.0)
        held = [job] if job.held else []

        def release() -> None:
            if held:
                held.clear()
                self._starts.release()

        try:
            return self._follow(job, timeout_sec, stopped, release)
        finally:
            release()

    def close(self) -> None:
        """Wait for the thread that follows jobs: it ends with the last that waits."""
        self._follower.close()

    def read(self, output_uri: str, *, source: str, job: str, kind: str) -> SegmentEmbeddings:
        """Stream an output.json into columns.

        Raises:
            OutputError: It can't be used; the message says where it lies.
        """
        bucket, key = split_s3_uri(output_uri)

        def stream() -> SegmentEmbeddings:
            body = _whole(self._aws.s3.get_object(Bucket=bucket, Key=key), "ETag")["Body"]
            try:
                return read_output(
                    self._until_stopped(body.iter_chunks(1 << 20), output_uri),
                    dimension=self._model.dimension,
                    source=source,
                    job=job,
                    model_id=self._model.model_id,
                    media_type=kind,
                )
            finally:
                body.close()

        try:
            # It was listed, so it is there: S3 may show it to the one sooner than to the other.
            return self._gate.call(stream, "GetObject", output_uri, also_transient=frozenset({"NoSuchKey"}))
        except OutputError as error:
            raise OutputError(f"{output_uri}: {error}") from error

    def _until_stopped(self, chunks: Iterator[bytes], output_uri: str) -> Iterator[bytes]:
        stop = self._gate.stopping()
        for chunk in chunks:
            stop.check(f"Reading {output_uri}")
            yield chunk

    def read_record(self, prefix: str) -> tuple[RequestFile, str]:
        """A work folder's request.json and its ETag.

        Raises:
            OutputError: It is not ours.
            ServiceError: AWS refused, or it is not there.
        """
        uri = prefix + _REQUEST
        bucket, key = split_s3_uri(uri)

        def read() -> tuple[bytes, str]:
            reply = _whole(self._aws.s3.get_object(Bucket=bucket, Key=key), "ETag")
            return reply["Body"].read(), reply["ETag"]

        data, etag = self._gate.call(read, "GetObject", uri)
        return RequestFile.decode(data, uri), etag

    def _look(self, prefix: str) -> tuple[list[str], frozenset[str]]:
        """The usable outputs in a work folder, newest first, and the ids of invocations marked as of no use."""
        bucket, key = split_s3_uri(prefix)
        reply = self._s3(lambda: self._aws.s3.list_objects_v2(Bucket=bucket, Prefix=key), "ListObjectsV2", prefix)
        items: dict[str, datetime] = {item["Key"]: item["LastModified"] for item in reply.get("Contents", [])}
        void = frozenset(invocation_id(name.removesuffix(_VOID)) for name in items if name.endswith(_VOID))
        found = [
            (modified, f"s3://{bucket}/{name}")
            for name, modified in items.items()
            if name.endswith(_OUTPUT) and invocation_id(name) not in void
        ]
        return [uri for _, uri in sorted(found, reverse=True)], void

    def _claim(
        self, job: Job, request: MediaRequest, source: SourceIdentity, uri: str | None
    ) -> tuple[RequestFile, str, bool]:
        """The work's request.json, its ETag, and whether it is ours: written now, because nobody had."""
        uri = uri or source.uri
        record = RequestFile(
            format=FORMAT,
            fingerprint=job.fingerprint,
            source=source.canonical(),
            uri=source.uri,
            model_id=self._model.model_id,
            request=request.canonical(),
            model_input=request.body(s3_location(uri, self._aws.owner(split_s3_uri(uri)[0]))),
        )
        etag = self._write(job, record, None)
        return (record, etag, True) if etag is not None else (*self.read_record(job.prefix), False)

    def _write(self, job: Job, record: RequestFile, etag: str | None) -> str | None:
        """Write request.json if it is as we know it (``etag``), or not there (None); None if somebody was first."""
        bucket, key = split_s3_uri(job.prefix + _REQUEST)
        put = functools.partial(self._aws.s3.put_object, Bucket=bucket, Key=key, Body=record.encode())
        try:
            if not self._conditional:
                return None if etag is None and self._there(bucket, key) else put()["ETag"]
            return (put(IfNoneMatch="*") if etag is None else put(IfMatch=etag))["ETag"]
        except (ClientError, BotoCoreError) as error:
            if error_code(error) in _TAKEN:
                return None
            if error_code(error) == "NoSuchKey" and etag is not None:
                # Who had claimed the work withdrew, or someone forgot it meanwhile.
                return self._write(job, record, None)
            if error_code(error) not in _UNCONDITIONAL or not self._conditional:
                raise ServiceError.of(error, "PutObject", f"s3://{bucket}/{key}") from error
        warn_once(
            "conditional writes",
            f"The store of {job.prefix} refuses conditional writes: two processes that begin the same medium at once "
            "are told apart by clientRequestToken alone. (Said once.)",
            stacklevel=3,
        )
        self._conditional = False
        return self._write(job, record, etag)

    def _withdraw(self, job: Job, etag: str) -> None:
        """Take a claim back under which nothing was started, so that a plan does not take the work for begun."""
        bucket, key = split_s3_uri(job.prefix + _REQUEST)
        # Where it may not be deleted, or another process has taken it up meanwhile, it stays: the next run starts it.
        with contextlib.suppress(ClientError, BotoCoreError):
            self._aws.s3.delete_object(Bucket=bucket, Key=key, IfMatch=etag)

    def _there(self, bucket: str, key: str) -> bool:
        listed = self._aws.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        return any(item["Key"] == key for item in listed)

    def _next_attempt(self, job: Job, record: RequestFile, etag: str) -> tuple[RequestFile, str]:
        """Raise the attempt; if another process did so first, take its record."""
        record.attempt, record.arn, record.output = record.attempt + 1, None, None
        new = self._write(job, record, etag)
        return (record, new) if new is not None else self.read_record(job.prefix)

    def _wants_another(
        self, running: Job, record: RequestFile, force: bool, repay_expired: bool, useless: bool
    ) -> bool:
        """Whether a job that was started before is to be followed by a new attempt."""
        if record.output is not None and not (useless or force or repay_expired):
            raise self._final(running, record, f"was done, but its output {record.output} is gone", "repay_expired")
        try:
            told = self.ask(running)
        except JobError as error:
            told = InvocationStatus("Failed", f"unexpected: {error}", "", settled=True)
        status, said = told.status, told.said
        if status == "InProgress":
            return force and told.stuck
        if force or (repay_expired and record.output is not None):
            return True
        if status == "Completed" and not useless:
            return False
        if record.attempt < ATTEMPTS and (status == "Completed" or TRANSIENT_FAILURE.search(said)):
            return True
        why = said or ("its output is of no use" if status == "Completed" else "Bedrock says no reason")
        raise self._final(running, record, f"failed before, attempt {record.attempt} of {ATTEMPTS}: {why}", "force")

    def _final(self, job: Job, record: RequestFile, what: str, way_out: str) -> JobError:
        return JobError(
            f"The job of {job.source} {what} ({record.arn}). {{{way_out}}} starts, and pays for, it again.",
            source=job.source,
            arn=record.arn,
            remedy={way_out: True},
        )

    def _follow(self, job: Job, timeout_sec: float | None, stopped: CancelToken, release: Callable[[], None]) -> str:
        """The output's URI when the job is done; raises if it failed or the time is up."""
        arn = job.arn or ""
        began = time.monotonic()
        until = None if timeout_sec is None else began + timeout_sec
        since = None if job.joined else began
        while True:
            left = None if until is None else until - time.monotonic()
            ended = self._follower.wait(arn, since=since, stopped=stopped, timeout_sec=left)
            if ended:
                # The next may start while this one's output is looked up.
                release()
            if ended and (own := self._output_in(job, f"{job.prefix}{invocation_id(arn)}/")):
                return own
            if stopped.is_set():
                raise JobError(
                    f"{job.source} was left; the next run joins its job.", source=job.source, arn=arn, running=True
                )
            told = self.ask(job)
            if told.status == "Completed":
                return self._written(job, told.folder, 0.0 if told.settled else _LATE_SEC)
            if told.status == "Failed":
                raise JobError(
                    f"The job of {job.source} failed: {told.said or 'Bedrock says no reason'} ({arn})",
                    source=job.source,
                    arn=arn,
                    transient=bool(TRANSIENT_FAILURE.search(told.said)),
                )
            if not ended:
                raise JobError(
                    f"The job of {job.source} still runs after {timeout_sec:g} s ({arn}). The next run joins it; once "
                    f"it is {STUCK_SEC / 3600:g} h old, {{force}} starts, and pays for, another.",
                    source=job.source,
                    arn=arn,
                    running=True,
                    remedy={"force": True},
                )

    def _running(self, arns: Sequence[str], oldest_sec: float | None) -> set[str]:
        """Which of these jobs are in progress: one call for one job, a page for many."""
        if len(arns) == 1:
            return set(arns) if self.get_invocation(arns[0], arns[0]).status == "InProgress" else set()
        since: dict[str, Any] = {}
        if oldest_sec is not None:
            since["submitTimeAfter"] = datetime.now(UTC) - timedelta(seconds=oldest_sec + _SKEW_SEC)

        def pages() -> set[str]:
            paginator = self._aws.bedrock.get_paginator("list_async_invokes")
            listed = paginator.paginate(statusEquals="InProgress", PaginationConfig={"PageSize": 1000}, **since)
            return {
                job["invocationArn"]
                for page in listed
                for job in _whole(page, "asyncInvokeSummaries")["asyncInvokeSummaries"]
            }

        return self._gate.call(pages, "ListAsyncInvokes", "the jobs in progress")

    def _start(self, job: Job, record: RequestFile) -> str:
        bucket, _ = split_s3_uri(job.prefix)
        target = {"s3Uri": job.prefix.rstrip("/"), "bucketOwner": self._aws.owner(bucket)}
        if self._kms_key_id:
            target["kmsKeyId"] = self._kms_key_id
        optional: dict[str, Any] = {"tags": self._tags} if self._tags else {}
        request_token = token(record.fingerprint, record.attempt)
        # Under another output prefix the same work may have taken the token: nobody who has ours looks there.
        elsewhere = f"{request_token}-{hashlib.sha256(job.prefix.encode()).hexdigest()[:16]}"
        for own_token in (request_token, elsewhere):
            try:
                reply = self._aws.bedrock.start_async_invoke(
                    clientRequestToken=own_token,
                    modelId=record.model_id,
                    modelInput=record.model_input,
                    outputDataConfig={"s3OutputDataConfig": target},  # type: ignore[typeddict-item]
                    **optional,
                )
                return str(_whole(reply, "invocationArn")["invocationArn"])
            except ClientError as error:
                if error_code(error) != "ConflictException":
                    raise
                conflict = error
            # Started with another owner, key or tags, it is the job that we want.
            if (arn := self._by_token(own_token, job.prefix)) is not None:
                return arn
        raise conflict

    def _by_token(self, request_token: str, prefix: str) -> str | None:
        """The job that has a token and writes under a prefix."""
        pages = self._aws.bedrock.get_paginator("list_async_invokes").paginate(
            sortBy="SubmissionTime", sortOrder="Descending"
        )
        summaries = (job for page in pages for job in _whole(page, "asyncInvokeSummaries")["asyncInvokeSummaries"])
        named = (job for job in summaries if job.get("clientRequestToken") == request_token)
        return next((job["invocationArn"] for job in named if _folder(job).startswith(prefix)), None)

    def _written(self, job: Job, folder: str, late_sec: float) -> str:
        """The output that Bedrock says it has written under ``folder``, which S3 may show a little late."""
        until = time.monotonic() + late_sec
        while True:
            if found := self._output_in(job, folder):
                return found
            if time.monotonic() > until:
                raise OutputError(f"The job of {job.source} is Completed, but {folder} has no output ({job.arn}).")
            stop = self._gate.stopping()
            stop.wait(0.5)
            stop.check(f"Looking for the output of {job.source}")

    def _output_in(self, job: Job, folder: str) -> str | None:
        """A job's output in this folder, None if S3 shows none.

        Raises:
            OutputError: Another run has marked it as of no use.
        """
        outputs, void = self._look(job.prefix)
        if invocation_id(job.arn) in void:
            raise OutputError(f"Another run found the output of {job.source} to be of no use ({job.arn}).")
        return next((uri for uri in outputs if uri.startswith(folder)), None)

    def _job(self, job: Job, record: RequestFile, etag: str, *, joined: bool) -> Job:
        return replace(job, arn=record.arn, output_uri=None, joined=joined, _record=(record, etag))

    def _s3(self, call: Callable[[], Any], operation: str, what: str) -> Any:
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, operation, what) from error


def _folder(told: Any) -> str:
    """Where an invocation writes, as Bedrock tells it."""
    return str(told.get("outputDataConfig", {}).get("s3OutputDataConfig", {}).get("s3Uri", ""))


def _passed(then: datetime | None, seconds: float) -> bool:
    return then is not None and (datetime.now(UTC) - then).total_seconds() > seconds

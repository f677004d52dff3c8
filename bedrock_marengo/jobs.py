"""Asynchronous invocations: start, follow, collect.

A job is known by its fingerprint. Its work lies in one folder, so that a second run, another process or a later day
finds the output, or the running job, in place of paying again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError, ResponseStreamingError

from bedrock_marengo.aws import Aws
from bedrock_marengo.errors import ConfigurationError, JobError, OutputError, ServiceError, error_code
from bedrock_marengo.identity import FORMAT, RequestFile, SourceIdentity, fingerprint, token, work_prefix
from bedrock_marengo.inputs import split_s3_uri
from bedrock_marengo.models import Kind, Model
from bedrock_marengo.pacing import Gate
from bedrock_marengo.replies import read_output
from bedrock_marengo.requests import MediaRequest, s3_location
from bedrock_marengo.segments import SegmentEmbeddings

__all__ = ["Job", "Jobs", "Status"]

Status = Literal["InProgress", "Completed", "Failed"]

ATTEMPTS = 3
_REQUEST = "request.json"
_OUTPUT = "/output.json"
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_PASSING = re.compile(r"internal|time[d ]*\s*out|throttl|try again|unavailable|unexpected", re.IGNORECASE)
_UNKNOWN = frozenset({"ResourceNotFoundException", "ValidationException"})
"""What GetAsyncInvoke may say of a job it has forgotten. Its one parameter is the ARN, so nothing else is invalid."""
_LATE_SEC = 15.0
"""How long an output may lag behind the status Completed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One medium's work: running, or found done.

    Attributes:
        source: raw S3 URI of the medium.
        kind: "video", "audio" or "image".
        fingerprint: 64 hex digits; the first 16 are the job's id.
        prefix: the S3 folder of the work.
        arn: ARN of the invocation; None when the output was there already.
        output_uri: S3 URI of the output, if it was there already.
        joined: whether someone else had started it.
    """

    source: str
    kind: Kind
    fingerprint: str
    prefix: str
    arn: str | None
    output_uri: str | None = None
    joined: bool = False
    _jobs: Jobs | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        """The job's id in URIs and metadata: 16 hex digits."""
        return self.fingerprint[:16]

    def status(self) -> Status:
        """Ask Bedrock how the job is; a job whose output was found is Completed.

        Raises:
            JobError: Bedrock no longer knows the job.
            ServiceError: AWS refused to say.
            ConfigurationError: The job comes from a pickle, which holds no credentials.
        """
        if self._jobs is None:
            raise ConfigurationError(f"This job of {self.source} has no client: client.collect(job) takes it up.")
        return self._jobs.ask(self)[0]

    def __getstate__(self) -> list[Any]:
        return [None if f.name == "_jobs" else getattr(self, f.name) for f in fields(self)]

    def __setstate__(self, state: list[Any]) -> None:
        for f, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, f.name, value)


class Jobs:
    """Starts, follows and collects the jobs of one model under one output prefix."""

    def __init__(
        self,
        aws: Aws,
        gate: Gate,
        model: Model,
        output_s3_uri: str,
        *,
        tags: Mapping[str, str] | None = None,
        output_kms_key_id: str | None = None,
    ) -> None:
        self._aws = aws
        self._gate = gate
        self._model = model
        self._output_s3_uri = output_s3_uri
        self._tags = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        self._kms_key_id = output_kms_key_id

    def start(self, request: MediaRequest, source: SourceIdentity, *, force: bool = False) -> Job:
        """The job of this work: its output if there is one, else the running one, else a new one.

        Raises:
            JobError: It failed for good before; ``force=True`` pays again.
            ServiceError: AWS refused.
        """
        job = self.find(request, source)
        if job.output_uri is not None and not force:
            return job
        record, etag, mine = self._record(job, request, source)
        if record.arn is None:
            return self._launch(job, record, etag, joined=not mine)
        running = self._job(job, arn=record.arn, joined=True)
        if not self._wants_another(running, record, force=force):
            return running
        record, etag = self._next_attempt(job, record, etag)
        return self._launch(job, record, etag, joined=False) if record.arn is None else self._job(job, record.arn, True)

    def find(self, request: MediaRequest, source: SourceIdentity) -> Job:
        """The job of this work as it lies on S3: with ``output_uri`` if it is done. One listing, no call that costs."""
        digest = fingerprint(request, source)
        prefix = work_prefix(self._output_s3_uri, source.uri, digest)
        outputs = self.outputs(prefix)
        return Job(source.uri, request.kind, digest, prefix, None, outputs[0] if outputs else None, _jobs=self)

    def outputs(self, prefix: str) -> list[str]:
        """S3 URIs of the outputs in a work folder, newest first."""
        bucket, key = split_s3_uri(prefix)
        reply = self._s3(lambda: self._aws.s3.list_objects_v2(Bucket=bucket, Prefix=key), "ListObjectsV2", prefix)
        found: list[tuple[datetime, str]] = [
            (item["LastModified"], item["Key"]) for item in reply.get("Contents", []) if item["Key"].endswith(_OUTPUT)
        ]
        return [f"s3://{bucket}/{key}" for _, key in sorted(found, reverse=True)]

    def put_output(self, job: Job, body: bytes) -> None:
        """Keep a synchronous reply where a job's output would lie, so that it is found again, too."""
        bucket, key = split_s3_uri(f"{job.prefix}invoke{_OUTPUT}")
        self._s3(lambda: self._aws.s3.put_object(Bucket=bucket, Key=key, Body=body), "PutObject", job.source)

    def ask(self, job: Job) -> tuple[Status, str]:
        """The status, and what Bedrock says about a failure.

        Raises:
            JobError: Bedrock no longer knows the job.
            ServiceError: AWS refused to say.
        """
        if job.output_uri is not None or job.arn is None:
            return "Completed", ""
        arn = job.arn
        try:
            reply = self._gate.call(
                lambda: _whole(self._aws.bedrock.get_async_invoke(invocationArn=arn), "status"),
                "GetAsyncInvoke",
                job.source,
            )
        except ServiceError as error:
            if error.code not in _UNKNOWN:
                raise
            raise JobError(
                f"Bedrock no longer knows the job of {job.source} ({arn}), and there is no output under "
                f"{job.prefix}. force=True starts, and pays for, it again.",
                source=job.source,
                arn=arn,
            ) from error
        return reply["status"], reply.get("failureMessage", "")

    def wait(self, job: Job, *, timeout_sec: float | None = None, on_poll: Callable[[], None] | None = None) -> str:
        """Follow a job to its end.

        Returns:
            S3 URI of the output.

        Raises:
            JobError: It failed, or did not end within ``timeout_sec``.
        """
        if job.output_uri is not None:
            return job.output_uri
        until = time.monotonic() + timeout_sec if timeout_sec is not None else float("inf")
        pause = 0.1
        while True:
            status, said = self.ask(job)
            if status == "Completed":
                return self._written(job)
            if status == "Failed":
                raise JobError(
                    f"The job of {job.source} failed: {said or 'Bedrock says no reason'} ({job.arn})",
                    source=job.source,
                    arn=job.arn,
                    passing=bool(_PASSING.search(said)),
                )
            left = until - time.monotonic()
            if left <= 0:
                raise JobError(
                    f"The job of {job.source} still runs after {timeout_sec:g} s ({job.arn}). The next run joins it.",
                    source=job.source,
                    arn=job.arn,
                    passing=True,
                )
            if on_poll:
                on_poll()
            time.sleep(min(pause, left))
            pause = min(5.0, pause * 1.4)

    def read(self, output_uri: str, *, source: str, job: str, kind: str) -> SegmentEmbeddings:
        """Stream an output.json into columns.

        Raises:
            OutputError: It can't be used; the message says where it lies.
        """
        bucket, key = split_s3_uri(output_uri)

        def stream() -> SegmentEmbeddings:
            body = self._aws.s3.get_object(Bucket=bucket, Key=key)["Body"]
            try:
                return read_output(
                    body.iter_chunks(1 << 20),
                    dimension=self._model.dimension,
                    source=source,
                    job=job,
                    model_id=self._model.model_id,
                    media_type=kind,
                )
            finally:
                body.close()

        try:
            return self._gate.call(stream, "GetObject", output_uri)
        except OutputError as error:
            raise OutputError(f"{output_uri}: {error}") from error

    def _record(self, job: Job, request: MediaRequest, source: SourceIdentity) -> tuple[RequestFile, str, bool]:
        """The work's request.json and its ETag, ours if nobody had written one."""
        bucket, key = split_s3_uri(job.prefix + _REQUEST)
        owner = self._aws.owner(split_s3_uri(source.uri)[0])
        record = RequestFile(
            format=FORMAT,
            fingerprint=job.fingerprint,
            source=source.canonical(),
            uri=source.uri,
            model_id=self._model.model_id,
            request=request.canonical(),
            model_input=request.body(s3_location(source.uri, owner)),
        )
        try:
            reply = self._aws.s3.put_object(Bucket=bucket, Key=key, Body=record.encode(), IfNoneMatch="*")
            return record, reply["ETag"], True
        except (ClientError, BotoCoreError) as error:
            if error_code(error) not in _TAKEN:
                raise ServiceError.of(error, "PutObject", f"s3://{bucket}/{key}") from error
        return *self._read_record(job), False

    def _read_record(self, job: Job) -> tuple[RequestFile, str]:
        bucket, key = split_s3_uri(job.prefix + _REQUEST)

        def read() -> tuple[bytes, str]:
            reply = self._aws.s3.get_object(Bucket=bucket, Key=key)
            return reply["Body"].read(), reply["ETag"]

        data, etag = self._gate.call(read, "GetObject", f"s3://{bucket}/{key}")
        return RequestFile.decode(data, f"s3://{bucket}/{key}"), etag

    def _next_attempt(self, job: Job, record: RequestFile, etag: str) -> tuple[RequestFile, str]:
        """Raise the attempt; if another process did so first, take its record."""
        bucket, key = split_s3_uri(job.prefix + _REQUEST)
        record.attempt, record.arn = record.attempt + 1, None
        try:
            reply = self._aws.s3.put_object(Bucket=bucket, Key=key, Body=record.encode(), IfMatch=etag)
            return record, reply["ETag"]
        except (ClientError, BotoCoreError) as error:
            if error_code(error) not in _TAKEN:
                raise ServiceError.of(error, "PutObject", f"s3://{bucket}/{key}") from error
        return self._read_record(job)

    def _wants_another(self, running: Job, record: RequestFile, *, force: bool) -> bool:
        """Whether a job that was started before is to be followed by a new attempt."""
        try:
            status, said = self.ask(running)
        except JobError:
            if force:
                return True
            raise
        if status != "Failed" or force:
            return force and status != "InProgress"
        if record.attempt < ATTEMPTS and _PASSING.search(said):
            return True
        raise JobError(
            f"The job of {running.source} failed before, attempt {record.attempt} of {ATTEMPTS}: "
            f"{said or 'Bedrock says no reason'} ({running.arn}). force=True starts, and pays for, it again.",
            source=running.source,
            arn=running.arn,
        )

    def _launch(self, job: Job, record: RequestFile, etag: str, *, joined: bool) -> Job:
        """Start the attempt; its token makes a second start of the same attempt free."""
        arn = self._gate.call(lambda: self._start(job, record), "StartAsyncInvoke", job.source)
        record.arn = arn
        bucket, key = split_s3_uri(job.prefix + _REQUEST)
        try:
            self._aws.s3.put_object(Bucket=bucket, Key=key, Body=record.encode(), IfMatch=etag)
        except (ClientError, BotoCoreError) as error:
            # Another process has noted the same ARN; and the token finds the job even if nobody has.
            if error_code(error) not in _TAKEN:
                raise ServiceError.of(error, "PutObject", f"s3://{bucket}/{key}") from error
        return self._job(job, arn=arn, joined=joined)

    def _start(self, job: Job, record: RequestFile) -> str:
        bucket, _ = split_s3_uri(job.prefix)
        target = {"s3Uri": job.prefix.rstrip("/"), "bucketOwner": self._aws.owner(bucket)}
        if self._kms_key_id:
            target["kmsKeyId"] = self._kms_key_id
        optional: dict[str, Any] = {"tags": self._tags} if self._tags else {}
        request_token = token(record.fingerprint, record.attempt)
        try:
            reply = self._aws.bedrock.start_async_invoke(
                clientRequestToken=request_token,
                modelId=record.model_id,
                modelInput=record.model_input,
                outputDataConfig={"s3OutputDataConfig": target},  # type: ignore[typeddict-item]
                **optional,
            )
        except ClientError as error:
            # The same work was started with another owner, key or tags: it is that job we want.
            arn = self._by_token(request_token) if error_code(error) == "ConflictException" else None
            if arn is None:
                raise
            return arn
        return str(_whole(reply, "invocationArn")["invocationArn"])

    def _by_token(self, request_token: str) -> str | None:
        pages = self._aws.bedrock.get_paginator("list_async_invokes").paginate(
            sortBy="SubmissionTime", sortOrder="Descending"
        )
        summaries = (job for page in pages for job in _whole(page, "asyncInvokeSummaries")["asyncInvokeSummaries"])
        return next(
            (job["invocationArn"] for job in summaries if job.get("clientRequestToken") == request_token),
            None,
        )

    def _written(self, job: Job) -> str:
        until = time.monotonic() + _LATE_SEC
        while True:
            if outputs := self.outputs(job.prefix):
                mine = f"/{(job.arn or '').rsplit('/', 1)[-1]}{_OUTPUT}"
                return next((uri for uri in outputs if uri.endswith(mine)), outputs[0])
            if time.monotonic() > until:
                raise OutputError(
                    f"The job of {job.source} is Completed, but {job.prefix} has no output ({job.arn}). If it was "
                    "deleted, force=True starts, and pays for, the job again."
                )
            time.sleep(0.5)

    def _job(self, job: Job, arn: str, joined: bool) -> Job:
        return Job(job.source, job.kind, job.fingerprint, job.prefix, arn, joined=joined, _jobs=self)

    def _s3(self, call: Callable[[], Any], operation: str, what: str) -> Any:
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, operation, what) from error


def _whole(reply: Any, name: str) -> Any:
    """The reply, if it arrived whole: of a JSON body that broke off, botocore makes a reply without its members."""
    if name not in reply:
        raise ResponseStreamingError(error=f"the reply broke off before {name}")
    return reply

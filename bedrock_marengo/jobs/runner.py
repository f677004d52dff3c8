"""Starts, finds and waits for jobs. A job is known by its fingerprint: it is found again, not paid for twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope
from bedrock_marengo.aws.retries import UNKNOWN_JOB
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.aws.start_rate import StartLimiter
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Model
from bedrock_marengo.contract.payloads import s3_location
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.errors import JobError, OutputError, ServiceError, http_status, warn_once
from bedrock_marengo.jobs import invocations
from bedrock_marengo.jobs.fingerprint import JobKey, RequestFile
from bedrock_marengo.jobs.invocations import Invocations, is_transient_failure
from bedrock_marengo.jobs.job import OUTPUT_NAME, InvocationStatus, Job, invocation_id
from bedrock_marengo.jobs.poller import JobPoller
from bedrock_marengo.jobs.work_folder import REPLY, Contents, WorkFolder, mark_unusable, read_segments
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["JobRunner"]

ATTEMPTS = 3
"""Attempts of one job over all runs; ours."""
CLAIMS = 50
"""How often request.json is claimed if others withdraw it each time; ours."""


@dataclass(slots=True)
class _Claim:
    """A job's request.json as this process knows it."""

    record: RequestFile
    etag: str
    is_ours: bool


class JobRunner:
    """Starts, finds and waits for the jobs of one model.

    Args:
        aws: knows the owners of buckets.
        objects: S3.
        starts: how fast jobs may be started, and how many may run.
        service: Bedrock's invocations.
        model: what jobs are started with.
    """

    def __init__(self, aws: Aws, objects: S3Objects, starts: StartLimiter, service: Invocations, model: Model) -> None:
        self._aws = aws
        self._objects = objects
        self._starts = starts
        self._service = service
        self._model = model
        self._poller = JobPoller(service.running)
        self._prefix_is_writable = False

    # Start once, find again.

    def contents(self, prefix: str) -> Contents:
        """What a job's folder holds, by one listing."""
        return self._folder(prefix).contents()

    def find(self, key: JobKey, read_from: str | None = None, contents: Contents | None = None) -> Job:
        """The job as S3 has it: with ``output_uri`` if it is done. At most one listing.

        Args:
            key: what is requested, for which version of which file.
            read_from: where Bedrock reads the file; None is its own URI.
            contents: its folder's, if that was listed already.
        """
        found = contents or self.contents(key.prefix)
        output = next(iter(found.outputs), None)
        # The size of request.json shows without a request whether it names the output.
        noted = output is not None and found.request_bytes == self._noted_bytes(key, read_from, output)
        return Job.of(key, output_uri=output, _ask=self.ask, _unusable=found.unusable, _is_checked=noted)

    def is_checked(self, job: Job) -> tuple[bool, Job]:
        """Whether an output is known to be of the bytes that its job is for; the job, with what was read of it."""
        # A reply is stored only if it is.
        if job._is_checked or invocation_id(job.output_uri) == REPLY:
            return True, job
        record = self._folder(job.prefix).find_request()
        return record is not None and record[0].output == job.output_uri, replace(job, _record=record)

    def start(
        self,
        key: JobKey,
        *,
        read_from: Callable[[int], str | None] = lambda attempt: None,
        force: bool = False,
        repay_expired: bool = False,
        instead_of: str | None = None,
        hold: bool = False,
        most: int | None = None,
        is_new: bool = False,
        token: CancelToken,
        before_start: Callable[[int], None] = lambda attempt: None,
        before_send: Callable[[], None] = lambda: None,
    ) -> Job:
        """The job: its output if there is one, else the running one, else a new one.

        Args:
            key: what is requested, for which version of which file.
            read_from: attempt -> where Bedrock reads the file; None is its own URI.
            force: pay again for a job that is done or failed for good.
            repay_expired: pay again for a job whose output was read before and is missing now.
            instead_of: the id of an invocation whose output turned out to be unusable.
            hold: count a started job as running until ``wait`` has seen its end.
            most: how many jobs may count as running.
            is_new: a listing has shown that there is nothing in its folder.
            token: cancels the start.
            before_start: called with the attempt before a start waits for its turn; what it raises cancels the start.
            before_send: called when its turn has come; the same.

        Raises:
            JobError: It failed for good, or its output expired.
            ServiceError: AWS refused.
        """
        job = Job.of(key, _ask=self.ask) if is_new else self.find(key, read_from(1))
        if job.output_uri is not None and not force:
            return job
        claim = self._written(job, RequestFile.of(key, self._input(key, read_from(1))), None, loser_owns=False)
        if (claim.record.output is not None or (is_new and not claim.is_ours)) and not force:
            # Another process may have finished it since the listing.
            job = self.find(key, read_from(1))
            if job.output_uri is not None:
                return job
        # A process that died between a start and its write leaves no ARN, but what others read there is noted.
        if (known := claim.record.arn or claim.record.output) is not None:
            running = self._job(job, claim, joined=True)
            unusable = invocation_id(known) in job._unusable | {instead_of}
            if not self._wants_another(running, claim.record, force, repay_expired, unusable):
                return running
            claim = self._next_attempt(job, key, claim, read_from(claim.record.attempt + 1))
            if claim.record.arn is not None:
                return self._job(job, claim, joined=True)
        started = self._start(job, claim, hold, most, token, before_start, before_send)
        return replace(self._job(job, claim, joined=not claim.is_ours), counts_as_running=hold, _started=started)

    def _start(
        self,
        job: Job,
        claim: _Claim,
        hold: bool,
        most: int | None,
        token: CancelToken,
        before_start: Callable[[int], None],
        before_send: Callable[[], None],
    ) -> float:
        """Start what a claim describes, and write its ARN down; when it was started, by the monotonic clock."""
        folder, record = self._folder(job.prefix), claim.record
        sent = False

        def send() -> tuple[str, float]:
            nonlocal sent
            before_send()
            before, sent = sent, True
            try:
                return self._service.start(record, job.prefix), time.monotonic()
            except ClientError as error:
                if 400 <= (http_status(error) or 0) < 500:
                    # Refused, as by a quota: this request runs nothing.
                    sent = before
                raise

        try:
            before_start(record.attempt)
            with instrumentation.queued(job.source):
                record.arn, started = self._starts.call(send, job.source, hold=hold, most=most, token=token)
        except BaseException:
            # If a start was sent, its reply may have been lost: a job may run.
            if claim.is_ours and record.attempt == 1 and not sent:
                folder.withdraw_request(claim.etag)
            raise
        try:
            # The job runs: a client that is closed now must not lose its ARN.
            with cancel_scope(CancelToken()):
                claim.etag = folder.write_request(record, claim.etag) or claim.etag
        except BaseException:
            # It runs, and its token finds it again; but no one here will wait for it.
            if hold:
                self._starts.release()
            raise
        return started

    def _noted_bytes(self, key: JobKey, read_from: str | None, output: str) -> int:
        """The size of a request.json that names an output. All ARNs of a region are equally long."""
        record = RequestFile.of(key, key.request.body(s3_location(read_from or key.source.uri, "0" * 12)))
        record.output, record.arn = output, invocations.arn_of(self._aws.region, "0" * 12, invocation_id(output))
        return len(record.encode())

    def _input(self, key: JobKey, read_from: str | None) -> dict[str, Any]:
        uri = read_from or key.source.uri
        return key.request.body(s3_location(uri, self._aws.owner(split_s3_uri(uri)[0])))

    def _next_attempt(self, job: Job, key: JobKey, claim: _Claim, read_from: str | None) -> _Claim:
        """Raise the attempt; if another process did so first, take its record."""
        record = claim.record
        if read_from is not None:
            record.model_input = self._input(key, read_from)
        record.attempt, record.arn, record.output = record.attempt + 1, None, None
        return self._written(job, record, claim.etag, loser_owns=True)

    def _written(self, job: Job, record: RequestFile, etag: str | None, *, loser_owns: bool) -> _Claim:
        """A claim on request.json: ours if it could be written, else what another process wrote."""
        folder = self._folder(job.prefix)
        for left in reversed(range(CLAIMS)):
            if (written := folder.write_request(record, etag)) is not None:
                return _Claim(record, written, True)
            try:
                return _Claim(*folder.read_request(), loser_owns)
            except ServiceError as error:
                if error.code != "NoSuchKey" or not left:
                    raise
                # Whoever was first has withdrawn it, as a run over its budget does: claim it again.
                etag = None
        raise AssertionError("unreachable")

    def _wants_another(
        self, running: Job, record: RequestFile, force: bool, repay_expired: bool, unusable: bool
    ) -> bool:
        """Whether a job that was started before needs a new attempt."""
        # What was read was usable, unless a mark says otherwise: whoever waited for it and missed it pays for nothing.
        is_void = invocation_id(record.arn or record.output) in running._unusable
        if record.output is not None and not (is_void or force or repay_expired):
            raise _final(running, f"was done, but its output {record.output} is gone", "repay_expired")
        try:
            found = self.ask(running)
        except JobError as error:
            found = InvocationStatus("Failed", f"unexpected: {error}", "")
        if found.status == "InProgress":
            return force and found.stuck
        if force or (repay_expired and record.output is not None):
            return True
        if found.status == "Completed" and not unusable:
            return False
        if record.attempt < ATTEMPTS and (unusable or is_transient_failure(found.message)):
            return True
        default = "its output is unusable" if found.status == "Completed" else "Bedrock gives no reason"
        why = found.message or default
        raise _final(running, f"failed before, attempt {record.attempt} of {ATTEMPTS}: {why}", "force")

    # Ask, wait.

    def ask(self, job: Job) -> InvocationStatus:
        """What Bedrock says about a job.

        Raises:
            JobError: Bedrock no longer knows the job.
            ServiceError: AWS refused.
        """
        if job.output_uri is not None or job.arn is None:
            return InvocationStatus("Completed", "", job.prefix)
        try:
            return self._service.get(job.arn, job.source)
        except ServiceError as error:
            if error.code not in UNKNOWN_JOB:
                raise
            raise JobError(
                f"Bedrock no longer knows the job of {job.source} ({job.arn}), and there is no output under "
                f"{job.prefix}. {{force}} starts it again, and it is billed again.",
                source=job.source,
                arn=job.arn,
                transient=True,
                remedy={"force": True},
            ) from error

    def get_invocation(self, arn: str) -> InvocationStatus:
        """What Bedrock says about an invocation; an error with a code of ``UNKNOWN_JOB`` if it does not know it."""
        return self._service.get(arn, arn)

    def wait(self, job: Job, *, timeout_sec: float | None = None, look: bool = True, token: CancelToken) -> str:
        """Wait for a job to end.

        Args:
            job: running or done.
            timeout_sec: how long to wait.
            look: look for the output; else it is where a job that succeeded writes it, and not there if it failed.
            token: cancels the wait.

        Returns:
            S3 URI of the output.

        Raises:
            JobError: It failed, did not end within ``timeout_sec``, or the wait was cancelled.
            OutputError: It ended without an output.
        """
        if job.output_uri is not None or job.arn is None:
            return job.output_uri or self._wait_for_output(job, job.prefix, 0.0, token)
        until = None if timeout_sec is None else time.monotonic() + timeout_sec
        since = None if job.joined else job._started
        while True:
            left = None if until is None else until - time.monotonic()
            try:
                ended = self._poller.wait(job.arn, since=since, token=token, timeout_sec=left)
            finally:
                # The next job may start while this one's output is looked up.
                if job.counts_as_running:
                    job = replace(job, counts_as_running=False)
                    self._starts.release()
            if ended and not look:
                return f"{job.prefix}{invocation_id(job.arn)}{OUTPUT_NAME}"
            if output := self._output_after(job, ended, timeout_sec, token):
                return output

    def _output_after(self, job: Job, ended: bool, timeout_sec: float | None, token: CancelToken) -> str | None:
        """The output once a wait is over; None if the job is still running."""
        arn = job.arn or ""
        folder = self._folder(job.prefix)
        if ended and (output := folder.output_of(arn, f"{job.prefix}{invocation_id(arn)}/", job.source)):
            return output
        if token.is_cancelled():
            raise JobError(
                f"The wait for {job.source} was cancelled; its job continues, and the next run joins it.",
                source=job.source,
                arn=arn,
                running=True,
            )
        found = self.ask(job)
        if found.status == "Completed":
            return self._wait_for_output(job, found.folder, invocations.LATE_SEC, token)
        if found.status == "Failed":
            raise JobError(
                f"The job of {job.source} failed: {found.message or 'Bedrock gives no reason'} ({arn})",
                source=job.source,
                arn=arn,
                transient=is_transient_failure(found.message),
            )
        if not ended:
            raise JobError(
                f"The job of {job.source} is still running after {timeout_sec:g} s ({arn}). The next run joins it; "
                f"once it is {invocations.STUCK_SEC / 3600:g} h old, {{force}} starts another job, which is billed "
                "too.",
                source=job.source,
                arn=arn,
                running=True,
                remedy={"force": True},
            )
        return None

    def _wait_for_output(self, job: Job, folder: str, late_sec: float, token: CancelToken) -> str:
        """The output that Bedrock reports under ``folder``, which S3 may show a little late."""
        until = time.monotonic() + late_sec
        while True:
            if found := self._folder(job.prefix).output_of(job.arn, folder, job.source):
                return found
            if time.monotonic() > until:
                raise OutputError(f"The job of {job.source} is Completed, but {folder} has no output ({job.arn}).")
            token.wait(0.5)
            token.check(f"Looking for the output of {job.source}")

    def close(self) -> None:
        """Wait for the polling thread, which ends with the last wait."""
        self._poller.close()

    # Read, and write down what was read.

    def outputs(self, prefix: str) -> list[str]:
        """S3 URIs of the usable outputs in a job's folder; first the one that was used."""
        return self._folder(prefix).outputs()

    def read(self, job: Job, output_uri: str, *, listed: bool = True) -> SegmentEmbeddings:
        """The segments of a job's output; with ``listed`` a listing has shown it.

        Raises:
            OutputError: It is unusable; the message names it.
            ServiceError: AWS refused.
        """
        return read_segments(
            self._objects, output_uri, self._model, source=job.source, job=job.id, kind=job.kind, listed=listed
        )

    def read_request(self, prefix: str) -> tuple[RequestFile, str]:
        """A job's request.json and its ETag.

        Raises:
            OutputError: Not written by this package.
            ServiceError: AWS refused, or it doesn't exist (code NoSuchKey).
        """
        return self._folder(prefix).read_request()

    def mark_unusable(self, output_uri: str, why: str) -> None:
        """Mark an output as unusable, so that no run takes it for this job's."""
        mark_unusable(self._objects, output_uri, why)

    def note_output(self, job: Job, output_uri: str) -> None:
        """Note in request.json that the output was read and is right: if it is missing later, it expired."""
        if job._record is None:
            return
        record, etag = job._record
        folder = self._folder(job.prefix)
        try:
            # Twice: whoever joined may have noted it, or the reply to our own last write was lost.
            for _ in range(2):
                if record.output == output_uri:
                    return
                if record.arn is not None and invocation_id(record.arn) != invocation_id(output_uri):
                    return
                record.output = output_uri
                if folder.write_request(record, etag) is not None:
                    return
                record, etag = folder.read_request()
        except ServiceError as error:
            # The segments are read and right: a note that can't be written must not lose them.
            warn_once(
                "note",
                f"The output of {job.source} was read, but request.json could not be updated to say so: if the output "
                f"is deleted later, the file is embedded and billed again. {error} (Shown once.)",
            )

    def check_writable(self, job: Job) -> None:
        """Write a manifest where a synchronous reply will be stored, unless one was stored before: a reply that can't
        be stored would be paid for and lost.

        Raises:
            ServiceError: AWS refused.
        """
        if not self._prefix_is_writable:
            self._folder(job.prefix).write_reply_manifest(job.source)
            self._prefix_is_writable = True

    def write_reply(self, job: Job, body: bytes) -> None:
        """Store a synchronous reply like a job's output, so that it is found again."""
        self._prefix_is_writable = False
        self._folder(job.prefix).write_reply(body)
        self._prefix_is_writable = True

    def _folder(self, prefix: str) -> WorkFolder:
        return WorkFolder(self._objects, prefix)

    def _job(self, job: Job, claim: _Claim, *, joined: bool) -> Job:
        return replace(job, arn=claim.record.arn, output_uri=None, joined=joined, _record=(claim.record, claim.etag))


def _final(job: Job, what: str, way_out: str) -> JobError:
    arn = f" ({job.arn})" if job.arn else ""
    text = f"The job of {job.source} {what}{arn}. {{{way_out}}} starts it again, and it is billed again."
    return JobError(text, source=job.source, arn=job.arn, remedy={way_out: True})

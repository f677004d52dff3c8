"""Amazon Transcribe's batch jobs: start, get, list. The only place that calls the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, require_member
from bedrock_marengo.aws.start_rate import StartLimiter
from bedrock_marengo.errors import MarengoError, ServiceError, error_code, error_message, http_status
from bedrock_marengo.jobs.poller import JobPoller

__all__ = ["NAMES", "UNKNOWN", "TranscriptionJobs", "TranscriptionStatus", "UncertainStartError"]

NAMES = "marengo-"
"""How the names of our jobs begin."""
OPERATION = "StartTranscriptionJob"
CALLS_AT_ONCE = 8
STARTS_PER_SEC = 10.0
"""AWS allows 25 starts, 30 gets and 5 lists a second (its page on limits, about 2022)."""
UNKNOWN = frozenset({"NotFoundException", "BadRequestException"})
"""What Get answers for a job that it does not know; its one parameter is the name."""


@dataclass(frozen=True, slots=True)
class TranscriptionStatus:
    """What GetTranscriptionJob reports: "QUEUED", "IN_PROGRESS", "COMPLETED" or "FAILED", and why it failed."""

    status: str
    reason: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("QUEUED", "IN_PROGRESS")


class UncertainStartError(Exception):
    """A start failed after a reply was lost. Caught in this package.

    Attributes:
        error: how it failed.
    """

    def __init__(self, error: MarengoError) -> None:
        super().__init__(str(error))
        self.error = error


class TranscriptionJobs:
    """The transcription jobs of one account and region.

    Args:
        aws: makes the client.
        jobs_at_once: how many of ours may run.
    """

    def __init__(self, aws: Aws, *, jobs_at_once: int) -> None:
        self._aws = aws
        self._most = jobs_at_once
        # Of its own: a quota of Transcribe must not slow down Bedrock and S3.
        self._limiter = RetryLimiter(CALLS_AT_ONCE)
        self._starts = StartLimiter(max_per_sec=STARTS_PER_SEC, operation=OPERATION)
        self._poller = JobPoller(self._running)

    def start(self, request: Mapping[str, Any], what: str, *, token: CancelToken) -> bool:
        """Start a job, which counts as running until ``release``. False if a job of that name exists already.

        Raises:
            ServiceError: AWS refused.
            ClosedError: It was cancelled.
            UncertainStartError: Either of these, after a start whose reply was lost: the job may run.
        """
        lost = False

        def send() -> bool:
            nonlocal lost
            try:
                self._aws.transcribe.start_transcription_job(**request)
            except ClientError as error:
                if error_code(error) == "ConflictException":
                    # After a reply that was lost, the job of that name is ours.
                    return lost
                if error_code(error) == "LimitExceededException" and "too long" in error_message(error):
                    raise ServiceError.of(error, OPERATION, what) from error
                lost = lost or (http_status(error) or 500) >= 500
                raise
            except BotoCoreError:
                lost = True
                raise
            return True

        try:
            is_ours = self._starts.call(send, what, hold=True, most=self._most, token=token)
        except MarengoError as error:
            if lost:
                raise UncertainStartError(error) from error
            raise
        if not is_ours:
            self._starts.release()
        return is_ours

    def release(self) -> None:
        """A job that counted as running has ended, or no one waits for it here."""
        self._starts.release()

    def get(self, name: str, what: str) -> TranscriptionStatus | None:
        """How a job stands; None if Transcribe does not know it.

        Raises:
            ServiceError: AWS refused.
        """
        try:
            job = self._limiter.call(
                lambda: require_member(
                    self._aws.transcribe.get_transcription_job(TranscriptionJobName=name), "TranscriptionJob"
                )["TranscriptionJob"],
                "GetTranscriptionJob",
                what,
            )
        except ServiceError as error:
            if error.code not in UNKNOWN:
                raise
            return None
        return TranscriptionStatus(str(job.get("TranscriptionJobStatus", "")), str(job.get("FailureReason", "")))

    def wait(self, name: str, *, since: float | None, timeout_sec: float | None, token: CancelToken) -> bool:
        """Wait until a job seems to have ended; False after ``timeout_sec`` or if cancelled."""
        return self._poller.wait(name, since=since, token=token, timeout_sec=timeout_sec)

    def _running(self, names: Sequence[str], oldest_sec: float | None) -> set[str]:
        """Which of these are unfinished: one Get for one, a page of 100 for many."""
        if len(names) == 1:
            status = self.get(names[0], names[0])
            return set(names) if status is not None and status.is_running else set()
        return {name for status in ("IN_PROGRESS", "QUEUED") for name in self._listed(status)}

    def _listed(self, status: str) -> set[str]:
        found: set[str] = set()
        page: dict[str, Any] = {"Status": status, "JobNameContains": NAMES, "MaxResults": 100}
        while True:
            reply = self._page(page)
            found.update(job["TranscriptionJobName"] for job in reply["TranscriptionJobSummaries"])
            if not (more := reply.get("NextToken")):
                return found
            page["NextToken"] = more

    def _page(self, page: Mapping[str, Any]) -> Any:
        return self._limiter.call(
            lambda: require_member(self._aws.transcribe.list_transcription_jobs(**page), "TranscriptionJobSummaries"),
            "ListTranscriptionJobs",
            "the jobs in progress",
        )

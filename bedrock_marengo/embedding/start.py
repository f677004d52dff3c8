"""A start that costs: the file is looked at once more, the budget charged, a copy made, the job counted."""

from __future__ import annotations

import functools
import time

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.errors import InputError, JobError, MediaNotFoundError, OutputError, ServiceError, warn_once
from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.jobs.job import OUTPUT_NAME, Job, invocation_id
from bedrock_marengo.jobs.runner import JobRunner
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["JOBS_A_CALL", "JobStarter", "SourceChangedError", "never_settled", "seen_at"]

JOBS_A_CALL = 4
"""Jobs that one call waits for at most, for one file; request.json limits the attempts of one job to 3."""

FRESH_SEC = 3600.0
"""How old a listing may be when a job is started from it without another look at the file. Ours: a listing of a
thousand files is worked through in about an hour."""


_CHANGED = frozenset({"404", "412", "NoSuchKey", "PreconditionFailed"})
"""How S3 refuses to copy a version that is no longer there."""


class SourceChangedError(Exception):
    """A file is no longer as it was listed. Caught in this package.

    Attributes:
        now: as it is now.
    """

    def __init__(self, now: SourceIdentity) -> None:
        super().__init__(now.uri)
        self.now = now


class JobStarter:
    """Starts the jobs of files, each in its present version.

    Args:
        objects: S3.
        limiter: its token cancels starts.
        runner: starts and finds jobs.
        identity: what identifies a version of a file.
        output_s3_uri: the prefix of jobs.
    """

    def __init__(
        self, objects: S3Objects, limiter: RetryLimiter, runner: JobRunner, *, identity: Identity, output_s3_uri: str
    ) -> None:
        self._objects = objects
        self._limiter = limiter
        self._runner = runner
        self._identity = identity
        self._output_s3_uri = output_s3_uri

    def start(
        self,
        key: JobKey,
        costs: JobCosts,
        listed_at: float | None,
        *,
        force: bool,
        repay_expired: bool,
        instead_of: str | None = None,
        hold: bool = False,
        most: int | None = None,
        is_new: bool = False,
    ) -> tuple[Job, JobKey]:
        """A file's job, started, joined or found done, and its key: another one if the file has changed.

        Args:
            key: of the file as it was listed.
            costs: what pays.
            listed_at: when it was listed, by ``time.monotonic``; None if that is unknown.
            force: pay again for a job that is done or failed for good.
            repay_expired: pay again for a job whose output was read before and is missing now.
            instead_of: the id of an invocation whose output turned out to be unusable.
            hold: count a started job as running until it is waited for.
            most: how many jobs may count as running.
            is_new: a listing has shown that there is nothing in its folder.

        Raises:
            JobError: It failed for good, its output expired, or the file changes all the time.
            BudgetError: It would cost too much.
            ServiceError: AWS refused.
        """
        for _ in range(JOBS_A_CALL):
            charged: list[float] = []
            try:
                try:
                    job = self._runner.start(
                        key,
                        read_from=functools.partial(costs.copy_of, key.source.uri, key.prefix),
                        force=force,
                        repay_expired=repay_expired,
                        instead_of=instead_of,
                        hold=hold,
                        most=most,
                        is_new=is_new,
                        token=self._limiter.token(),
                        before_start=functools.partial(self._before_start, key, costs, listed_at, charged),
                        before_send=functools.partial(self.look, key, time.monotonic()),
                    )
                except JobError:
                    # It failed for good: perhaps that is why the file was replaced since it was listed.
                    self.look(key, None)
                    raise
            except SourceChangedError as changed:
                costs.refund(sum(charged))
                is_new = False
                key, listed_at = JobKey.of(key.request, changed.now, self._output_s3_uri), time.monotonic()
                continue
            if job.arn is not None and not job.joined:
                costs.usage.job(job.arn, key.request)
            return job, key
        raise never_settled(key.source)

    def look(self, key: JobKey, listed_at: float | None) -> None:
        """Look at a file before it is paid for, if it was listed long ago.

        Raises:
            SourceChangedError: It is no longer as it was listed.
            MediaNotFoundError: It is gone.
        """
        if listed_at is not None and time.monotonic() - listed_at < FRESH_SEC:
            return
        now = locate(self._objects, Media(key.request.kind, uri=key.source.uri), self._identity)
        if now.canonical() != key.source.canonical():
            instrumentation.emit("listing outdated", source=key.source.uri)
            warn_once(
                "listing outdated",
                f"{key.source.uri} has changed since it was listed, as by an outdated manifest: it is embedded "
                "as it is now. Others may have changed, too; each is looked at before its job starts. (Shown once.)",
            )
            raise SourceChangedError(now)

    def now(self, key: JobKey) -> JobKey:
        """The key of a file as it is now. A file that is gone keeps the one it had: its segments are right.

        Raises:
            InputError: It was replaced by what Bedrock can't read.
            ServiceError: AWS refused to list.
        """
        return JobKey.of(key.request, self.version_of(key.source), self._output_s3_uri)

    def version_of(self, source: SourceIdentity) -> SourceIdentity:
        """The same for a version."""
        media = Media("video", uri=source.uri)
        try:
            now = locate(self._objects, media, self._identity, to_read=False)
            return now if now.canonical() == source.canonical() else locate(self._objects, media, self._identity)
        except MediaNotFoundError:
            return source

    def after_failure(self, job: Job, key: JobKey, error: JobError | OutputError) -> JobKey:
        """What to embed after a job failed or its output was unusable: the file as it is now.

        Raises:
            JobError: It failed for good.
            MediaNotFoundError: The file is gone.
            InputError: It was replaced by what Bedrock can't read.
            ServiceError: AWS refused to list.
        """
        try:
            source = locate(self._objects, Media("video", uri=job.source), self._identity)
        except (InputError, MediaNotFoundError):
            self.mark_changed(job)
            raise
        now = JobKey.of(key.request, source, self._output_s3_uri)
        if now.fingerprint != key.fingerprint:
            self.mark_changed(job)
        elif isinstance(error, JobError) and not error.transient:
            raise error
        instrumentation.emit("file retried", source=job.source, kind=job.kind, job=job.id, error=error)
        return now

    def mark_changed(self, job: Job, output: str | None = None) -> None:
        """Bedrock may have read other bytes under the old name, or none: what came of it is not this job's."""
        output = output or job.output_uri or f"{job.prefix}{invocation_id(job.arn)}{OUTPUT_NAME}"
        self._runner.mark_unusable(output, f"{job.source} changed while its job ran")

    def _before_start(
        self, key: JobKey, costs: JobCosts, listed_at: float | None, charged: list[float], attempt: int
    ) -> None:
        self.look(key, listed_at)
        charged.append(self.pay(key, costs, attempt))

    def pay(self, key: JobKey, costs: JobCosts, attempt: int | str) -> float:
        """Charge the budget and copy the file if needed: US dollars.

        Raises:
            SourceChangedError: It could not be copied, because it is no longer as it was listed.
            MediaNotFoundError: Because it is gone.
            BudgetError: It would cost too much.
            ServiceError: AWS refused.
        """
        for left in reversed(range(JOBS_A_CALL)):
            try:
                return costs.before_start(key, attempt)
            except ServiceError as error:
                if error.code not in _CHANGED:
                    raise
                self.look(key, None)
                # It is back.
                if not left:
                    raise
        raise AssertionError("unreachable")


def seen_at(media: Media) -> float | None:
    """When a file's size and ETag were seen, by ``time.monotonic``: now, if they are not known yet."""
    return media.listed_at if media.etag else time.monotonic()


def never_settled(source: SourceIdentity) -> JobError:
    """The error of a file that changes all the time."""
    return JobError(
        f"{source.uri} was replaced during each of its {JOBS_A_CALL} jobs. Embed it when it no longer changes.",
        source=source.uri,
        arn=None,
    )

"""Bedrock's asynchronous invocations: StartAsyncInvoke, GetAsyncInvoke, ListAsyncInvokes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from bedrock_marengo.aws.retries import TRANSIENT_FAILURE, RetryLimiter
from bedrock_marengo.aws.session import Aws, require_member
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import error_code
from bedrock_marengo.jobs.fingerprint import RequestFile, token
from bedrock_marengo.jobs.job import InvocationStatus

__all__ = ["Invocations", "arn_of", "is_transient_failure"]

LATE_SEC = 15.0
"""How long an output may lag behind the status Completed, from when we see that status: clocks are not compared."""
STUCK_SEC = 24 * 3600.0
"""How old a job in progress must be before force=True starts another: files last 4 h at most, jobs took a minute."""
_SKEW_SEC = 300.0
"""How far our clock may be off from AWS's: beyond this, no signature is valid."""


class Invocations:
    """The asynchronous invocations of one account and region.

    Args:
        aws: makes the client.
        limiter: retries GetAsyncInvoke and ListAsyncInvokes.
        tags: of the invocations.
        output_kms_key_id: the key that Bedrock encrypts outputs with.
    """

    def __init__(
        self,
        aws: Aws,
        limiter: RetryLimiter,
        *,
        tags: Mapping[str, str] | None = None,
        output_kms_key_id: str | None = None,
    ) -> None:
        self._aws = aws
        self._limiter = limiter
        self._tags = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        self._kms_key_id = output_kms_key_id

    def start(self, record: RequestFile, prefix: str) -> str:
        """Start what a request.json describes, with the output under ``prefix``; the ARN. Not retried.

        Raises:
            ClientError: AWS refused.
        """
        target = {"s3Uri": prefix.rstrip("/"), "bucketOwner": self._aws.owner(split_s3_uri(prefix)[0])}
        if self._kms_key_id:
            target["kmsKeyId"] = self._kms_key_id
        optional: dict[str, Any] = {"tags": self._tags} if self._tags else {}
        request_token = token(record.fingerprint, record.attempt)
        # Under another output prefix the same job may have used the token: no one who has ours looks there.
        elsewhere = f"{request_token}-{hashlib.sha256(prefix.encode()).hexdigest()[:16]}"
        for own_token in (request_token, elsewhere):
            try:
                reply = self._aws.bedrock.start_async_invoke(
                    clientRequestToken=own_token,
                    modelId=record.model_id,
                    modelInput=record.model_input,
                    outputDataConfig={"s3OutputDataConfig": target},  # type: ignore[typeddict-item]
                    **optional,
                )
                return str(require_member(reply, "invocationArn")["invocationArn"])
            except ClientError as error:
                if error_code(error) != "ConflictException":
                    raise
                conflict = error
            # Started with another owner, key or tags, it is the job that we want.
            if (arn := self._by_token(own_token, prefix)) is not None:
                return arn
        raise conflict

    def get(self, arn: str, what: str) -> InvocationStatus:
        """The status of an invocation.

        Raises:
            ServiceError: AWS refused; with a code of ``UNKNOWN_JOB`` it does not know the invocation.
        """
        reply = self._limiter.call(
            lambda: require_member(self._aws.bedrock.get_async_invoke(invocationArn=arn), "status"),
            "GetAsyncInvoke",
            what,
        )
        stuck = reply["status"] == "InProgress" and _is_older(reply.get("submitTime"), STUCK_SEC)
        return InvocationStatus(reply["status"], reply.get("failureMessage", ""), _folder(reply), stuck)

    def running(self, arns: Sequence[str], oldest_sec: float | None) -> set[str]:
        """Which of these are in progress: one call for one, a page for many.

        Args:
            arns: the invocations.
            oldest_sec: how long ago the oldest was submitted, if that is known.
        """
        if len(arns) == 1:
            return set(arns) if self.get(arns[0], arns[0]).status == "InProgress" else set()
        since: dict[str, Any] = {}
        if oldest_sec is not None:
            since["submitTimeAfter"] = datetime.now(UTC) - timedelta(seconds=oldest_sec + _SKEW_SEC)

        def pages() -> set[str]:
            paginator = self._aws.bedrock.get_paginator("list_async_invokes")
            listed = paginator.paginate(statusEquals="InProgress", PaginationConfig={"PageSize": 1000}, **since)
            return {
                job["invocationArn"]
                for page in listed
                for job in require_member(page, "asyncInvokeSummaries")["asyncInvokeSummaries"]
            }

        return self._limiter.call(pages, "ListAsyncInvokes", "the jobs in progress")

    def _by_token(self, request_token: str, prefix: str) -> str | None:
        """The invocation that has a token and writes under a prefix."""

        def find() -> str | None:
            pages = self._aws.bedrock.get_paginator("list_async_invokes").paginate(
                sortBy="SubmissionTime", sortOrder="Descending"
            )
            summaries = (
                job for page in pages for job in require_member(page, "asyncInvokeSummaries")["asyncInvokeSummaries"]
            )
            named = (job for job in summaries if job.get("clientRequestToken") == request_token)
            return next((job["invocationArn"] for job in named if _folder(job).startswith(prefix)), None)

        # Retried by itself: a failed listing must not use up the start's attempts.
        return self._limiter.call(find, "ListAsyncInvokes", "the job of a token that is in use")


def is_transient_failure(message: str) -> bool:
    """Whether a failed job's message says that a new attempt may succeed."""
    return bool(TRANSIENT_FAILURE.search(message))


def arn_of(region: str, account: str, invocation: str) -> str:
    """An invocation's ARN. All regions of the model are in one partition."""
    return f"arn:aws:bedrock:{region}:{account}:async-invoke/{invocation}"


def _folder(reply: Any) -> str:
    """Where an invocation writes, as Bedrock reports it."""
    return str(reply.get("outputDataConfig", {}).get("s3OutputDataConfig", {}).get("s3Uri", ""))


def _is_older(then: datetime | None, seconds: float) -> bool:
    return then is not None and (datetime.now(UTC) - then).total_seconds() > seconds

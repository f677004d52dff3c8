"""Asynchronous invocations: records, idempotency and listing."""

from __future__ import annotations

import secrets
import string
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from marengo_local.contract import Model, refused
from marengo_local.errors import ServiceError

__all__ = ["Job", "Jobs"]

_ID_CHARACTERS: Final = string.ascii_lowercase + string.digits
_PAGE_SIZE: Final = 100


def _now() -> datetime:
    # The service returns milliseconds. Rounding here lets a client filter by the times it read.
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass
class Job:
    """One asynchronous invocation; `request` is the complete body of StartAsyncInvoke."""

    arn: str
    region: str
    model: Model
    request: Mapping[str, Any]
    number: int
    status: str = "InProgress"
    failure_message: str | None = None
    submit_time: datetime = field(default_factory=_now)
    last_modified_time: datetime = field(default_factory=_now)
    end_time: datetime | None = None

    @property
    def id(self) -> str:
        """The last 12 characters of the ARN, which are also the name of the output folder."""
        return self.arn.rpartition("/")[2]

    @property
    def model_input(self) -> Mapping[str, Any]:
        """The request's modelInput."""
        return self.request["modelInput"]  # type: ignore[no-any-return]

    @property
    def token(self) -> str | None:
        """The request's clientRequestToken."""
        return self.request.get("clientRequestToken")

    @property
    def tags(self) -> dict[str, str]:
        """The request's tags."""
        return {tag["key"]: tag["value"] for tag in self.request.get("tags", ())}

    @property
    def output(self) -> Mapping[str, str]:
        """The request's s3OutputDataConfig."""
        return self.request["outputDataConfig"]["s3OutputDataConfig"]  # type: ignore[no-any-return]

    @property
    def output_uri(self) -> str:
        """Where this job writes its output: ends with its ID, without a slash."""
        return f"{self.output['s3Uri'].rstrip('/')}/{self.id}"

    def end(self, failure_message: str | None = None) -> None:
        """Mark the job as Completed, or as Failed if a message is given."""
        self.failure_message = failure_message
        self.end_time = self.last_modified_time = _now()
        self.status = "Completed" if failure_message is None else "Failed"

    def summary(self) -> dict[str, Any]:
        """The job as GetAsyncInvoke and ListAsyncInvokes return it."""
        fields = {
            "invocationArn": self.arn,
            "modelArn": self.model.arn(self.region),
            "clientRequestToken": self.token,
            "status": self.status,
            "failureMessage": self.failure_message,
            "submitTime": _iso(self.submit_time),
            "lastModifiedTime": _iso(self.last_modified_time),
            "endTime": _iso(self.end_time) if self.end_time else None,
            "outputDataConfig": {"s3OutputDataConfig": {**self.output, "s3Uri": self.output_uri}},
        }
        return {key: value for key, value in fields.items() if value is not None}


class Jobs:
    """All invocations of one server, oldest first. Thread-safe."""

    def __init__(self, region: str, account_id: str) -> None:
        self._prefix = f"arn:aws:bedrock:{region}:{account_id}:async-invoke/"
        self.region = region
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[str, Job] = {}
        self._started = 0

    def __iter__(self) -> Iterator[Job]:
        with self._lock:
            return iter(tuple(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, arn: str) -> Job:
        return self._jobs[arn]

    def running(self) -> list[Job]:
        """The invocations in progress."""
        return [job for job in self if job.status == "InProgress"]

    def forget(self, arn: str) -> None:
        """Delete the record of an invocation. If it is running, it continues unseen."""
        with self._lock:
            job = self._jobs.pop(arn)
            self._tokens.pop(job.token or "", None)

    def reset(self) -> None:
        """Delete the records of all invocations."""
        with self._lock:
            self._jobs.clear()
            self._tokens.clear()

    def find_by_token(self, request: Mapping[str, Any]) -> Job | None:
        """The job started by the same request with the same token; a different request raises ConflictException."""
        job = self._tokens.get(request.get("clientRequestToken", ""))
        if job is not None and job.request != request:
            raise ServiceError(
                "ConflictException",
                "The clientRequestToken was already used by a request with different parameters.",
            )
        return job

    def add(self, model: Model, request: Mapping[str, Any]) -> Job:
        """Record a new invocation."""
        with self._lock:
            self._started += 1
            invocation = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(12))
            job = Job(self._prefix + invocation, self.region, model, request, self._started)
            self._jobs[job.arn] = job
            if job.token is not None:
                self._tokens[job.token] = job
            return job

    def find(self, arn: str) -> Job:
        """The invocation with this ARN; raises ServiceError if there is none."""
        job = self._jobs.get(arn)
        if job is None:
            raise refused(f"The invocation {arn} was not found.")
        return job

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One page of summaries, for ListAsyncInvokes."""
        ascending = query.get("sortOrder") == "Ascending"
        matching = [job for job in self if query.get("statusEquals", job.status) == job.status]
        if "submitTimeAfter" in query:
            after = _time(query["submitTimeAfter"])
            matching = [job for job in matching if job.submit_time > after]
        if "submitTimeBefore" in query:
            before = _time(query["submitTimeBefore"])
            matching = [job for job in matching if job.submit_time < before]
        ordered = matching if ascending else matching[::-1]
        if "nextToken" in query:
            # The token names the last job returned, so that jobs started in the meantime don't shift the pages.
            last = _number(query["nextToken"])
            ordered = [job for job in ordered if (job.number > last if ascending else job.number < last)]
        size = int(query.get("maxResults", _PAGE_SIZE))
        page = ordered[:size]
        next_token = {"nextToken": _token(page[-1].number)} if len(ordered) > size else {}
        return {"asyncInvokeSummaries": [job.summary() for job in page], **next_token}


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise refused(f"{text} is not a time in ISO 8601.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _token(number: int) -> str:
    return urlsafe_b64encode(f"after-{number}".encode()).decode()


def _number(token: str) -> int:
    try:
        return int(urlsafe_b64decode(token).removeprefix(b"after-"))
    except ValueError:
        raise refused("The nextToken is not valid.") from None

"""One asynchronous job: what it is, how it stands, where its output is. Holds data, no service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from bedrock_marengo.contract.models import Kind
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.jobs.fingerprint import JobKey, RequestFile, work_prefix

__all__ = ["OUTPUT_NAME", "InvocationStatus", "Job", "Status", "invocation_id"]

Status = Literal["InProgress", "Completed", "Failed"]

OUTPUT_NAME = "/output.json"


class InvocationStatus(NamedTuple):
    """What GetAsyncInvoke reports.

    Attributes:
        status: "InProgress", "Completed" or "Failed".
        message: why it failed.
        folder: the S3 folder of the output.
        stuck: whether it began so long ago that it is unlikely to end.
    """

    status: Status
    message: str
    folder: str
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """The asynchronous embedding of one file: running, or found done.

    Attributes:
        source: raw S3 URI of the file.
        kind: "video", "audio" or "image".
        fingerprint: 64 hex digits; the first 16 are the job's id.
        prefix: the S3 folder of request.json and the output.
        arn: ARN of the invocation; None if the output existed already.
        output_uri: S3 URI of the output, if it existed already.
        joined: whether another run had started it.
        counts_as_running: whether it occupies one of the client's job slots until it is waited for.

    Raises:
        InputError: The source, the fingerprint and where the output is don't belong together, such as in a copy with
            another source.
    """

    source: str
    kind: Kind
    fingerprint: str
    prefix: str
    arn: str | None
    output_uri: str | None = None
    joined: bool = False
    counts_as_running: bool = False
    _ask: Callable[[Job], InvocationStatus] | None = field(default=None, repr=False, compare=False)
    _record: tuple[RequestFile, str] | None = field(default=None, repr=False, compare=False)
    _unusable: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    _is_checked: bool = field(default=False, repr=False, compare=False)
    _started: float | None = field(default=None, repr=False, compare=False)
    """By the monotonic clock, if this process started it."""

    def __post_init__(self) -> None:
        # Else a copy with another source would return this job's vectors as those of the other file.
        is_here = self.prefix.endswith(work_prefix("", self.source, self.fingerprint))
        if not is_here or not (self.output_uri or self.prefix).startswith(self.prefix):
            raise InputError(
                f"This is not the job of {self.source}: its folder or output, {self.output_uri or self.prefix}, is "
                "another's. A job can't be changed: use client.start(source), or client.job(uri) for one that exists."
            )

    @classmethod
    def of(cls, key: JobKey, **found: Any) -> Job:
        """The job that a key identifies."""
        return cls(key.source.uri, key.request.kind, key.fingerprint, key.prefix, None, **found)

    @property
    def id(self) -> str:
        """The job's id in URIs and metadata: 16 hex digits."""
        return self.fingerprint[:16]

    def status(self) -> Status:
        """Ask Bedrock for the job's status; a job whose output was found is Completed.

        Raises:
            JobError: Bedrock no longer knows the job.
            ServiceError: AWS refused.
            ConfigurationError: The job comes from a pickle, which holds no credentials.
        """
        if self._ask is None:
            raise ConfigurationError(f"This job of {self.source} has no client: use client.collect(job).")
        return self._ask(self).status

    def __getstate__(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")]

    def __setstate__(self, state: list[Any]) -> None:
        # The client stays behind: a pickle holds no credentials.
        bare = Job(*state)
        for f in fields(self):
            object.__setattr__(self, f.name, getattr(bare, f.name))


def invocation_id(where: str | None) -> str:
    """The 12 characters that name an invocation, in its ARN and in its output's URI."""
    return (where or "").removesuffix(OUTPUT_NAME).rsplit("/", 1)[-1]

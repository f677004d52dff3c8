"""One asynchronous job: its identity, state and location. Holds data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from bedrock_marengo.contract.models import Kind
from bedrock_marengo.errors import (
    ConfigurationError,
)
from bedrock_marengo.jobs.fingerprint import RequestFile

__all__ = ["InvocationStatus", "Job", "Status", "invocation_id"]


Status = Literal["InProgress", "Completed", "Failed"]


_OUTPUT = "/output.json"


class InvocationStatus(NamedTuple):
    """What GetAsyncInvoke says.

    Attributes:
        status: "InProgress", "Completed" or "Failed".
        said: why it failed.
        folder: the S3 folder of the output.
        settled: whether it ended long ago.
        stuck: whether it began so long ago that it will hardly end.
    """

    status: Status
    said: str
    folder: str
    settled: bool
    stuck: bool = False


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
        held: whether it counts among the client's running jobs until it is waited for.
    """

    source: str
    kind: Kind
    fingerprint: str
    prefix: str
    arn: str | None
    output_uri: str | None = None
    joined: bool = False
    held: bool = False
    _ask: Callable[[Job], InvocationStatus] | None = field(default=None, repr=False, compare=False)
    _record: tuple[RequestFile, str] | None = field(default=None, repr=False, compare=False)
    _void: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

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
        if self._ask is None:
            raise ConfigurationError(f"This job of {self.source} has no client: client.collect(job) takes it up.")
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
    return (where or "").removesuffix(_OUTPUT).rsplit("/", 1)[-1]

"""Fault injection for Bedrock, S3 and STS: which calls fail, and how."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from marengo_local.calls import Call
from marengo_local.contract.transcribe import TRANSCRIBE_OPERATIONS
from marengo_local.errors import STATUS, THROTTLED, ServiceError

__all__ = ["OPERATIONS", "Fault", "FaultInjector"]

OPERATIONS: Final = (
    "InvokeModel",
    "StartAsyncInvoke",
    "GetAsyncInvoke",
    "ListAsyncInvokes",
    "GetFoundationModelAvailability",
    "Job",
    "InvokeModelWithResponseStream",
    *TRANSCRIBE_OPERATIONS,
    "TranscriptionJob",
)

_S3_STATUS: Final = {
    "AccessDenied": 403,
    "ExpiredToken": 400,
    "InternalError": 500,
    "InvalidObjectState": 403,
    "KMS.DisabledException": 400,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
}

# Of the JSON protocol: what isn't in the service's model has status 400.
_TRANSCRIBE_STATUS: Final = {
    "AccessDeniedException": 400,
    "BadRequestException": 400,
    "ConflictException": 409,
    "ExpiredTokenException": 400,
    "InternalFailureException": 500,
    "LimitExceededException": 429,
    "NotFoundException": 404,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 400,
    "UnrecognizedClientException": 400,
}

_STS_STATUS: Final = {
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "InternalFailure": 500,
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "Throttling": 400,
}

_MESSAGES: Final = {
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "ExpiredToken": "The security token included in the request is expired",
    "ExpiredTokenException": "The security token included in the request is expired",
    "InvalidClientTokenId": "The security token included in the request is invalid.",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "ThrottlingException": THROTTLED,
}

# What runs after its start was accepted.
_RUNS: Final = ("Job", "TranscriptionJob")


@dataclass
class Fault:
    """A failure to inject.

    `op` is InvokeModel, StartAsyncInvoke, GetAsyncInvoke, ListAsyncInvokes, GetFoundationModelAvailability, Job (the
    processing of an asynchronous job after its start was accepted), InvokeModelWithResponseStream, an operation of
    Amazon Transcribe such as StartTranscriptionJob, TranscriptionJob (the processing of such a job), or an S3 or STS
    operation such as s3:GetObject or sts:GetCallerIdentity. S3 and STS faults apply to calls made with this server's
    access key; the service's own reads and writes, and `local.s3`, are not affected.

    `when` selects the calls, which each fault counts from 1: True (every call), an int (only that call), a float (each
    call with that probability, from the server's seed), or a callable that receives the Call. `times` limits how often
    the fault is injected; `hits` counts how often it was.

    The effects, in this order: `delay_sec` is waited (`float("inf")` on a Job: the job never ends); `drop="before"`
    closes the connection before the call is processed; `error` is returned without processing the call; `drop="after"`
    closes the connection after processing, without a response; `drop="mid-body"` closes it in the middle of the
    response; `body` replaces the response's body, as a proxy might; `body_sec` spreads the body over that time. A Job
    or a TranscriptionJob accepts `delay_sec`, `error` (the job fails with `message`) and `body` (the bytes of its
    output.json, or of its transcript).
    """

    op: str
    when: bool | int | float | Callable[[Call], bool] = True
    error: str | None = None
    message: str | None = None
    status: int | None = None
    drop: Literal["before", "after", "mid-body"] | None = None
    delay_sec: float = 0.0
    body_sec: float = 0.0
    body: bytes | None = None
    times: int | None = None
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS and not self.op.startswith(("s3:", "sts:")):
            known = ", ".join([*OPERATIONS, "s3:GetObject", "sts:GetCallerIdentity"])
            raise ValueError(f"Fault: op={self.op!r} is not supported. Use one of {known}, or another S3 or STS one.")
        if self.error is not None and self.op not in _RUNS and self._status() is None:
            known = ", ".join(self._statuses())
            raise ValueError(f"Fault: error={self.error!r} is not one of {known}. Set status= for another error code.")
        if self.op in _RUNS and (self.drop or self.body_sec):
            raise ValueError(f"Fault: drop and body_sec don't apply to op={self.op!r}. Use error, delay_sec or body.")

    def to_error(self) -> ServiceError | None:
        """The error response of this fault, if it has one."""
        if self.error is None:
            return None
        message = self.message if self.message is not None else _MESSAGES.get(self.error, self.error)
        return ServiceError(self.error, message, self._status())

    def _status(self) -> int | None:
        return self.status if self.status is not None else self._statuses().get(self.error or "")

    def _statuses(self) -> Mapping[str, int]:
        if self.op in TRANSCRIBE_OPERATIONS:
            return _TRANSCRIBE_STATUS
        return {"s3": _S3_STATUS, "sts": _STS_STATUS}.get(self.op.partition(":")[0], STATUS)


class FaultInjector:
    """Selects the fault for a call: the first in the list that applies."""

    def __init__(self) -> None:
        self._random = random.Random()
        self._lock = threading.Lock()

    def reset(self, seed: int) -> None:
        """Restart the random sequence."""
        self._random.seed(seed)

    def next_fault(self, faults: Iterable[Fault], call: Call) -> Fault | None:
        """The fault for this call, if any."""
        with self._lock:
            return next((fault for fault in tuple(faults) if self._applies(fault, call)), None)

    def _applies(self, fault: Fault, call: Call) -> bool:
        if fault.op != call.op or (fault.times is not None and fault.hits >= fault.times):
            return False
        fault.seen += 1
        if not self._is_due(fault, call):
            return False
        fault.hits += 1
        return True

    def _is_due(self, fault: Fault, call: Call) -> bool:
        match fault.when:
            case bool(always):
                return always
            case int(number):
                return fault.seen == number
            case float(probability):
                return self._random.random() < probability
            case predicate:
                return predicate(call)

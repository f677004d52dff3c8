"""Making the service, or the S3 beside it, misbehave: what goes wrong, on which call, and how."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from marengo_local.calls import Call
from marengo_local.errors import STATUS, THROTTLED, ServiceError

__all__ = ["OPERATIONS", "Fault", "Faults"]

OPERATIONS: Final = (
    "InvokeModel",
    "StartAsyncInvoke",
    "GetAsyncInvoke",
    "ListAsyncInvokes",
    "GetFoundationModelAvailability",
    "Job",
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


@dataclass
class Fault:
    """Something that goes wrong.

    `op` is InvokeModel, StartAsyncInvoke, GetAsyncInvoke, ListAsyncInvokes, GetFoundationModelAvailability, Job (the
    work of an asynchronous job after its start was accepted), or an operation of S3 or STS such as s3:GetObject or
    sts:GetCallerIdentity, struck when made with this server's keys; the service's own reads and writes and `local.s3`
    are spared.

    `when` says on which of its calls, counted from 1 by this fault: True (each), an int (that one only),
    a float (with that probability, from the server's seed), or a callable that gets the Call.
    `times` bounds how often it strikes; `hits` counts how often it did.

    What happens, in this order: `delay_sec` passes (`float("inf")` on a Job: it never ends);
    `drop="before"` closes the connection with nothing done; `error` is answered instead of working;
    `drop="after"` closes it with the work done and no reply, `drop="mid-body"` in the middle of the reply;
    `body` is sent in place of the reply's, as by a proxy between; `body_sec` stretches the sending. A Job
    knows `delay_sec`, `error`, by which it fails with `message`, and `body`, its output.json's bytes.
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
            raise ValueError(f"Fault: op is {self.op!r}; choose one of {known} or the like")
        if self.error is not None and self.op != "Job" and self._status() is None:
            known = ", ".join(self._statuses())
            raise ValueError(f"Fault: {self.error!r} is none of {known}; give it a status=")
        if self.op == "Job" and (self.drop or self.body_sec):
            raise ValueError("Fault: a Job has no connection to drop or to slow; use error, delay_sec or body")

    def raised(self) -> ServiceError | None:
        """The error reply this fault asks for."""
        if self.error is None:
            return None
        message = self.message if self.message is not None else _MESSAGES.get(self.error, self.error)
        return ServiceError(self.error, message, self._status())

    def _status(self) -> int | None:
        return self.status if self.status is not None else self._statuses().get(self.error or "")

    def _statuses(self) -> Mapping[str, int]:
        return {"s3": _S3_STATUS, "sts": _STS_STATUS}.get(self.op.partition(":")[0], STATUS)


class Faults:
    """Decides which fault strikes a call: the first of the list that wants it."""

    def __init__(self) -> None:
        self._random = random.Random()
        self._lock = threading.Lock()

    def reset(self, seed: int) -> None:
        """Begin the probabilities anew."""
        self._random.seed(seed)

    def strike(self, faults: Iterable[Fault], call: Call) -> Fault | None:
        """The fault for this call, if any."""
        with self._lock:
            return next((fault for fault in tuple(faults) if self._wants(fault, call)), None)

    def _wants(self, fault: Fault, call: Call) -> bool:
        if fault.op != call.op or (fault.times is not None and fault.hits >= fault.times):
            return False
        fault.seen += 1
        if not self._due(fault, call):
            return False
        fault.hits += 1
        return True

    def _due(self, fault: Fault, call: Call) -> bool:
        match fault.when:
            case bool(always):
                return always
            case int(number):
                return fault.seen == number
            case float(probability):
                return self._random.random() < probability
            case asked:
                return asked(call)

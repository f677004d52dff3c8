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

OPERATIONS: Final = ("InvokeModel", "StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes", "Job")

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

_MESSAGES: Final = {
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "ExpiredTokenException": "The security token included in the request is expired",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "ThrottlingException": THROTTLED,
}


@dataclass
class Fault:
    """Something that goes wrong.

    `op` is InvokeModel, StartAsyncInvoke, GetAsyncInvoke, ListAsyncInvokes, Job (the work of an
    asynchronous job after its start was accepted), or an S3 operation such as s3:GetObject, struck when made
    with this server's keys; the service's own reads and writes and `local.s3` are spared.

    `when` says on which of its calls, counted from 1 by this fault: True (each), an int (that one only),
    a float (with that probability, from the server's seed), or a callable that gets the Call.
    `times` bounds how often it strikes; `hits` counts how often it did.

    What happens, in this order: `delay_sec` passes (`float("inf")` on a Job: it never ends);
    `drop="before"` closes the connection with nothing done; `error` is answered instead of working;
    `drop="after"` closes it with the work done and no reply, `drop="mid-body"` in the middle of the reply;
    `body_sec` stretches the sending of the reply's body. A Job knows `delay_sec` and `error`, by which it
    fails with `message`.
    """

    op: str
    when: bool | int | float | Callable[[Call], bool] = True
    error: str | None = None
    message: str | None = None
    status: int | None = None
    drop: Literal["before", "after", "mid-body"] | None = None
    delay_sec: float = 0.0
    body_sec: float = 0.0
    times: int | None = None
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS and not self.op.startswith("s3:"):
            raise ValueError(f"Fault: op is {self.op!r}; choose one of {', '.join(OPERATIONS)} or s3:GetObject")
        if self.error is not None and self.op != "Job" and self._status() is None:
            known = ", ".join(self._statuses())
            raise ValueError(f"Fault: {self.error!r} is none of {known}; give it a status=")
        if self.op == "Job" and (self.drop or self.body_sec):
            raise ValueError("Fault: a Job has no connection to drop or to slow; use error or delay_sec")

    def raised(self) -> ServiceError | None:
        """The error reply this fault asks for."""
        if self.error is None:
            return None
        message = self.message if self.message is not None else _MESSAGES.get(self.error, self.error)
        return ServiceError(self.error, message, self._status())

    def _status(self) -> int | None:
        return self.status if self.status is not None else self._statuses().get(self.error or "")

    def _statuses(self) -> Mapping[str, int]:
        return _S3_STATUS if self.op.startswith("s3:") else STATUS


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

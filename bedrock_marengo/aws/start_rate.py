"""How fast jobs are started and how many run at once, learned from what the service refuses."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Literal, Protocol

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
)

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.retries import THROTTLED, T, back_off, backoff_sec, is_transient
from bedrock_marengo.errors import MarengoWarning, ServiceError, error_code

__all__ = ["NO_CEILING", "PATIENCE_SEC", "PROBE_ROUNDS", "JobCeiling", "JobSlots", "SlotOutcome", "StartLimiter"]


PROBE_ROUNDS = 8
"""How often as many jobs as are allowed must end before one more than the service last allowed is tried."""


_FULL = frozenset({"ServiceQuotaExceededException", "LimitExceededException"})
"""How Bedrock and Transcribe refuse a start because too many jobs run."""


PATIENCE_SEC = 60.0
"""How long all starts may be refused before a warning."""


NO_CEILING = 1 << 20
"""Jobs in flight, until the service has refused one."""


SlotOutcome = Literal["ended", "unused", "refused"]
"""What became of a slot: its job has ended, none was started, or AWS refused it because too many run."""


_FIRST_PER_SEC = 20.0
"""Starts per second until AWS has throttled one: a quota of 20 jobs is used within a second. Ours."""


_SLOT_SEC = 0.5
"""How long to wait for a shared slot before looking whether the start is cancelled."""


class JobSlots(Protocol):
    """Slots for running jobs that several processes share, one for each job. Both methods are called by threads.

    An implementation must free the slots of a process that has died.
    """

    def acquire(self, wait_sec: float) -> str | None:
        """A slot; None if none became free within ``wait_sec``."""

    def release(self, slot: str, outcome: SlotOutcome) -> None:
        """Free a slot. It must not raise, and need not wait."""


class JobCeiling:
    """How many jobs may run, learned from what the service refuses. Not thread-safe.

    Attributes:
        jobs: the most that may run.
    """

    def __init__(self) -> None:
        self.jobs = NO_CEILING
        self._ended = 0

    def ended(self) -> None:
        """A job has ended: now and then, one more is allowed."""
        self._ended += 1
        if self._ended >= PROBE_ROUNDS * self.jobs:
            self._ended, self.jobs = 0, self.jobs + 1

    def refused(self, running: int) -> bool:
        """The service refused one more than are running; whether that lowers the ceiling."""
        before, self._ended = self.jobs, 0
        self.jobs = max(1, min(before, running))
        return self.jobs < before


class StartLimiter:
    """Limits how fast jobs are started and how many run at once; both limits are learned from refusals.

    Starts per second: additive increase, multiplicative decrease on ThrottlingException, after a first steep rise.
    Jobs in flight: a refusal because of their number sets the ceiling to what is running, then one more is tried now
    and then. Neither makes a start fail.

    Args:
        max_per_sec: maximum starts per second.
        slots: shared with other processes, which then learn together how many jobs may run.
        operation: what starts a job, for errors.
    """

    def __init__(
        self,
        *,
        max_per_sec: float | None = None,
        slots: JobSlots | None = None,
        operation: str = "StartAsyncInvoke",
    ) -> None:
        self._operation = operation
        self._ceiling = JobCeiling()
        self._slots = slots
        self._held: list[str] = []
        self._max_per_sec = max_per_sec or float("inf")
        self._per_sec = min(_FIRST_PER_SEC, self._max_per_sec)
        self._rising = True
        # A token bucket of one second's size, as the service uses, so that short bursts pass.
        self._left = self._per_sec / 2
        self._filled = time.monotonic()
        self._lowered = 0.0
        self._refused_at: float | None = None
        self._warned = False
        self._starting = self._running = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    def call(
        self,
        start: Callable[[], T],
        what: str,
        *,
        hold: bool,
        most: int | None = None,
        token: CancelToken,
        attempts: int = 8,
    ) -> T:
        """Start a job when its turn comes; with ``hold`` it counts as running until ``release``.

        With ``most``, it waits while so many count as running.

        Raises:
            ServiceError: AWS refused, but not because of the rate or number of jobs.
            ClosedError: It was cancelled before its start.
        """
        failed = refused = 0
        while True:
            waited, slot = self._take(token, what, NO_CEILING if most is None else most)
            try:
                result = start()
            except BaseException as error:
                if not isinstance(error, ClientError | BotoCoreError):
                    self._give_back(slot, running=False)
                    raise
                code = error_code(error)
                self._give_back(slot, running=False, refused=code in _FULL)
                if code in THROTTLED:
                    instrumentation.emit("call throttled", operation=self._operation, source=what, code=code)
                    self._refused(code)
                if code in _FULL:
                    refused += 1
                    self._full()
                    # Others may use up the account's quota: then no job of ours ends, and only waiting helps.
                    token.wait(backoff_sec(refused))
                elif code in THROTTLED:
                    self._throttled()
                elif is_transient(error) and (failed := failed + 1) < attempts:
                    back_off(token, self._operation, what, error, failed)
                else:
                    raise ServiceError.of(error, self._operation, what) from error
                continue
            self._started(waited=waited)
            self._give_back(slot, running=hold)
            return result

    def release(self) -> None:
        """A job that counted as running has ended."""
        with self._changed:
            self._running -= 1
            self._ceiling.ended()
            slot = self._held.pop() if self._held else None
            self._changed.notify()
        if self._slots and slot:
            self._slots.release(slot, "ended")

    def _take(self, token: CancelToken, what: str, most: int) -> tuple[bool, str]:
        """Wait for a slot and a turn; whether it was the speed that made it wait, and the slot."""
        waited = False
        while True:
            with self._changed:
                while not self._has_place(most):
                    token.check(f"The start of {what}")
                    self._changed.wait(0.5)
            # One at a time, so that a change of rate applies to all in the queue.
            with self._turn:
                while (lack_sec := self._draw()) > 0:
                    waited = True
                    token.check(f"The start of {what}")
                    token.wait(lack_sec)
                token.check(f"The start of {what}")
                # Last, so that a slot that others need is not held by one that waits; and by one thread at a time.
                slot = self._slots.acquire(_SLOT_SEC) if self._slots else ""
                with self._changed:
                    # Those before it in the queue may have found that there are fewer places.
                    if slot is not None and self._has_place(most):
                        self._starting += 1
                        return waited, slot
                    self._left += 1.0
            if self._slots and slot:
                self._slots.release(slot, "unused")

    def _has_place(self, most: int) -> bool:
        return self._running + self._starting < min(self._ceiling.jobs, most)

    def _draw(self) -> float:
        """Take one start from the bucket; returns how many seconds are missing, 0 if it was taken."""
        with self._changed:
            now = time.monotonic()
            self._left = min(max(1.0, self._per_sec), self._left + (now - self._filled) * self._per_sec)
            self._filled = now
            if self._left < 1.0:
                return (1.0 - self._left) / self._per_sec
            self._left -= 1.0
            return 0.0

    def _give_back(self, slot: str, *, running: bool, refused: bool = False) -> None:
        with self._changed:
            self._starting -= 1
            self._running += running
            if running and slot:
                self._held.append(slot)
            self._changed.notify()
        if self._slots and not running:
            self._slots.release(slot, "refused" if refused else "unused")

    def _refused(self, code: str) -> None:
        """Warn, once, if no start succeeded for a long time: it may wait indefinitely."""
        now = time.monotonic()
        with self._changed:
            self._refused_at = self._refused_at or now
            refused_sec = now - self._refused_at
            if self._warned or refused_sec < PATIENCE_SEC:
                return
            self._warned = True
        warnings.warn(
            f"AWS has refused to start any job for {refused_sec:.0f} s ({code}); retries continue. Check what else "
            "starts jobs in this account, and Service Quotas for Bedrock: with a quota of 0 no start ever succeeds. "
            "(Shown once.)",
            MarengoWarning,
            stacklevel=2,
        )

    def _started(self, *, waited: bool) -> None:
        self._refused_at = None
        if not waited:
            # A rate that delayed no start was not tested.
            return
        with self._changed:
            rise = self._per_sec * 0.1 if self._rising else 0.1 / self._per_sec
            self._per_sec = min(self._max_per_sec, self._per_sec + rise)

    def _throttled(self) -> None:
        with self._changed:
            now = time.monotonic()
            if is_new := now - self._lowered > 0.1 + 1.5 / self._per_sec:
                # Starts that were running are throttled too: count them once.
                lower = 0.5 if self._rising else 0.9
                self._per_sec, self._lowered, self._rising = max(0.05, self._per_sec * lower), now, False
            self._left = min(self._left, -random.uniform(0.0, 0.5))
            per_sec = self._per_sec
        if is_new:
            instrumentation.emit("starts slowed", per_sec=per_sec)

    def _full(self) -> None:
        if self._slots:
            # What runs here doesn't show what the account allows: whoever shares the slots counts them all.
            return
        with self._changed:
            # Of the starts that are under way, some may succeed: those that don't will lower it further.
            is_lower, ceiling = self._ceiling.refused(self._running + self._starting), self._ceiling.jobs
        if is_lower:
            instrumentation.emit("jobs limited", count=ceiling)

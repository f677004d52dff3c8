"""How fast jobs are started and how many run at once, learned from what the service refuses."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
)

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.retries import THROTTLED, T, back_off, backoff_sec, is_transient
from bedrock_marengo.errors import MarengoWarning, ServiceError, error_code

__all__ = ["NO_CEILING", "PATIENCE_SEC", "PROBE_ROUNDS", "StartLimiter"]


PROBE_ROUNDS = 8
"""How often as many jobs as are allowed must end before one more than the service last allowed is tried."""


_FULL = frozenset({"ServiceQuotaExceededException", "LimitExceededException"})
"""How Bedrock and Transcribe refuse a start because too many jobs run."""


PATIENCE_SEC = 60.0
"""How long all starts may be refused before a warning."""


NO_CEILING = 1 << 20
"""Jobs in flight, until the service has refused one."""


class StartLimiter:
    """Limits how fast jobs are started and how many run at once; both limits are learned from refusals.

    Starts per second: additive increase, multiplicative decrease on ThrottlingException, after a first steep rise.
    Jobs in flight: a refusal because of their number sets the ceiling to what is running, then one more is tried now
    and then. Neither makes a start fail.

    Args:
        max_per_sec: maximum starts per second.
        operation: what starts a job, for errors.
    """

    def __init__(self, *, max_per_sec: float | None = None, operation: str = "StartAsyncInvoke") -> None:
        self._operation = operation
        self._ceiling = NO_CEILING
        self._max_per_sec = max_per_sec or float("inf")
        self._per_sec = min(10.0, self._max_per_sec)
        self._rising = True
        # A token bucket of one second's size, as the service uses, so that short bursts pass.
        self._left = self._per_sec / 2
        self._filled = time.monotonic()
        self._lowered = 0.0
        self._ended = 0
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
            waited = self._take(token, what, NO_CEILING if most is None else most)
            try:
                result = start()
            except BaseException as error:
                self._give_back(running=False)
                if not isinstance(error, ClientError | BotoCoreError):
                    raise
                code = error_code(error)
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
            self._give_back(running=hold)
            return result

    def release(self) -> None:
        """A job that counted as running has ended."""
        with self._changed:
            self._running -= 1
            self._ended += 1
            if self._ended >= PROBE_ROUNDS * self._ceiling:
                self._ended, self._ceiling = 0, self._ceiling + 1
            self._changed.notify()

    def _take(self, token: CancelToken, what: str, most: int) -> bool:
        """Wait for a place and a turn; whether it was the speed that made it wait."""
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
                with self._changed:
                    # Those before it in the queue may have found that there are fewer places.
                    if self._has_place(most):
                        self._starting += 1
                        return waited
                    self._left += 1.0

    def _has_place(self, most: int) -> bool:
        return self._running + self._starting < min(self._ceiling, most)

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

    def _give_back(self, *, running: bool) -> None:
        with self._changed:
            self._starting -= 1
            self._running += running
            self._changed.notify()

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
        with self._changed:
            before, self._ended = self._ceiling, 0
            ceiling = self._ceiling = max(1, min(before, self._running))
        if ceiling < before:
            instrumentation.emit("jobs limited", count=ceiling)

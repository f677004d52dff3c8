"""How fast to start, how many at once."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as AwsConnectionError

from bedrock_marengo.errors import MarengoWarning, ServiceError, error_code, http_status
from bedrock_marengo.forking import renew_in_children
from bedrock_marengo.stopping import NEXT, Stop, Threads, current

__all__ = ["Gate", "Starts", "as_finished", "in_order"]

T = TypeVar("T")
S = TypeVar("S")

THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException", "SlowDown"})
PASSING = THROTTLED | {
    "ModelNotReadyException",
    "ModelTimeoutException",
    "ModelErrorException",
    "InternalServerException",
    "ServiceUnavailableException",
}
PROBE_ROUNDS = 8
"""How many times over all running jobs must end before one more is tried than the service last allowed."""
PATIENCE_SEC = 60.0
"""How long all starts may be refused before a warning says so."""
NO_CEILING = 1 << 20
"""Jobs in flight, until the service has refused one."""
_PASSING_STATUS = frozenset({408, 424, 429, 500, 502, 503, 504})
_PASSING_ERRORS = (AwsConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


class Gate:
    """Lets ``limit`` calls through at once, retries what passes, and slows all of them when one is throttled.

    botocore's own retries are off for these calls: they know neither 408 nor 424, and each thread backs off alone.

    Attributes:
        stop: what calls off a call that nothing nearer does.
    """

    stop: Stop

    def __init__(self, limit: int, *, attempts: int = 8, throttled_attempts: int = 20) -> None:
        self._limit = limit
        self._attempts = attempts
        self._throttled_attempts = throttled_attempts
        self._open_at = 0.0
        self._pause_sec = 0.0
        renew_in_children(self)

    def renew(self) -> None:
        """Nobody is inside, and nobody waits."""
        self._slots = _Slots(self._limit)
        self._lock = threading.Lock()
        self.stop = Stop()

    def close(self) -> None:
        """Call off what is here; what comes later is not."""
        stop, self.stop = self.stop, Stop()
        stop.set()

    def stopping(self) -> Stop:
        """What calls off the call that this thread is at."""
        return current() or self.stop

    def call(self, call: Callable[[], T], operation: str, what: str, *, passing: frozenset[str] = frozenset()) -> T:
        """Run a call to AWS until it succeeds or fails for good.

        Args:
            call: makes the call.
            operation: what it is, for errors.
            what: what it is about, for errors.
            passing: codes that pass in this call, too.

        Raises:
            ServiceError: AWS refused, or what passes did not pass in time.
            ClosedError: It was called off while it waited.
        """
        stop = self.stopping()
        failed = throttled = 0
        while True:
            try:
                # The gate may shut while a call queues for its slot.
                with self._slots:
                    self._wait(stop)
                    stop.check(f"{operation} for {what}")
                    result = call()
            except (ClientError, BotoCoreError) as error:
                if not is_passing(error) and error_code(error) not in passing:
                    raise ServiceError.of(error, operation, what) from error
                slow = error_code(error) in THROTTLED
                throttled, failed = throttled + slow, failed + (not slow)
                if failed >= self._attempts or throttled >= self._throttled_attempts:
                    raise ServiceError.of(error, operation, what) from error
                if slow:
                    self._slow_down()
                else:
                    stop.wait(backoff_sec(failed))
                continue
            if self._pause_sec:
                self._speed_up()
            return result

    def _wait(self, stop: Stop) -> None:
        while (left := self._open_at - time.monotonic()) > 0:
            # Jitter, so that the pool does not come back as one.
            if stop.wait(left * random.uniform(1.0, 1.2)):
                return

    def _slow_down(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now >= self._open_at:
                # Calls that were under way when the gate shut are throttled too: count the pool once.
                self._pause_sec = min(10.0, max(0.2, self._pause_sec * 2))
                self._open_at = now + self._pause_sec * random.uniform(0.8, 1.2)

    def _speed_up(self) -> None:
        with self._lock:
            self._pause_sec = self._pause_sec * 0.9 if self._pause_sec > 0.05 else 0.0


class _Slots:
    """A semaphore that lets in by order of arrival.

    Python's own lets a thread that comes back at once pass those who wait: while texts are embedded at full speed, a
    call about a job waited for minutes.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _give_up(self, turn: threading.Lock) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        # Its turn had come.
        self.__exit__()


class Starts:
    """How fast jobs are started and how many run at once, both found out from what the service refuses.

    Starts a second: additive increase, multiplicative decrease on ThrottlingException, after a first steep rise. Jobs
    in flight: ServiceQuotaExceededException sets the ceiling to what is running, then one more is tried now and then.
    No start is given up for either.

    Args:
        max_per_sec: starts a second, at most.
    """

    def __init__(self, *, max_per_sec: float | None = None) -> None:
        self._ceiling = NO_CEILING
        self._max_per_sec = max_per_sec or float("inf")
        self._per_sec = min(10.0, self._max_per_sec)
        self._rising = True
        # As the service reckons, too: a bucket that holds what a second brings, so that short bursts pass.
        self._left = self._per_sec / 2
        self._filled = time.monotonic()
        self._lowered = 0.0
        self._ended = 0
        self._refused_at: float | None = None
        self._warned = False
        renew_in_children(self)

    def renew(self) -> None:
        """Nobody starts a job, and none of the parent's is ours."""
        self._starting = self._running = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    def call(
        self,
        start: Callable[[], T],
        what: str,
        *,
        hold: bool,
        stopped: Stop,
        attempts: int = 8,
    ) -> T:
        """Start a job when its turn comes; with ``hold`` it counts as running until ``release``.

        Raises:
            ServiceError: AWS refused for another reason than speed or number.
            ClosedError: It was called off before its start.
        """
        failed = refused = 0
        while True:
            waited = self._take(stopped, what)
            try:
                result = start()
            except BaseException as error:
                self._give_back(running=False)
                if not isinstance(error, ClientError | BotoCoreError):
                    raise
                code = error_code(error)
                if code in THROTTLED:
                    self._refused(code)
                if code == "ServiceQuotaExceededException":
                    refused += 1
                    self._full()
                    # Others may use up the account's quota: then nothing of ours ends, and only time helps.
                    stopped.wait(backoff_sec(refused))
                elif code in THROTTLED:
                    self._throttled()
                elif is_passing(error) and (failed := failed + 1) < attempts:
                    stopped.wait(backoff_sec(failed))
                else:
                    raise ServiceError.of(error, "StartAsyncInvoke", what) from error
                continue
            self._started(waited=waited)
            self._give_back(running=hold)
            return result

    def release(self) -> None:
        """A job that was held runs no more."""
        with self._changed:
            self._running -= 1
            self._ended += 1
            if self._ended >= PROBE_ROUNDS * self._ceiling:
                self._ended, self._ceiling = 0, self._ceiling + 1
            self._changed.notify()

    def _take(self, stopped: Stop, what: str) -> bool:
        """Wait for a place and a turn; whether it was the speed that made it wait."""
        with self._changed:
            while self._running + self._starting >= self._ceiling:
                stopped.check(f"The start of {what}")
                self._changed.wait(0.5)
            self._starting += 1
        try:
            # One at a time, so that a change of speed holds for all who queue.
            with self._turn:
                waited = False
                while (lack_sec := self._draw()) > 0:
                    waited = True
                    stopped.check(f"The start of {what}")
                    stopped.wait(lack_sec)
                stopped.check(f"The start of {what}")
        except BaseException:
            self._give_back(running=False)
            raise
        return waited

    def _draw(self) -> float:
        """Take one start out of the bucket, or tell how many seconds it lacks."""
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
        """Warn, once, if no start at all went through for a long time: it may wait for ever."""
        now = time.monotonic()
        with self._changed:
            self._refused_at = self._refused_at or now
            refused_sec = now - self._refused_at
            if self._warned or refused_sec < PATIENCE_SEC:
                return
            self._warned = True
        warnings.warn(
            f"AWS has refused to start any job for {refused_sec:.0f} s ({code}); it is asked on. See who else starts "
            "jobs in this account, and Service Quotas for Bedrock: with a quota of 0 this never ends. (Said once.)",
            MarengoWarning,
            stacklevel=2,
        )

    def _started(self, *, waited: bool) -> None:
        self._refused_at = None
        if not waited:
            # A speed that held nobody back was not tried.
            return
        with self._changed:
            rise = self._per_sec * 0.1 if self._rising else 0.1 / self._per_sec
            self._per_sec = min(self._max_per_sec, self._per_sec + rise)

    def _throttled(self) -> None:
        with self._changed:
            now = time.monotonic()
            if now - self._lowered > 0.1 + 1.5 / self._per_sec:
                # Starts that were under way are throttled too: count them once.
                lower = 0.5 if self._rising else 0.9
                self._per_sec, self._lowered, self._rising = max(0.05, self._per_sec * lower), now, False
            self._left = min(self._left, -random.uniform(0.0, 0.5))

    def _full(self) -> None:
        with self._changed:
            self._ceiling, self._ended = max(1, min(self._ceiling, self._running)), 0


def in_order(executor: Executor, call: Callable[[S], T], items: Iterable[S], *, ahead: int) -> Iterator[T]:
    """Map over an executor, results in order, at most ``ahead`` items under way, none begun after a failure."""
    failure: list[BaseException] = []

    def guarded(item: S) -> T:
        if failure:
            raise failure[0]
        try:
            return call(item)
        except BaseException as error:
            failure.append(error)
            raise

    pending: deque[Future[T]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(guarded, item))
            if len(pending) >= ahead:
                yield _first(pending, failure)
        while pending:
            yield _first(pending, failure)
    finally:
        for future in pending:
            future.cancel()


def as_finished(
    call: Callable[[S], T],
    items: Iterable[S],
    *,
    threads: Callable[[], Threads],
    at_once: int,
    stopped: Stop,
    known: Callable[[S], T | None] = lambda item: None,
) -> Generator[T, None, None]:
    """Map on threads of its own, results as they finish, items taken as threads come free.

    ``known`` answers an item at once, without a thread. ``stopped`` ends it, and is set when nobody takes results any
    more, so that what is under way can end.
    """
    pending: set[Future[T]] = set()
    with threads() as own:
        try:
            for item in items:
                stopped.check(NEXT)
                if (result := known(item)) is not None:
                    yield result
                    continue
                pending.add(own.submit(call, item))
                # What has finished meanwhile is handed on; with all threads busy something must finish first.
                done, pending = wait(pending, None if len(pending) >= at_once else 0.0, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            while pending:
                stopped.check(NEXT)
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            stopped.set()
            for future in pending:
                future.cancel()


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, ClientError):
        return error_code(error) in PASSING or http_status(error) in _PASSING_STATUS
    return isinstance(error, _PASSING_ERRORS)


def backoff_sec(attempt: int) -> float:
    """Seconds to wait after the n-th failure: doubling from 0.1 to 5, with jitter."""
    return float(min(5.0, 0.1 * 2 ** (attempt - 1)) * random.uniform(0.7, 1.3))


def _first(pending: deque[Future[T]], failure: list[BaseException]) -> T:
    if failure:
        raise failure[0]
    return pending.popleft().result()

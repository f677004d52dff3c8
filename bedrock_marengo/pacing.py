"""How fast to start, how many at once."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as AwsConnectionError

from bedrock_marengo.errors import ServiceError, error_code, http_status

__all__ = ["Gate", "as_finished", "in_order"]

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
_PASSING_STATUS = frozenset({408, 424, 429, 500, 502, 503, 504})
_PASSING_ERRORS = (AwsConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


class Gate:
    """Lets ``limit`` calls through at once, retries what passes, and slows all of them when one is throttled.

    botocore's own retries are off for these calls: they know neither 408 nor 424, and each thread backs off alone.
    """

    def __init__(self, limit: int, *, attempts: int = 8, throttled_attempts: int = 20) -> None:
        self._slots = threading.BoundedSemaphore(limit)
        self._attempts = attempts
        self._throttled_attempts = throttled_attempts
        self._lock = threading.Lock()
        self._open_at = 0.0
        self._pause_sec = 0.0

    def call(self, call: Callable[[], T], operation: str, what: str) -> T:
        """Run a call to AWS until it succeeds or fails for good.

        Raises:
            ServiceError: AWS refused, or what passes did not pass in time.
        """
        failed = throttled = 0
        while True:
            try:
                # The gate may shut while a call queues for its slot.
                with self._slots:
                    self._wait()
                    result = call()
            except (ClientError, BotoCoreError) as error:
                if not is_passing(error):
                    raise ServiceError.of(error, operation, what) from error
                slow = error_code(error) in THROTTLED
                throttled, failed = throttled + slow, failed + (not slow)
                if failed >= self._attempts or throttled >= self._throttled_attempts:
                    raise ServiceError.of(error, operation, what) from error
                if slow:
                    self._slow_down()
                else:
                    time.sleep(backoff_sec(failed))
                continue
            if self._pause_sec:
                self._speed_up()
            return result

    def _wait(self) -> None:
        while (left := self._open_at - time.monotonic()) > 0:
            # Jitter, so that the pool does not come back as one.
            time.sleep(left * random.uniform(1.0, 1.2))

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
    call: Callable[[S], T], items: Iterable[S], *, at_once: int, on_leave: Callable[[], None]
) -> Generator[T, None, None]:
    """Map on threads of its own, results as they finish, items taken as threads come free.

    ``on_leave`` is called when nobody takes results any more, so that what is under way can end.
    """
    pending: set[Future[T]] = set()
    with ThreadPoolExecutor(at_once, thread_name_prefix="marengo-media") as threads:
        try:
            for item in items:
                pending.add(threads.submit(call, item))
                if len(pending) >= at_once:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            on_leave()
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

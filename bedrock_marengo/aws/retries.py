"""How fast to start, how many at once."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as AwsConnectionError

from bedrock_marengo.aws.cancellation import CancelToken, current_token
from bedrock_marengo.errors import ServiceError, error_code, http_status

__all__ = ["RetryLimiter"]

T = TypeVar("T")
S = TypeVar("S")

THROTTLED = frozenset({"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException", "SlowDown"})
TRANSIENT = THROTTLED | {
    "ModelNotReadyException",
    "ModelTimeoutException",
    "ModelErrorException",
    "InternalServerException",
    "ServiceUnavailableException",
}
_TRANSIENT_STATUS = frozenset({408, 424, 429, 500, 502, 503, 504})
_TRANSIENT_ERRORS = (AwsConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


class RetryLimiter:
    """Lets ``limit`` calls through at once, retries transient failures, and slows all calls when one is throttled.

    botocore's own retries are off for these calls: they know neither 408 nor 424, and each thread backs off alone.

    Attributes:
        cancel_token: cancels calls that have no token of their own.
    """

    def __init__(self, limit: int, *, attempts: int = 8, throttled_attempts: int = 20) -> None:
        self._attempts = attempts
        self._throttled_attempts = throttled_attempts
        self._open_at = 0.0
        self._pause_sec = 0.0
        self._slots = _Slots(limit)
        self._lock = threading.Lock()
        self.cancel_token = CancelToken()

    def close(self) -> None:
        """Cancel the calls that are waiting; later ones are not affected."""
        token, self.cancel_token = self.cancel_token, CancelToken()
        token.cancel()

    def token(self) -> CancelToken:
        """The token of the call that this thread is in."""
        return current_token() or self.cancel_token

    def call(
        self, call: Callable[[], T], operation: str, what: str, *, also_transient: frozenset[str] = frozenset()
    ) -> T:
        """Run a call to AWS until it succeeds or fails for good.

        Args:
            call: makes the call.
            operation: what it is, for errors.
            what: what it is about, for errors.
            also_transient: codes that are transient in this call only.

        Raises:
            ServiceError: AWS refused, or what passes did not pass in time.
            ClosedError: It was called off while it waited.
        """
        token = self.token()
        failed = throttled = 0
        while True:
            try:
                # The gate may shut while a call queues for its slot.
                with self._slots:
                    self._wait(token)
                    token.check(f"{operation} for {what}")
                    result = call()
            except (ClientError, BotoCoreError) as error:
                if not is_transient(error) and error_code(error) not in also_transient:
                    raise ServiceError.of(error, operation, what) from error
                slow = error_code(error) in THROTTLED
                throttled, failed = throttled + slow, failed + (not slow)
                if failed >= self._attempts or throttled >= self._throttled_attempts:
                    raise ServiceError.of(error, operation, what) from error
                if slow:
                    self._slow_down()
                else:
                    token.wait(backoff_sec(failed))
                continue
            if self._pause_sec:
                self._speed_up()
            return result

    def _wait(self, token: CancelToken) -> None:
        while (left := self._open_at - time.monotonic()) > 0:
            # Jitter, so that the pool does not come back as one.
            if token.wait(left * random.uniform(1.0, 1.2)):
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


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, ClientError):
        return error_code(error) in TRANSIENT or http_status(error) in _TRANSIENT_STATUS
    return isinstance(error, _TRANSIENT_ERRORS)


def backoff_sec(attempt: int) -> float:
    """Seconds to wait after the n-th failure: doubling from 0.1 to 5, with jitter."""
    return float(min(5.0, 0.1 * 2 ** (attempt - 1)) * random.uniform(0.7, 1.3))

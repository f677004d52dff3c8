"""Polls many jobs with few calls: one thread asks for all of them. The poll interval is here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import start_thread

__all__ = ["JobPoller"]

FIRST_SEC = 0.1
LONGEST_SEC = 15.0
PART_OF_A_JOB = 0.19
"""The poll interval as a fraction of a job's length: longer leaves quota idle, shorter costs calls."""
LOOKS_A_JOB = 0.25
"""Calls for each job that has ended: with fewer so far, the interval may be shorter."""
TOGETHER = 3
"""Jobs that one call is to see the end of."""
LATEST = 20
"""Jobs whose lengths tell when the first of the running ones can be expected to end."""


@dataclass(eq=False)
class _Wait:
    arn: str
    since: float | None
    ended: threading.Event = field(default_factory=threading.Event)


class JobPoller:
    """Reports when a job is no longer in progress. Its thread lives while there are waits.

    Args:
        running: which of these ARNs are in progress; the oldest was submitted at most this many seconds ago (None:
            unknown).
    """

    def __init__(self, running: Callable[[Sequence[str], float | None], set[str]]) -> None:
        self._running = running
        self._job_sec: float | None = None
        self._lengths: deque[float] = deque(maxlen=LATEST)
        self._looks = self._ended = 0
        self._changed = threading.Condition()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Wait for the thread, which ends with the last wait."""
        with self._changed:
            # It is started under the same lock.
            thread = self._thread
        if thread is not None:
            thread.join()

    def wait(self, arn: str, *, since: float | None, token: CancelToken, timeout_sec: float | None) -> bool:
        """Block until a job is seen to have ended; False after ``timeout_sec`` or if cancelled.

        Args:
            arn: the job.
            since: when it was started, by the monotonic clock; None if another run started it.
            token: cancels the wait.
            timeout_sec: how long to wait.
        """
        wait = _Wait(arn, since)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread(self._poll, "marengo-poller")
            self._waits.add(wait)
            if since is None:
                # It may end at any time.
                self._changed.notify()
        try:
            return _wait(wait.ended, token, timeout_sec)
        finally:
            with self._changed:
                self._waits.discard(wait)
                self._changed.notify()

    def _poll(self) -> None:
        last, pause = time.monotonic(), FIRST_SEC
        while True:
            with self._changed:
                while self._waits and (left := self._due(last, pause) - time.monotonic()) > 0:
                    self._changed.wait(left)
                waits = set(self._waits)
                if not waits:
                    # Under the lock, so that a new wait either finds this thread or starts another.
                    self._thread = None
                    return
            last = time.monotonic()
            running = self._running_of(waits)
            # If that failed, each waiter asks for its own job, and raises the error if it has it, too.
            ended = {wait for wait in waits if running is None or wait.arn not in running}
            with self._changed:
                self._waits -= ended
                self._looks += 1
                self._ended += len(ended)
                for wait in ended:
                    if running is not None:
                        self._learn(wait, last)
                    wait.ended.set()
            pause = self._pause(pause)

    def _due(self, last: float, pause: float) -> float:
        """When to look: a while after the last time, when the first few running jobs are expected to have ended."""
        ends = sorted(
            wait.since + min(self._lengths) for wait in self._waits if self._lengths and wait.since is not None
        )
        if len(ends) < len(self._waits):
            return last + pause
        can_hurry = self._looks < LOOKS_A_JOB * self._ended + TOGETHER
        first = max(last + (pause / 3 if can_hurry else pause), ends[0])
        together = max(first, min(first + pause, ends[min(TOGETHER, len(ends)) - 1]))
        return min(last + max(pause, LONGEST_SEC), together)

    def _running_of(self, waits: set[_Wait]) -> set[str] | None:
        """The ARNs of these that are in progress; None if that can't be found out."""
        known = [wait.since for wait in waits if wait.since is not None]
        oldest = time.monotonic() - min(known) if len(known) == len(waits) else None
        try:
            return self._running([wait.arn for wait in waits], oldest)
        except Exception:
            # Without this thread no wait would end, whatever the error.
            return None

    def _pause(self, last: float) -> float:
        if self._job_sec is None:
            return min(LONGEST_SEC / 3, last * 1.3)
        return min(LONGEST_SEC, max(FIRST_SEC, PART_OF_A_JOB * self._job_sec))

    def _learn(self, wait: _Wait, seen: float) -> None:
        if wait.since is not None:
            job_sec = seen - wait.since
            self._lengths.append(job_sec)
            self._job_sec = job_sec if self._job_sec is None else 0.9 * self._job_sec + 0.1 * job_sec


def _wait(event: threading.Event, token: CancelToken, timeout_sec: float | None) -> bool:
    until = None if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        left = float("inf") if until is None else until - time.monotonic()
        if left <= 0 or token.is_cancelled():
            return event.is_set()
        if event.wait(min(left, 0.5)):
            return True

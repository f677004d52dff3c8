"""Polls many jobs with few calls: one thread asks for all of them. ``poll_times`` says when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import start_thread
from bedrock_marengo.jobs.poll_times import PollTimes

__all__ = ["JobPoller"]


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
        self._times = PollTimes()
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
        last = time.monotonic()
        while True:
            with self._changed:
                while self._waits and (left := self._due(last) - time.monotonic()) > 0:
                    self._changed.wait(left)
                waits = set(self._waits)
                if not waits:
                    # Under the lock, so that a new wait either finds this thread or starts another.
                    self._thread = None
                    return
            previous, last = last, time.monotonic()
            running = self._running_of(waits)
            # If that failed, each waiter asks for its own job, and raises the error if it has it, too.
            ended = {wait for wait in waits if running is None or wait.arn not in running}
            with self._changed:
                self._waits -= ended
                self._times.looked(last, previous, len(waits), [w.since for w in ended if running is not None])
                for wait in ended:
                    wait.ended.set()

    def _due(self, last: float) -> float:
        return self._times.due(last, [wait.since for wait in self._waits])

    def _running_of(self, waits: set[_Wait]) -> set[str] | None:
        """The ARNs of these that are in progress; None if that can't be found out."""
        known = [wait.since for wait in waits if wait.since is not None]
        oldest = time.monotonic() - min(known) if len(known) == len(waits) else None
        try:
            return self._running([wait.arn for wait in waits], oldest)
        except Exception:
            # Without this thread no wait would end, whatever the error.
            return None


def _wait(event: threading.Event, token: CancelToken, timeout_sec: float | None) -> bool:
    until = None if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        left = float("inf") if until is None else until - time.monotonic()
        if left <= 0 or token.is_cancelled():
            return event.is_set()
        if event.wait(min(left, 0.5)):
            return True

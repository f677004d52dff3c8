"""Following many jobs with few calls: one thread asks for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.fork_safety import renew_in_children

__all__ = ["JobPoller"]

FIRST_SEC = 0.1
LONGEST_SEC = 15.0
PART_OF_A_JOB = 0.19
"""How long to pause between two looks, as a part of what a job takes: later costs idle quota, sooner costs calls."""


@dataclass(eq=False)
class _Wait:
    arn: str
    since: float | None
    ended: threading.Event = field(default_factory=threading.Event)


class JobPoller:
    """Tells when a job is no longer in progress. Its thread lives while somebody waits.

    Args:
        running: of these ARNs those in progress, the oldest submitted at most so many seconds ago (None: unknown).
    """

    def __init__(self, running: Callable[[Sequence[str], float | None], set[str]]) -> None:
        self._running = running
        self._job_sec: float | None = None
        renew_in_children(self)

    def renew(self) -> None:
        """Nobody waits."""
        self._changed = threading.Condition()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Wait for the thread, which ends with the last that waits."""
        with self._changed:
            # Under the lock, under which it is started, too.
            thread = self._thread
        if thread is not None:
            thread.join()

    def wait(self, arn: str, *, since: float | None, stopped: CancelToken, timeout_sec: float | None) -> bool:
        """Block until a job is seen to have ended; False if the time is up or the wait was called off.

        Args:
            arn: the job.
            since: when it was started, by the monotonic clock; None if somebody else had done so.
            stopped: calls the wait off.
            timeout_sec: how long to wait.
        """
        wait = _Wait(arn, since)
        with self._changed:
            self._waits.add(wait)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._follow, name="marengo-follower", daemon=True)
                self._thread.start()
        try:
            ended = _wait(wait.ended, stopped, timeout_sec)
        finally:
            with self._changed:
                self._waits.discard(wait)
                self._changed.notify()
        if ended and since is not None:
            self._learn(time.monotonic() - since)
        return ended

    def _follow(self) -> None:
        pause = FIRST_SEC
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._waits, pause)
                waits = set(self._waits)
                if not waits:
                    # Under the lock, so that a new wait either finds this thread or starts another.
                    self._thread = None
                    return
            ended = self._look(waits)
            for wait in ended:
                wait.ended.set()
            with self._changed:
                self._waits -= ended
            pause = self._pause(pause)

    def _look(self, waits: set[_Wait]) -> set[_Wait]:
        known = [wait.since for wait in waits if wait.since is not None]
        oldest = time.monotonic() - min(known) if len(known) == len(waits) else None
        try:
            running = self._running([wait.arn for wait in waits], oldest)
        except Exception:
            # Whatever it is: without this thread nobody would be told of any job. Whoever waits asks for itself, and
            # meets the error if it is one of its own.
            return waits
        return {wait for wait in waits if wait.arn not in running}

    def _pause(self, last: float) -> float:
        if self._job_sec is None:
            return min(LONGEST_SEC / 3, last * 1.3)
        return min(LONGEST_SEC, max(FIRST_SEC, PART_OF_A_JOB * self._job_sec))

    def _learn(self, job_sec: float) -> None:
        with self._changed:
            self._job_sec = job_sec if self._job_sec is None else 0.9 * self._job_sec + 0.1 * job_sec


def _wait(event: threading.Event, stopped: CancelToken, timeout_sec: float | None) -> bool:
    until = None if timeout_sec is None else time.monotonic() + timeout_sec
    while True:
        left = float("inf") if until is None else until - time.monotonic()
        if left <= 0 or stopped.is_set():
            return event.is_set()
        if event.wait(min(left, 0.5)):
            return True

"""When to look at running jobs: soon after some have ended, at about one call for four. Without clocks or threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["PollTimes"]

FIRST_SEC, GROWTH = 0.1, 1.2
"""Time between two looks, and the factor by which it grows, until a job has ended."""
LONGEST_SEC = 15.0
SHORTEST_SEC = 0.05
"""Time between two looks after that."""
LATEST = 20
"""Jobs whose lengths tell when the running ones can be expected to end."""
LOOKS_A_JOB = 0.25
"""Looks for each job that has ended; a few more while little is known (``EARLY_LOOKS``)."""
EARLY_LOOKS = 4
LATE_PART = 0.25
"""A look comes at most this part of a job's length after the first end that is expected."""
SOON_SEC, SOON_PART, SOON_SPREADS = 0.15, 0.08, 0.6
"""The same while looks are few: this part of a job's length plus this many standard deviations of the lengths, but at
least ``SOON_SEC``."""
SOON_LOOKS = 12
"""Looks are few up to this many more than ``LOOKS_A_JOB`` allows."""
OVERDUE_PART = 0.1
"""A job that has run longer than all others is expected to end within about this part of their length."""
COSTLY, CHEAP = 1.3, 0.9
"""How the price of a look changes with each, above and below the allowed number."""
PRICE_PARTS = (0.005, 0.1, 0.5)
"""The price of a look, as a part of a job's length: the lowest, the first and the highest."""
FEWER = 0.5
"""With fewer jobs than before, as at the end of a run, a late look delays the whole run: the price is multiplied by the
share of jobs that is left, to this power."""
INSIDE = 0.1
"""How far inside the known range a length is taken to be, so that an estimate that is too long is corrected."""


class PollTimes:
    """Decides when to look, from the lengths of the jobs whose ends were seen.

    A job that ended unnoticed leaves a place in the quota idle. A look is due when the idle time that
    can be expected, summed over the jobs, is worth the price of a look. The price rises while there are too many looks
    for the jobs that end, and falls while there are few. All values were chosen by simulation.
    """

    def __init__(self) -> None:
        self._lengths: deque[float] = deque(maxlen=LATEST)
        self._pause = FIRST_SEC
        self._price = PRICE_PARTS[1]
        self._looks = self._ended = 0
        self._running: deque[int] = deque(maxlen=LATEST)

    def due(self, last: float, since: Sequence[float | None]) -> float:
        """When to look next.

        Args:
            last: time of the last look.
            since: when each running job was started; None if another process started it.
        """
        started = [start for start in since if start is not None]
        if not self._lengths or not started:
            return last + self._pause
        lengths = np.array(self._lengths)
        ends = np.array(started)[:, None] + lengths
        is_ahead = ends > last
        first = np.where(is_ahead, ends, np.inf).min(1)
        first[~is_ahead.any(1)] = last
        mean = float(lengths.mean())
        late = LATE_PART * mean
        if not self._is_often(SOON_LOOKS):
            late = max(SOON_SEC, SOON_PART * mean + SOON_SPREADS * float(lengths.std()))
        latest = min(last + LONGEST_SEC, max(last, float(first.min())) + late)
        if len(started) < len(since):
            # Those of others may end at any time.
            latest = min(latest, last + LATE_PART * mean)
        share = len(since) / max(len(since), *self._running)
        return self._when_idle(ends, is_ahead, last, max(latest, last + SHORTEST_SEC), share)

    def looked(self, now: float, previous: float, running: int, ended: Sequence[float | None]) -> None:
        """Learn from a look.

        Args:
            now: its time.
            previous: time of the look before it.
            running: how many jobs were looked for.
            ended: when each job that was seen to have ended was started.
        """
        self._looks += 1
        self._running.append(running)
        self._ended += len(ended)
        typical = float(np.median(self._lengths)) if self._lengths else None
        for start in ended:
            if start is None:
                continue
            # It ended between the two looks.
            most, least = now - start, max(0.0, previous - start)
            length = (least + most) / 2 if typical is None else min(most, typical) - INSIDE * (most - least)
            self._lengths.append(max(least, length))
        if not self._lengths:
            self._pause = min(LONGEST_SEC / 3, self._pause * GROWTH)
            return
        low, _, high = PRICE_PARTS
        self._price = min(high, max(low, self._price * (COSTLY if self._is_often(EARLY_LOOKS) else CHEAP)))

    def _is_often(self, spare: int) -> bool:
        return self._looks > LOOKS_A_JOB * self._ended + spare

    def _when_idle(
        self, ends: npt.NDArray[np.float64], is_ahead: npt.NDArray[np.bool_], last: float, latest: float, share: float
    ) -> float:
        """When the expected idle time reaches the price of a look, by bisection.

        ``share`` is how many jobs are running, of the most that ran lately.
        """
        mean = float(np.mean(self._lengths))
        price, count = self._price * mean * share**FEWER, is_ahead.sum(1)
        early, late = last + SHORTEST_SEC, latest
        while late - early > 0.001:
            middle = (early + late) / 2
            idle = np.where(is_ahead, np.maximum(0.0, middle - ends), 0.0).sum(1) / np.maximum(count, 1)
            overdue = min((middle - last) ** 2 / (OVERDUE_PART * mean), middle - last)
            early, late = (middle, late) if np.where(count == 0, overdue, idle).sum() < price else (early, middle)
        return late

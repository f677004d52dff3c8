"""Rate limits: how many calls, or rows of calls, a second allows."""

from __future__ import annotations

import time

__all__ = ["TokenBucket"]


class TokenBucket:
    """A rate limit with a burst of one second's calls, and at least one."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(self, per_sec: float, count: float = 1.0) -> bool:
        """Whether a call is within the rate; if so, it is counted, as `count` if it is worth more than one."""
        now, full = time.monotonic(), max(count, per_sec)
        self._tokens = full if self._tokens is None else min(full, self._tokens + (now - self._at) * per_sec)
        self._at = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

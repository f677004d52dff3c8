"""What was asked of the service: a count of requests by operation, and the latest of them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Call", "Calls"]

_KEPT: Final = 2_000
_LARGE: Final = 1_000_000


@dataclass(frozen=True)
class Call:
    """One request: `number` counts from 1 within its operation, `body` is the JSON body or the query."""

    op: str
    number: int
    model_id: str | None = None
    body: Any = None
    arn: str | None = None
    at: float = field(default_factory=time.time)


class Calls:
    """Counts every request and keeps the latest 2,000; bodies over 1 MB are not kept. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latest: deque[Call] = deque(maxlen=_KEPT)

    def __getitem__(self, op: str) -> int:
        return self._counts[op]

    def __iter__(self) -> Iterator[Call]:
        with self._lock:
            return iter(tuple(self._latest))

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __repr__(self) -> str:
        return f"Calls({dict(self._counts)})"

    def of(self, op: str) -> list[Call]:
        """The latest requests of one operation, in order."""
        return [call for call in self if call.op == op]

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts.clear()
            self._latest.clear()

    def record(self, op: str, body: Any, size: int, *, model_id: str | None = None, arn: str | None = None) -> Call:
        """Note a request of `size` bytes; the returned Call always holds the body."""
        with self._lock:
            self._counts[op] += 1
            call = Call(op, self._counts[op], model_id, body, arn)
            self._latest.append(call if size <= _LARGE else Call(op, call.number, model_id, None, arn, call.at))
            return call

"""The requests that the stand-in received: counts by operation, and the most recent ones."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Call", "Calls"]

_MAX_CALLS: Final = 2_000
_MAX_BODY_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Call:
    """One request. `number` counts from 1 for each operation; `body` is the JSON body or the query parameters."""

    op: str
    number: int
    model_id: str | None = None
    body: Any = None
    arn: str | None = None
    at: float = field(default_factory=time.time)


class Calls:
    """Counts all requests and keeps the latest 2,000, without bodies over 1 MB. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latest: deque[Call] = deque(maxlen=_MAX_CALLS)

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
        """The latest requests of one operation, oldest first."""
        return [call for call in self if call.op == op]

    def reset(self) -> None:
        """Delete all records and set the counts to zero."""
        with self._lock:
            self._counts.clear()
            self._latest.clear()

    def record(self, op: str, body: Any, size: int, *, model_id: str | None = None, arn: str | None = None) -> Call:
        """Record a request of `size` bytes. The returned Call always contains the body."""
        with self._lock:
            self._counts[op] += 1
            call = Call(op, self._counts[op], model_id, body, arn)
            self._latest.append(
                call if size <= _MAX_BODY_BYTES else Call(op, call.number, model_id, None, arn, call.at)
            )
            return call

"""What a forked child needs: locks that no thread of its parent holds, and work that is not half done."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ForkSafeLock", "hold_forks"]


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def _lock(self) -> threading.RLock:
        pid = os.getpid()
        return self._locks.get(pid) or self._locks.setdefault(pid, threading.RLock())

    def __enter__(self) -> None:
        self._lock().acquire()

    def __exit__(self, *_: object) -> None:
        self._lock().release()


@contextmanager
def hold_forks() -> Iterator[None]:
    """Make a fork wait for this block: a child would find what it locks locked forever. Only for short work.

    For late imports, which lock modules, and for logging, whose handlers lock files.
    """
    with _held:
        yield


_held = threading.RLock()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_held.acquire, after_in_parent=_held.release, after_in_child=_held.release)

"""What a forked child must have anew: locks that its parent's threads held, and counts of what they were at."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

__all__ = ["Lock", "importing", "renew_in_children"]


class Renewed(Protocol):
    """Who has something that a child of this process can't use."""

    def renew(self) -> None:
        """Make it, at first and in each forked child. Nobody else runs meanwhile."""


def renew_in_children(holder: Renewed) -> None:
    """Call ``holder.renew()`` now, and again in each child that this process forks, for as long as it lives."""
    holder.renew()
    _holders.add(holder)


class Lock:
    """A reentrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        renew_in_children(self)

    def renew(self) -> None:
        """A lock that nobody holds."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@contextmanager
def importing() -> Iterator[None]:
    """Have a fork wait for a late import: a child would find the module locked for ever. Not for what takes long."""
    with _importing:
        yield


def _renew() -> None:
    _importing.release()
    for holder in tuple(_holders):
        holder.renew()


_holders: WeakSet[Renewed] = WeakSet()
_importing = threading.RLock()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_renew)

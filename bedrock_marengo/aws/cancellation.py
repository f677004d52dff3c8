"""Cancelling waits: of a run that is abandoned, an awaitable that is cancelled, a client that is closed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from bedrock_marengo.aws.fork_safety import renew_in_children
from bedrock_marengo.errors import ClosedError

__all__ = ["NEXT_ITEM", "CancelToken", "CancellableExecutor", "cancel_scope", "current_token", "run_in_scope"]

P = ParamSpec("P")
T = TypeVar("T")

POLL_SEC = 0.25
"""How soon a wait notices that its parent token was set."""
NEXT_ITEM = "The next item"


class CancelToken:
    """Once set, waits under it end: they raise, or return True.

    In a forked child it counts as set: the threads that used it are the parent's.

    Args:
        parent: a token that cancels this one too.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._parent = parent
        self._event = threading.Event()
        self._pid = os.getpid()

    def set(self) -> None:
        """Cancel what waits."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it was cancelled."""
        own = self._event.is_set() or self._pid != os.getpid()
        return own or (self._parent is not None and self._parent.is_set())

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until cancelled; returns whether it was."""
        until = time.monotonic() + seconds
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            self._event.wait(left if self._parent is None else min(left, POLL_SEC))
        return self.is_set()

    def check(self, what: str) -> None:
        """Continue only if not cancelled.

        Raises:
            ClosedError: It was cancelled.
        """
        if self.is_set():
            raise ClosedError(
                f"{what} was cancelled: the client was closed, the caller no longer waits for it, or it was begun in "
                "the process that this one was forked from. Running jobs continue, and the next run joins them."
            )


class CancellableExecutor(ThreadPoolExecutor):
    """A client's threads, until it is closed. A submitted call is cancelled by the token of the submitter.

    Args:
        size: maximum number of threads.
        name: prefix of their names.
        stop: the client's token.
    """

    def __init__(self, size: int, name: str, stop: CancelToken) -> None:
        super().__init__(size, thread_name_prefix=name)
        self._stop = stop

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As ``Executor.submit``; a queued call that is cancelled never begins.

        Raises:
            ClosedError: The client was closed.
        """
        self._stop.check(NEXT_ITEM)
        stop = current_token() or self._stop
        try:
            return super().submit(lambda: run_in_scope(stop, fn, *args, **kwargs))
        except RuntimeError:
            self._stop.check(NEXT_ITEM)
            raise


def current_token() -> CancelToken | None:
    """What cancels the call of this thread; None if only its client does."""
    return _current.stop.get()


@contextmanager
def cancel_scope(stop: CancelToken) -> Iterator[None]:
    """Let ``stop`` cancel the waits in this block."""
    token = _current.stop.set(stop)
    try:
        yield
    finally:
        _current.stop.reset(token)


def run_in_scope(stop: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call whose waits ``stop`` cancels.

    Raises:
        ClosedError: It was cancelled already.
    """
    # Not `cancel_scope`, which would take longer than all the rest: each text comes through here.
    token = _current.stop.set(stop)
    try:
        stop.check("A call")
        return call(*args, **kwargs)
    finally:
        _current.stop.reset(token)


class _Current:
    """What cancels the call of a thread. In a forked child, no call is running."""

    def __init__(self) -> None:
        self.stop: ContextVar[CancelToken | None] = ContextVar("marengo_stop", default=None)
        renew_in_children(self)

    def renew(self) -> None:
        """No call is running."""
        self.stop.set(None)


_current = _Current()

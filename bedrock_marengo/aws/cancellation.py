"""Calling off what waits: a run that is left, an awaitable that is cancelled, a client that is closed."""

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
"""How soon a wait notices what calls off more than itself."""
NEXT_ITEM = "What was to come next"


class CancelToken:
    """Once set, what waits under it waits no more: the wait raises, or is told so.

    In a forked child it is set: the threads that were at it are the parent's.

    Args:
        parent: what calls off this one, too.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._parent = parent
        self._event = threading.Event()
        self._pid = os.getpid()

    def set(self) -> None:
        """Call off what waits."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it was called off."""
        own = self._event.is_set() or self._pid != os.getpid()
        return own or (self._parent is not None and self._parent.is_set())

    def wait(self, seconds: float) -> bool:
        """Sleep; whether it was called off meanwhile, which ends the sleep."""
        until = time.monotonic() + seconds
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            self._event.wait(left if self._parent is None else min(left, POLL_SEC))
        return self.is_set()

    def check(self, what: str) -> None:
        """Go on only if it was not called off.

        Raises:
            ClosedError: It was.
        """
        if self.is_set():
            raise ClosedError(
                f"{what} was called off: the client was closed, nobody waits for it any more, or it was begun in the "
                "process that this one was forked from. Jobs that run go on, and the next run joins them."
            )


class CancellableExecutor(ThreadPoolExecutor):
    """Threads for a client until it is closed. What they are handed can be called off by who hands it over.

    Args:
        size: threads at most.
        name: what their names begin with.
        stop: the client's.
    """

    def __init__(self, size: int, name: str, stop: CancelToken) -> None:
        super().__init__(size, thread_name_prefix=name)
        self._stop = stop

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As an executor's; what waits in line when it is called off never begins.

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
    """What calls off the call that this thread is at; None if that is only its client."""
    return _current.stop.get()


@contextmanager
def cancel_scope(stop: CancelToken) -> Iterator[None]:
    """Have the waits in this block called off by ``stop``."""
    token = _current.stop.set(stop)
    try:
        yield
    finally:
        _current.stop.reset(token)


def run_in_scope(stop: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call whose waits ``stop`` calls off, unless it has done so already.

    Raises:
        ClosedError: It has.
    """
    # Not `under`, which would take longer than all the rest: each text comes through here.
    token = _current.stop.set(stop)
    try:
        stop.check("A call")
        return call(*args, **kwargs)
    finally:
        _current.stop.reset(token)


class _Current:
    """What calls off the call that a thread is at. The thread that forks is at nothing in the child."""

    def __init__(self) -> None:
        self.stop: ContextVar[CancelToken | None] = ContextVar("marengo_stop", default=None)
        renew_in_children(self)

    def renew(self) -> None:
        """No call is under way."""
        self.stop.set(None)


_current = _Current()

"""Cancelling what waits: a run that is abandoned, an awaitable that is cancelled, a client that is closed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from bedrock_marengo.errors import ClosedError

__all__ = ["NEXT_ITEM", "CancelToken", "cancel_scope", "current_token", "run_in_scope"]

P = ParamSpec("P")
T = TypeVar("T")

POLL_SEC = 0.25
"""How often a wait checks the parent of its token."""
NEXT_ITEM = "The next item"


class CancelToken:
    """Cancelled once, it ends all waits that it covers.

    A forked child sees its parent's tokens as cancelled: the threads that used them exist only in the parent.

    Args:
        parent: a token that cancels this one, too.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._parent = parent
        self._event = threading.Event()
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether it was made in the process that this one was forked from."""
        return self._pid != os.getpid()

    def cancel(self) -> None:
        """End the waits."""
        self._event.set()

    def is_cancelled(self) -> bool:
        """Whether it, or its parent, was cancelled."""
        own = self._event.is_set() or self.is_inherited
        return own or (self._parent is not None and self._parent.is_cancelled())

    def wait(self, seconds: float) -> bool:
        """Sleep, at most until it is cancelled; whether it was."""
        until = time.monotonic() + seconds
        while not self.is_cancelled() and (left := until - time.monotonic()) > 0:
            self._event.wait(left if self._parent is None else min(left, POLL_SEC))
        return self.is_cancelled()

    def check(self, what: str) -> None:
        """Go on only if it was not cancelled.

        Raises:
            ClosedError: It was.
        """
        if self.is_cancelled():
            raise ClosedError(
                f"{what} was cancelled: the client was closed, its caller stopped waiting, the program ends, or it was "
                "started before this process was forked. Running jobs continue; the next run picks up their results."
            )


def current_token() -> CancelToken | None:
    """The token of the call that this thread is in; None if only its client can cancel it."""
    token = _current.get()
    # The thread that forks is in no call in the child.
    return None if token is None or token.is_inherited else token


@contextmanager
def cancel_scope(token: CancelToken) -> Iterator[None]:
    """Let ``token`` cancel the waits in this block."""
    outer = _current.set(token)
    try:
        yield
    finally:
        _current.reset(outer)


def run_in_scope(token: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call whose waits ``token`` cancels, unless it is cancelled already.

    Raises:
        ClosedError: It is.
    """
    # Not `cancel_scope`, which would take longer than all the rest: each text comes through here.
    outer = _current.set(token)
    try:
        token.check("A call")
        return call(*args, **kwargs)
    finally:
        _current.reset(outer)


_current: ContextVar[CancelToken | None] = ContextVar("marengo_cancel_token", default=None)

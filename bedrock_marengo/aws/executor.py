"""Thread pools that neither hold up the end of a program nor end before its last thread."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  boto3 imports it late, which fails once the main thread has ended
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from bedrock_marengo.aws.cancellation import NEXT_ITEM, CancelToken, current_token, run_in_scope
from bedrock_marengo.errors import ClosedError
from bedrock_marengo.fork_safety import ForkSafeLock

__all__ = ["CancellableExecutor", "no_thread", "start_thread"]

P = ParamSpec("P")
T = TypeVar("T")

EXIT_SEC = 2.0
"""How long the end of a program waits for its threads, after it cancelled their waits: requests may take longer."""


class CancellableExecutor(Executor):
    """A client's thread pool. A task is cancelled with the token of whoever submits it.

    Python's own refuses tasks as soon as the main thread has ended, even if other threads still run, and it makes a
    program wait for all tasks at its end, jobs included.

    Args:
        size: the most threads.
        name: the prefix of their names.
        token: the client's.
    """

    def __init__(self, size: int, name: str, token: CancelToken) -> None:
        self._size = size
        self._name = name
        self._token = token
        self._queue = _Queue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        # Idle threads refer to the queue only.
        weakref.finalize(self, self._queue.end, size).atexit = False
        _executors.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a task; one that is cancelled while it is queued never starts.

        Raises:
            ClosedError: The client was closed, or Python can't start a thread.
        """
        self._token.check(NEXT_ITEM)
        token = current_token() or self._token
        future: Future[T] = Future()
        with self._queue.lock:
            if self._closed:
                self._token.check(NEXT_ITEM)
                raise ClosedError(f"{NEXT_ITEM} was not started: the thread pool is closed.")
            if self._queue.free <= 0 and len(self._threads) < self._size:
                self._add_thread()
            self._queue.put(future, lambda: run_in_scope(token, fn, *args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; wait for those that were submitted, unless Python is about to exit."""
        with self._queue.lock:
            self._closed = True
            if cancel_futures:
                self._queue.cancel()
            self._queue.end(len(self._threads))
        for thread in self._threads if wait and not _exiting.is_set() else ():
            thread.join()

    def stop(self) -> None:
        """Cancel what runs, and take no more tasks. In a forked child nothing runs, and locks may be held forever."""
        if not self._token.is_inherited:
            self._token.cancel()
            self.shutdown(wait=False, cancel_futures=True)

    def join(self, until: float) -> None:
        """Wait for the threads, at most until then, by the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _add_thread(self) -> None:
        try:
            thread = start_thread(self._queue.work, f"{self._name}_{len(self._threads)}")
        except ClosedError:
            # With fewer threads it takes longer.
            if not self._threads:
                raise
            return
        self._threads.append(thread)
        self._queue.free += 1


class _Queue:
    """Tasks, and how many threads have none: less than 0 if tasks wait."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.free = 0
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def put(self, future: Future[T], call: Callable[[], T]) -> None:
        self.free -= 1
        self._tasks.put((future, call))

    def cancel(self) -> None:
        """Cancel what no thread has taken."""
        try:
            while (task := self._tasks.get_nowait()) is not None:
                task[0].cancel()
        except Empty:
            return

    def end(self, threads: int) -> None:
        """End the threads after the tasks that are there."""
        for _ in range(threads):
            self._tasks.put(None)

    def work(self) -> None:
        """What a thread does."""
        while (task := self._tasks.get()) is not None:
            self._run(*task)
            # What a task refers to must not live as long as the thread.
            del task

    def _run(self, future: Future[T], call: Callable[[], T]) -> None:
        if not future.set_running_or_notify_cancel():
            self._is_free()
            return
        try:
            result = call()
        except BaseException as error:
            self._is_free()
            future.set_exception(error)
            # The error refers to this frame, which must not refer to the error.
            del future
        else:
            self._is_free()
            future.set_result(result)

    def _is_free(self) -> None:
        # Before the result is known: who waits for it may submit the next task at once.
        with self.lock:
            self.free += 1


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that doesn't hold up the end of the program.

    Raises:
        ClosedError: Python can't start one, because it exits or has too many.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise no_thread(error) from error
    return thread


def no_thread(error: RuntimeError) -> ClosedError:
    """The error for Python's refusal to start a thread."""
    return ClosedError(
        f"Python can't start a thread ({error}). If the program is about to exit, have its main thread wait for the "
        "threads that use a client: thread.join(). Running jobs continue, and the next run picks up their results."
    )


_executors: weakref.WeakSet[CancellableExecutor] = weakref.WeakSet()
_exiting = threading.Event()


@atexit.register
def _stop_all() -> None:
    """At the end of the program, after its own threads: cancel what waits, so that no thread is cut off at work."""
    _exiting.set()
    executors, until = list(_executors), time.monotonic() + EXIT_SEC
    for executor in executors:
        executor.stop()
    for executor in executors:
        executor.join(until)

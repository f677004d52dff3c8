"""Many calls at once: results in order, or as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from queue import SimpleQueue

from bedrock_marengo.aws.cancellation import NEXT_ITEM, CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.retries import S, T

__all__ = ["as_finished", "in_order"]


def in_order(executor: Executor, call: Callable[[S], T], items: Iterable[S], *, ahead: int) -> Iterator[T]:
    """Map over an executor, results in order, at most ``ahead`` items at once, none started after a failure."""
    failure: list[BaseException] = []

    def guarded(item: S) -> T:
        if failure:
            raise failure[0]
        try:
            return call(item)
        except BaseException as error:
            failure.append(error)
            raise

    pending: deque[Future[T]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(guarded, item))
            if len(pending) >= ahead:
                yield _first(pending, failure)
        while pending:
            yield _first(pending, failure)
    finally:
        for future in pending:
            future.cancel()


def as_finished(
    call: Callable[[S], T],
    items: Iterable[S],
    *,
    executor: CancellableExecutor,
    at_once: int,
    token: CancelToken,
    known: Callable[[S], T | None] = lambda item: None,
) -> Generator[T, None, None]:
    """Map on a thread pool of its own, results as they finish, items taken as threads become free.

    ``known`` answers an item at once, without a thread. ``token`` ends it, and is cancelled when the caller stops
    taking results, so that running items can end.
    """
    pending: set[Future[T]] = set()
    finished: SimpleQueue[Future[T]] = SimpleQueue()
    with executor:
        try:
            for item in items:
                token.check(NEXT_ITEM)
                if (result := known(item)) is not None:
                    yield result
                    continue
                future = executor.submit(call, item)
                pending.add(future)
                future.add_done_callback(finished.put)
                # Yield what has finished; with all threads busy, wait until something has.
                while len(pending) >= at_once or not finished.empty():
                    pending.discard(future := finished.get())
                    yield future.result()
            while pending:
                token.check(NEXT_ITEM)
                pending.discard(future := finished.get())
                yield future.result()
            # The last ones may have been cancelled together.
            token.check(NEXT_ITEM)
        finally:
            token.cancel()
            for future in pending:
                future.cancel()


def _first(pending: deque[Future[T]], failure: list[BaseException]) -> T:
    if failure:
        raise failure[0]
    return pending.popleft().result()

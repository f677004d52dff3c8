"""Many calls at once: results in order, or as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

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
    with executor:
        try:
            for item in items:
                token.check(NEXT_ITEM)
                if (result := known(item)) is not None:
                    yield result
                    continue
                pending.add(executor.submit(call, item))
                # Yield what has finished; with all threads busy, wait until something has.
                done, pending = wait(pending, None if len(pending) >= at_once else 0.0, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            while pending:
                token.check(NEXT_ITEM)
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
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

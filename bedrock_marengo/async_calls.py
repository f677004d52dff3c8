"""The ``a...`` twins of the client's calls: on the client's own threads, never on the loop or its default executor."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from bedrock_marengo.aws.cancellation import CancelToken, cancel_scope

__all__ = ["Pool", "async_twin", "in_batches", "one_by_one", "run_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")

Pool = Literal["calls", "async", "jobs", "stores"]

BATCH = 128
"""Vectors that asyncio takes at a time: a trip to a thread costs more than a vector. Ours."""
_END = object()


class _Runs(Protocol):
    async def _run(self, pool: Pool, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


Client = TypeVar("Client", bound=_Runs)


def async_twin(
    call: Callable[Concatenate[Client, P], T], pool: Pool = "async"
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]:
    """The asyncio twin of a client's method, with the same signature."""
    name = call.__name__

    async def twin(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        bound: Callable[P, T] = getattr(self, name)
        return await self._run(pool, bound, *args, **kwargs)

    functools.update_wrapper(twin, call)
    twin.__name__, twin.__doc__ = f"a{name}", f"``{name}`` for asyncio."
    twin.__qualname__ = call.__qualname__.removesuffix(name) + twin.__name__
    return twin


async def run_in_thread(
    executor: Executor, parent: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a blocking call; if the awaitable is cancelled, the call starts no more requests, and its waits end."""
    token = CancelToken(parent)
    try:
        return await _submit(executor, token, call, *args, **kwargs)
    except asyncio.CancelledError:
        token.cancel()
        raise


async def in_batches(
    results: Iterator[T], run: Callable[[Callable[[], list[T]]], Awaitable[list[T]]]
) -> AsyncIterator[T]:
    """Iterate over blocking results, many at a time; what came before a failure is not lost."""
    error: Exception | None = None

    def take() -> list[T]:
        nonlocal error
        taken: list[T] = []
        try:
            taken.extend(itertools.islice(results, BATCH))
        except Exception as raised:
            error = raised
        return taken

    while error is None and (batch := await run(take)):
        for item in batch:
            yield item
    if error is not None:
        raise error


async def one_by_one(
    results: Generator[T, None, None],
    waits: Callable[[], Executor],
    closes: Callable[[], Executor],
    token: CancelToken,
) -> AsyncGenerator[T, None]:
    """Iterate over blocking results, each as it is ready; leaving it cancels ``token`` and closes them."""
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = _submit(waits(), token, next, results, _END)
            # Shielded: a generator can't be closed while a thread is inside it.
            if (result := await asyncio.shield(step)) is _END:
                return
            yield result
    finally:
        token.cancel()
        if step is not None and not step.done():
            await asyncio.wait([step])
            # Retrieved, or asyncio would complain; no one needs it any more.
            _ = step.cancelled() or step.exception()
        await _submit(closes(), CancelToken(), results.close)


def _submit(
    executor: Executor, token: CancelToken, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[T]:
    with cancel_scope(token):
        bound = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(executor, bound)

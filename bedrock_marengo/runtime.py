"""What one client has in one process: connections, locks, thread pools, and the parts that share them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import fields
from itertools import zip_longest
from typing import Any, ParamSpec, Self, TypeVar
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from bedrock_marengo.async_calls import Pool, run_in_thread
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.aws.start_rate import StartLimiter
from bedrock_marengo.contract.models import Model
from bedrock_marengo.embedding.file_words import RunWords
from bedrock_marengo.embedding.invoke import Invoker
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.embedding.pipeline import MediaEmbedder
from bedrock_marengo.embedding.pricing import Budget, Prices, Usage
from bedrock_marengo.embedding.run_options import RunOptions
from bedrock_marengo.embedding.segment_words import SegmentWords
from bedrock_marengo.embedding.vector_cache import VectorCache
from bedrock_marengo.errors import ClosedError, ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.jobs.invocations import Invocations
from bedrock_marengo.jobs.runner import JobRunner
from bedrock_marengo.media.durations import Durations
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.settings import WORDS, ClientSettings, check_run
from bedrock_marengo.words.asking import Asker
from bedrock_marengo.words.sources import Parts, WordSettings, WordSource

__all__ = ["JOBS_AT_ONCE", "PREPARED", "ClientBase", "Runtime"]

JOBS_AT_ONCE = 64
"""Jobs that embed_many runs at once. How many the account allows is found out; about 20 were seen."""
PREPARED = 16
"""The most files that embed_many prepares and reads beside those whose jobs run: the next job starts at once."""

P = ParamSpec("P")
T = TypeVar("T")


class Runtime:
    """A client's parts in one process. A forked child makes its own: threads, locks and connections don't survive.

    Args:
        settings: the client's.
        usage: the client's; it outlives a fork.
        inherited: whether this process was forked from the one that made the client.
    """

    def __init__(self, settings: ClientSettings, usage: Usage, *, inherited: bool = False) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._usage = usage
        self.model = settings.resolved_model
        self.aws = Aws(settings, inherited=inherited)
        self.limiter = RetryLimiter(settings.max_concurrency)
        self.objects = S3Objects(self.aws, self.limiter)
        self.copies = (
            CrossRegionCopies(self.objects, settings.staging_s3_uri) if settings.staging_s3_uri is not None else None
        )
        self.cache = VectorCache()
        self.words = SegmentWords()
        self.invoker = Invoker(
            self.aws,
            self.objects,
            self.limiter,
            self.model,
            usage=usage,
            invoke_model_id=settings.resolved_invoke_id,
            truncate=settings.truncate,
            token_counter=settings.token_counter,
        )
        self.asker = Asker.of(self.aws, self.objects, self.limiter, settings.output_s3_uri, usage.prices)
        self._starts = StartLimiter(max_per_sec=settings.max_starts_per_sec, slots=settings.job_slots)
        self._word_sources: dict[WordSettings, WordSource] = {}
        self._lock = threading.RLock()
        self._made: tuple[JobRunner, MediaEmbedder] | None = None
        self._pools: dict[Pool, CancellableExecutor] = {}
        self._executors: WeakSet[CancellableExecutor] = WeakSet()

    @property
    def runner(self) -> JobRunner:
        """Starts and finds jobs.

        Raises:
            ConfigurationError: No output prefix, or a region without the model.
        """
        return self._parts()[0]

    @property
    def embedder(self) -> MediaEmbedder:
        """Turns files into segments. Raises as ``runner``."""
        return self._parts()[1]

    @property
    def output_s3_uri(self) -> str:
        """The prefix of jobs and uploads.

        Raises:
            ConfigurationError: It is not set.
        """
        if self._settings.output_s3_uri is None:
            raise ConfigurationError(
                "Segments need an S3 prefix for the outputs of jobs: set {output_s3_uri}.",
                setting="output_s3_uri",
                remedy={"output_s3_uri": "s3://bucket/marengo/"},
            )
        return self._settings.output_s3_uri

    def costs(self, budget: Budget | None = None, durations: Durations | None = None) -> JobCosts:
        """What pays for the starts of one run."""
        return JobCosts(objects=self.objects, usage=self._usage, copies=self.copies, budget=budget, durations=durations)

    def word_source(self, settings: WordSettings) -> WordSource:
        """A source of words; the same for equal settings, as it learns how fast it may go.

        Raises:
            ConfigurationError: No output prefix.
        """
        with self._lock:
            if settings not in self._word_sources:
                own = self._settings
                parts = Parts(
                    aws=self.aws,
                    objects=self.objects,
                    limiter=self.limiter,
                    output_s3_uri=self.output_s3_uri,
                    identity=own.identity,
                    prices=self._usage.prices,
                    tags=own.tags,
                    output_kms_key_id=own.output_kms_key_id,
                )
                self._word_sources[settings] = settings.open(parts)
            return self._word_sources[settings]

    def run_words(self, settings: Sequence[WordSettings], token: CancelToken, **run: Any) -> RunWords | None:
        """The sources of words of one run, with threads that ``token`` ends; None if there are none."""
        sources = [self.word_source(each) for each in settings]
        executors = {each.part: self.open_executor(f"words-{each.service}", each.at_once, token) for each in sources}
        return RunWords(sources=sources, executors=executors, **run) if sources else None

    def pool(self, name: Pool) -> CancellableExecutor:
        """The threads for calls, for awaitables, for awaitables that wait for jobs, or for searches of stores.

        An awaitable occupies a thread while it waits, and one of a file for as long as its job runs. Those have their
        own pool, so that texts don't wait for jobs; the limiter bounds what is in flight.
        """
        calls = self._settings.max_concurrency
        sizes: dict[Pool, int] = {"calls": calls, "async": calls + 48, "jobs": JOBS_AT_ONCE, "stores": calls}
        with self._lock:
            if name not in self._pools:
                self._pools[name] = self.open_executor(name, sizes[name], self.limiter.cancel_token)
            return self._pools[name]

    def open_executor(self, name: str, size: int, token: CancelToken) -> CancellableExecutor:
        """A thread pool that ``close`` ends."""
        with self._lock:
            executor = CancellableExecutor(size, f"marengo-{name}", token)
            self._executors.add(executor)
            return executor

    def close(self) -> None:
        """End threads and connections; what is used again is made again."""
        with self._lock:
            executors, made = list(self._executors), self._made
            self._pools.clear()
            self._made = None
            self.limiter.close()
        for executor in executors:
            executor.shutdown(wait=True)
        if made is not None:
            made[0].close()
        self.aws.close()

    def _parts(self) -> tuple[JobRunner, MediaEmbedder]:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> tuple[JobRunner, MediaEmbedder]:
        settings = self._settings
        self.invoker.invoke_id()  # refuses a region without the model
        service = Invocations(self.aws, self.limiter, tags=settings.tags, output_kms_key_id=settings.output_kms_key_id)
        runner = JobRunner(self.aws, self.objects, self._starts, service, self.model)
        embedder = MediaEmbedder(
            self.objects,
            self.limiter,
            self.model,
            self.invoker,
            runner,
            self.cache,
            output_s3_uri=self.output_s3_uri,
            identity=settings.identity,
        )
        return runner, embedder


class ClientBase:
    """What the calls of ``MarengoClient`` share: settings, usage, and the runtime of the current process.

    Args:
        settings: the client's.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._usage = Usage(settings.prices or Prices())
        self._anchors: dict[str, npt.NDArray[np.float32]] = {}
        self._made_in = os.getpid()
        self._made: Runtime | None = None
        self._making = ForkSafeLock()

    @property
    def model(self) -> Model:
        """What the model is: dimension, limits, options."""
        return self._settings.resolved_model

    @property
    def model_id(self) -> str:
        """The base model's ID, as in metadata and fingerprints."""
        return self.model.model_id

    @property
    def dimension(self) -> int:
        """Length of each vector: 512 for 3.0, 1024 for 2.7."""
        return self.model.dimension

    @property
    def usage(self) -> Usage:
        """What this client has done, and what it cost by the table of prices."""
        return self._usage

    @property
    def output_s3_uri(self) -> str:
        """The prefix of jobs and uploads.

        Raises:
            ConfigurationError: It is not set.
        """
        return self._runtime.output_s3_uri

    async def run_async(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call of this client for asyncio, on the client's own threads.

        If it is cancelled, the call starts no more requests, and its waits end.
        """
        return await self._run("async", call, *args, **kwargs)

    def run_together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run a few blocking calls at the same time, on this thread and the client's own; results in order.

        What no thread has begun when this one is free is run here, so that it never waits for a thread.
        """
        if len(calls) < 2:
            return [call() for call in calls]
        pool, futures = self._runtime.pool("stores"), list[Future[T]]()
        try:
            # A context for each: two threads can't be in the same one. At the end of a program, there are no threads.
            with suppress(ClosedError):
                futures += (pool.submit(copy_context().run, call) for call in calls[1:])
            results = [calls[0]()]
            for call, future in zip_longest(calls[1:], futures):
                results.append(call() if future is None or future.cancel() else future.result())
            return results
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Close threads and connections. The client opens new ones if it is used again.

        Requests in flight in other threads or tasks end first; calls that wait there, for a job, for their turn or
        after a failure, are cancelled and raise ``ClosedError``. Jobs continue, and the next run joins them.
        """
        if self._made is not None and self._made.pid == os.getpid():
            self._made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        shown = {"model": self.model.version, "region_name": self._settings.region_name}
        shown["output_s3_uri"] = self._settings.output_s3_uri
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Within a process there is nothing to copy: settings never change, and threads and connections are shared.
        return self

    def __getstate__(self) -> dict[str, Any]:
        settings = self._settings.without_secrets()
        return {f.name: getattr(settings, f.name) for f in fields(settings)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def _runtime(self) -> Runtime:
        made = self._made
        if made is None or made.pid != os.getpid():
            with self._making:
                made = self._made
                if made is None or made.pid != os.getpid():
                    made = Runtime(self._settings, self._usage, inherited=self._made_in != os.getpid())
                    self._made = made
        return made

    def _objects(self) -> S3Objects:
        # A method, not a lambda: a listing that has it can be pickled.
        return self._runtime.objects

    @property
    def _ahead(self) -> int:
        # Enough that a slow call at the head leaves no thread idle.
        return 8 * self._settings.max_concurrency

    def _run_options(self, token: CancelToken | None = None, **settings: Any) -> RunOptions:
        """The options of one run, checked, with its budget, and its sources of words, which ``token`` ends."""
        check_run(**settings)
        most, assumed = settings.pop("max_cost_usd", None), settings.pop("assume_duration_sec", None)
        budget = None if most is None else Budget(most, self._usage.prices, assume_duration_sec=assumed)
        costs = self._runtime.costs(budget, settings.pop("durations", None))
        if settings.get("on_progress", ...) is None:
            del settings["on_progress"]
        sources = [each for name in WORDS if (each := settings.pop(name, None)) is not None]
        if sources and token is not None:
            how = {name: settings[name] for name in ("only_done", "force", "timeout_sec") if name in settings}
            settings["words"] = self._runtime.run_words(sources, token, costs=costs, **how)
        return RunOptions(costs=costs, **settings)

    async def _run(self, pool: Pool, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        runtime = self._runtime
        return await run_in_thread(runtime.pool(pool), runtime.limiter.cancel_token, call, *args, **kwargs)

"""Runs asynchronous invocations: read the source, embed it, wait for the job's duration, write the output."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from marengo_local.calls import Call
from marengo_local.embedding import Embedder
from marengo_local.errors import ServiceError
from marengo_local.faults import FaultInjector
from marengo_local.jobs import Job
from marengo_local.knobs import Knobs
from marengo_local.output import OutputRow, output_json, row_dicts
from marengo_local.storage import Storage

__all__ = ["JobRunner", "wait"]

Result = TypeVar("Result")
AnyJob = TypeVar("AnyJob")
_CHECK_SEC: Final = 0.05


class JobRunner:
    """Runs jobs on a bounded thread pool; a waiting job occupies no thread."""

    def __init__(
        self, knobs: Knobs, storage: Storage, embedder: Embedder, faults: FaultInjector, pool: Executor
    ) -> None:
        self._knobs = knobs
        self._storage = storage
        self._embedder = embedder
        self._faults = faults
        self._pool = pool

    async def run(self, job: Job) -> None:
        """Run a job to its end. The source is read at the start, the output is written when its duration has passed."""
        try:
            job.end(await self._embed(job))
        except ServiceError as error:
            job.end(error.message)
        except Exception as error:  # A user's callable may raise anything; the job reports it.
            job.end(f"Internal error: {error!r}")

    async def _embed(self, job: Job) -> str | None:
        began = time.monotonic()
        fault = self._faults.next_fault(
            self._knobs.faults, Call("Job", job.number, job.model.model_id, dict(job.request), job.arn)
        )
        rows = await self._in_pool(lambda: self._embedder.rows(job.model, job.model_input))
        await wait(lambda: self._knobs.job_duration_sec, job, began + (fault.delay_sec if fault else 0.0))
        await self._in_pool(lambda: self._write_manifest(job))
        if fault is not None and fault.error is not None:
            return fault.message if fault.message is not None else fault.error
        replacement = fault.body if fault else None
        await self._in_pool(
            lambda: self._write_output(job, self._output(job, rows) if replacement is None else replacement)
        )
        return None

    def _write_manifest(self, job: Job) -> None:
        manifest = json.dumps({"requestId": job.id, "invocationArn": job.arn}).encode()
        self._storage.write(f"{job.output_uri}/manifest.json", manifest, job.output.get("kmsKeyId"))

    def _write_output(self, job: Job, body: bytes | None) -> None:
        if body is not None:
            self._storage.write(f"{job.output_uri}/output.json", body, job.output.get("kmsKeyId"))

    def _output(self, job: Job, rows: list[OutputRow]) -> bytes | None:
        scopes = job.model.has_scopes
        if self._knobs.mutate_output is None:
            return output_json(rows, scopes=scopes)
        mutated = self._knobs.mutate_output(row_dicts(rows, scopes=scopes))
        return json.dumps({"data": mutated}).encode() if isinstance(mutated, list) else mutated

    def _in_pool(self, work: Callable[[], Result]) -> Awaitable[Result]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


async def wait(setting: Callable[[], float | Callable[[AnyJob], float]], job: AnyJob, began: float) -> None:
    """Wait until a setting has passed. If it is a callable, it is called once; a number may change in the meantime."""
    duration = setting()
    fixed_sec = duration(job) if callable(duration) else None
    while True:
        now = setting()
        left_sec = began + (fixed_sec if fixed_sec is not None else 0.0 if callable(now) else now) - time.monotonic()
        if left_sec <= 0:
            return
        await asyncio.sleep(left_sec if fixed_sec is not None else min(left_sec, _CHECK_SEC))

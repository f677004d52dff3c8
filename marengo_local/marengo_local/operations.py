"""What Bedrock's operations do, apart from HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from marengo_local.contract import (
    MODELS,
    Model,
    check_list_query,
    check_model_input,
    check_rules,
    check_start,
    fields,
    media_sources,
    refused,
    resolve,
)
from marengo_local.embedding import Embedder
from marengo_local.errors import NOT_SUBSCRIBED, THROTTLED, ServiceError
from marengo_local.faults import Faults
from marengo_local.jobs import Job, Jobs
from marengo_local.knobs import Knobs
from marengo_local.output import reply_json
from marengo_local.storage import Storage
from marengo_local.work import Worker

__all__ = ["Asked", "Operations"]

Result = TypeVar("Result")
_POOL_THREADS: Final = 4


@dataclass(frozen=True)
class Asked:
    """A request, taken apart: its operation, its path's argument, its JSON body or query."""

    op: str
    argument: str
    body: Any
    size: int
    bearer: bool


class Operations:
    """Answers what was asked, or raises a ServiceError. Runs on one event loop; slow work goes to a pool."""

    def __init__(self, knobs: Knobs, storage: Storage, jobs: Jobs, faults: Faults, account_id: str) -> None:
        self._knobs = knobs
        self._storage = storage
        self._jobs = jobs
        self._account_id = account_id
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="marengo-local")
        self._embedder = Embedder(storage, lambda: knobs.synthetic_sec)
        self._worker = Worker(knobs, storage, self._embedder, faults, self._pool)
        self._following: set[asyncio.Task[None]] = set()
        self._answers: Mapping[str, Callable[[Asked], Awaitable[bytes]]] = {
            "InvokeModel": self._invoke,
            "StartAsyncInvoke": self._start,
            "GetAsyncInvoke": self._get,
            "ListAsyncInvokes": self._list,
            "GetFoundationModelAvailability": self._availability,
        }
        self._rates = {op: Rate() for op in self._answers}

    async def answer(self, asked: Asked) -> bytes:
        """The reply's body."""
        self._limit(asked.op)
        return await self._answers[asked.op](asked)

    async def reset(self) -> None:
        """Stop following the jobs in progress, forget all jobs, allow full rates again."""
        following = tuple(self._following)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        self._jobs.reset()
        self._rates = {op: Rate() for op in self._answers}

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.shutdown(cancel_futures=True)

    def _limit(self, op: str) -> None:
        rates = {"InvokeModel": self._knobs.invoke_rate, "StartAsyncInvoke": self._knobs.start_rate}
        per_sec = rates.get(op)
        if per_sec is not None and not self._rates[op].take(per_sec):
            raise ServiceError("ThrottlingException", THROTTLED)

    async def _invoke(self, asked: Asked) -> bytes:
        model = self._resolve(asked.op, asked.argument)
        # Whether a call whose body is refused subscribes, AWS's pages leave open: the worse is taken.
        self._knobs.subscribed = True
        body = _checked(model, asked.op, asked.body)
        if body["inputType"] == "text":
            # A text takes less time than a hop to a thread and back.
            return self._embedder.text_reply(model, fields(model, body)["inputText"])
        return await self._in_pool(lambda: self._invoke_images(model, body))

    def _invoke_images(self, model: Model, body: Mapping[str, Any]) -> bytes:
        self._check_buckets(model, body)
        return reply_json(self._embedder.vector(model, body))

    async def _start(self, asked: Asked) -> bytes:
        check_start(asked.body)
        model = self._resolve(asked.op, asked.body["modelId"])
        if not self._knobs.subscribed:
            raise ServiceError("AccessDeniedException", NOT_SUBSCRIBED)
        body = _checked(model, asked.op, asked.body["modelInput"])
        if asked.bearer:
            raise refused("Invalid S3 credentials")
        job = self._jobs.started_before(asked.body)
        if job is None:
            output = asked.body["outputDataConfig"]["s3OutputDataConfig"]
            await self._in_pool(lambda: self._check_buckets(model, body, output))
            # Asked again, for an equal start may have come in meanwhile.
            job = self._jobs.started_before(asked.body) or self._launch(model, asked.body)
        return json.dumps({"invocationArn": job.arn}).encode()

    def _launch(self, model: Model, request: Mapping[str, Any]) -> Job:
        quota = self._knobs.max_jobs
        if quota is not None and len(self._jobs.running()) >= quota:
            raise ServiceError(
                "ServiceQuotaExceededException",
                f"Your account has reached its quota of {quota} concurrent asynchronous invocations.",
            )
        job = self._jobs.add(model, request)
        task = asyncio.get_running_loop().create_task(self._worker.run(job))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return job

    async def _get(self, asked: Asked) -> bytes:
        return json.dumps(self._jobs.find(asked.argument).summary()).encode()

    async def _list(self, asked: Asked) -> bytes:
        check_list_query(asked.body)
        return json.dumps(self._jobs.page(asked.body)).encode()

    async def _availability(self, asked: Asked) -> bytes:
        model = next((model for model in MODELS if model.model_id == asked.argument), None)
        if model is None:
            raise ServiceError("ResourceNotFoundException", f"Could not find the model {asked.argument}.")
        told = {
            "agreementAvailability": "AVAILABLE" if self._knobs.subscribed else "NOT_AVAILABLE",
            "authorizationStatus": "AUTHORIZED",
            "entitlementAvailability": "AVAILABLE",
            "regionAvailability": "AVAILABLE" if self._jobs.region in model.invoke_ids else "NOT_AVAILABLE",
            **self._knobs.availability,
        }
        agreement = {"status": told["agreementAvailability"]}
        return json.dumps({"modelId": model.model_id, **told, "agreementAvailability": agreement}).encode()

    def _resolve(self, op: str, identifier: str) -> Model:
        return resolve(
            op,
            identifier,
            region=self._jobs.region,
            account_id=self._account_id,
            application_profiles=self._knobs.application_profiles,
        )

    def _check_buckets(self, model: Model, body: Mapping[str, Any], output: Mapping[str, str] | None = None) -> None:
        if output is not None:
            self._storage.check_bucket(output["s3Uri"], output.get("bucketOwner"))
        for source in media_sources(fields(model, body)):
            if "s3Location" in source:
                self._storage.check_bucket(source["s3Location"]["uri"], source["s3Location"]["bucketOwner"])

    async def _in_pool(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class Rate:
    """A token bucket that holds one second's worth, and at least one call."""

    def __init__(self) -> None:
        self._left: float | None = None
        self._at = 0.0

    def take(self, per_sec: float) -> bool:
        """Whether a call may pass now."""
        now, full = time.monotonic(), max(1.0, per_sec)
        self._left = full if self._left is None else min(full, self._left + (now - self._at) * per_sec)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _checked(model: Model, op: str, body: Any) -> Mapping[str, Any]:
    check_model_input(model, op, body)
    check_rules(model, body)
    checked: Mapping[str, Any] = body
    return checked

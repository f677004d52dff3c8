"""Bedrock's operations, independent of HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar

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
from marengo_local.contract.pegasus import PEGASUS_MODELS, resolve_pegasus
from marengo_local.contract.transcribe import TRANSCRIBE_OPERATIONS
from marengo_local.embedding import Embedder
from marengo_local.errors import NOT_SUBSCRIBED, THROTTLED, ServiceError
from marengo_local.faults import FaultInjector
from marengo_local.job_runner import JobRunner
from marengo_local.jobs import Job, Jobs
from marengo_local.knobs import Knobs
from marengo_local.output import response_json
from marengo_local.pegasus import Answer, Pegasus
from marengo_local.pool import DaemonPool
from marengo_local.storage import Storage
from marengo_local.transcribe import Transcribe

__all__ = ["Operations", "Request"]

Result = TypeVar("Result")
_POOL_THREADS: Final = 4
_INVOKES: Final = ("InvokeModel", "InvokeModelWithResponseStream")


class _Caller(TypedDict):
    region: str
    account_id: str
    application_profiles: Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """A parsed request: its operation, the path parameter, and the JSON body or query parameters."""

    op: str
    argument: str
    body: Any
    size: int
    bearer: bool


class Operations:
    """Handles each operation, or raises ServiceError. Runs on one event loop; slow calls run on a thread pool."""

    def __init__(self, knobs: Knobs, storage: Storage, jobs: Jobs, faults: FaultInjector, account_id: str) -> None:
        self._knobs = knobs
        self._storage = storage
        self._jobs = jobs
        self._account_id = account_id
        self._pool = DaemonPool(_POOL_THREADS, "marengo-local")
        self._embedder = Embedder(storage, lambda: knobs.synthetic_sec)
        self._runner = JobRunner(knobs, storage, self._embedder, faults, self._pool)
        self.transcribe = Transcribe(knobs, storage, faults, self._pool, jobs.region, account_id)
        self._job_tasks: set[asyncio.Task[None]] = set()
        self._pegasus = Pegasus(knobs, storage, self.transcribe.usage)
        self._handlers: Mapping[str, Callable[[Request], Awaitable[bytes | Answer]]] = {
            "InvokeModel": self._invoke,
            "InvokeModelWithResponseStream": self._invoke,
            "StartAsyncInvoke": self._start,
            "GetAsyncInvoke": self._get,
            "ListAsyncInvokes": self._list,
            "GetFoundationModelAvailability": self._availability,
            **dict.fromkeys(TRANSCRIBE_OPERATIONS, self._transcribe),
        }
        self._rates = {op: TokenBucket() for op in self._handlers}

    async def handle(self, request: Request) -> Answer:
        """The response."""
        self._check_rate(request.op)
        answer = await self._handlers[request.op](request)
        return answer if isinstance(answer, Answer) else Answer(answer)

    async def reset(self) -> None:
        """Cancel the jobs in progress, delete all jobs, and refill the rate limits."""
        tasks = tuple(self._job_tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._jobs.reset()
        await self.transcribe.reset()
        self._rates = {op: TokenBucket() for op in self._handlers}

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.shutdown(cancel_futures=True)

    def _check_rate(self, op: str) -> None:
        rates = {**dict.fromkeys(_INVOKES, self._knobs.invoke_rate), "StartAsyncInvoke": self._knobs.start_rate}
        per_sec = rates.get(op)
        if per_sec is not None and not self._rates[op].take(per_sec):
            raise ServiceError("ThrottlingException", THROTTLED)

    async def _invoke(self, request: Request) -> bytes | Answer:
        streams = request.op == _INVOKES[1]
        pegasus = resolve_pegasus(request.argument, **self._caller())
        if pegasus is not None:
            return await self._in_pool(lambda: self._pegasus.invoke(pegasus, request.body, stream=streams))
        model = self._resolve("InvokeModel", request.argument)
        if streams:
            raise refused("The model is unsupported for streaming.")
        # AWS doesn't document whether a call with an invalid body subscribes the account; this assumes it does.
        self._knobs.subscribed = True
        body = _checked(model, request.op, request.body)
        if body["inputType"] == "text":
            # Embedding a text is faster than handing it to another thread.
            return self._embedder.text_response(model, fields(model, body)["inputText"])
        return await self._in_pool(lambda: self._invoke_images(model, body))

    def _invoke_images(self, model: Model, body: Mapping[str, Any]) -> bytes:
        self._check_buckets(model, body)
        return response_json(self._embedder.vector(model, body))

    async def _start(self, request: Request) -> bytes:
        check_start(request.body)
        model = self._resolve(request.op, request.body["modelId"])
        if not self._knobs.subscribed:
            raise ServiceError("AccessDeniedException", NOT_SUBSCRIBED)
        body = _checked(model, request.op, request.body["modelInput"])
        if request.bearer:
            raise refused("Invalid S3 credentials")
        job = self._jobs.find_by_token(request.body)
        if job is None:
            output = request.body["outputDataConfig"]["s3OutputDataConfig"]
            await self._in_pool(lambda: self._check_buckets(model, body, output))
            # Checked again: the same start may have arrived in the meantime.
            job = self._jobs.find_by_token(request.body) or self._launch(model, request.body)
        return json.dumps({"invocationArn": job.arn}).encode()

    def _launch(self, model: Model, request: Mapping[str, Any]) -> Job:
        quota = self._knobs.max_jobs
        if quota is not None and len(self._jobs.running()) >= quota:
            raise ServiceError(
                "ServiceQuotaExceededException",
                f"Your account has reached its quota of {quota} concurrent asynchronous invocations.",
            )
        job = self._jobs.add(model, request)
        task = asyncio.get_running_loop().create_task(self._runner.run(job))
        self._job_tasks.add(task)
        task.add_done_callback(self._job_tasks.discard)
        return job

    async def _get(self, request: Request) -> bytes:
        return json.dumps(self._jobs.find(request.argument).summary()).encode()

    async def _list(self, request: Request) -> bytes:
        check_list_query(request.body)
        return json.dumps(self._jobs.page(request.body)).encode()

    async def _transcribe(self, request: Request) -> bytes:
        if request.bearer:
            # An API key is for Bedrock only.
            raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token", 400)
        return await self.transcribe.handle(request.op, request.body)

    async def _availability(self, request: Request) -> bytes:
        models = (*MODELS, *PEGASUS_MODELS)
        model = next((model for model in models if model.model_id == request.argument), None)
        if model is None:
            raise ServiceError("ResourceNotFoundException", f"Could not find the model {request.argument}.")
        status = {
            "agreementAvailability": "AVAILABLE" if self._knobs.subscribed else "NOT_AVAILABLE",
            "authorizationStatus": "AUTHORIZED",
            "entitlementAvailability": "AVAILABLE",
            "regionAvailability": "AVAILABLE" if self._jobs.region in model.invoke_ids else "NOT_AVAILABLE",
            **self._knobs.availability,
        }
        agreement = {"status": status["agreementAvailability"]}
        return json.dumps({"modelId": model.model_id, **status, "agreementAvailability": agreement}).encode()

    def _resolve(self, op: str, identifier: str) -> Model:
        return resolve(op, identifier, **self._caller())

    def _caller(self) -> _Caller:
        return {
            "region": self._jobs.region,
            "account_id": self._account_id,
            "application_profiles": self._knobs.application_profiles,
        }

    def _check_buckets(self, model: Model, body: Mapping[str, Any], output: Mapping[str, str] | None = None) -> None:
        if output is not None:
            self._storage.check_bucket(output["s3Uri"], output.get("bucketOwner"))
        for source in media_sources(fields(model, body)):
            if "s3Location" in source:
                self._storage.check_bucket(source["s3Location"]["uri"], source["s3Location"]["bucketOwner"])

    async def _in_pool(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class TokenBucket:
    """A rate limit with a burst of one second's calls, and at least one."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._at = 0.0

    def take(self, per_sec: float) -> bool:
        """Whether a call is within the rate; if so, it is counted."""
        now, full = time.monotonic(), max(1.0, per_sec)
        self._tokens = full if self._tokens is None else min(full, self._tokens + (now - self._at) * per_sec)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def _checked(model: Model, op: str, body: Any) -> Mapping[str, Any]:
    check_model_input(model, op, body)
    check_rules(model, body)
    checked: Mapping[str, Any] = body
    return checked

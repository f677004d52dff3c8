"""serve(): Bedrock, S3, S3 Vectors and STS on loopback, for the duration of a `with` block."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from aiohttp import web

from marengo_local.access_keys import register, unregister
from marengo_local.calls import Calls
from marengo_local.contract import REGIONS
from marengo_local.faults import Fault, FaultInjector
from marengo_local.jobs import Jobs
from marengo_local.knobs import KNOBS, Knobs, nearest
from marengo_local.operations import Operations
from marengo_local.proxies import bypass_proxies, no_proxy
from marengo_local.s3 import moto_url
from marengo_local.service import Service
from marengo_local.storage import Storage

__all__ = ["ACCOUNT_ID", "Local", "serve", "start"]

ACCOUNT_ID: Final = "123456789012"

Result = TypeVar("Result")
_MAX_PORT: Final = 65_535
_PLACE: Final = ("region", "port", "s3_port", "bucket")
"""What only serve() takes."""
_ARCHIVED: Final = "The operation is not valid for the object's access tier"


@contextmanager
def serve(
    *, region: str = "us-east-1", port: int = 0, s3_port: int = 0, bucket: str | None = None, **knobs: Any
) -> Iterator[Local]:
    """Serve Marengo with S3 and STS on loopback; `knobs` are the attributes of Knobs.

    By default, the ports are any free ones and the bucket has a generated name. Several servers can run at once; they
    share one S3.
    """
    local = start(region=region, port=port, s3_port=s3_port, bucket=bucket, **knobs)
    try:
        yield local
    finally:
        local.close()


def start(
    *, region: str = "us-east-1", port: int = 0, s3_port: int = 0, bucket: str | None = None, **knobs: Any
) -> Local:
    """Like `serve`, without a `with` block, for notebooks. Runs until `close()` or the end of the process."""
    for name, number in (("port", port), ("s3_port", s3_port)):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_PORT:
            raise ValueError(f"{name}={number!r}: expected a port from 1 to {_MAX_PORT}, or 0 for any free one")
    for name in knobs:
        if name not in KNOBS:
            raise TypeError(f"serve() has no setting {name!r}. {nearest(name, (*_PLACE, *KNOBS))}")
    return Local(region, port, s3_port, bucket, Knobs(**knobs))


class Local(Knobs):
    """A running stand-in: its endpoints, the calls it received, and its settings, which can be changed at any time."""

    def __init__(self, region: str, port: int, s3_port: int, bucket: str | None, knobs: Knobs) -> None:
        if region not in REGIONS:
            raise ValueError(f"region={region!r} is not supported. Use one of {', '.join(REGIONS)}")
        super().__init__(**_values(knobs))
        self._initial = _values(knobs)
        bypass_proxies()
        self.region_name = region
        self.account_id = ACCOUNT_ID
        self.s3_endpoint_url = self.sts_endpoint_url = moto_url(s3_port)
        storage = Storage(self.s3_endpoint_url, region, self._owner_of)
        self.s3: Any = storage.client
        self.bucket = self._create_bucket(bucket)
        self.calls = Calls()
        self.jobs = Jobs(region, ACCOUNT_ID)
        self._fault_injector = FaultInjector()
        self._fault_injector.reset(self.seed)
        operations = Operations(self, storage, self.jobs, self._fault_injector, ACCOUNT_ID)
        self.transcriptions, self.usage = operations.transcribe.jobs, operations.transcribe.usage
        self._speech = operations.transcribe.speech
        service = Service(self, operations, self.calls, self._fault_injector)
        self._server = ServerThread(service, operations, port)
        self.endpoint_url = self._server.url
        # A unique key lets the shared S3 identify which server a call belongs to.
        self.access_key_id = f"AKIA{uuid4().hex[:16].upper()}"
        register(self.access_key_id, self)
        self._is_complete = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PLACE[:3] or ("_is_complete" in self.__dict__ and not hasattr(self, name)):
            advice = f"Pass {name}= to serve()." if name in _PLACE else nearest(name, KNOBS)
            raise AttributeError(f"The stand-in has no setting {name!r} that can be changed. {advice}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"Local({self.endpoint_url}, {self.s3_endpoint_url}, bucket={self.bucket!r})"

    @property
    def output_s3_uri(self) -> str:
        """The prefix for outputs, in `bucket`."""
        return f"s3://{self.bucket}/marengo/"

    @property
    def client_options(self) -> dict[str, str]:
        """Keyword arguments for `MarengoClient`."""
        return {
            "region_name": self.region_name,
            "endpoint_url": self.endpoint_url,
            "s3_endpoint_url": self.s3_endpoint_url,
            "transcribe_endpoint_url": self.endpoint_url,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            **({"aws_session_token": self.session_token} if self.session_token else {}),
            "bucket_owner": self.account_id,
            "output_s3_uri": self.output_s3_uri,
        }

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that point boto3 at the stand-in, for code that takes no options."""
        return {
            "AWS_ENDPOINT_URL_BEDROCK": self.endpoint_url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.endpoint_url,
            "AWS_ENDPOINT_URL_TRANSCRIBE": self.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint_url,
            "AWS_ENDPOINT_URL_S3VECTORS": self.endpoint_url,
            "AWS_ENDPOINT_URL_STS": self.sts_endpoint_url,
            "AWS_DEFAULT_REGION": self.region_name,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            **({"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}),
            **no_proxy(),
            # Read by the `marengo` command.
            "MARENGO_OUTPUT_S3_URI": self.output_s3_uri,
        }

    def put(self, source: Path | str | bytes, key: str | None = None) -> str:
        """Upload a local file, or bytes under `key`, to `bucket`; returns the `s3://` URI.

        Raises TypeError, ValueError or FileNotFoundError for what is not one file: a folder, a path that doesn't exist.
        """
        if isinstance(source, bytes):
            if key is None:
                raise ValueError("put() needs key= when source is bytes. Pass the key to store them under.")
            self.s3.upload_fileobj(io.BytesIO(source), self.bucket, key)
        else:
            _check_file(source)
            key = Path(source).name if key is None else key
            self.s3.upload_file(str(source), self.bucket, key)
        return f"s3://{self.bucket}/{key}"

    def say(self, uri: str, cues: Iterable[tuple[float, float, str]], *, language: str = "en-US") -> None:
        """Set what Amazon Transcribe hears in a media file: (start, end, text) in seconds.

        `uri` may be a pattern with `*`. Of other files, Transcribe hears the embedded subtitles, or silence; of the
        reel of this package, its captions.
        """
        self._speech.say(uri, cues, language)

    def record_call(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Record an S3 or STS call made with this server's access key; returns the fault to inject, if any."""
        fault = self._fault_injector.next_fault(self.faults, self.calls.record(op, query, 0))
        return fault or self._rejection(op, query)

    def reset(self) -> None:
        """Restore the initial state: settings from the start, an empty bucket, no calls, jobs, vectors or usage."""
        for name, value in self._initial.items():
            setattr(self, name, value.copy() if isinstance(value, list) else value)
        self._server.reset()
        self._fault_injector.reset(self.seed)
        self.calls.reset()
        self.bucket = self._create_bucket(None)

    def close(self) -> None:
        """Stop serving. The S3 server keeps running for later calls of serve() in this process."""
        unregister(self.access_key_id)
        self._server.close()

    def _rejection(self, op: str, query: Mapping[str, str]) -> Fault | None:
        if op == "s3:GetObject" and f"s3://{query['bucket']}/{query['key']}" in self.archive_tiers:
            return Fault(op, error="InvalidObjectState", message=_ARCHIVED)
        expected = query.get("expected-bucket-owner")
        if expected is not None and expected != self._owner_of(query["bucket"]):
            return Fault(op, error="AccessDenied", message="Access Denied")
        return None

    def _owner_of(self, bucket: str) -> str:
        return self.bucket_owners.get(bucket, ACCOUNT_ID)

    def _create_bucket(self, name: str | None) -> str:
        bucket = name or f"marengo-local-{uuid4().hex[:12]}"
        location = {"CreateBucketConfiguration": {"LocationConstraint": self.region_name}}
        self.s3.create_bucket(Bucket=bucket, **({} if self.region_name == "us-east-1" else location))
        return bucket


class ServerThread:
    """The HTTP server, on an event loop in its own thread."""

    def __init__(self, service: Service, operations: Operations, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="marengo-local", daemon=True)
        self._thread.start()
        self._operations = operations
        self._runner, self.url = self._run(_listen(service, port))

    def reset(self) -> None:
        """Cancel and delete all jobs."""
        self._run(self._operations.reset())

    def close(self) -> None:
        """Close all connections, cancel the jobs and end all threads."""
        self._run(self._runner.cleanup())
        self._run(self._operations.reset())
        self._operations.close()
        self._run(_cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _listen(service: Service, port: int) -> tuple[web.ServerRunner, str]:
    # aiohttp treats 0 as no timeout.
    runner = web.ServerRunner(service.server(), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _cancel_the_rest() -> None:
    # A refused request, whose body is not read, stays open for a while.
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _check_file(source: Any) -> None:
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"put() takes a path or bytes, not {type(source).__name__}. Pass bytes with key=.")
    path = Path(source)
    if path.is_dir():
        raise ValueError(f"put({str(path)!r}): this is a folder, and put() uploads one file. Call it for each file.")
    if not path.exists():
        raise FileNotFoundError(f"put({str(path)!r}): there is no such file. Check the path, or pass bytes with key=.")


def _values(knobs: Knobs) -> dict[str, Any]:
    values = {item.name: getattr(knobs, item.name) for item in fields(Knobs)}
    return {name: value.copy() if isinstance(value, list) else value for name, value in values.items()}

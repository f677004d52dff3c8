"""serve(): the service with S3 and STS beside it, on loopback, for as long as a `with` lasts."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

from aiohttp import web

from marengo_local.calls import Calls
from marengo_local.clock import mistimed
from marengo_local.contract import REGIONS
from marengo_local.faults import Fault, Faults
from marengo_local.jobs import Jobs
from marengo_local.knobs import Knobs
from marengo_local.operations import Operations
from marengo_local.s3 import moto_url, unwatch, watch
from marengo_local.service import Service
from marengo_local.storage import Storage

__all__ = ["ACCOUNT_ID", "Local", "serve", "start"]

ACCOUNT_ID: Final = "123456789012"

Result = TypeVar("Result")
_SECRET: Final = "marengo-local"  # noqa: S105
# What a call that AWS finds mistimed is refused with, and how many seconds are allowed.
_MISTIMED: Final = {"s3": ("RequestTimeTooSkewed", 900), "sts": ("SignatureDoesNotMatch", 300)}


@contextmanager
def serve(
    *, region: str = "us-east-1", port: int = 0, s3_port: int = 0, bucket: str | None = None, **knobs: Any
) -> Iterator[Local]:
    """Serve Marengo on loopback, with S3 and STS; `knobs` are the fields of Knobs.

    Ports are free ones unless given. A fresh bucket is made unless `bucket` names one. Several can be
    open at once; their S3 is one and the same.
    """
    local = start(region=region, port=port, s3_port=s3_port, bucket=bucket, **knobs)
    try:
        yield local
    finally:
        local.close()


def start(
    *, region: str = "us-east-1", port: int = 0, s3_port: int = 0, bucket: str | None = None, **knobs: Any
) -> Local:
    """`serve` where no `with` can be, as in a notebook: until its `close()`, or the process's end."""
    return Local(region, port, s3_port, bucket, Knobs(**knobs))


class Local(Knobs):
    """A running service: where it is, what it saw, and its knobs, which can be turned at any time."""

    def __init__(self, region: str, port: int, s3_port: int, bucket: str | None, knobs: Knobs) -> None:
        if region not in REGIONS:
            raise ValueError(f"region is {region!r}; Marengo is served in {', '.join(REGIONS)}")
        super().__init__(**_values(knobs))
        self._initial = _values(knobs)
        self.region_name = region
        self.account_id = ACCOUNT_ID
        self.s3_endpoint_url = self.sts_endpoint_url = moto_url(s3_port)
        storage = Storage(self.s3_endpoint_url, region, self._owner_of)
        self.s3: Any = storage.client
        self.bucket = self._make_bucket(bucket)
        self.calls = Calls()
        self.jobs = Jobs(region, ACCOUNT_ID)
        self._faults = Faults()
        self._faults.reset(self.seed)
        operations = Operations(self, storage, self.jobs, self._faults, ACCOUNT_ID)
        self._http = Loopback(Service(self, operations, self.calls, self._faults), operations, port)
        self.endpoint_url = self._http.url
        # A key of its own lets the shared S3 tell whose call it is.
        self.access_key_id = f"AKIA{uuid4().hex[:16].upper()}"
        watch(self.access_key_id, self)

    def __repr__(self) -> str:
        return f"Local({self.endpoint_url}, {self.s3_endpoint_url}, bucket={self.bucket!r})"

    @property
    def output_s3_uri(self) -> str:
        """A prefix for outputs, in `bucket`."""
        return f"s3://{self.bucket}/marengo/"

    @property
    def client_options(self) -> dict[str, str]:
        """Keyword arguments for a Marengo client."""
        return {
            "region_name": self.region_name,
            "endpoint_url": self.endpoint_url,
            "s3_endpoint_url": self.s3_endpoint_url,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": _SECRET,
            "bucket_owner": self.account_id,
            "output_s3_uri": self.output_s3_uri,
        }

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for code that takes no options: boto3 then finds the service by itself."""
        return {
            "AWS_ENDPOINT_URL_BEDROCK": self.endpoint_url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint_url,
            "AWS_ENDPOINT_URL_STS": self.sts_endpoint_url,
            "AWS_DEFAULT_REGION": self.region_name,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            # bedrock-marengo's command line reads it.
            "MARENGO_OUTPUT_S3_URI": self.output_s3_uri,
        }

    def put(self, source: Path | str | bytes, key: str | None = None) -> str:
        """Put a local file, or bytes under `key`, into `bucket`; returns its `s3://` URI."""
        if isinstance(source, bytes):
            if key is None:
                raise ValueError("put: bytes need a key")
            self.s3.upload_fileobj(io.BytesIO(source), self.bucket, key)
        else:
            key = Path(source).name if key is None else key
            self.s3.upload_file(str(source), self.bucket, key)
        return f"s3://{self.bucket}/{key}"

    def called(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Count a call made to S3 or STS with this server's keys, and say what is to strike it."""
        fault = self._faults.strike(self.faults, self.calls.record(op, query, 0))
        return fault or self._refusal(op, query)

    def reset(self) -> None:
        """As if served anew: the first knobs, a fresh bucket, no calls, no jobs."""
        for name, value in self._initial.items():
            setattr(self, name, value.copy() if isinstance(value, list) else value)
        self._http.reset()
        self._faults.reset(self.seed)
        self.calls.reset()
        self.bucket = self._make_bucket(None)

    def close(self) -> None:
        """Stop serving. moto's server stays for the next serve() of this process."""
        unwatch(self.access_key_id)
        self._http.close()

    def _refusal(self, op: str, query: Mapping[str, str]) -> Fault | None:
        code, allowed_sec = _MISTIMED[op.partition(":")[0]]
        late = mistimed(code, self.clock_skew_sec, allowed_sec)
        if late is not None:
            return Fault(op, error=late.code, message=late.message)
        expected = query.get("expected-bucket-owner")
        if expected is not None and expected != self._owner_of(query["bucket"]):
            return Fault(op, error="AccessDenied", message="Access Denied")
        return None

    def _owner_of(self, bucket: str) -> str:
        return self.bucket_owners.get(bucket, ACCOUNT_ID)

    def _make_bucket(self, name: str | None) -> str:
        bucket = name or f"marengo-local-{uuid4().hex[:12]}"
        place = {} if self.region_name == "us-east-1" else {"LocationConstraint": self.region_name}
        self.s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
        return bucket


class Loopback:
    """The service's HTTP, on an event loop in a thread of its own."""

    def __init__(self, service: Service, operations: Operations, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="marengo-local", daemon=True)
        self._thread.start()
        self._operations = operations
        self._runner, self.url = self._run(_open(service, port))

    def reset(self) -> None:
        """Forget the jobs, and start over."""
        self._run(self._operations.reset())

    def close(self) -> None:
        """Drop the jobs, close all connections and end every thread."""
        self._run(self._runner.cleanup())
        self._run(self._operations.reset())
        self._operations.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _open(service: Service, port: int) -> tuple[web.ServerRunner, str]:
    # aiohttp reads 0 as for ever.
    runner = web.ServerRunner(service.server(), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def _values(knobs: Knobs) -> dict[str, Any]:
    values = {item.name: getattr(knobs, item.name) for item in fields(Knobs)}
    return {name: value.copy() if isinstance(value, list) else value for name, value in values.items()}

"""S3 and STS from moto, shared by the process, behind a check of signatures, a record of calls, and faults."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from marengo_local.access_keys import Caller, caller_of, is_loopback
from marengo_local.archive import with_archive_status, with_restore_status
from marengo_local.checksums import check_checksums
from marengo_local.clock import date_header
from marengo_local.errors import ServiceError
from marengo_local.faults import Fault
from marengo_local.http_server import http_server
from marengo_local.injection import inject
from marengo_local.pool import DaemonPool
from marengo_local.refusals import refusal
from marengo_local.signatures import Claim, HttpRequest, Refused, read_claim
from marengo_local.wsgi import App, Headers, call, environ_of

__all__ = ["moto_url"]

_THREADS: Final = 8
_LOCK: Final = threading.Lock()
_PORTS: Final[list[int]] = []


def moto_url(port: int = 0) -> str:
    """The URL of a server of moto's S3, which starts at the first call and runs until the process ends.

    All ports serve the same buckets, since moto's state is global to the process. 0 reuses a running server.
    """
    with _LOCK:
        if not _PORTS or port not in (0, *_PORTS):
            _PORTS.append(_start(port))
        return f"http://127.0.0.1:{port or _PORTS[0]}"


def _start(port: int) -> int:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="marengo-local-s3", daemon=True).start()
    # Bound here, so that a port in use is an error of serve().
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    asyncio.run_coroutine_threadsafe(_listen(listener), loop).result()
    taken: int = listener.getsockname()[1]
    return taken


async def _listen(listener: socket.socket) -> None:
    # Objects are stored as they were sent: compressed ones stay so.
    server = http_server(_S3().handle, auto_decompress=False)
    await asyncio.get_running_loop().create_server(server, sock=listener)


@cache
def _moto_app(service: str) -> App:
    """Moto's app for a service. Moto's own dispatcher lists its folder for every request, to find out which it is."""
    from moto.moto_server.werkzeug_app import create_backend_app

    app: Any = create_backend_app(service)  # type: ignore[arg-type]
    return check_checksums(app) if service == "s3" else app


class _S3:
    """Refuses what no access key of this process has signed; records the rest, and injects faults."""

    def __init__(self) -> None:
        self._moto = DaemonPool(_THREADS, "marengo-local-moto")
        self._faults = DaemonPool(1, "marengo-local-faults")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to a request."""
        path, _, query = request.raw_path.partition("?")
        signed = HttpRequest(request.method, path, query, request.headers.get)
        service = "sts" if (request.method, path) == ("POST", "/") else "s3"
        skew_sec = 0.0
        try:
            claim = _readable_claim(signed)
            service = claim.service
            caller = caller_of(claim)
            skew_sec = caller.clock_skew_sec
            response = await self._respond(request, signed, claim, caller)
        except Refused as error:
            response = _error_response(request, service, refusal(error, service))
            # Its body was not read: what comes next on this connection would be taken for it.
            response.force_close()
        if skew_sec and not response.prepared:
            response.headers["Date"] = date_header(skew_sec)
        return response

    async def _respond(
        self, request: web.BaseRequest, signed: HttpRequest, claim: Claim, caller: Caller
    ) -> web.StreamResponse:
        service = claim.service
        claim.check_time(caller.clock_skew_sec)
        if service == "s3":
            claim.check_signature(signed, caller.secret_access_key)
            _check_headers(claim, request)
        body = await _read(request)
        if service != "s3":
            claim.check_signature(signed, caller.secret_access_key, body)
        if service not in ("s3", "sts"):
            # Moto's S3 Vectors can't search, and Bedrock's port has its own.
            unknown = ServiceError("UnknownOperationException", f"{service} is not served here; S3 and STS are.")
            return _error_response(request, service, unknown)
        op, query = _parse_sts_call(body) if service == "sts" else _parse_s3_call(signed)
        fault = await self._record(caller, op, query)
        app = _add_archive_status(_moto_app(service), caller, op, query, signed)

        async def run() -> web.Response:
            environ = environ_of(request, body)
            status, headers, content = await asyncio.get_running_loop().run_in_executor(self._moto, call, app, environ)
            return _response(request, status, headers, content)

        if fault is None:
            return await run()
        return await inject(fault, request, run, lambda error: _error_response(request, service, error))

    async def _record(self, caller: Caller, op: str, query: Mapping[str, str]) -> Fault | None:
        if any(callable(fault.when) for fault in caller.faults):
            # It may call S3 itself, which is served here.
            return await asyncio.get_running_loop().run_in_executor(self._faults, caller.record_call, op, query)
        return caller.record_call(op, query)


def _add_archive_status(app: App, caller: Caller, op: str, query: Mapping[str, str], signed: HttpRequest) -> App:
    if op == "s3:ListObjectsV2" and "RestoreStatus" in (signed.header("x-amz-optional-object-attributes") or ""):
        return with_restore_status(app, caller.account_id, query["bucket"])
    tier = caller.archive_tiers.get(f"s3://{query['bucket']}/{query['key']}") if op == "s3:HeadObject" else None
    return app if tier is None else with_archive_status(app, tier)


def _readable_claim(signed: HttpRequest) -> Claim:
    host = signed.header("host") or ""
    if not is_loopback(host):
        raise Refused("host", host)
    return read_claim(signed)


def _check_headers(claim: Claim, request: web.BaseRequest) -> None:
    # Moto takes an underscore for a dash.
    names = {name.lower().replace("_", "-") for name in request.headers}
    if {name for name in names if name.startswith("x-amz-")} - {n.replace("_", "-") for n in claim.signed_headers}:
        raise Refused("unsigned header")
    # Moto's own pages, which show and delete everything.
    if unquote(request.raw_path).lstrip("/").startswith("moto-api"):
        raise Refused("anonymous")


async def _read(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return await request.read()


def _response(request: web.BaseRequest, status: str, headers: Headers, body: bytes) -> web.Response:
    code, _, reason = status.partition(" ")
    # aiohttp counts a body; that of HEAD is not sent.
    counted = "" if request.method == "HEAD" else "content-length"
    # Moto lets the pages of every origin read its responses.
    kept = [(n, v) for n, v in headers if n.lower() != counted and not n.lower().startswith("access-control-")]
    return web.Response(status=int(code), reason=reason, headers=kept, body=body)


def _error_response(request: web.BaseRequest, service: str, error: ServiceError) -> web.Response:
    """An error in the form of its service: XML, or JSON for those that are neither S3 nor STS."""
    is_xml = service in ("s3", "sts")
    headers = {"Content-Type": "application/xml" if is_xml else "application/json", "x-amzn-ErrorType": error.code}
    body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
    body = f"<ErrorResponse>{body}</ErrorResponse>" if service == "sts" else body
    body = body if is_xml else json.dumps({"message": error.message})
    sent = b"" if request.method == "HEAD" else body.encode()
    return web.Response(status=error.status, reason=error.code, headers=headers, body=sent)


def _parse_s3_call(signed: HttpRequest) -> tuple[str, Mapping[str, str]]:
    bucket, _, key = unquote(signed.path)[1:].partition("/")
    query = dict(parse_qsl(signed.query, keep_blank_values=True))
    target = (signed.method, "object" if key else "bucket" if bucket else "service")
    subresource = "copy" if signed.header("x-amz-copy-source") is not None else ""
    subresource = next((name for name in _SUBRESOURCES if name in query), subresource)
    op = _SUBRESOURCE_OPERATIONS.get((*target, subresource)) or _OPERATIONS.get(target, "Other")
    owner = signed.header("x-amz-expected-bucket-owner")
    expected = {"expected-bucket-owner": owner} if owner else {}
    return f"s3:{op}", {**query, "bucket": bucket, "key": key, **expected}


def _parse_sts_call(body: bytes) -> tuple[str, Mapping[str, str]]:
    query = dict(parse_qsl(body.decode()))
    return f"sts:{query.get('Action', 'Other')}", query


_SUBRESOURCES: Final = (
    "list-type",
    "location",
    "uploads",
    "partNumber",
    "uploadId",
    "tagging",
    "delete",
    "versions",
)
_SUBRESOURCE_OPERATIONS: Final = {
    ("GET", "bucket", "list-type"): "ListObjectsV2",
    ("GET", "bucket", "location"): "GetBucketLocation",
    ("GET", "bucket", "versions"): "ListObjectVersions",
    ("GET", "object", "tagging"): "GetObjectTagging",
    ("PUT", "object", "tagging"): "PutObjectTagging",
    ("PUT", "object", "copy"): "CopyObject",
    ("PUT", "object", "partNumber"): "UploadPart",
    ("POST", "object", "uploads"): "CreateMultipartUpload",
    ("POST", "object", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "object", "uploadId"): "AbortMultipartUpload",
    ("POST", "bucket", "delete"): "DeleteObjects",
}
_OPERATIONS: Final = {
    ("GET", "service"): "ListBuckets",
    ("GET", "bucket"): "ListObjects",
    ("HEAD", "bucket"): "HeadBucket",
    ("PUT", "bucket"): "CreateBucket",
    ("DELETE", "bucket"): "DeleteBucket",
    ("GET", "object"): "GetObject",
    ("HEAD", "object"): "HeadObject",
    ("PUT", "object"): "PutObject",
    ("DELETE", "object"): "DeleteObject",
}

"""Bedrock's and S3 Vectors' HTTP APIs (restJson1): parses requests, injects faults, sends responses."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

from aiohttp import web

from marengo_local.access_keys import caller_of, check_api_key, is_loopback
from marengo_local.calls import Call, Calls
from marengo_local.clock import date_header
from marengo_local.contract import MAX_BODY_BYTES, refused
from marengo_local.contract.transcribe import TRANSCRIBE_OPERATIONS
from marengo_local.errors import ServiceError, malformed
from marengo_local.faults import FaultInjector
from marengo_local.http_server import http_server
from marengo_local.injection import inject
from marengo_local.knobs import Knobs
from marengo_local.operations import Operations, Request
from marengo_local.refusals import refusal
from marengo_local.s3_vectors.checks import OPERATIONS as S3_VECTORS
from marengo_local.signatures import HttpRequest, Refused, read_claim

__all__ = ["Service"]

_INVOKE: Final = re.compile(r"/model/([^/]+)/invoke(-with-response-stream)?")
_TARGET: Final = "X-Amz-Target"
_TRANSCRIBE: Final = re.compile(rf"Transcribe\.({'|'.join(TRANSCRIBE_OPERATIONS)})")
_GET_JOB: Final = re.compile(r"/async-invoke/([^/]+)")
_AVAILABILITY: Final = re.compile(r"/foundation-model-availability/([^/]+)")
# Reads beyond the limit, so that a client that is still sending gets the error.
_MAX_READ_BYTES: Final = 4 * MAX_BODY_BYTES


class Service:
    """Reads requests, records them, injects faults, and sends the responses of the operations."""

    def __init__(self, knobs: Knobs, operations: Operations, calls: Calls, faults: FaultInjector) -> None:
        self._knobs = knobs
        self._operations = operations
        self._calls = calls
        self._faults = faults

    def server(self) -> web.Server:
        """The HTTP server, for aiohttp to run."""
        return http_server(self._handle, max_bytes=_MAX_READ_BYTES)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._respond(request)
        if self._knobs.clock_skew_sec and not response.prepared:
            response.headers["Date"] = date_header(self._knobs.clock_skew_sec)
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            parsed = await self._parse(request)
        except Refused as error:
            answer = refusal(error, "bedrock")
            # Errors of Transcribe's protocol have status 400.
            answer.status = 400 if _TARGET in request.headers else answer.status
            return _error_response(answer)
        except ServiceError as error:
            return _error_response(error)
        fault = self._faults.next_fault(self._knobs.faults, self._record(parsed))
        if fault is None:
            return await self._run(parsed)
        return await inject(fault, request, lambda: self._run(parsed), _error_response)

    async def _run(self, parsed: Request) -> web.Response:
        try:
            answer = await self._operations.handle(parsed)
        except ServiceError as error:
            return _error_response(error)
        finally:
            if self._knobs.latency_sec:
                await asyncio.sleep(self._knobs.latency_sec)
        return web.Response(body=answer.body, headers={**_headers(), **answer.headers})

    async def _parse(self, request: web.BaseRequest) -> Request:
        host = request.headers.get("Host", "")
        if not is_loopback(host):
            raise Refused("host", host)
        path, _, query = request.raw_path.partition("?")
        api_key = _bearer_token(request)
        data = await self._read(request, HttpRequest(request.method, path, query, request.headers.get), api_key)
        op, argument = _operation(request.method, path, request.headers.get(_TARGET, ""))
        if api_key is not None and op.startswith("s3vectors:"):
            raise Refused("anonymous")
        if len(data) > MAX_BODY_BYTES:
            raise refused(
                "1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {MAX_BODY_BYTES}"
            )
        body: Any = dict(request.query) if request.method == "GET" else _parse_json(data)
        return Request(op, argument, body, len(data), api_key is not None)

    async def _read(self, request: web.BaseRequest, signed: HttpRequest, api_key: str | None) -> bytes:
        """The body of a request whose sender is known; of others, nothing is read."""
        if api_key is not None:
            check_api_key(api_key, self._knobs.api_key)
            return await request.read()
        claim = read_claim(signed)
        caller = caller_of(claim)
        claim.check_time(self._knobs.clock_skew_sec)
        data = await request.read()
        claim.check_signature(signed, caller.secret_access_key, data)
        return data

    def _record(self, request: Request) -> Call:
        model_id = request.argument if request.op.startswith("InvokeModel") else None
        if request.op == "StartAsyncInvoke" and isinstance(request.body, dict):
            model_id = request.body.get("modelId")
        arn = request.argument if request.op == "GetAsyncInvoke" else None
        return self._calls.record(request.op, request.body, request.size, model_id=model_id, arn=arn)


def _bearer_token(request: web.BaseRequest) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme == "Bearer" else None


def _operation(method: str, path: str, target: str) -> tuple[str, str]:
    if (method, path) == ("POST", "/") and (transcribe := _TRANSCRIBE.fullmatch(target)):
        return f"transcribe:{transcribe[1]}", ""
    if method == "POST" and (invoke := _INVOKE.fullmatch(path)):
        return "InvokeModelWithResponseStream" if invoke[2] else "InvokeModel", unquote(invoke[1])
    if method == "GET" and (get := _GET_JOB.fullmatch(path)):
        return "GetAsyncInvoke", unquote(get[1])
    if method == "GET" and (availability := _AVAILABILITY.fullmatch(path)):
        return "GetFoundationModelAvailability", unquote(availability[1])
    if path == "/async-invoke" and method in ("GET", "POST"):
        return {"GET": "ListAsyncInvokes", "POST": "StartAsyncInvoke"}[method], ""
    if method == "POST" and path[1:] in S3_VECTORS:
        return f"s3vectors:{path[1:]}", ""
    raise ServiceError("UnknownOperationException", f"{method} {path} is not an operation of this service.")


def _reject_constant(name: str) -> Any:
    raise ValueError(name)


# Unlike Python's default decoder, rejects NaN and Infinity, which are not JSON.
_JSON: Final = json.JSONDecoder(parse_constant=_reject_constant)


def _parse_json(data: bytes) -> Any:
    try:
        return _JSON.decode(data.decode())
    except (ValueError, RecursionError):
        raise malformed() from None


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid4())}


def _error_response(error: ServiceError) -> web.Response:
    headers = {**_headers(), "x-amzn-ErrorType": error.code}
    # Transcribe's protocol has the code in the body, Bedrock's in a header; a client reads only its own.
    body = {"message": error.message, "__type": error.code, **({"fieldList": error.fields} if error.fields else {})}
    return web.Response(status=error.status, headers=headers, body=json.dumps(body).encode())

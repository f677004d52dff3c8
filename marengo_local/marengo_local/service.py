"""Bedrock Runtime, and a call of Bedrock, over HTTP as restJson1 has it, with the faults that strike a connection."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

from aiohttp import web

from marengo_local.calls import Call, Calls
from marengo_local.clock import date, mistimed
from marengo_local.contract import MAX_BODY_BYTES, refused
from marengo_local.errors import ServiceError, malformed
from marengo_local.faults import Fault, Faults
from marengo_local.knobs import Knobs
from marengo_local.operations import Asked, Operations

__all__ = ["Service"]

_INVOKE: Final = re.compile(r"/model/([^/]+)/invoke")
_GET: Final = re.compile(r"/async-invoke/([^/]+)")
_AVAILABILITY: Final = re.compile(r"/foundation-model-availability/([^/]+)")
# More than the limit is read, so that the refusal reaches a client that would still be sending.
_READ_BYTES: Final = 4 * MAX_BODY_BYTES


class Service:
    """Reads requests, notes them, lets faults strike, and sends what the operations answer."""

    def __init__(self, knobs: Knobs, operations: Operations, calls: Calls, faults: Faults) -> None:
        self._knobs = knobs
        self._operations = operations
        self._calls = calls
        self._faults = faults

    def server(self) -> web.Server:
        """The HTTP server, to be run by aiohttp."""
        # No router: five paths, and it would cost a tenth of a text's time.
        return web.Server(self._handle, request_factory=_request, access_log=None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        reply = await self._answer(request)
        if self._knobs.clock_skew_sec and not reply.prepared:
            reply.headers["Date"] = date(self._knobs.clock_skew_sec)
        return reply

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            asked = await _asked(request)
        except ServiceError as error:
            return _error_reply(error)
        fault = self._faults.strike(self._knobs.faults, self._record(asked))
        if fault is None:
            return await self._reply(asked)
        return await self._faulty(fault, request, asked)

    async def _faulty(self, fault: Fault, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        await asyncio.sleep(fault.delay_sec)
        if fault.drop == "before":
            return _drop(request)
        error = fault.raised()
        reply = _error_reply(error) if error else await self._reply(asked)
        if fault.drop == "after":
            return _drop(request)
        if fault.body is not None:
            reply = web.Response(body=fault.body, headers=_headers())
        if fault.drop == "mid-body" or fault.body_sec:
            return await _trickle(request, reply, fault)
        return reply

    async def _reply(self, asked: Asked) -> web.Response:
        try:
            if (late := mistimed("InvalidSignatureException", self._knobs.clock_skew_sec)) is not None:
                raise late
            body = await self._operations.answer(asked)
        except ServiceError as error:
            return _error_reply(error)
        finally:
            if self._knobs.latency_sec:
                await asyncio.sleep(self._knobs.latency_sec)
        return web.Response(body=body, headers=_headers())

    def _record(self, asked: Asked) -> Call:
        model_id = asked.argument if asked.op == "InvokeModel" else None
        if asked.op == "StartAsyncInvoke" and isinstance(asked.body, dict):
            model_id = asked.body.get("modelId")
        arn = asked.argument if asked.op == "GetAsyncInvoke" else None
        return self._calls.record(asked.op, asked.body, asked.size, model_id=model_id, arn=arn)


async def _asked(request: web.BaseRequest) -> Asked:
    authorization = request.headers.get("Authorization")
    if authorization is None:
        raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
    op, argument = _operation(request.method, request.raw_path.partition("?")[0])
    data = await request.read()
    if len(data) > MAX_BODY_BYTES:
        raise refused(
            "1 validation error detected: Value at 'body' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_BODY_BYTES}"
        )
    body: Any = dict(request.query) if request.method == "GET" else _parsed(data)
    return Asked(op, argument, body, len(data), authorization.startswith("Bearer "))


def _operation(method: str, path: str) -> tuple[str, str]:
    if method == "POST" and (invoke := _INVOKE.fullmatch(path)):
        return "InvokeModel", unquote(invoke[1])
    if method == "GET" and (get := _GET.fullmatch(path)):
        return "GetAsyncInvoke", unquote(get[1])
    if method == "GET" and (availability := _AVAILABILITY.fullmatch(path)):
        return "GetFoundationModelAvailability", unquote(availability[1])
    if path == "/async-invoke" and method in ("GET", "POST"):
        return {"GET": "ListAsyncInvokes", "POST": "StartAsyncInvoke"}[method], ""
    raise ServiceError("UnknownOperationException", f"{method} {path} is no operation of this service.")


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


# NaN and Infinity, which Python writes and reads, are not JSON.
_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _parsed(data: bytes) -> Any:
    try:
        return _JSON.decode(data.decode())
    except (ValueError, RecursionError):
        raise malformed() from None


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid4())}


def _error_reply(error: ServiceError) -> web.Response:
    headers = {**_headers(), "x-amzn-ErrorType": error.code}
    return web.Response(status=error.status, headers=headers, body=json.dumps({"message": error.message}).encode())


def _drop(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _trickle(request: web.BaseRequest, reply: web.Response, fault: Fault) -> web.StreamResponse:
    """Send a reply's body in pieces over `body_sec`; only its first half if it is to drop in the middle."""
    body = bytes(reply.body)  # type: ignore[arg-type]
    pieces = 10
    size = max(1, -(-len(body) // pieces))
    sent = web.StreamResponse(status=reply.status, headers={**reply.headers, "Content-Length": str(len(body))})
    await sent.prepare(request)
    for number in range(pieces):
        await asyncio.sleep(fault.body_sec / pieces)
        if fault.drop == "mid-body" and number == pieces // 2:
            return _drop(request)
        await sent.write(body[number * size : (number + 1) * size])
    await sent.write_eof()
    return sent


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_READ_BYTES)

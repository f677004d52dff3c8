"""Carries out a fault on an HTTP response: waits, refuses, drops the connection, or sends another body, or slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from marengo_local.errors import ServiceError
from marengo_local.event_stream import EVENT_STREAM
from marengo_local.faults import Fault

__all__ = ["inject"]

_PIECES: Final = 10


async def inject(
    fault: Fault,
    request: web.BaseRequest,
    run: Callable[[], Awaitable[web.Response]],
    refuse: Callable[[ServiceError], web.Response],
) -> web.StreamResponse:
    """Respond to a request with a fault; `run` processes it, and `refuse` has the form of its service's errors."""
    await asyncio.sleep(fault.delay_sec)
    if fault.drop == "before":
        return _drop(request)
    error = fault.to_error()
    response = refuse(error) if error else await run()
    if fault.drop == "after":
        return _drop(request)
    if fault.body is not None:
        response = web.Response(body=fault.body, content_type=response.content_type)
    if fault.drop == "mid-body" or fault.body_sec:
        return await _send_slowly(request, response, fault)
    return response


def _drop(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _send_slowly(request: web.BaseRequest, response: web.Response, fault: Fault) -> web.StreamResponse:
    """Send a body in ten pieces over `body_sec`; with drop="mid-body", only the first half."""
    body = bytes(response.body)  # type: ignore[arg-type]
    size = max(1, -(-len(body) // _PIECES))
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    if response.content_type == EVENT_STREAM:
        # AWS doesn't know the length of what it streams.
        stream.enable_chunked_encoding()
    else:
        stream.content_length = len(body)
    await stream.prepare(request)
    for number in range(_PIECES):
        await asyncio.sleep(fault.body_sec / _PIECES)
        if fault.drop == "mid-body" and number == _PIECES // 2:
            return _drop(request)
        await stream.write(body[number * size : (number + 1) * size])
    await stream.write_eof()
    return stream

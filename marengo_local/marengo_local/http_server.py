"""aiohttp's server as both ports use it: without a router, which would add a tenth to the time of a text call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

__all__ = ["http_server"]


def http_server(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, max_bytes: int = 0, **settings: Any
) -> web.Server:
    """A server that reads bodies of up to `max_bytes` (0: any size); `settings` are those of `aiohttp.web.Server`."""

    def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=max_bytes)

    async def respond(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handle(request)
        except ConnectionResetError:
            if request.transport is not None:
                raise
            # The client was killed: no one is left to answer.
            return web.Response()

    return web.Server(respond, request_factory=make_request, access_log=None, **settings)

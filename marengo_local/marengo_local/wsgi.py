"""Runs a WSGI app, such as moto's, behind aiohttp's server, which keeps connections open between requests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from aiohttp import web

__all__ = ["App", "Environ", "Headers", "WsgiResponse", "call", "environ_of"]

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class WsgiResponse(NamedTuple):
    """What an app responds: its status line, headers and body."""

    status: str
    headers: Headers
    body: bytes


def environ_of(request: web.BaseRequest, body: bytes) -> Environ:
    """The WSGI environment of a request whose body was read."""
    path, _, query = request.raw_path.partition("?")
    host, _, port = request.host.rpartition(":")
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "REQUEST_URI": request.raw_path,
        "RAW_URI": request.raw_path,
        "SCRIPT_NAME": "",
        # WSGI's strings hold bytes.
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": host or request.host,
        "SERVER_PORT": port if host else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.remote or "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    dashed = {key_of(name) for name in request.headers if "_" not in name}
    names: dict[str, str] = {}
    for name, text in request.headers.items():
        key, value = key_of(name), text.encode("utf-8", "surrogateescape").decode("latin-1")
        if "_" in name:
            # It must not pass for one with dashes. Moto restores the name of metadata.
            if key in dashed or not name.lower().startswith("x-amz-meta-"):
                continue
            names.setdefault(key, name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["moto.preserved_header_names"] = names
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ


def key_of(name: str) -> str:
    """Where WSGI has a header."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def call(app: App, environ: Environ) -> WsgiResponse:
    """Call an app and collect its response."""
    heads: list[tuple[str, Headers]] = []

    def start(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        heads.append((status, headers))
        return lambda piece: None

    pieces = app(environ, start)
    try:
        body = b"".join(pieces)
    finally:
        if close := getattr(pieces, "close", None):
            close()
    return WsgiResponse(*heads[-1], body)

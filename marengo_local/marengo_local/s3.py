"""S3 and STS by moto's server, one for the whole process, with a front that counts calls and plays faults."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from marengo_local.faults import Fault

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

__all__ = ["Watcher", "moto_url", "unwatch", "watch"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class Watcher(Protocol):
    """Who wants to know of the S3 calls made with its access key, and may spoil them."""

    def s3_called(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Note a call; the returned fault strikes it. `query` holds the bucket and the key too."""


_LOCK: Final = threading.Lock()
_SERVERS: Final[dict[int, BaseWSGIServer]] = {}
_WATCHERS: Final[dict[str, Watcher]] = {}


def moto_url(port: int = 0) -> str:
    """The URL of moto's server, started at the first call and kept to the process's end.

    Every `port` gives the same buckets: moto's state is global in a process. 0 takes the server that runs.
    """
    with _LOCK:
        server = next(iter(_SERVERS.values()), None) if port == 0 else _SERVERS.get(port)
        if server is None:
            server = _start(port)
            _SERVERS[server.port] = server
        return f"http://127.0.0.1:{server.port}"


def watch(access_key_id: str, watcher: Watcher) -> None:
    """Tell `watcher` of every S3 call made with this access key."""
    _WATCHERS[access_key_id] = watcher


def unwatch(access_key_id: str) -> None:
    """Tell nobody any more."""
    _WATCHERS.pop(access_key_id, None)


def _start(port: int) -> BaseWSGIServer:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class QuietHandler(MotoRequestHandler):
        # Setting werkzeug's log level instead would silence a user's own server too.
        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
            return

    app = _front(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, name="marengo-local-s3", daemon=True).start()
    return server


_CREDENTIAL: Final = re.compile(r"(?:Credential|AWSAccessKeyId)=([A-Z0-9]+)")


def _front(app: App) -> App:
    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        signed = environ.get("HTTP_AUTHORIZATION", "") + environ.get("QUERY_STRING", "")
        credential = _CREDENTIAL.search(signed)
        watcher = _WATCHERS.get(credential[1]) if credential and "/sts/" not in signed else None
        fault = watcher.s3_called(*_called(environ)) if watcher else None
        return app(environ, start_response) if fault is None else _faulty(fault, app, environ, start_response)

    return answer


def _faulty(fault: Fault, app: App, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(fault.delay_sec)
    if fault.drop == "before":
        return _dropped(environ)
    error = fault.raised()
    if error is not None:
        head = environ["REQUEST_METHOD"] == "HEAD"
        body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        start_response(f"{error.status} {error.code}", [("Content-Type", "application/xml")])
        return [] if head else [body.encode()]
    body_pieces = app(environ, start_response)
    if fault.drop == "after":
        list(body_pieces)
        return _dropped(environ)
    return _trickled(fault, environ, b"".join(body_pieces))


def _trickled(fault: Fault, environ: Environ, body: bytes) -> Iterator[bytes]:
    """A body in ten pieces over `body_sec`; only the first half if it is to drop in the middle."""
    size = max(1, -(-len(body) // 10))
    for number in range(10):
        if fault.drop == "mid-body" and number == 5:
            yield from _dropped(environ)
            return
        time.sleep(fault.body_sec / 10)
        yield body[number * size : (number + 1) * size]


def _dropped(environ: Environ) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return [b""]


def _called(environ: Environ) -> tuple[str, Mapping[str, str]]:
    path, _, query_string = environ["REQUEST_URI"].partition("?")
    bucket, _, key = unquote(path)[1:].partition("/")
    query = dict(parse_qsl(query_string, keep_blank_values=True))
    asked = (environ["REQUEST_METHOD"], "object" if key else "bucket" if bucket else "service")
    mark = "copy" if "HTTP_X_AMZ_COPY_SOURCE" in environ else ""
    mark = next((name for name in _MARKS if name in query), mark)
    op = _SPECIAL.get((*asked, mark)) or _PLAIN.get(asked, "Other")
    return f"s3:{op}", {**query, "bucket": bucket, "key": key}


_MARKS: Final = (
    "list-type",
    "location",
    "uploads",
    "partNumber",
    "uploadId",
    "tagging",
    "delete",
    "versions",
)
_SPECIAL: Final = {
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
_PLAIN: Final = {
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

"""S3 and STS by moto's server, one for the whole process, with a front that counts calls and plays faults."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from marengo_local.clock import date
from marengo_local.errors import ServiceError
from marengo_local.faults import Fault

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

__all__ = ["Watcher", "moto_url", "unwatch", "watch"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class Watcher(Protocol):
    """Who wants to know of the calls made with its access key, and may spoil them."""

    clock_skew_sec: float

    def called(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Note a call; the returned fault strikes it. S3's `query` holds the bucket, the key and the expected owner."""


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
    """Tell `watcher` of every call made with this access key."""
    _WATCHERS[access_key_id] = watcher


def unwatch(access_key_id: str) -> None:
    """Tell nobody any more."""
    _WATCHERS.pop(access_key_id, None)


def _start(port: int) -> BaseWSGIServer:
    from moto.moto_server import werkzeug_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Ours:
        environ: Mapping[str, Any] = {}

        # Setting werkzeug's log level instead would silence a user's own server too.
        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
            return

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date(self.environ.get(_SKEW, 0.0))

    # From 5.2.5 moto has one of its own, which keeps headers with an underscore in their name.
    handler = type("Handler", (Ours, getattr(werkzeug_app, "MotoRequestHandler", WSGIRequestHandler)), {})
    app = _front(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    # A socket of our own: werkzeug would end the process where a port is taken.
    with socket.create_server(("127.0.0.1", port), backlog=1024) as ours:
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=handler, fd=ours.fileno())
    threading.Thread(target=server.serve_forever, name="marengo-local-s3", daemon=True).start()
    return server


_SKEW: Final = "marengo_local.clock_skew_sec"
_CREDENTIAL: Final = re.compile(r"(?:Credential|AWSAccessKeyId)=([A-Z0-9]+)")


def _front(app: App) -> App:
    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        signed = environ.get("HTTP_AUTHORIZATION", "") + environ.get("QUERY_STRING", "")
        credential = _CREDENTIAL.search(signed)
        watcher = _WATCHERS.get(credential[1]) if credential else None
        if watcher is None:
            return app(environ, start_response)
        fault = watcher.called(*(_sts_called if "/sts/" in signed else _called)(environ))
        environ[_SKEW] = watcher.clock_skew_sec
        return app(environ, start_response) if fault is None else _faulty(fault, app, environ, start_response)

    return answer


def _faulty(fault: Fault, app: App, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(fault.delay_sec)
    if fault.drop == "before":
        start_response("200 OK", [])  # which nobody hears, but werkzeug wants
        return _dropped(environ)
    error = fault.raised()
    if error is not None:
        head = environ["REQUEST_METHOD"] == "HEAD"
        start_response(f"{error.status} {error.code}", [("Content-Type", "application/xml")])
        return [] if head else [_xml(fault.op, error)]
    if fault.body is not None and fault.drop != "after":
        list(app(environ, _nobody_told))
        start_response("200 OK", [("Content-Length", str(len(fault.body)))])
        return _trickled(fault, environ, fault.body)
    body = b"".join(app(environ, start_response))
    return _dropped(environ) if fault.drop == "after" else _trickled(fault, environ, body)


def _xml(op: str, error: ServiceError) -> bytes:
    body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
    return (f"<ErrorResponse>{body}</ErrorResponse>" if op.startswith("sts:") else body).encode()


def _nobody_told(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
    return lambda piece: None


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
    owner = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
    expected = {"expected-bucket-owner": owner} if owner else {}
    return f"s3:{op}", {**query, "bucket": bucket, "key": key, **expected}


def _sts_called(environ: Environ) -> tuple[str, Mapping[str, str]]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    query = dict(parse_qsl(body.decode()))
    return f"sts:{query.get('Action', 'Other')}", query


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

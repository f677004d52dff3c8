"""S3 and STS from moto's server, shared by the process, behind a check of signatures, a record of calls, and faults."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from marengo_local.access_keys import Caller, caller_of, is_loopback
from marengo_local.archive import with_archive_status, with_restore_status
from marengo_local.checksums import check_checksums
from marengo_local.clock import date_header
from marengo_local.errors import ServiceError
from marengo_local.faults import Fault
from marengo_local.refusals import refusal
from marengo_local.signatures import Claim, HttpRequest, Refused, read_claim

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

__all__ = ["moto_url"]

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


_LOCK: Final = threading.Lock()
_SERVERS: Final[dict[int, BaseWSGIServer]] = {}


def moto_url(port: int = 0) -> str:
    """The URL of moto's server, which starts at the first call and runs until the process ends.

    All ports serve the same buckets, since moto's state is global to the process. 0 reuses a running server.
    """
    with _LOCK:
        server = next(iter(_SERVERS.values()), None) if port == 0 else _SERVERS.get(port)
        if server is None:
            server = _start(port)
            _SERVERS[server.port] = server
        return f"http://127.0.0.1:{server.port}"


def _start(port: int) -> BaseWSGIServer:
    from moto.moto_server import werkzeug_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class RequestHandler:
        environ: Mapping[str, Any] = {}

        # Overridden because werkzeug's log level would also silence a user's own server.
        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
            return

        def date_time_string(self, timestamp: float | None = None) -> str:
            return date_header(self.environ.get(_SKEW, 0.0))

    # moto 5.2.5 added its own handler, which keeps headers with an underscore in their name.
    handler = type("Handler", (RequestHandler, getattr(werkzeug_app, "MotoRequestHandler", WSGIRequestHandler)), {})
    app = _intercept(check_checksums(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)))
    # The socket is created here because werkzeug exits the process if a port is in use.
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=handler, fd=listener.fileno())
    threading.Thread(target=server.serve_forever, name="marengo-local-s3", daemon=True).start()
    return server


_SKEW: Final = "marengo_local.clock_skew_sec"


def _intercept(app: App) -> App:
    """Refuse what no access key of this process has signed; record the rest, and inject faults."""

    def respond(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        def start_without_cors(status: str, headers: Headers, exc_info: Any = None) -> Any:
            # Moto lets the pages of every origin read its responses.
            kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
            return start_response(status, kept, exc_info)

        request = _http_request(environ)
        service = "sts" if (request.method, request.path) == ("POST", "/") else "s3"
        try:
            claim = _readable_claim(request)
            service = claim.service
            caller = caller_of(claim)
            environ[_SKEW] = caller.clock_skew_sec
            _check(claim, caller, request, environ)
        except Refused as error:
            return _send_error(refusal(error, service), service, environ, start_response)
        if service not in ("s3", "sts"):
            # Moto's S3 Vectors can't search, and Bedrock's port has its own.
            unknown = ServiceError("UnknownOperationException", f"{service} is not served here; S3 and STS are.")
            return _send_error(unknown, service, environ, start_response)
        op, query = (_parse_sts_call if service == "sts" else _parse_s3_call)(environ)
        fault = caller.record_call(op, query)
        told = _add_archive_status(app, caller, op, query, environ)
        if fault is None:
            return told(environ, start_without_cors)
        return _inject(fault, told, environ, start_without_cors)

    return respond


def _add_archive_status(app: App, caller: Caller, op: str, query: Mapping[str, str], environ: Environ) -> App:
    if op == "s3:ListObjectsV2" and "RestoreStatus" in environ.get("HTTP_X_AMZ_OPTIONAL_OBJECT_ATTRIBUTES", ""):
        return with_restore_status(app, caller.account_id, query["bucket"])
    tier = caller.archive_tiers.get(f"s3://{query['bucket']}/{query['key']}") if op == "s3:HeadObject" else None
    return app if tier is None else with_archive_status(app, tier)


def _http_request(environ: Environ) -> HttpRequest:
    path, _, query = environ["REQUEST_URI"].partition("?")

    def header(name: str) -> str | None:
        key = name.upper().replace("-", "_")
        return environ.get(key if key in _BARE_NAMES else f"HTTP_{key}")

    return HttpRequest(environ["REQUEST_METHOD"], path, query, header)


_BARE_NAMES: Final = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})


def _readable_claim(request: HttpRequest) -> Claim:
    host = request.header("host") or ""
    if not is_loopback(host):
        raise Refused("host", host)
    return read_claim(request)


def _check(claim: Claim, caller: Caller, request: HttpRequest, environ: Environ) -> None:
    claim.check_time(caller.clock_skew_sec)
    claim.check_signature(request, caller.secret_access_key, None if claim.service == "s3" else _read_body(environ))
    # Moto spells names with underscores.
    names = {name[5:].lower() for name in environ if name.startswith("HTTP_X_AMZ_")}
    if claim.service == "s3" and names - {name.replace("-", "_") for name in claim.signed_headers}:
        raise Refused("unsigned header")
    # Moto's own pages, which show and delete everything.
    if environ["PATH_INFO"].lstrip("/").startswith("moto-api"):
        raise Refused("anonymous")


def _read_body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _inject(fault: Fault, app: App, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(fault.delay_sec)
    if fault.drop == "before":
        start_response("200 OK", [])  # never sent, but werkzeug requires it
        return _drop_connection(environ)
    error = fault.to_error()
    if error is not None:
        return _send_error(error, fault.op.partition(":")[0], environ, start_response)
    if fault.body is not None and fault.drop != "after":
        list(app(environ, _discard_response))
        start_response("200 OK", [("Content-Length", str(len(fault.body)))])
        return _send_slowly(fault, environ, fault.body)
    body = b"".join(app(environ, start_response))
    return _drop_connection(environ) if fault.drop == "after" else _send_slowly(fault, environ, body)


def _send_error(error: ServiceError, service: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An error in the form of its service: XML, or JSON for those that are neither S3 nor STS."""
    xml = service in ("s3", "sts")
    headers = [("Content-Type", "application/xml" if xml else "application/json"), ("x-amzn-ErrorType", error.code)]
    start_response(f"{error.status} {error.code}", headers)
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    body = f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
    body = f"<ErrorResponse>{body}</ErrorResponse>" if service == "sts" else body
    return [(body if xml else json.dumps({"message": error.message})).encode()]


def _discard_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
    return lambda piece: None


def _send_slowly(fault: Fault, environ: Environ, body: bytes) -> Iterator[bytes]:
    """Send a body in ten pieces over `body_sec`; with drop="mid-body", only the first half."""
    size = max(1, -(-len(body) // 10))
    for number in range(10):
        if fault.drop == "mid-body" and number == 5:
            yield from _drop_connection(environ)
            return
        time.sleep(fault.body_sec / 10)
        yield body[number * size : (number + 1) * size]


def _drop_connection(environ: Environ) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return [b""]


def _parse_s3_call(environ: Environ) -> tuple[str, Mapping[str, str]]:
    path, _, query_string = environ["REQUEST_URI"].partition("?")
    bucket, _, key = unquote(path)[1:].partition("/")
    query = dict(parse_qsl(query_string, keep_blank_values=True))
    target = (environ["REQUEST_METHOD"], "object" if key else "bucket" if bucket else "service")
    subresource = "copy" if "HTTP_X_AMZ_COPY_SOURCE" in environ else ""
    subresource = next((name for name in _SUBRESOURCES if name in query), subresource)
    op = _SUBRESOURCE_OPERATIONS.get((*target, subresource)) or _OPERATIONS.get(target, "Other")
    owner = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
    expected = {"expected-bucket-owner": owner} if owner else {}
    return f"s3:{op}", {**query, "bucket": bucket, "key": key, **expected}


def _parse_sts_call(environ: Environ) -> tuple[str, Mapping[str, str]]:
    body = _read_body(environ)
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

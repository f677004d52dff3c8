"""S3's checksums, which moto stores as sent: here, bytes with another checksum are refused, as S3 does."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from marengo_local.moto_state import moto_s3
from marengo_local.wsgi import App, Environ

__all__ = ["check_checksums"]

_ALGORITHMS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "SHA1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "SHA256": lambda body: hashlib.sha256(body).digest(),
}
_COMPOSITE_ONLY: Final = ("SHA1", "SHA256")


def check_checksums(app: App) -> App:
    """An app that checks the checksums of uploads before moto stores them, and shows them as S3 does."""

    def respond(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        error = _refusal(environ)
        if error is not None:
            start_response("400 Bad Request", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{error[0]}</Code><Message>{error[1]}</Message></Error>".encode()]
        if environ["REQUEST_METHOD"] == "HEAD" and environ.get("HTTP_X_AMZ_CHECKSUM_MODE") == "ENABLED":
            return app(environ, _with_type(environ, start_response))
        return app(environ, start_response)

    return respond


def _refusal(environ: Environ) -> tuple[str, str] | None:
    """The error code and message for a request that S3 refuses because of its checksum."""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if environ["REQUEST_METHOD"] == "POST" and "uploads" in query:
        algorithm = environ.get("HTTP_X_AMZ_CHECKSUM_ALGORITHM")
        if environ.get("HTTP_X_AMZ_CHECKSUM_TYPE") == "FULL_OBJECT" and algorithm in _COMPOSITE_ONLY:
            message = f"The FULL_OBJECT checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
            return "InvalidRequest", message
        return None
    sent = {name: value for name in _ALGORITHMS if (value := environ.get(f"HTTP_X_AMZ_CHECKSUM_{name}"))}
    for algorithm, value in sent.items():
        body = _checked_bytes(environ, query, algorithm)
        if body is not None and base64.b64encode(_ALGORITHMS[algorithm](body)).decode() != value:
            return "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
    return None


def _checked_bytes(environ: Environ, query: dict[str, list[str]], algorithm: str) -> bytes | None:
    """The bytes that a request's checksum is of: its body, or the parts of a completed upload."""
    if environ["REQUEST_METHOD"] == "POST" and "uploadId" in query:
        bucket, _ = _place(environ)
        upload = bucket.multiparts.get(query["uploadId"][0]) if bucket else None
        kind = environ.get("HTTP_X_AMZ_CHECKSUM_TYPE") or (upload and upload.metadata.get("x-amz-checksum-type"))
        if upload is None or kind != "FULL_OBJECT":
            return None
        return b"".join(upload.parts[number].value for number in upload.partlist)
    if environ["REQUEST_METHOD"] != "PUT" or "HTTP_X_AMZ_DECODED_CONTENT_LENGTH" in environ:
        return None
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    # moto stores a checksum only with its algorithm.
    environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", algorithm)
    return body


def _with_type(environ: Environ, start_response: Callable[..., Any]) -> Callable[..., Any]:
    """Add the checksum's type to a response, and to a checksum of checksums the number of its parts."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        bucket, key = _place(environ)
        stored: Any = bucket.keys.get(key) if bucket else None
        kind = getattr(stored, "checksum_type", None)
        if status.startswith("200") and kind:
            # moto has it if the upload named it.
            headers = [(name, value) for name, value in headers if name.lower() != "x-amz-checksum-type"]
            headers.append(("x-amz-checksum-type", kind))
            if kind == "COMPOSITE":
                name = f"x-amz-checksum-{stored.checksum_algorithm.lower()}"
                headers = [(n, f"{v}-{stored.checksum_parts}" if n.lower() == name else v) for n, v in headers]
        return start_response(status, headers, exc_info)

    return start


def _place(environ: Environ) -> tuple[Any, str]:
    """moto's bucket of a request, None if there is none, and the key."""
    name, _, key = unquote(environ["REQUEST_URI"].partition("?")[0])[1:].partition("/")
    return moto_s3().buckets.get(name), key

"""Who sent a request: Signature Version 4, in a header or a presigned URL, and Version 2 in a presigned URL of S3."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

from botocore.auth import HmacV1Auth
from botocore.credentials import Credentials

__all__ = ["Claim", "HttpRequest", "Refused", "read_claim"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_AUTHORIZATION: Final = re.compile(
    _ALGORITHM + r" +Credential=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{64})"
)
_CREDENTIAL: Final = re.compile(r"([^/]+)/([0-9]{8}/[^/]+/([^/]+)/aws4_request)")
_MOST_EXPIRES_SEC: Final = 7 * 24 * 3600
# How far a signature may be off; Bedrock and STS allow less.
_S3_SKEW_SEC: Final = 900
_SKEW_SEC: Final = 300


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A request that AWS would refuse: the reason, a key of `refusals.REFUSALS`, and what to say of it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is signed of a request: the path and the query as they were sent, and its headers by name in lower case."""

    method: str
    path: str
    query: str
    header: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its sender. `scope` is empty in Version 2."""

    access_key_id: str
    service: str
    scope: str
    signed_headers: tuple[str, ...]
    signature: str
    sent: str
    from_sec: float
    until_sec: float
    presigned: bool
    token: str | None

    def check_time(self, skew_sec: float) -> None:
        """Raise Refused if the signature is too old or from the future, by a clock that is `skew_sec` ahead."""
        now_sec = time.time() + skew_sec
        if now_sec > self.until_sec:
            raise Refused("expired" if self.presigned else "skewed", "Signature expired")
        if now_sec < self.from_sec:
            raise Refused("skewed", "Signature not yet current")

    def check_signature(self, request: HttpRequest, secret: str, body: bytes | None = None) -> None:
        """Raise Refused if the request was not signed with `secret`. S3 needs no `body`: a header has its digest."""
        if self.scope:
            payload = _digest(request, self) if body is None else hashlib.sha256(body).hexdigest()
            computed = _signature_4(request, self, payload, secret)
        else:
            computed = _signature_2(request, self, secret)
        if not hmac.compare_digest(computed.encode(), self.signature.encode()):
            raise Refused("signature")


def read_claim(request: HttpRequest) -> Claim:
    """What a request says of its sender; nothing of it is checked yet. Raises Refused if it says nothing readable."""
    authorization = request.header("authorization")
    if authorization is not None:
        return _from_header(request, authorization)
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        return _from_query(query)
    if "Signature" in query:
        return _from_query_2(query)
    raise Refused("anonymous")


def _from_header(request: HttpRequest, authorization: str) -> Claim:
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise Refused("malformed" if authorization.startswith(_ALGORITHM) else "unsupported")
    sent = request.header("x-amz-date") or ""
    return _claim(found[1], found[2], found[3], sent, None, request.header("x-amz-security-token"))


def _from_query(query: dict[str, str]) -> Claim:
    names = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires")
    credential, signed_headers, signature, sent, expires = (query.get(name, "") for name in names)
    readable = query.get("X-Amz-Algorithm") == _ALGORITHM and re.fullmatch(r"[0-9]{1,6}", expires)
    if not readable or int(expires) > _MOST_EXPIRES_SEC:
        raise Refused("malformed")
    return _claim(credential, signed_headers, signature, sent, int(expires), query.get("X-Amz-Security-Token"))


def _claim(
    credential: str, signed_headers: str, signature: str, sent: str, expires_sec: int | None, token: str | None
) -> Claim:
    found, sent_sec = _CREDENTIAL.fullmatch(credential), _seconds(sent)
    headers = tuple(signed_headers.split(";"))
    if found is None or sent_sec is None or not found[2].startswith(sent[:8]) or "host" not in headers:
        raise Refused("malformed")
    allowed_sec = _S3_SKEW_SEC if found[3] == "s3" else _SKEW_SEC
    until_sec = sent_sec + (allowed_sec if expires_sec is None else expires_sec)
    period = sent, sent_sec - allowed_sec, until_sec
    return Claim(found[1], found[3], found[2], headers, signature, *period, expires_sec is not None, token)


def _from_query_2(query: dict[str, str]) -> Claim:
    expires = query.get("Expires", "")
    if not re.fullmatch(r"[0-9]{1,12}", expires):
        raise Refused("malformed")
    headers = tuple(name for name in query if name.startswith("x-amz-"))
    period = expires, 0.0, float(expires)
    token = query.get("x-amz-security-token")
    return Claim(query.get("AWSAccessKeyId", ""), "s3", "", headers, query["Signature"], *period, True, token)


@lru_cache(maxsize=64)
def _seconds(sent: str) -> float | None:
    try:
        return datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _digest(request: HttpRequest, claim: Claim) -> str:
    return request.header("x-amz-content-sha256") or ("UNSIGNED-PAYLOAD" if claim.presigned else "")


def _signature_4(request: HttpRequest, claim: Claim, payload: str, secret: str) -> str:
    headers = "".join(f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in claim.signed_headers)
    path = _path(request.path, claim.service)
    names = ";".join(claim.signed_headers)
    canonical = "\n".join((request.method, path, _query(request.query), headers, names, payload))
    digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    text = f"{_ALGORITHM}\n{claim.sent}\n{claim.scope}\n{digest}"
    return hmac.digest(_key(secret, claim.scope), text.encode(), "sha256").hex()


@lru_cache(maxsize=256)
def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1024)
def _path(path: str, service: str) -> str:
    # S3's is encoded once, that of other services twice.
    return quote(unquote_to_bytes(path) if service == "s3" else path)


def _query(query: str) -> str:
    if not query:
        return ""
    pairs = (pair.partition("=") for pair in query.split("&"))
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs if name != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="")


def _signature_2(request: HttpRequest, claim: Claim, secret: str) -> str:
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    plain = (request.method, query.get("content-md5", ""), query.get("content-type", ""), claim.sent)
    amazons = (f"{name}:{query[name]}" for name in sorted(claim.signed_headers))
    resource = HmacV1Auth(Credentials("", "")).canonical_resource(
        urlsplit(f"http://host{request.path}?{request.query}")
    )
    digest = hmac.digest(secret.encode(), "\n".join((*plain, *amazons, resource)).encode(), "sha1")
    return b64encode(digest).decode()

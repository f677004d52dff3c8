"""Access keys of this process: which there are, and whose they are."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Final, Protocol

from marengo_local.faults import Fault
from marengo_local.signatures import Claim, HttpRequest, Refused, read_claim

__all__ = [
    "Caller",
    "UnrecordedCaller",
    "caller_of",
    "check_api_key",
    "is_loopback",
    "new_secret",
    "register",
    "unregister",
]

_SHORT_TERM: Final = "bedrock-api-key-"
_LOOPBACK: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?", re.IGNORECASE)


class Caller(Protocol):
    """Whoever has an access key."""

    secret_access_key: str
    session_token: str | None
    clock_skew_sec: float
    account_id: str
    archive_tiers: Mapping[str, str]

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults to inject."""

    def record_call(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Record an S3 or STS call; returns the fault to inject. An S3 `query` includes bucket, key and owner."""


@dataclass
class UnrecordedCaller:
    """The service itself, or a role that was assumed: faults don't affect it."""

    secret_access_key: str
    session_token: str | None = None
    clock_skew_sec: float = 0.0
    account_id: str = ""
    archive_tiers: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[Fault] = ()

    def record_call(self, op: str, query: Mapping[str, str]) -> Fault | None:
        """Record nothing."""
        return None


_CALLERS: Final[dict[str, Caller]] = {}


def register(access_key_id: str, caller: Caller) -> None:
    """Accept requests that are signed with this access key."""
    _CALLERS[access_key_id] = caller


def unregister(access_key_id: str) -> None:
    """Refuse this access key."""
    _CALLERS.pop(access_key_id, None)


def new_secret() -> str:
    """A secret access key, as long as AWS's."""
    return b64encode(token_bytes(30)).decode()


def caller_of(claim: Claim) -> Caller:
    """Who has the access key that a request claims; the signature is not checked yet. Raises Refused."""
    caller = _CALLERS.get(claim.access_key_id) or _role(claim.access_key_id)
    if caller is None:
        raise Refused("key")
    if not same(claim.token or "", caller.session_token or ""):
        raise Refused("token")
    return caller


def check_api_key(given: str, expected: str) -> None:
    """Refuse a Bedrock API key other than the long-term one, or a short-term one: a presigned URL in base64."""
    if same(given, expected):
        return
    try:
        url = b64decode(given.removeprefix(_SHORT_TERM), validate=True).decode("ascii")
        host, _, query = url.partition("/?")
        signed = HttpRequest("POST", "/", query.removesuffix("&Version=1"), {"host": host}.get)
        claim = read_claim(signed)
        claim.check_time(0.0)
        claim.check_signature(signed, caller_of(claim).secret_access_key, b"")
    except (Refused, ValueError):
        raise Refused("API key") from None


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine. A page whose own name leads here (DNS rebinding) sends that name."""
    return _LOOPBACK.fullmatch(host) is not None


def _role(access_key_id: str) -> Caller | None:
    """The caller with temporary credentials that moto's AssumeRole has returned."""
    if not access_key_id.startswith("ASIA"):
        return None
    from moto.sts.models import sts_backends

    backends = [backend for _, account in sts_backends.items() for _, backend in account.items()]
    roles = (backend.get_assumed_role_from_access_key(access_key_id) for backend in backends)
    role = next((role for role in roles if role is not None), None)
    if role is None:
        return None
    if role.expiration.replace(tzinfo=UTC) < datetime.now(UTC):
        raise Refused("stale token")
    return UnrecordedCaller(role.secret_access_key, role.session_token)

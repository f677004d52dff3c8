"""AWS's clock, which may run ahead of the caller's: what replies say of it, and which signatures it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from marengo_local.errors import ServiceError

__all__ = ["date", "mistimed"]


def date(skew_sec: float) -> str:
    """A Date header by a clock that is so far ahead."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=skew_sec), usegmt=True)


def mistimed(code: str, skew_sec: float, allowed_sec: int = 300) -> ServiceError | None:
    """The refusal of a call that was signed too far from this clock."""
    if abs(skew_sec) <= allowed_sec:
        return None
    said = "Signature expired" if skew_sec > 0 else "Signature not yet current"
    return ServiceError(code, f"{said}: it is {abs(skew_sec):.0f} s off; {allowed_sec} s are allowed.", 403)

"""Clock skew between AWS and the caller: the Date header of responses, and rejected signatures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from marengo_local.errors import ServiceError

__all__ = ["date_header", "skew_error"]


def date_header(skew_sec: float) -> str:
    """A Date header from a clock that is `skew_sec` ahead."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=skew_sec), usegmt=True)


def skew_error(code: str, skew_sec: float, allowed_sec: int = 300) -> ServiceError | None:
    """The error for a signature more than `allowed_sec` off this clock, or None."""
    if abs(skew_sec) <= allowed_sec:
        return None
    reason = "Signature expired" if skew_sec > 0 else "Signature not yet current"
    return ServiceError(code, f"{reason}: it is {abs(skew_sec):.0f} s off; {allowed_sec} s are allowed.", 403)

"""Clock skew between AWS and the caller: the Date header of responses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

__all__ = ["date_header"]


def date_header(skew_sec: float) -> str:
    """A Date header from a clock that is `skew_sec` ahead."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=skew_sec), usegmt=True)

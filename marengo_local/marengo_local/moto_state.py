"""moto's S3 in this process, for what needs no HTTP."""

from __future__ import annotations

from typing import Any

__all__ = ["moto_s3"]


def moto_s3() -> Any:
    """The backend with all buckets; moto is imported at the first call."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

"""The environment variables that lead an AWS client away from the stand-in, or make it show a real secret."""

from __future__ import annotations

from typing import Final

__all__ = ["OUTSIDE"]

OUTSIDE: Final = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_AUTH_SCHEME_PREFERENCE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
)
"""A profile, tokens that boto3 prefers to keys, and settings that change or ignore endpoints."""

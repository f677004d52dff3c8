"""Bedrock's error codes with their HTTP status, and its error messages."""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_SUBSCRIBED", "STATUS", "THROTTLED", "ServiceError", "malformed"]

THROTTLED: Final = "Too many requests, please wait before trying again."

NOT_SUBSCRIBED: Final = (
    "Model access is denied due to IAM user or service role is not authorized to perform the required AWS Marketplace "
    "actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access to this model."
)

STATUS: Final = {
    "AccessDeniedException": 403,
    "ConflictException": 400,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}


class ServiceError(Exception):
    """An error response of the service: code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = STATUS[code] if status is None else status


def malformed(reason: str = "") -> ServiceError:
    """Bedrock's error for a body that violates the model's schema; `reason` is like `#/text: ...`."""
    where = f": {reason}" if reason else ""
    return ServiceError(
        "ValidationException",
        f"Malformed input request{where}, please reformat your input and try again.",
    )

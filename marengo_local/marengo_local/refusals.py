"""What AWS answers to requests that it can't attribute to a caller."""

from __future__ import annotations

from typing import Final, NamedTuple

from marengo_local.errors import ServiceError
from marengo_local.signatures import Refused

__all__ = ["refusal"]


class _Answer(NamedTuple):
    code: str
    message: str
    status: int = 403


_INVALID: Final = "The security token included in the request is invalid."
_EXPIRED: Final = "The security token included in the request is expired"
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
_UNREADABLE: Final = "The Authorization header or the query is not a complete AWS signature."
_UNSUPPORTED: Final = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
# The reason -> what Bedrock, S3 and STS answer.
_ANSWERS: Final = {
    "anonymous": (
        _Answer("MissingAuthenticationTokenException", "Missing Authentication Token"),
        _Answer("AccessDenied", "Access Denied"),
        _Answer("MissingAuthenticationToken", "Request is missing Authentication Token"),
    ),
    "key": (
        _Answer("UnrecognizedClientException", _INVALID),
        _Answer("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
        _Answer("InvalidClientTokenId", _INVALID),
    ),
    "token": (
        _Answer("UnrecognizedClientException", _INVALID),
        _Answer("InvalidToken", "The provided token is malformed or otherwise invalid.", 400),
        _Answer("InvalidClientTokenId", _INVALID),
    ),
    "stale token": (
        _Answer("ExpiredTokenException", _EXPIRED),
        _Answer("ExpiredToken", "The provided token has expired.", 400),
        _Answer("ExpiredToken", _EXPIRED),
    ),
    "API key": (_Answer("AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."),),
    "signature": (
        _Answer("InvalidSignatureException", _MISMATCH),
        _Answer(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
        ),
        _Answer("SignatureDoesNotMatch", _MISMATCH),
    ),
    "skewed": (
        _Answer("InvalidSignatureException", "{}"),
        _Answer("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        _Answer("SignatureDoesNotMatch", "{}"),
    ),
    "expired": (
        _Answer("InvalidSignatureException", "Signature expired"),
        _Answer("AccessDenied", "Request has expired"),
        _Answer("SignatureDoesNotMatch", "Signature expired"),
    ),
    "unsigned header": (
        _Answer("InvalidSignatureException", _MISMATCH),
        _Answer("AccessDenied", "There were headers present in the request which were not signed"),
        _Answer("SignatureDoesNotMatch", _MISMATCH),
    ),
    "malformed": (
        _Answer("IncompleteSignatureException", _UNREADABLE),
        _Answer("AuthorizationHeaderMalformed", _UNREADABLE, 400),
        _Answer("IncompleteSignature", _UNREADABLE, 400),
    ),
    "unsupported": (
        _Answer("IncompleteSignatureException", _UNREADABLE),
        _Answer("InvalidRequest", _UNSUPPORTED, 400),
        _Answer("IncompleteSignature", _UNREADABLE, 400),
    ),
    "host": tuple(
        _Answer(code, "The Host header {!r} is not a loopback address. Use the stand-in's endpoint URL.")
        for code in ("AccessDeniedException", "AccessDenied", "AccessDenied")
    ),
}
_PLACES: Final = {"s3": 1, "sts": 2}


def refusal(refused: Refused, service: str) -> ServiceError:
    """The error that a service responds with."""
    code, message, status = _ANSWERS[refused.reason][_PLACES.get(service, 0)]
    return ServiceError(code, message.format(refused.detail), status)

"""Every error a user meets, and what to do about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

__all__ = [
    "BudgetError",
    "ClosedError",
    "ConfigurationError",
    "InputError",
    "JobError",
    "MarengoError",
    "MarengoWarning",
    "MediaFailedError",
    "MediaNotFoundError",
    "NotEmbeddedError",
    "OutputError",
    "SegmentNotFoundError",
    "ServiceError",
    "warn_once",
]


class MarengoError(Exception):
    """The base of all errors of this package."""


class InputError(MarengoError, ValueError):
    """An input that Marengo would refuse or that we can't place. Raised before any call that costs."""


class ConfigurationError(MarengoError, ValueError):
    """A setting is missing or does not fit: region, model ID, bucket, owner, output prefix."""


class BudgetError(MarengoError):
    """A start was refused for its cost; nothing was paid for it, and the next run goes on from there.

    Attributes:
        spent_usd: what the run had cost.
        exhausted: True where nothing more is started; False where only this medium's cost is not known.
    """

    def __init__(self, message: str, *, spent_usd: float, exhausted: bool) -> None:
        super().__init__(message)
        self.spent_usd = spent_usd
        self.exhausted = exhausted

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (BudgetError, self.args, self.__dict__)


class ClosedError(MarengoError):
    """The client was closed while the call waited. Nothing is lost: what was paid is found by the next run."""


class MediaNotFoundError(MarengoError, LookupError):
    """A listing proved that the medium is not there."""


class NotEmbeddedError(MarengoError, LookupError):
    """The medium was not embedded with these options before, and only what is done was asked for."""


class MediaFailedError(MarengoError):
    """Several of many media failed; the others are done.

    Attributes:
        failed: the ``MediaResult`` of each, with ``.source`` and ``.error``.
    """

    def __init__(self, failed: Sequence[Any]) -> None:
        shown = "; ".join(f"{done.uri or done.source}: {done.error}" for done in failed[:3])
        super().__init__(f"{len(failed)} media failed: {shown}{' ...' if len(failed) > 3 else ''}")
        self.failed = list(failed)

    def __reduce__(self) -> tuple[Any, ...]:
        return MediaFailedError, (self.failed,)


class SegmentNotFoundError(MarengoError, LookupError):
    """A segment's URI names no vector under our own output prefix."""


class OutputError(MarengoError):
    """A reply or an output.json that can't be used: cut off, not JSON, of a wrong dimension."""


class JobError(MarengoError):
    """An asynchronous invocation ended as Failed, Bedrock no longer knows it, or the wait for it ended.

    Attributes:
        source: URI of the medium.
        arn: ARN of the invocation, if one was ever started.
        transient: whether the failure reads as one that a new attempt may cure.
        running: whether the job goes on, and only the wait for it ended.
    """

    def __init__(
        self, message: str, *, source: str, arn: str | None, transient: bool = False, running: bool = False
    ) -> None:
        super().__init__(message)
        self.source = source
        self.arn = arn
        self.transient = transient
        self.running = running

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (JobError, self.args, self.__dict__)


class ServiceError(MarengoError):
    """AWS refused a call, or could not be reached.

    Attributes:
        code: AWS's error code, or the name of botocore's exception.
        operation: the operation that was called.
    """

    def __init__(self, message: str, *, code: str, operation: str) -> None:
        super().__init__(message)
        self.code = code
        self.operation = operation

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (ServiceError, self.args, self.__dict__)

    @classmethod
    def of(cls, error: Exception, operation: str, what: str) -> ServiceError:
        """Turn a botocore exception into words: what was asked, what AWS said, what to do."""
        code, said = error_code(error), error_message(error)
        advice = next((text for codes, part, text in _ADVICE if code in codes and part in said), "")
        return cls(f"{operation} for {what}: {code}: {said}{advice}", code=code, operation=operation)


class MarengoWarning(UserWarning):
    """Something worth knowing that stops nothing: a model near its end, a text that may be cut."""


def error_code(error: Exception) -> str:
    """AWS's error code; for errors without a reply (connection, credentials) the exception's name."""
    # botocore's connection errors carry response = None.
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def error_message(error: Exception) -> str:
    """AWS's message, or the exception's own text."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Message") or error)


def http_status(error: Exception) -> int | None:
    """The HTTP status of AWS's reply; None if there was none."""
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def _rebuild(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


_DENIED = ("AccessDeniedException", "AccessDenied", "403", "Forbidden")
_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")
_EXPIRED = ("ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId")

# (codes, a part of the message, what to do). The first that fits wins. Sources: AWS's pages on Marengo, Bedrock
# and IAM, and messages seen in real runs.
_ADVICE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("ValidationException",),
        "on-demand throughput",
        " | This region takes an inference profile for InvokeModel: leave the ID to us with model='3.0', or give "
        "invoke_model_id=.",
    ),
    (
        ("ValidationException",),
        "Invalid S3 credentials",
        " | A Bedrock API key (AWS_BEARER_TOKEN_BEDROCK) can't reach S3: use an access key, a role or a profile.",
    ),
    (
        ("ValidationException",),
        "bucketOwner",
        " | Give the account that owns the bucket: bucket_owner='123456789012', or a mapping of bucket to account.",
    ),
    (
        _DENIED,
        "Marketplace",
        " | The first use of the model must be one InvokeModel call by a principal with "
        "aws-marketplace:Subscribe; embed one text with such a role.",
    ),
    (
        _DENIED,
        "",
        " | Check IAM: bedrock:InvokeModel on the foundation model, on the inference profile and on "
        "async-invoke/*; s3:GetObject, s3:PutObject and s3:ListBucket on the buckets; kms:Decrypt on their keys.",
    ),
    (_CREDENTIALS, "", " | Set up AWS credentials: profile_name=, AWS_PROFILE, access keys or a role."),
    (
        _EXPIRED,
        "",
        " | The credentials have expired or are unknown: refresh them and run again; finished work is kept.",
    ),
    (
        ("ThrottlingException", "ServiceQuotaExceededException"),
        "",
        " | The account's quota is used up even after backing off: lower max_concurrency or ask AWS for more.",
    ),
    (
        ("EndpointConnectionError", "ConnectTimeoutError"),
        "",
        " | Nothing answers there: check region_name, endpoint_url and the network.",
    ),
)


def warn_once(key: str, message: str, *, stacklevel: int = 5) -> None:
    """Warn, the first time in this process that ``key`` comes up, at the line that called the client."""
    if key not in _warned:
        _warned.add(key)
        warnings.warn(message, MarengoWarning, stacklevel=stacklevel)


_warned: set[str] = set()

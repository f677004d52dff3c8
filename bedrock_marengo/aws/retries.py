"""Retries: which errors are transient, how many calls run at once, and when all of them slow down."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as AwsConnectionError

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import CancelToken, current_token
from bedrock_marengo.errors import ServiceError, error_code, http_status

__all__ = ["CODES", "RetryLimiter", "advice_for", "is_transient"]

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a group of AWS's error codes means for the caller.

    Attributes:
        name: of the group.
        retried: whether the same call may succeed a moment later.
        throttled: whether all calls must slow down.
        advice: what to do; ``{name}`` stands for a setting of ``remedy``.
        remedy: the settings that the advice names.
    """

    name: str
    retried: bool = False
    throttled: bool = False
    advice: str = ""
    remedy: Mapping[str, Any] = field(default_factory=dict)


DENIED = Meaning(
    name="access denied",
    advice="Check IAM: bedrock:InvokeModel on the foundation model, on the inference profile and on async-invoke/*; "
    "s3:GetObject, s3:PutObject and s3:ListBucket on the buckets; kms:Decrypt on their keys.",
)
NO_CREDENTIALS = Meaning(
    name="no credentials",
    advice="Set up AWS credentials: {profile_name}, AWS_PROFILE, access keys or a role.",
    remedy={"profile_name": ...},
)
BAD_CREDENTIALS = Meaning(
    name="bad credentials",
    advice="The credentials have expired or are unknown to AWS: refresh them and run again; finished work is kept.",
)
SIGNED_OUT = Meaning(name="signed out", advice="Sign in again: aws sso login --profile NAME")
LOGGED_OUT = Meaning(name="logged out", advice="Sign in again: aws login --profile NAME")
BAD_PROFILE = Meaning(
    name="bad profile",
    advice="Correct profile NAME in the AWS config file: aws configure list --profile NAME",
)
CLOCK = Meaning(name="clock skew", advice="This machine's clock is wrong: synchronize it with NTP and run again.")
QUOTA = Meaning(
    name="throttled",
    retried=True,
    throttled=True,
    advice="The account's quota was still exceeded after retries: lower max_concurrency, or request a higher quota "
    "from AWS.",
)
BUSY = Meaning(name="unavailable", retried=True, advice="AWS was still unavailable after retries: run again later.")
UNREACHABLE = Meaning(
    name="unreachable",
    retried=True,
    advice="AWS did not respond: check {region_name}, {endpoint_url} and the network.",
    remedy={"region_name": ..., "endpoint_url": ...},
)
PROXY = Meaning(
    name="proxy",
    retried=True,
    advice="The proxy did not respond: check HTTPS_PROXY and HTTP_PROXY, or add the host to NO_PROXY.",
)
NO_BUCKET = Meaning(name="no bucket", advice="Create the bucket, or correct its name.")
ARCHIVED = Meaning(
    name="archived", advice="The object is archived, and Bedrock can't read archived objects: restore it first."
)
INVALID = Meaning(name="invalid request")

CODES: Mapping[str, Meaning] = {
    "403": DENIED,
    "AccessDenied": DENIED,
    "AccessDeniedException": DENIED,
    "AllAccessDisabled": DENIED,
    "Forbidden": DENIED,
    "CredentialRetrievalError": NO_CREDENTIALS,
    "NoCredentialsError": NO_CREDENTIALS,
    "PartialCredentialsError": NO_CREDENTIALS,
    "RefreshWithMFAUnsupportedError": NO_CREDENTIALS,
    "SSOError": SIGNED_OUT,
    "SSOTokenLoadError": SIGNED_OUT,
    "TokenRetrievalError": SIGNED_OUT,
    "UnauthorizedSSOTokenError": SIGNED_OUT,
    "LoginAuthorizationCodeError": LOGGED_OUT,
    "LoginError": LOGGED_OUT,
    "LoginInsufficientPermissions": LOGGED_OUT,
    "LoginRefreshRequired": LOGGED_OUT,
    "LoginTokenLoadError": LOGGED_OUT,
    "ConfigNotFound": BAD_PROFILE,
    "ConfigParseError": BAD_PROFILE,
    "InfiniteLoopConfigError": BAD_PROFILE,
    "InvalidConfigError": BAD_PROFILE,
    "ProfileNotFound": BAD_PROFILE,
    "ExpiredToken": BAD_CREDENTIALS,
    "ExpiredTokenException": BAD_CREDENTIALS,
    "InvalidAccessKeyId": BAD_CREDENTIALS,
    "InvalidClientTokenId": BAD_CREDENTIALS,
    "InvalidSignatureException": BAD_CREDENTIALS,
    "InvalidToken": BAD_CREDENTIALS,
    "SignatureDoesNotMatch": BAD_CREDENTIALS,
    "UnrecognizedClientException": BAD_CREDENTIALS,
    "RequestExpired": CLOCK,
    "RequestTimeTooSkewed": CLOCK,
    "LimitExceededException": QUOTA,
    "ServiceQuotaExceededException": QUOTA,
    "SlowDown": QUOTA,
    "Throttling": QUOTA,
    "ThrottlingException": QUOTA,
    "TooManyRequestsException": QUOTA,
    "InternalError": BUSY,
    "InternalFailure": BUSY,
    "InternalServerException": BUSY,
    "ModelErrorException": BUSY,
    "ModelNotReadyException": BUSY,
    "ModelTimeoutException": BUSY,
    "ServiceUnavailable": BUSY,
    "ServiceUnavailableException": BUSY,
    "ConnectTimeoutError": UNREACHABLE,
    "ConnectionClosedError": UNREACHABLE,
    "EndpointConnectionError": UNREACHABLE,
    "ReadTimeoutError": UNREACHABLE,
    "SSLError": UNREACHABLE,
    "ProxyConnectionError": PROXY,
    "NoSuchBucket": NO_BUCKET,
    "InvalidObjectState": ARCHIVED,
    "ResourceNotFoundException": INVALID,
    "ValidationException": INVALID,
}
"""What each error code of AWS, or name of botocore's exceptions, means. A new code is a line here.

Sources: AWS's pages on Marengo, Bedrock, S3 and IAM, and messages seen in real runs.
"""

_ANOTHER_VERSION = (
    "With Marengo 2.7, set {model} and move your stores: migrate makes no call to 2.7. With 3.0, use a region where it "
    "is active, such as {region_name}."
)
_ANOTHER: Mapping[str, Any] = {"model": "3.0", "region_name": "us-east-1"}

# (meaning, None for any; a part of AWS's message, what to do, its settings): more precise than the code alone. The
# first that matches wins.
_BY_MESSAGE: tuple[tuple[Meaning | None, str, str, Mapping[str, Any]], ...] = (
    (
        INVALID,
        "Unprocessable video",
        "Pegasus can't work with this video: it is shorter than 4 s, of a codec that it does not know, or the request "
        "has a JSON Schema with more than it accepts. Convert the video to H.264, or simplify the schema.",
        {},
    ),
    (
        INVALID,
        "twelvelabs.pegasus",
        "In this region, Pegasus needs an inference profile: pass a model such as "
        "'global.twelvelabs.pegasus-1-5-v1:0'.",
        {},
    ),
    (None, "end of its life", f"AWS has ended this version in this region. {_ANOTHER_VERSION}", _ANOTHER),
    (
        None,
        "marked by provider as Legacy",
        "AWS has closed this version in this region to accounts that are new to it or have not used it lately. "
        f"{_ANOTHER_VERSION}",
        _ANOTHER,
    ),
    (
        INVALID,
        "support async inference",
        "StartAsyncInvoke accepts only the model's base ID, not an inference profile. This package sends the base ID "
        "of {model}; {invoke_model_id} is for InvokeModel alone. If a gateway replaces the ID, correct it there.",
        {"model": ..., "invoke_model_id": ...},
    ),
    (
        INVALID,
        "extraneous key",
        "The model does not accept a field that was sent: update the package, or correct {extra} of a call to Pegasus.",
        {"extra": ...},
    ),
    (
        INVALID,
        "on-demand throughput",
        "In this region, InvokeModel needs an inference profile: set {model} to use the default profile, or set "
        "{invoke_model_id}.",
        {"model": "3.0", "invoke_model_id": ...},
    ),
    (
        INVALID,
        "Invalid S3 credentials",
        "A Bedrock API key (AWS_BEARER_TOKEN_BEDROCK) can't access S3: use an access key, a role or a profile.",
        {},
    ),
    (
        INVALID,
        "bucketOwner",
        "Set the account that owns the bucket: {bucket_owner}, or a mapping of bucket to account.",
        {"bucket_owner": "123456789012"},
    ),
    (
        DENIED,
        "transcribe:",
        "Check IAM: transcribe:StartTranscriptionJob, GetTranscriptionJob and ListTranscriptionJobs.",
        {},
    ),
    (
        DENIED,
        "Marketplace",
        "The first call to the model must be an InvokeModel call by a principal with aws-marketplace:Subscribe: "
        "embed one text with such a role.",
        {},
    ),
)

UNKNOWN_JOB = frozenset(code for code, meaning in CODES.items() if meaning is INVALID)
"""What GetAsyncInvoke may say of a job it has forgotten. Its one parameter is the ARN, so nothing else is invalid."""
TRANSIENT_FAILURE = re.compile(r"internal|timed?\s?-?\s?out|throttl|try again|unavailable|unexpected", re.IGNORECASE)
"""What the failure message of a job contains if a new attempt may succeed."""
THROTTLED = frozenset(code for code, meaning in CODES.items() if meaning.throttled)
TRANSIENT = frozenset(code for code, meaning in CODES.items() if meaning.retried)
_TRANSIENT_STATUS = frozenset({408, 424, 429, 500, 502, 503, 504})
_TRANSIENT_ERRORS = (AwsConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)


class RetryLimiter:
    """Lets ``limit`` calls through at once, retries transient failures, and slows all calls when one is throttled.

    botocore's own retries are off for these calls: they know neither 408 nor 424, and each thread backs off alone.

    Args:
        limit: calls at once.
        attempts: how often a call is made that fails.
        throttled_attempts: how often one that is throttled.
        parent: closes this one, too.

    Attributes:
        cancel_token: cancels calls that have no token of their own.
    """

    def __init__(
        self, limit: int, *, attempts: int = 8, throttled_attempts: int = 20, parent: RetryLimiter | None = None
    ) -> None:
        self._parent = parent
        self._attempts = attempts
        self._throttled_attempts = throttled_attempts
        self._open_at = 0.0
        self._pause_sec = 0.0
        self._slots = _Slots(limit)
        self._lock = threading.Lock()
        self.cancel_token = CancelToken()

    def close(self) -> None:
        """Cancel the calls that are waiting; later ones are not affected."""
        token, self.cancel_token = self.cancel_token, CancelToken()
        token.cancel()

    def token(self) -> CancelToken:
        """The token of the call that this thread is in."""
        return current_token() or (self._parent.token() if self._parent else self.cancel_token)

    def call(
        self,
        call: Callable[[], T],
        operation: str,
        what: str,
        *,
        also_transient: frozenset[str] = frozenset(),
        only: frozenset[str] | None = None,
    ) -> T:
        """Run a call to AWS until it succeeds or fails for good.

        Args:
            call: makes the call.
            operation: what it is, for errors.
            what: which input it is for, for errors.
            also_transient: codes that are transient in this call only.
            only: the codes that are tried again, for a call that may be billed even if it fails; None: all transient.

        Raises:
            ServiceError: AWS refused, or a transient error remained after all attempts.
            ClosedError: It was cancelled while it waited.
        """
        token = self.token()
        # Before the slots: in a forked child they may all be held by threads of the parent.
        token.check(f"{operation} for {what}")
        failed = throttled = 0
        while True:
            try:
                # The pause may begin while a call queues for its slot.
                with self._slots:
                    self._wait(token)
                    token.check(f"{operation} for {what}")
                    result = call()
            except (ClientError, BotoCoreError) as error:
                code = error_code(error)
                is_retried = code in only if only is not None else is_transient(error) or code in also_transient
                if not is_retried:
                    raise ServiceError.of(error, operation, what) from error
                slow = code in THROTTLED
                throttled, failed = throttled + slow, failed + (not slow)
                if failed >= self._attempts or throttled >= self._throttled_attempts:
                    raise ServiceError.of(error, operation, what) from error
                if slow:
                    instrumentation.emit("call throttled", operation=operation, source=what, code=code)
                    self._slow_down()
                else:
                    back_off(token, operation, what, error, failed)
                continue
            if self._pause_sec:
                self._speed_up()
            return result

    def _wait(self, token: CancelToken) -> None:
        while (left := self._open_at - time.monotonic()) > 0:
            # Jitter, so that the pool does not come back as one.
            if token.wait(left * random.uniform(1.0, 1.2)):
                return

    def _slow_down(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._open_at:
                # Calls that were running when the pause began are throttled too: count them once.
                return
            pause_sec = self._pause_sec = min(10.0, max(0.2, self._pause_sec * 2))
            self._open_at = now + pause_sec * random.uniform(0.8, 1.2)
        instrumentation.emit("calls paused", seconds=pause_sec)

    def _speed_up(self) -> None:
        with self._lock:
            self._pause_sec = self._pause_sec * 0.9 if self._pause_sec > 0.05 else 0.0


class _Slots:
    """A semaphore that is first in, first out.

    Python's own lets a thread that returns at once overtake those that wait: while texts were embedded at full speed,
    a call about a job waited for minutes.
    """

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _give_up(self, turn: threading.Lock) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        # Its turn had come.
        self.__exit__()


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, ClientError):
        return error_code(error) in TRANSIENT or http_status(error) in _TRANSIENT_STATUS
    return isinstance(error, _TRANSIENT_ERRORS)


def advice_for(code: str, said: str) -> tuple[str, Mapping[str, Any]]:
    """What to do about an error code and AWS's message, with the settings that it names; "" if nothing is known."""
    meaning = CODES.get(code)
    if meaning is None:
        return "", {}
    for of, part, advice, remedy in _BY_MESSAGE:
        if of in (None, meaning) and part in said:
            return advice, remedy
    return meaning.advice, meaning.remedy


# errors.py can't import this package, so the table is set from here.
ServiceError.advice_for = staticmethod(advice_for)


def backoff_sec(attempt: int) -> float:
    """Seconds to wait after the n-th failure: doubling from 0.1 to 5, with jitter."""
    return float(min(5.0, 0.1 * 2 ** (attempt - 1)) * random.uniform(0.7, 1.3))


def back_off(token: CancelToken, operation: str, what: str, error: Exception, failed: int) -> None:
    """Wait before the next attempt of a call that has failed ``failed`` times."""
    seconds, code = backoff_sec(failed), error_code(error)
    facts = {"operation": operation, "source": what, "code": code, "attempt": failed + 1, "seconds": seconds}
    instrumentation.emit("call retried", **facts)
    token.wait(seconds)

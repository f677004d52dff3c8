"""Calls to Pegasus: one request, one reply or a stream. A call that may be billed is never repeated here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ResponseStreamingError

from bedrock_marengo.aws.retries import CODES, RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.payloads import Body, Location
from bedrock_marengo.errors import ConfigurationError, MarengoError, OutputError, ServiceError, error_code
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.words.pegasus_contract import PegasusModel, Reply, read_reply, stop_reason

__all__ = ["AT_ONCE", "PegasusCalls", "may_be_billed"]

AT_ONCE = 5
"""Calls in flight for one client, as in public code. The quota is of requests per minute; its number is not known."""
_NEVER_SENT = frozenset({"ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError"})
RETRIED = (
    frozenset(code for code, meaning in CODES.items() if meaning.throttled) | _NEVER_SENT | {"ModelNotReadyException"}
)
"""What surely ran nothing, and may succeed a moment later."""
_FREE = RETRIED | {code for code, meaning in CODES.items() if not meaning.retried}
_LOST = (
    "The answer was lost, and the call may be billed, so it was not repeated. Run it again, which is a new call; "
    "what was kept before is not asked again."
)


def may_be_billed(error: BaseException) -> bool:
    """Whether a call that failed so may be billed: it was sent, and the service did not refuse it."""
    if isinstance(error, ServiceError):
        return error.code not in _FREE
    # Not sent: another client closed, another input. Sent: Ctrl-C, a stream that was left, a chunk that can't be read.
    return not isinstance(error, MarengoError) or isinstance(error, OutputError)


class PegasusCalls:
    """InvokeModel and its stream for Pegasus.

    Args:
        aws: makes the client: it waits long and never retries.
        objects: S3; checks that a file is in the model's region.
        limiter: bounds the calls in flight, and retries refusals.
    """

    def __init__(self, aws: Aws, objects: S3Objects, limiter: RetryLimiter) -> None:
        self._aws = aws
        self._objects = objects
        self._limiter = limiter

    def location(self, uri: str) -> Location:
        """Where Pegasus finds a file on S3: with the bucket's owner, which it needs in practice.

        Raises:
            ConfigurationError: The bucket is in another region.
            MediaNotFoundError: There is no such bucket.
        """
        bucket, _ = split_s3_uri(uri)
        if self._objects.is_elsewhere(bucket):
            raise ConfigurationError(
                f"{uri} is not in {self._aws.region}, and Pegasus reads only files of the region that it is called in. "
                "Ask about a part of it ({start_sec}, {end_sec}), which is cut here; describe it with {per}; or use "
                "{region_name}.",
                remedy={"start_sec": ..., "end_sec": ..., "per": "segment", "region_name": ...},
            )
        return payloads.s3_location(uri, self._aws.owner(bucket))

    def invoke(self, model: PegasusModel, invoke_id: str | None, body: Body, what: str) -> Reply:
        """One call. A reply that can't be read is billed all the same, so it is returned.

        Raises:
            ServiceError: AWS refused, or the answer was lost; ``may_be_billed`` says which.
        """
        request = self._request(model, invoke_id, body)

        def send() -> Reply:
            with _named_lost():
                reply = self._aws.slow_bedrock.invoke_model(**request)
                return read_reply(reply["body"].read(), reply["ResponseMetadata"]["HTTPHeaders"])

        return self._limiter.call(send, "InvokeModel", what, only=RETRIED)

    def stream(self, model: PegasusModel, invoke_id: str | None, body: Body, what: str) -> Iterator[str | Reply]:
        """Pieces of the text as they come, and at the end the reply, with its whole text.

        Raises:
            ServiceError: AWS refused, or the stream broke off.
        """
        request = self._request(model, invoke_id, body)
        operation = "InvokeModelWithResponseStream"

        def send() -> Any:
            with _named_lost():
                return self._aws.slow_bedrock.invoke_model_with_response_stream(**request)["body"]

        events = self._limiter.call(send, operation, what, only=RETRIED)
        try:
            with _named_lost():
                yield from _pieces(events, what)
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, operation, what) from error
        finally:
            events.close()

    def _request(self, model: PegasusModel, invoke_id: str | None, body: Body) -> dict[str, Any]:
        return {
            "modelId": invoke_id or model.invoke_id(self._aws.region),
            "body": payloads.encode(body),
            "contentType": "application/json",
            "accept": "application/json",
        }


def _pieces(events: Any, what: str) -> Iterator[str | Reply]:
    text, reason, tokens = [], "", None
    for event in _events(events):
        try:
            chunk = json.loads(event["chunk"]["bytes"])
            piece = chunk.get("message") or ""
        except (AttributeError, KeyError, TypeError, ValueError):
            raise OutputError(
                f"Pegasus' answer about {what} broke off in a chunk that can't be read. The call is billed."
            ) from None
        reason = stop_reason(chunk) or reason
        metrics = chunk.get("amazon-bedrock-invocationMetrics")
        if isinstance(metrics, Mapping):
            tokens = metrics.get("outputTokenCount", tokens)
        if piece:
            text.append(piece)
            yield piece
    if not reason:
        raise ResponseStreamingError(error="the stream ended before the answer did")
    yield Reply(text="".join(text), stop_reason=reason, output_tokens=tokens)


def _events(events: Any) -> Iterator[Any]:
    from urllib3.exceptions import HTTPError  # boto3 imports it anyway, but an import of this package must not

    try:
        yield from events
    except HTTPError as error:
        # botocore leaves it as it is.
        raise ResponseStreamingError(error=error) from error


@contextmanager
def _named_lost() -> Iterator[None]:
    """Say of an error whose call may be billed that it may be."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if error_code(error) not in _FREE and not hasattr(error, "advice"):
            error.advice = (_LOST, {})  # type: ignore[union-attr]
        raise

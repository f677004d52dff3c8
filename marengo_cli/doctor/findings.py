"""What a step found, and how AWS's refusals read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.errors import ServiceError, error_code, error_message

__all__ = ["Answer", "Finding", "State", "ask", "refused", "worst"]


class State(StrEnum):
    """How a step ended, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found.

    Attributes:
        state: how it ended.
        found: what was seen.
        fix: what to do; "" where the step's own advice says it, or nothing is to do.
        step: the step's name, set by the runner.
        denied: whether IAM refused, so that the least policy helps.
        error: what AWS or botocore raised, for a traceback.
    """

    state: State
    found: str
    fix: str = ""
    step: str = ""
    denied: bool = False
    error: Exception | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply or the error that came in its place, and when."""

    reply: Any
    error: Exception | None
    at: datetime

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of either; none where nobody answered."""
        told = self.reply if self.error is None else getattr(self.error, "response", None)
        headers: dict[str, str] = (told or {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return headers


def ask(call: Callable[[], Any]) -> Answer:
    """What AWS answers, a refusal included."""
    try:
        return Answer(call(), None, datetime.now(UTC))
    except (ClientError, BotoCoreError) as error:
        return Answer(None, error, datetime.now(UTC))


def refused(error: Exception, what: str, action: str, resource: str) -> Finding:
    """What an error means for who asked.

    Args:
        error: botocore's.
        what: what was asked of whom.
        action: the IAM action it takes.
        resource: the ARN it takes it on.
    """
    code, said = error_code(error), error_message(error)
    named = _NAMED.search(said)
    action, resource = (named[1], named[2].rstrip(".,")) if named else (action, resource)
    found = f"{what}: {code}: {said}"
    fix = next((fix for codes, part, fix in _FAILURES if code in (codes or {code}) and part in said), None)
    if fix is None:
        return Finding(State.UNKNOWN, found, next((fix for codes, fix in _PASSING if code in codes), ""), error=error)
    denied = code in _DENIED and fix != SUBSCRIBE
    fix = fix.format(action=action, resource=resource) or _advice(error)
    return Finding(State.FAILED, found, fix, denied=denied, error=error)


def worst(findings: Iterable[Finding], fine: str) -> Finding:
    """One finding of many: all that is in the worst state, or that all is fine."""
    found = list(findings)
    state = max((finding.state for finding in found), key=list(State).index, default=State.OK)
    if state is State.OK:
        return Finding(State.OK, fine)
    those = [finding for finding in found if finding.state is state]
    return Finding(
        state,
        "; ".join(finding.found for finding in those),
        " ".join(dict.fromkeys(finding.fix for finding in those if finding.fix)),
        denied=any(finding.denied for finding in those),
        error=next((finding.error for finding in those if finding.error), None),
    )


def _advice(error: Exception) -> str:
    """What the core tells people to do who meet this error in their own code."""
    bare = f" for : {error_code(error)}: {error_message(error)}"
    return str(ServiceError.of(error, "", "")).removeprefix(bare).removeprefix(" | ")


SUBSCRIBE = (
    "Somebody who may aws-marketplace:Subscribe and aws-marketplace:ViewSubscriptions must use the model once: "
    "marengo doctor --invoke. Then wait two minutes and run this again."
)
CLOCK = "Let the system set its clock by NTP, and run this again."
_OLD = "AWS gives this model to nobody new there: use --model 3.0, or another region."

_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SKEWED = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_BUSY = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerException",
        "ModelNotReadyException",
        "ServiceQuotaExceededException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_SILENT = frozenset(
    {"ConnectTimeoutError", "ConnectionClosedError", "EndpointConnectionError", "ReadTimeoutError", "SSLError"}
)
_NAMED = re.compile(r"not authorized to perform: (\S+) on resource: \"?([^\s\"]+)")

# (codes, None for any; a part of the message; what to do, "" for what the core says). The first that fits wins. The
# parts are from AWS's troubleshooting pages and from messages seen in public code.
_FAILURES: tuple[tuple[frozenset[str] | None, str, str], ...] = (
    (_DENIED, "aws-marketplace", SUBSCRIBE),
    (None, "marked by provider as Legacy", _OLD),
    (None, "end of its life", _OLD),
    (
        _DENIED,
        "service control policy",
        "A service control policy of the organisation forbids it: ask who runs it to allow {action} on {resource}.",
    ),
    (
        _DENIED,
        "explicit deny",
        "A policy forbids {action} on {resource} outright, which no allowance overrides: take that statement away.",
    ),
    (_DENIED, "access to the model", f"Allow {{action}} on {{resource}}. If it is allowed: {SUBSCRIBE}"),
    (_DENIED, "kms:", "Allow {action} on {resource}, in IAM and in the key's own policy."),
    (_DENIED, "", "Allow {action} on {resource}."),
    (_EXPIRED, "Signature expired", CLOCK),
    (_EXPIRED, "not yet current", CLOCK),
    (_EXPIRED, "", "The credentials have expired, or AWS does not know them: sign in again or renew them."),
    (_SKEWED, "", CLOCK),
    (None, "model identifier is invalid", "No such model there: check --model and --region."),
    (None, "on-demand throughput", ""),
    (None, "Invalid S3 credentials", ""),
    (None, "bucketOwner", ""),
    (frozenset({"NoSuchBucket"}), "", "Make the bucket, or correct its name."),
    (frozenset({"InvalidObjectState"}), "", "It lies in an archive: restore it; Bedrock can't read it there."),
)
# What says nothing about the setting.
_PASSING: tuple[tuple[frozenset[str], str], ...] = (
    (_BUSY, "AWS is busy or out of order: run this again in a minute."),
    (
        _SILENT,
        "Nothing answers there: check --region, endpoints and the network (a private subnet needs VPC endpoints).",
    ),
)

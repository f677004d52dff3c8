"""What a step found, and what AWS's refusals mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.retries import (
    ARCHIVED,
    BAD_CREDENTIALS,
    BUSY,
    CLOCK,
    CODES,
    DENIED,
    NO_BUCKET,
    QUOTA,
    UNREACHABLE,
    Meaning,
    advice_for,
)
from bedrock_marengo.errors import MarengoError, error_code, error_message
from marengo_cli.spelling import rendered

__all__ = ["SET_CLOCK", "SUBSCRIBE", "Answer", "Finding", "State", "ask", "refused", "worst"]


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
        fix: what to do; "" if the step's own advice applies, or there is nothing to do.
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
    """A response, or the error that came instead, and when."""

    reply: Any
    error: Exception | None
    at: datetime

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of either; none if there was no response."""
        reply = self.reply if self.error is None else getattr(self.error, "response", None)
        headers: dict[str, str] = (reply or {}).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return headers


def ask(call: Callable[[], Any]) -> Answer:
    """What AWS answers, a refusal included."""
    try:
        return Answer(call(), None, datetime.now(UTC))
    except (ClientError, BotoCoreError) as error:
        return Answer(None, error, datetime.now(UTC))


def refused(error: Exception, what: str, action: str, resource: str) -> Finding:
    """What an error means for the caller.

    Args:
        error: botocore's.
        what: the operation, and what it was for.
        action: the IAM action that it needs.
        resource: the ARN that it needs the action on.
    """
    code, said = error_code(error), error_message(error)
    named = _NAMED.search(said)
    action, resource = (named[1], named[2].rstrip(".,")) if named else (action, resource)
    found = f"{what}: {code}: {said}"
    meaning = CODES.get(code)
    fix = next((fix for of, part, fix in _FAILURES if of in (None, meaning) and part in said), None)
    if fix is None:
        return Finding(State.UNKNOWN, found, _PASSING.get(meaning.name, "") if meaning else "", error=error)
    denied = meaning is DENIED and fix not in (SUBSCRIBE, _FROM_CORE)
    fix = fix.format(action=action, resource=resource) or _advice(code, said)
    return Finding(State.FAILED, found, fix, denied=denied, error=error)


def worst(findings: Iterable[Finding], fine: str) -> Finding:
    """One finding from many: all that are in the worst state, or that all is fine."""
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


def _advice(code: str, said: str) -> str:
    """What the core advises, with its settings as options."""
    advice, remedy = advice_for(code, said)
    return rendered(MarengoError(advice, remedy=remedy))


SUBSCRIBE = (
    "Someone with aws-marketplace:Subscribe and aws-marketplace:ViewSubscriptions must use the model once: "
    "marengo doctor --invoke. Then wait two minutes and run this again."
)
SET_CLOCK = "Synchronize the system's clock with NTP, and run this again."
_FROM_CORE = ""

_NAMED = re.compile(r"not authorized to perform: (\S+) on resource: \"?([^\s\"]+)")

# (what the code means, None for any; a part of the message; what to do, or what the core advises). The first that
# matches wins. The parts are from AWS's troubleshooting pages and from messages seen in public code.
_FAILURES: tuple[tuple[Meaning | None, str, str], ...] = (
    (DENIED, "aws-marketplace", SUBSCRIBE),
    (None, "marked by provider as Legacy", _FROM_CORE),
    (None, "end of its life", _FROM_CORE),
    (
        DENIED,
        "service control policy",
        "A service control policy of the organization forbids it: ask its administrator to allow {action} on "
        "{resource}.",
    ),
    (
        DENIED,
        "explicit deny",
        "A policy explicitly denies {action} on {resource}, which no other policy can override: remove that statement.",
    ),
    (DENIED, "access to the model", f"Allow {{action}} on {{resource}}. If it is allowed: {SUBSCRIBE}"),
    (DENIED, "kms:", "Allow {action} on {resource}, in IAM and in the key's own policy."),
    (DENIED, "", "Allow {action} on {resource}."),
    (BAD_CREDENTIALS, "Signature expired", SET_CLOCK),
    (BAD_CREDENTIALS, "not yet current", SET_CLOCK),
    (BAD_CREDENTIALS, "", "The credentials have expired, or AWS does not know them: sign in again or renew them."),
    (CLOCK, "", SET_CLOCK),
    (None, "model identifier is invalid", "There is no such model in this region: check --model and --region."),
    (None, "on-demand throughput", _FROM_CORE),
    (None, "support async inference", _FROM_CORE),
    (None, "Invalid S3 credentials", _FROM_CORE),
    (None, "bucketOwner", _FROM_CORE),
    (NO_BUCKET, "", _FROM_CORE),
    (ARCHIVED, "", _FROM_CORE),
)
_BUSY = "AWS is temporarily unavailable: run this again in a minute."
# What does not show whether the setting is right.
_PASSING: Mapping[str, str] = {
    QUOTA.name: _BUSY,
    BUSY.name: _BUSY,
    UNREACHABLE.name: "AWS did not respond: check --region, endpoints and the network (a private subnet needs VPC "
    "endpoints).",
}

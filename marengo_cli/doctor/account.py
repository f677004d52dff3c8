"""Who calls, from which region, with which clock, for which model."""

from __future__ import annotations

import os
from datetime import UTC
from email.utils import parsedate_to_datetime

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo import ConfigurationError, MarengoError
from bedrock_marengo.aws.credentials import explained
from bedrock_marengo.errors import error_code, error_message
from marengo_cli.doctor.context import Context
from marengo_cli.doctor.findings import SET_CLOCK, Answer, Finding, State, refused
from marengo_cli.spelling import rendered

__all__ = ["clock", "credentials", "identity", "model", "region"]

BEARER = "AWS_BEARER_TOKEN_BEDROCK"
WARN_SEC, FAIL_SEC = 60, 270
"""AWS refuses requests signed 5 minutes off (S3: 15)."""

# botocore's names of its providers.
_KINDS = {
    "assume-role": "a role assumed by a profile",
    "assume-role-with-web-identity": "a role assumed with a web identity",
    "config-file": "an access key of the config file",
    "container-role": "the container's role",
    "custom-process": "a credential process",
    "env": "an access key of the environment",
    "explicit": "an access key",
    "iam-role": "the instance's role",
    "login": "aws login",
    "shared-credentials-file": "an access key of the credentials file",
    "sso": "single sign-on",
}
_OF_PROFILES = frozenset(_KINDS) - {"container-role", "env", "explicit", "iam-role"}


def credentials(context: Context) -> Finding:
    """Which credentials boto3 finds, and of which kind."""
    if token := os.environ.get(BEARER):
        context.hide(token, "(a Bedrock API key)")
        found = f"{BEARER} is set: a Bedrock API key can't access S3, and its jobs fail with 'Invalid S3 credentials'."
        return Finding(State.FAILED, found, f"Unset {BEARER}; use an access key, a role or a profile.")
    try:
        session = context.aws.session
    except ConfigurationError as error:
        return Finding(State.FAILED, str(error.__cause__ or error), f"Profiles here: {_profiles()}.", error=error)
    except (BotoCoreError, ClientError) as error:
        return _unavailable(error)
    try:
        with explained(session.profile_name):
            source = session.get_credentials()
            keys = source.get_frozen_credentials() if source else None
    except (BotoCoreError, ClientError) as error:
        return _unavailable(error)
    if source is None or keys is None:
        return Finding(State.FAILED, "boto3 finds no credentials.")
    last = f"...{(keys.access_key or '')[-4:]}"
    for secret, shown in ((keys.access_key, last), (keys.secret_key, "(secret)"), (keys.token, "(token)")):
        context.hide(secret, shown)
    kind = _KINDS.get(source.method, source.method)
    profile = f", profile {session.profile_name}" if source.method in _OF_PROFILES else ""
    return Finding(State.OK, f"{kind}{profile}: {last}, {'temporary' if keys.token else 'long-lived'}.")


def _unavailable(error: Exception) -> Finding:
    advice, remedy = getattr(error, "advice", ("", {}))
    fix = rendered(MarengoError(advice, remedy=remedy))
    return Finding(State.FAILED, f"{error_code(error)}: {error_message(error)}", fix, error=error)


def region(context: Context) -> Finding:
    """Whether a region is set, and Marengo is there."""
    try:
        name = context.aws.region
    except ConfigurationError as error:
        if error.__cause__ is not None:
            return Finding(State.SKIPPED, "Needs the profile, which does not exist.")
        return Finding(State.FAILED, rendered(error), error=error)
    if name in context.model.invoke_ids:
        return Finding(State.OK, f"{name} has Marengo {context.model.version}.")
    there = ", ".join(context.model.invoke_ids)
    found = f"As far as we know, Marengo {context.model.version} is not available in {name}, only in {there}."
    return Finding(State.WARNING if context.invoke_model_id else State.FAILED, found)


def model(context: Context) -> Finding:
    """Which ID goes out for which call, and how long AWS keeps the model."""
    chosen = context.model
    ids = (
        f"Marengo {chosen.version}: InvokeModel gets {context.invoke_id}, StartAsyncInvoke {chosen.model_id}; "
        f"{chosen.dimension} numbers per vector."
    )
    end = chosen.ends_on(context.aws.region)
    if end is None:
        return Finding(State.OK, ids)
    # The service decides when it refuses a call: the steps below ask it.
    passed = ", a date that has passed: the service may refuse calls" * (context.today() >= end)
    active = " or ".join(chosen.active_regions)
    fix = f"Use --region {active}, with buckets there." if active else ""
    return Finding(State.WARNING, f"{ids} AWS ends it in {context.aws.region} on {end}{passed}.", fix)


def clock(context: Context) -> Finding:
    """How far this clock is from AWS's."""
    answer = context.caller if "date" in context.caller.headers else context.listed
    if "date" not in answer.headers:
        return Finding(State.UNKNOWN, "Neither STS nor Bedrock reported the time.")
    behind_sec = _behind_sec(answer)
    side = "behind" if behind_sec > 0 else "ahead of"
    found = f"This clock is {abs(behind_sec):.0f} s {side} AWS's. AWS refuses requests that are off by 300 s."
    if abs(behind_sec) >= FAIL_SEC:
        return Finding(State.FAILED, found, SET_CLOCK)
    if abs(behind_sec) >= WARN_SEC:
        return Finding(State.WARNING, found, SET_CLOCK)
    return Finding(State.OK, "This clock is within a minute of AWS's.")


def identity(context: Context) -> Finding:
    """Whether AWS knows the credentials, and whose they are."""
    answer = context.caller
    if answer.error is not None:
        return refused(answer.error, "GetCallerIdentity", "sts:GetCallerIdentity", "*")
    context.account = answer.reply["Account"]
    return Finding(State.OK, f"{answer.reply['Arn']}, account {context.account}.")


def _behind_sec(answer: Answer) -> float:
    date = parsedate_to_datetime(answer.headers["date"])
    return (date.replace(tzinfo=date.tzinfo or UTC) - answer.at).total_seconds()


def _profiles() -> str:
    from botocore.session import Session

    return ", ".join(Session().available_profiles) or "none"

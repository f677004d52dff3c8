"""Why there are no credentials, and the command that gets them, for the profile that is in use."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from bedrock_marengo.aws.retries import (
    BAD_CREDENTIALS,
    CLOCK,
    CODES,
    LOGGED_OUT,
    NO_CREDENTIALS,
    SIGNED_OUT,
    is_transient,
)
from bedrock_marengo.errors import MarengoError, error_code

__all__ = ["explained", "profiles", "watch_credentials"]

_WEB_IDENTITY = (
    "Check the token in AWS_WEB_IDENTITY_TOKEN_FILE, or in the profile's web_identity_token_file, and the role's trust "
    "policy."
)
_REFUSED: Mapping[str, str] = {
    "AssumeRole": "Allow sts:AssumeRole on the role: in the caller's IAM policy, and in the role's trust policy.",
    "AssumeRoleWithWebIdentity": _WEB_IDENTITY,
    "GetRoleCredentials": "Check sso_account_id and sso_role_name of profile NAME: IAM Identity Center must "
    "assign this role to you.",
}
"""An operation that returns credentials -> what to do if AWS refuses it."""
_FAILED: Mapping[str, str] = {
    "credential_process": "Run the credential_process of profile NAME yourself: it must exit with 0 and print one "
    "JSON object.",
    "web_identity_token_file": _WEB_IDENTITY,
    "mfa_serial": "Profile NAME asks for an MFA code, which needs a terminal: run this in one, or sign in with "
    "credentials that don't need a code.",
}
"""A setting of a profile -> what to do if no credentials come of it, and AWS was not asked or did not say why."""
_SIGNED_IN = {"sso_session", "sso_start_url", "login_session"}


def watch_credentials(client: Any, credentials: Callable[[], Any], profile: str) -> None:
    """Have the calls of a client say what to do if its credentials can't be fetched or refreshed."""

    def check(signature_version: Any, **_: Any) -> None:
        # Unsigned calls and those with a Bedrock API key need none.
        if isinstance(signature_version, str) and signature_version != "bearer":
            with explained(profile):
                found = credentials()
                _ = found and found.get_frozen_credentials()

    client.meta.events.register_first(f"before-sign.{client.meta.service_model.service_id.hyphenize()}", check)


@contextmanager
def explained(profile: str) -> Iterator[None]:
    """Add ``advice``, which ``ServiceError.of`` shows, to the errors of a block that fetches a profile's credentials.

    Raises:
        CredentialRetrievalError: Instead of an error that isn't botocore's, such as an OSError for a token file.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        error.advice = _advice(error, profile)  # type: ignore[union-attr]
        raise
    except MarengoError:
        raise
    except Exception as error:
        failed = CredentialRetrievalError(provider=f"profile {profile}", error_msg=f"{type(error).__name__}: {error}")
        failed.advice = _advice(failed, profile)  # type: ignore[attr-defined]
        raise failed from error


def profiles() -> Mapping[str, Mapping[str, Any]]:
    """The profiles of the AWS config and credentials files; none if a file can't be read."""
    from botocore.session import Session

    try:
        found: Mapping[str, Mapping[str, Any]] = Session().full_config["profiles"]
    except BotoCoreError:
        return {}
    return found


def _advice(error: Exception, profile: str) -> tuple[str, Mapping[str, Any]]:
    """What to do, with the remedy's settings. Names the profile that is signed in, from which others take a role."""
    chain = _chain(profile)
    meaning, refused = CODES.get(error_code(error)), _REFUSED.get(getattr(error, "operation_name", ""))
    if refused and meaning not in (BAD_CREDENTIALS, CLOCK) and not is_transient(error):
        return _named(refused, profile), {}
    if meaning in (SIGNED_OUT, LOGGED_OUT):
        signed_in = next((name for name, settings in chain.items() if _SIGNED_IN & settings.keys()), profile)
        return _named(meaning.advice, signed_in), {}
    if meaning is NO_CREDENTIALS:
        for name, settings in chain.items():
            for setting, advice in _FAILED.items():
                if setting in settings:
                    return _named(advice, name), {}
    return (_named(meaning.advice, profile), meaning.remedy) if meaning else ("", {})


def _chain(profile: str) -> dict[str, Mapping[str, Any]]:
    """A profile and those that it takes its credentials from, with their settings."""
    known, chain = profiles(), dict[str, Mapping[str, Any]]()
    while profile not in chain:
        chain[profile] = known.get(profile, {})
        profile = chain[profile].get("source_profile", profile)
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ:
        chain.setdefault("", {"web_identity_token_file": ...})
    return chain


def _named(advice: str, profile: str) -> str:
    return advice.replace("NAME", shlex.quote(profile))

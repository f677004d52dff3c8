"""The examination for people and for programs."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from bedrock_marengo import ConfigurationError, Prices
from bedrock_marengo.aws.session import Aws, AwsSettings
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import find_model
from bedrock_marengo.settings import KMS_KEY
from bedrock_marengo.words.pegasus_contract import find_pegasus
from marengo_cli.doctor.context import CONFIG, Context
from marengo_cli.doctor.findings import Finding, State
from marengo_cli.doctor.steps import STEPS, examine
from marengo_cli.options import Connection
from marengo_cli.terminal import agreed, console, print_json, say

__all__ = ["context_of", "print_policy", "run"]

_STYLES = {
    State.OK: "green",
    State.WARNING: "yellow",
    State.UNKNOWN: "magenta",
    State.SKIPPED: "dim",
    State.FAILED: "bold red",
}


def context_of(
    connection: Connection,
    model: str,
    sources: Sequence[str],
    *,
    kms_key_id: str | None = None,
    invoke: bool = False,
    pegasus: str | None = None,
    transcribe: bool = False,
) -> Context:
    """What is to be examined. Nothing is called.

    Raises:
        ConfigurationError: A setting that is not valid.
        InputError: Not an S3 URI.
    """
    chosen, profile = find_model(model)
    for uri in (*sources, *(uri for uri in (connection.output_s3_uri, connection.staging_s3_uri) if uri)):
        split_s3_uri(uri)
    if kms_key_id and not KMS_KEY.fullmatch(kms_key_id):
        raise ConfigurationError(
            f"--kms-key-id {kms_key_id}: expected an ARN, arn:aws:kms:us-east-1:123456789012:key/... or :alias/..."
        )
    settings = AwsSettings(
        region_name=connection.region or None,
        profile_name=connection.profile or None,
        bucket_owner=connection.bucket_owner or None,
        endpoint_url=connection.endpoint_url or None,
        s3_endpoint_url=connection.s3_endpoint_url or None,
        config=CONFIG,
    )
    return Context(
        aws=Aws(settings),
        model=chosen,
        invoke_model_id=connection.invoke_model_id or profile,
        sources=sources,
        output=_prefix(connection.output_s3_uri),
        staging_s3_uri=_prefix(connection.staging_s3_uri),
        kms_key_id=kms_key_id or None,
        invoke=invoke,
        pegasus=None if pegasus is None else find_pegasus(pegasus)[0],
        transcribe=transcribe,
    )


def run(context: Context, *, yes: bool = False, as_json: bool = False, verbose: bool = False) -> int:
    """Examine and report: 0 if nothing failed, 1 if something did, 2 if the call that costs was declined.

    Raises:
        ConfigurationError: There is no terminal to ask on.
    """
    if context.invoke and not yes and not agreed(_question(context), "pass --yes, or leave out --invoke."):
        say("Nothing was called.", err=True)
        return 2
    findings = []
    try:
        for finding in examine(context):
            findings.append(finding)
            if not as_json:
                _show(finding)
            if verbose and finding.error is not None:
                say(context.hidden("".join(traceback.format_exception(finding.error))), err=True)
    finally:
        context.aws.close()
    if as_json:
        print_json(_report(context, findings))
    else:
        _conclude(context, findings)
    return 1 if _failed(findings) else 0


def print_policy(context: Context) -> None:
    """The least policy alone. Nothing is called.

    Raises:
        ConfigurationError: No region, or one without Marengo.
    """
    print_json(context.policy())


def _question(context: Context) -> str:
    return (
        f"--invoke embeds one text with Marengo {context.model.version}, for about {Prices().text:.5f} USD. If no one "
        "in this account has used the model yet, it also subscribes the account through AWS Marketplace, which accepts "
        "the model's terms. Continue?"
    )


def _show(finding: Finding) -> None:
    row = Table.grid(padding=(0, 2))
    row.add_column(width=max(map(len, State)))
    row.add_column(width=max(len(step.name) for step in STEPS))
    row.add_column(overflow="fold")
    row.add_row(Text(finding.state, _STYLES[finding.state]), finding.step, finding.found)
    if finding.fix:
        row.add_row("", "", Text(f"Fix: {finding.fix}", "bold"))
    console().print(row)


def _conclude(context: Context, findings: Sequence[Finding]) -> None:
    unsure = [finding.step for finding in findings if finding.state not in (State.FAILED, State.OK)]
    if failed := _failed(findings):
        say(f"\nFailed: {', '.join(failed)}. Fix the first one, then run this again.")
    elif unsure:
        say(f"\nNothing failed, but the result of some steps is uncertain: {', '.join(unsure)}.")
    else:
        say("\nAll checks passed.")
    if any(finding.denied for finding in findings):
        say("The minimal IAM policy for these settings (--policy prints only the policy):\n")
        print_policy(context)
    else:
        say("--policy prints the minimal IAM policy for these settings.")


def _report(context: Context, findings: Sequence[Finding]) -> dict[str, Any]:
    try:
        policy = context.policy()
    except ConfigurationError:
        policy = None
    members = ("step", "state", "found", "fix")
    return {
        "ok": not _failed(findings),
        "findings": [{member: getattr(finding, member) for member in members} for finding in findings],
        "policy": policy,
    }


def _failed(findings: Sequence[Finding]) -> list[str]:
    return [finding.step for finding in findings if finding.state is State.FAILED]


def _prefix(uri: str | None) -> str | None:
    return f"{uri.rstrip('/')}/" if uri else None

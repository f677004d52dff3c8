"""The examination: its steps in order, what each needs, and its advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bedrock_marengo.errors import visible
from marengo_cli.doctor import account, bedrock, buckets, transcribe
from marengo_cli.doctor.context import Context
from marengo_cli.doctor.findings import SUBSCRIBE, Finding, State

__all__ = ["STEPS", "TRANSCRIBE", "Step", "examine"]


@dataclass(frozen=True, slots=True)
class Step:
    """One question.

    Attributes:
        name: of a word or two.
        look: finds the answer.
        needs: the steps that must not fail before it.
        fix: what to do if nothing more precise is known.
    """

    name: str
    look: Callable[[Context], Finding]
    needs: tuple[str, ...]
    fix: str


STEPS = (
    Step(
        "credentials",
        account.credentials,
        (),
        "Pass --profile, set AWS_PROFILE or access keys, sign in with 'aws login' or 'aws sso login', or use a role.",
    ),
    Step(
        "region",
        account.region,
        (),
        "Pass --region us-east-1, or another region that has Marengo. The buckets must be there too.",
    ),
    Step("model", account.model, ("region",), "Use --model 3.0; marengo migrate moves a store from 2.7."),
    Step(
        "clock", account.clock, ("credentials", "region"), "Check whether the system's clock is synchronized with NTP."
    ),
    Step(
        "identity",
        account.identity,
        ("credentials", "region", "clock"),
        "If STS can't be reached, pass --bucket-owner; otherwise see the message from AWS.",
    ),
    Step("access", bedrock.access, ("identity", "model"), f"Look up the model in the Bedrock console. {SUBSCRIBE}"),
    Step(
        "invoke",
        bedrock.invoke,
        ("access",),
        "See the message from AWS. To find out for certain, use --invoke, which embeds one text.",
    ),
    Step(
        "start",
        bedrock.start,
        ("access",),
        "See the message from AWS. To find out more, use --invoke, which embeds one text.",
    ),
    Step("jobs", bedrock.jobs, ("identity",), "Allow bedrock:ListAsyncInvokes and bedrock:GetAsyncInvoke."),
    Step(
        "buckets",
        buckets.places,
        ("identity",),
        "Name buckets that exist in the model's region, or pass --staging-s3-uri.",
    ),
    Step("owner", buckets.owner, ("buckets",), "Pass --bucket-owner with the account that owns the buckets."),
    Step("input list", buckets.listing, ("buckets",), "Allow s3:ListBucket on the sources' buckets."),
    Step("input read", buckets.reading, ("input list",), "Allow s3:GetObject on the sources."),
    Step(
        "output",
        buckets.output,
        ("buckets",),
        "Allow s3:ListBucket, s3:PutObject, s3:GetObject and s3:DeleteObject on the output prefix.",
    ),
    Step("key", buckets.key, ("output",), "Allow kms:GenerateDataKey and kms:Decrypt, in IAM and in the key's policy."),
)

PEGASUS = Step("pegasus", bedrock.pegasus, ("identity",), f"Look up the model in the Bedrock console. {SUBSCRIBE}")
"""With ``--pegasus``."""
TRANSCRIBE = Step(
    "transcribe",
    transcribe.jobs,
    ("identity",),
    "Allow transcribe:StartTranscriptionJob, GetTranscriptionJob and ListTranscriptionJobs.",
)


def examine(context: Context) -> Iterator[Finding]:
    """Run all steps; each finding is yielded when it is known."""
    states: dict[str, State] = {}
    more = [(PEGASUS, context.pegasus is not None), (TRANSCRIBE, context.transcribe)]
    for step in (*STEPS, *(step for step, is_asked in more if is_asked)):
        finding = _look(step, states, context)
        states[step.name] = finding.state
        yield finding


def _look(step: Step, states: dict[str, State], context: Context) -> Finding:
    for name in step.needs:
        if states[name] in (State.FAILED, State.SKIPPED):
            why = "failed" if states[name] is State.FAILED else "was skipped"
            return Finding(State.SKIPPED, f"Needs {name}, which {why}.", step=step.name)
    finding = step.look(context)
    fix = "" if finding.state is State.OK else finding.fix or step.fix
    found, fix = (visible(context.hidden(text)) for text in (finding.found, fix))
    return replace(finding, step=step.name, found=found, fix=fix)

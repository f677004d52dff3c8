"""Whether Bedrock lets the caller use the model, without a call that costs.

How it is known: AWS asks IAM before the model checks the body, so an empty body is refused as malformed if the caller
is allowed, and with AccessDenied if not. For InvokeModel others report this; for StartAsyncInvoke we infer it from
errors of real runs. We tried neither on AWS. So only the refusal of the body itself counts as "allowed"; any other
answer is a known failure, or unknown.
"""

from __future__ import annotations

from typing import Any

from bedrock_marengo import ConfigurationError, Prices
from bedrock_marengo.aws.retries import UNKNOWN_JOB
from bedrock_marengo.contract.payloads import encode, text
from bedrock_marengo.contract.responses import read_vector
from bedrock_marengo.errors import OutputError, error_code, error_message
from marengo_cli.doctor.context import Context, bucket_of
from marengo_cli.doctor.findings import SUBSCRIBE, Answer, Finding, State, ask, refused
from marengo_cli.spelling import rendered

__all__ = ["access", "invoke", "jobs", "pegasus", "start"]

# (member of the response, its value, state, what it means, what to do). From AWS's page on model access.
_TOLD = (
    ("regionAvailability", "NOT_AVAILABLE", State.FAILED, "AWS does not offer it in this region", ""),
    (
        "authorizationStatus",
        "NOT_AUTHORIZED",
        State.FAILED,
        "this account is not authorized for it",
        "Ask the organization's administrator: a service control policy may forbid the model.",
    ),
    ("agreement", "NOT_AVAILABLE", State.FAILED, "no one in this account has accepted its terms yet", SUBSCRIBE),
    ("agreement", "ERROR", State.FAILED, "the subscription through AWS Marketplace failed", SUBSCRIBE),
    ("agreement", "PENDING", State.WARNING, "the subscription is in progress", "Wait 15 minutes and run this again."),
    (
        "entitlementAvailability",
        "NOT_AVAILABLE",
        State.WARNING,
        "this account is not entitled to it yet",
        "--invoke embeds one text, which shows whether AWS allows it nevertheless.",
    ),
)
_MEMBERS = tuple(dict.fromkeys(row[0] for row in _TOLD))
_JOB = "000000000000"


def access(context: Context) -> Finding:
    """What Bedrock's control plane reports about the model, if the call is allowed."""
    return _availability(context, context.model.model_id)


def pegasus(context: Context) -> Finding:
    """The same about Pegasus, whose terms are accepted on their own."""
    assert context.pegasus is not None  # noqa: S101  otherwise the step is left out
    return _availability(context, context.pegasus.model_id)


def _availability(context: Context, model_id: str) -> Finding:
    is_marengo = model_id == context.model.model_id
    answer = ask(lambda: context.control_plane.get_foundation_model_availability(modelId=model_id))
    if answer.error is not None:
        # The package itself does not need this call.
        finding = refused(answer.error, "GetFoundationModelAvailability", "bedrock:GetFoundationModelAvailability", "*")
        return Finding(State.UNKNOWN, finding.found, finding.fix, error=answer.error)
    agreement = answer.reply.get("agreementAvailability", {})
    status = {**answer.reply, "agreement": agreement.get("status")}
    if is_marengo:
        context.subscribed = {"AVAILABLE": True, "NOT_AVAILABLE": False}.get(status["agreement"])
    for member, value, state, meaning, fix in _TOLD:
        if status.get(member) == value:
            if member == "agreement" and context.invoke and is_marengo:
                state, fix = State.WARNING, "The call made by --invoke also subscribes."
            why = f" ({agreement['errorMessage']})" if agreement.get("errorMessage") else ""
            return Finding(state, f"{model_id}: {meaning}{why}.", fix)
    if all(status.get(member) in ("AVAILABLE", "AUTHORIZED") for member in _MEMBERS):
        return Finding(State.OK, f"{model_id} is available, and its terms are accepted.")
    return Finding(State.UNKNOWN, f"{model_id}: {', '.join(f'{member} {status.get(member)}' for member in _MEMBERS)}.")


def invoke(context: Context) -> Finding:
    """Whether InvokeModel is allowed; with ``--invoke``, whether it works."""
    if context.invoke:
        return _paid(context)
    if not context.subscribed:
        # AWS: a model's first call subscribes the account. It does not exclude calls that are refused.
        return Finding(
            State.UNKNOWN,
            "Not called: it is unknown whether the account has accepted the model's terms, and a first call, even one "
            "that is refused, might accept them.",
            "Allow bedrock:GetFoundationModelAvailability on *; or use --invoke to embed one text and find out.",
        )
    answer = ask(lambda: context.aws.bedrock.invoke_model(modelId=context.invoke_id, body=b"{}"))
    return _probed(answer, f"InvokeModel {context.invoke_id}", _resources(context)[:-1])


def start(context: Context) -> Finding:
    """Whether StartAsyncInvoke is allowed, on the model and on the job."""
    if context.output is None:
        return Finding(State.SKIPPED, "A job needs an output prefix.", "Pass --output-s3-uri s3://bucket/marengo/.")
    try:
        owner = context.aws.owner(bucket_of(context.output))
    except ConfigurationError as error:
        return Finding(State.UNKNOWN, rendered(error), error=error)
    target: Any = {"s3Uri": context.output.rstrip("/"), "bucketOwner": owner}
    if context.kms_key_id:
        target["kmsKeyId"] = context.kms_key_id
    # No file is named: if AWS accepted it unexpectedly, there would be nothing to pay for.
    answer = ask(
        lambda: context.aws.bedrock.start_async_invoke(
            modelId=context.model.model_id, modelInput={}, outputDataConfig={"s3OutputDataConfig": target}
        )
    )
    models, *_, job = _resources(context)
    return _probed(answer, f"StartAsyncInvoke {context.model.model_id}", [models, job])


def jobs(context: Context) -> Finding:
    """Whether jobs can be listed and read."""
    if (error := context.listed.error) is not None:
        return refused(error, "ListAsyncInvokes", "bedrock:ListAsyncInvokes", "*")
    if context.account is None:
        found = "Jobs can be listed. Whether they can be read was not checked, because the account is unknown."
        return Finding(State.UNKNOWN, found, "Run this where STS can be reached, or allow bedrock:GetAsyncInvoke.")
    arn = f"arn:aws:bedrock:{context.aws.region}:{context.account}:async-invoke/{_JOB}"
    answer = ask(lambda: context.aws.bedrock.get_async_invoke(invocationArn=arn))
    if answer.error is not None and error_code(answer.error) not in UNKNOWN_JOB:
        return refused(answer.error, "GetAsyncInvoke", "bedrock:GetAsyncInvoke", arn.replace(_JOB, "*"))
    return Finding(State.OK, "Jobs can be listed and read.")


def _paid(context: Context) -> Finding:
    what, body = f"InvokeModel {context.invoke_id}", encode(text(context.model, "marengo doctor"))
    answer = ask(
        lambda: context.aws.bedrock.invoke_model(
            modelId=context.invoke_id, body=body, contentType="application/json", accept="application/json"
        )["body"].read()
    )
    if answer.error is not None:
        return refused(answer.error, what, "bedrock:InvokeModel", " and ".join(_resources(context)[:-1]))
    try:
        vector = read_vector(answer.reply, context.model.dimension)
    except OutputError as error:
        return Finding(
            State.FAILED,
            f"{what}: {error}",
            "The response differs from AWS documentation: please report it.",
            error=error,
        )
    context.subscribed = True
    return Finding(
        State.OK, f"{what}: a text was embedded as {len(vector)} numbers, for about {Prices().text:.5f} USD."
    )


def _probed(answer: Answer, what: str, resources: list[str]) -> Finding:
    if answer.error is None:
        arn = answer.reply.get("invocationArn")
        return Finding(State.UNKNOWN, f"{what}: AWS accepted an empty body{f', as job {arn}' if arn else ''}.")
    code, said = error_code(answer.error), error_message(answer.error)
    if code == "ValidationException" and ("Malformed input request" in said or "inputType" in said):
        return Finding(State.OK, f"{what}: allowed; an empty body was refused, which costs nothing.")
    return refused(answer.error, what, "bedrock:InvokeModel", " and ".join(resources))


def _resources(context: Context) -> list[str]:
    """What the least policy allows InvokeModel on: the model, a profile if there is one, the jobs."""
    allowed: list[str] = context.policy()["Statement"][0]["Resource"]
    return allowed

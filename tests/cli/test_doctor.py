"""`marengo doctor`: a healthy setting is all fine, each fault is found with its fix, and nothing is started or paid."""

import json
import shlex
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.models import MODELS
from marengo_cli.app import app
from marengo_cli.doctor import context_of
from marengo_cli.doctor.policy import least_policy
from marengo_cli.doctor.steps import STEPS, examine
from marengo_cli.options import Connection
from marengo_local import Fault

M3, M27 = MODELS["3.0"].model_id, MODELS["2.7"].model_id
JOBS = "arn:aws:bedrock:us-east-1:123456789012:async-invoke/*"
MODEL = f"arn:aws:bedrock:us-east-1::foundation-model/{M3}"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t"
DENIED = "User: arn:aws:iam::123456789012:user/u is not authorized to perform: {} on resource: {} because {}"
NOT_ALLOWED = "no identity-based policy allows the action"
SCP = "with an explicit deny in a service control policy"
MARKETPLACE = (
    "Model access is denied due to IAM user or service role is not authorized to perform the required AWS Marketplace "
    "actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access to this model."
)


@pytest.fixture
def local(local, monkeypatch):
    """The stand-in as the environment's AWS, with a video and a secret that looks like one."""
    local.put(b"a video", "videos/match.mp4")
    local.secret_access_key, local.api_key = SECRET, TOKEN
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return local


@pytest.fixture
def run(local):
    """Run the command; options that are None are left out."""

    def run(*words, answer="", **options):
        options = {"output_s3_uri": local.output_s3_uri, "source": f"s3://{local.bucket}/videos/"} | options
        source = options.pop("source")
        given = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value is not None}
        typed = [*([source] if source else []), *(word for pair in given.items() for word in pair), *words]
        return CliRunner().invoke(app, ["doctor", *typed], input=answer)

    return run


@pytest.fixture
def examined(local):
    """The findings by step, of all steps or until one."""

    def examined(*, source="videos/", model="3.0", today=None, until=None, kms_key_id=None, invoke=False, **options):
        options = {"output_s3_uri": local.output_s3_uri} | options
        sources = [source if source.startswith("s3:") else f"s3://{local.bucket}/{source}"] if source else []
        context = context_of(Connection(**options), model, sources, kms_key_id=kms_key_id, invoke=invoke)
        if today:
            context.today = lambda: today
        found = {}
        for finding in examine(context):
            found[finding.step] = finding
            if finding.step == until:
                break
        context.aws.close()
        assert all(f.fix for f in found.values() if f.state in ("failed", "warning", "unknown")), found
        return found

    return examined


def keys(local):
    return [item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket).get("Contents", [])]


def paid(local):
    """Calls that would have cost."""
    bodies = [call.body for call in local.calls.of("InvokeModel")]
    return [*filter(None, bodies), *local.jobs]


# A healthy setting.


def test_all_is_fine(local, run):
    result = run()
    assert result.exit_code == 0, result.output
    assert "All checks passed." in result.stdout
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[: len(STEPS)]] == ["ok"] * len(STEPS)
    assert M3 in lines[2]
    assert "account 123456789012" in lines[4]


def test_nothing_is_started_paid_or_left_behind(local, run):
    run()
    assert not paid(local)
    assert [call.body["modelInput"] for call in local.calls.of("StartAsyncInvoke")] == [{}]
    assert keys(local) == ["videos/match.mp4"]
    assert (local.calls["s3:PutObject"], local.calls["s3:DeleteObject"]) == (1, 1)


def test_json_is_all_of_stdout(local, run):
    report = json.loads(run("--json").stdout)
    assert report["ok"]
    assert [finding["step"] for finding in report["findings"]] == [step.name for step in STEPS]
    assert {finding["state"] for finding in report["findings"]} == {"ok"}
    assert JOBS in report["policy"]["Statement"][0]["Resource"]
    local.faults.append(Fault("InvokeModel", error="AccessDeniedException"))
    result = run("--json")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (1, False)


def test_without_buckets_what_needs_them_is_skipped(local, examined):
    found = examined(output_s3_uri=None, source=None)
    skipped = {step for step, finding in found.items() if finding.state == "skipped"}
    assert skipped == {"start", "buckets", "owner", "input list", "input read", "output", "key"}
    assert "--output-s3-uri" in found["start"].fix
    assert "Needs buckets" in found["owner"].found
    assert not any(call.op.startswith("s3:") for call in local.calls)


def test_one_object_as_a_source(local, examined):
    assert examined(source="videos/match.mp4")["input read"].state == "ok"


def test_the_stage_is_written_to_and_media_may_be_elsewhere(local, examined):
    local.s3.create_bucket(Bucket=f"{local.bucket}-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    local.s3.put_object(Bucket=f"{local.bucket}-eu", Key="a.mp4", Body=b"x")
    there = f"s3://{local.bucket}-eu/"
    assert examined(source=there)["buckets"].state == "failed"
    local.calls.reset()
    found = examined(source=there, staging_s3_uri=f"s3://{local.bucket}/stage")
    assert {finding.state for finding in found.values()} == {"ok"}
    assert local.calls["s3:PutObject"] == 2


def test_a_key_of_kms(local, examined):
    assert "with the key" in examined(kms_key_id=KEY)["key"].found
    assert keys(local) == ["videos/match.mp4"]


def test_what_a_model_is_called_with(local, examined):
    assert f"InvokeModel gets us.{M27}, StartAsyncInvoke {M27}" in examined(model="2.7")["model"].found


# Each fault, found at its step.


def test_each_step_has_a_fix():
    assert all(step.fix for step in STEPS)
    names = [step.name for step in STEPS]
    assert all(names.index(need) < names.index(step.name) for step in STEPS for need in step.needs)


def fault(op, error="AccessDeniedException", message=None, **more):
    return lambda local, env: local.faults.append(Fault(op, error=error, message=message, **more))


def knob(**values):
    return lambda local, env: [setattr(local, name, value) for name, value in values.items()]


def without(*names):
    return lambda local, env: [env.delenv(name) for name in names]


def with_env(**values):
    return lambda local, env: [env.setenv(name, value) for name, value in values.items()]


def denied(op, action, resource, why=NOT_ALLOWED):
    error = "AccessDenied" if op.startswith("s3:") else "AccessDeniedException"
    return fault(op, error, DENIED.format(action, resource, why))


def invalid(op, message):
    return fault(op, "ValidationException", message)


# (plant, options, step, state, a part of what is found, a part of the fix)
FAULTS = {
    "no credentials": (
        without("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        {},
        ("credentials", "failed", "no credentials", "--profile"),
    ),
    "half of an access key": (
        without("AWS_SECRET_ACCESS_KEY"),
        {},
        ("credentials", "failed", "missing: AWS_SECRET_ACCESS_KEY", "--profile"),
    ),
    "no such profile": (
        with_env(AWS_PROFILE="nowhere"),
        {},
        ("credentials", "failed", "(nowhere) could not be found", "Profiles here: none"),
    ),
    "a Bedrock API key": (
        with_env(AWS_BEARER_TOKEN_BEDROCK=TOKEN),
        {},
        ("credentials", "failed", "can't access S3", "Unset AWS_BEARER_TOKEN_BEDROCK"),
    ),
    "expired": (
        fault("sts:GetCallerIdentity", "ExpiredToken"),
        {},
        ("identity", "failed", "is expired", "sign in again"),
    ),
    "unknown to AWS": (
        fault("sts:GetCallerIdentity", "InvalidClientTokenId"),
        {},
        ("identity", "failed", "token included in the request is invalid", "sign in again"),
    ),
    "a wrong secret": (
        fault("sts:GetCallerIdentity", "SignatureDoesNotMatch"),
        {},
        ("identity", "failed", "SignatureDoesNotMatch", "sign in again"),
    ),
    "STS out of reach": (
        with_env(AWS_ENDPOINT_URL_STS="http://127.0.0.1:1"),
        {},
        ("identity", "unknown", "EndpointConnectionError", "VPC endpoints"),
    ),
    "STS out of reach, so whose buckets": (
        with_env(AWS_ENDPOINT_URL_STS="http://127.0.0.1:1"),
        {},
        ("owner", "failed", "STS did not return yours", "--bucket-owner"),
    ),
    "no region": (without("AWS_DEFAULT_REGION"), {}, ("region", "failed", "No region", "--region us-east-1")),
    "a region without Marengo": (
        knob(),
        {"region": "us-west-2"},
        ("region", "failed", "not available in us-west-2", "--region us-east-1"),
    ),
    "a clock 2 minutes off": (knob(clock_skew_sec=120), {}, ("clock", "warning", "s behind AWS", "NTP")),
    "a clock 10 minutes ahead": (knob(clock_skew_sec=-600), {}, ("clock", "failed", "s ahead of AWS", "NTP")),
    "no one has subscribed": (
        knob(subscribed=False),
        {},
        ("access", "failed", "no one in this account has accepted its terms", "aws-marketplace:Subscribe"),
    ),
    "a subscription under way": (
        knob(availability={"agreementAvailability": "PENDING"}),
        {},
        ("access", "warning", "in progress", "15 minutes"),
    ),
    "a model not authorised": (
        knob(availability={"authorizationStatus": "NOT_AUTHORIZED"}),
        {},
        ("access", "failed", "not authorized", "service control policy"),
    ),
    "a model that is not there": (
        knob(availability={"regionAvailability": "NOT_AVAILABLE"}),
        {},
        ("access", "failed", "does not offer it in this region", "console"),
    ),
    "an unknown member": (
        knob(availability={"agreementAvailability": "MAYBE"}),
        {},
        ("access", "unknown", "agreement MAYBE", "console"),
    ),
    "availability may not be asked": (
        denied("GetFoundationModelAvailability", "bedrock:GetFoundationModelAvailability", "*"),
        {},
        ("access", "unknown", "GetFoundationModelAvailability", "Allow bedrock:GetFoundationModelAvailability on *"),
    ),
    "InvokeModel denied": (
        denied("InvokeModel", "bedrock:InvokeModel", MODEL),
        {},
        ("invoke", "failed", "no identity-based policy", f"Allow bedrock:InvokeModel on {MODEL}."),
    ),
    "InvokeModel denied by the organisation": (
        denied("InvokeModel", "bedrock:InvokeModel", MODEL, SCP),
        {},
        ("invoke", "failed", "service control policy", "ask its administrator"),
    ),
    "InvokeModel denied without a word": (
        fault("InvokeModel"),
        {},
        ("invoke", "failed", "don't have access to the model", "aws-marketplace:Subscribe"),
    ),
    "the Marketplace": (
        fault("InvokeModel", message=MARKETPLACE),
        {},
        ("invoke", "failed", "aws-marketplace:ViewSubscriptions", "marengo doctor --invoke"),
    ),
    "a model at its end": (
        fault("InvokeModel", "ResourceNotFoundException", "This model version has reached the end of its life."),
        {},
        ("invoke", "failed", "end of its life", "--model 3.0"),
    ),
    "a model that is legacy": (
        fault("InvokeModel", "ResourceNotFoundException", "Access denied. This Model is marked by provider as Legacy"),
        {"model": "2.7"},
        ("invoke", "failed", "Legacy", "--model 3.0"),
    ),
    "an ID that takes a profile": (
        knob(),
        {"model": "2.7", "invoke_model_id": M27},
        ("invoke", "failed", "on-demand throughput", "inference profile"),
    ),
    "an ID of nothing": (
        knob(),
        {"invoke_model_id": "eu.of.nothing"},
        ("invoke", "failed", "identifier is invalid", "--model"),
    ),
    "throttled": (fault("InvokeModel", "ThrottlingException"), {}, ("invoke", "unknown", "Throttling", "in a minute")),
    "refused for another reason": (
        invalid("InvokeModel", "Something else"),
        {},
        ("invoke", "unknown", "Something else", "--invoke"),
    ),
    "an empty body is answered": (
        fault("InvokeModel", None, body=b"{}"),
        {},
        ("invoke", "unknown", "accepted an empty body", "--invoke"),
    ),
    "an empty job is taken": (
        fault("StartAsyncInvoke", None, body=json.dumps({"invocationArn": JOBS.replace("*", "abc")}).encode()),
        {},
        ("start", "unknown", "async-invoke/abc", "--invoke"),
    ),
    "a start denied on the model": (
        denied("StartAsyncInvoke", "bedrock:InvokeModel", MODEL),
        {},
        ("start", "failed", "not authorized", f"Allow bedrock:InvokeModel on {MODEL}."),
    ),
    "a start denied on the job": (
        denied("StartAsyncInvoke", "bedrock:InvokeModel", JOBS),
        {},
        ("start", "failed", "not authorized", f"Allow bedrock:InvokeModel on {JOBS}."),
    ),
    "a start denied without a word": (
        fault("StartAsyncInvoke", message="Access denied"),
        {},
        ("start", "failed", "Access denied", f"Allow bedrock:InvokeModel on {MODEL} and {JOBS}."),
    ),
    "keys that S3 does not know": (
        invalid("StartAsyncInvoke", "Invalid S3 credentials"),
        {},
        ("start", "failed", "Invalid S3 credentials", "AWS_BEARER_TOKEN_BEDROCK"),
    ),
    "jobs can't be listed": (
        denied("ListAsyncInvokes", "bedrock:ListAsyncInvokes", "*"),
        {},
        ("jobs", "failed", "ListAsyncInvokes", "Allow bedrock:ListAsyncInvokes on *."),
    ),
    "jobs can't be followed": (
        fault("GetAsyncInvoke", message="Access denied"),
        {},
        ("jobs", "failed", "GetAsyncInvoke", f"Allow bedrock:GetAsyncInvoke on {JOBS}."),
    ),
    "no such bucket": (
        knob(),
        {"output_s3_uri": "s3://no-such-bucket-of-ours/marengo/"},
        ("buckets", "failed", "no bucket 'no-such-bucket-of-ours'", "Create it"),
    ),
    "a wrong owner": (
        knob(),
        {"bucket_owner": "111111111111"},
        ("owner", "failed", "does not belong to account 111111111111", "--bucket-owner"),
    ),
    "no list": (
        fault("s3:ListObjectsV2", "AccessDenied"),
        {},
        ("input list", "failed", "ListObjectsV2", "Allow s3:ListBucket on arn:aws:s3:::marengo-local"),
    ),
    "no list, so whose buckets": (
        fault("s3:ListObjectsV2", "AccessDenied"),
        {},
        ("owner", "unknown", "AccessDenied", "Allow s3:ListBucket"),
    ),
    "no read": (
        fault("s3:GetObject", "AccessDenied", when=lambda call: call.body["key"].startswith("videos/")),
        {},
        ("input read", "failed", "GetObject", "/videos/match.mp4."),
    ),
    "a file in an archive": (
        fault("s3:GetObject", "InvalidObjectState"),
        {},
        ("input read", "failed", "InvalidObjectState", "restore it"),
    ),
    "no list of outputs": (
        fault("s3:ListObjectsV2", "AccessDenied", when=lambda call: call.body["prefix"] == "marengo/"),
        {},
        ("output", "failed", "ListObjectsV2", "Allow s3:ListBucket"),
    ),
    "no write": (
        fault("s3:PutObject", "AccessDenied"),
        {},
        ("output", "failed", "PutObject", "Allow s3:PutObject on arn:aws:s3:::marengo-local"),
    ),
    "no read of outputs": (
        fault("s3:GetObject", "AccessDenied", when=lambda call: call.body["key"].startswith("marengo/")),
        {},
        ("output", "failed", "GetObject", "Allow s3:GetObject on arn:aws:s3:::marengo-local"),
    ),
    "no delete": (
        fault("s3:DeleteObject", "AccessDenied"),
        {},
        ("output", "warning", "DeleteObject", "was left there: delete it"),
    ),
    "a write without a reply": (
        fault("s3:PutObject", None, drop="after"),
        {},
        ("output", "unknown", "ConnectionClosedError", "network"),
    ),
    "a key that may not be used": (
        denied("s3:PutObject", "kms:GenerateDataKey", KEY),
        {"kms_key_id": KEY},
        ("output", "failed", "kms:GenerateDataKey", f"Allow kms:GenerateDataKey on {KEY}, in IAM and in the key's"),
    ),
    "a key of another region": (
        knob(),
        {"kms_key_id": KEY.replace("us-east-1", "eu-west-1")},
        ("key", "failed", "in eu-west-1", "Use a key there"),
    ),
}


@pytest.mark.filterwarnings("ignore:AWS ends Marengo 2.7")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_with_its_fix(local, examined, monkeypatch, name):
    plant, options, (step, state, said, fix) = FAULTS[name]
    plant(local, monkeypatch)
    found = examined(until=step, **options)
    assert found[step].state == state, found[step]
    assert said in found[step].found
    assert fix in found[step].fix
    assert not paid(local)
    assert name == "no delete" or keys(local) == ["videos/match.mp4"]


def test_the_key_is_tried_apart_from_the_bucket(local, examined):
    local.faults.append(Fault("s3:PutObject", when=2, error="AccessDenied", message=DENIED.format("kms:x", KEY, "")))
    found = examined(kms_key_id=KEY)
    assert (found["output"].state, found["key"].state) == ("ok", "failed")
    assert "in the key's own policy" in found["key"].fix


def test_what_a_failure_makes_pointless_is_skipped_and_says_why(local, examined):
    local.faults.append(Fault("sts:GetCallerIdentity", error="ExpiredToken"))
    found = examined()
    after = [step.name for step in STEPS[STEPS.index(next(s for s in STEPS if s.name == "identity")) + 1 :]]
    assert {found[step].state for step in after} == {"skipped"}
    assert found["access"].found == "Needs identity, which failed."
    assert found["input read"].found == "Needs input list, which was skipped."
    assert {call.op for call in local.calls} == {"sts:GetCallerIdentity"}


def test_a_profile_by_single_sign_on_that_is_signed_out(examined, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    settings = ("sso_start_url=https://x.awsapps.com/start", "sso_region=us-east-1", "sso_account_id=123456789012")
    (tmp_path / "config").write_text("\n".join(["[profile work]", *settings, "sso_role_name=r", "region=us-east-1"]))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = examined(profile="work")["credentials"]
    assert found.state == "failed"
    assert found.fix == "Sign in again: aws sso login --profile work"
    found = examined(profile="other")
    assert "Profiles here: work" in found["credentials"].fix
    assert found["region"].state == "skipped"


@pytest.mark.parametrize("today", [date(2026, 11, 29), date(2026, 11, 30)])
def test_the_service_decides_when_2_7_has_ended(examined, today):
    found = examined(model="2.7", today=today)
    assert found["model"].state == "warning"
    assert "2026-11-30" in found["model"].found
    assert ("has passed" in found["model"].found) == (today == date(2026, 11, 30))
    assert "--model 3.0" in found["model"].fix
    assert found["access"].state == found["invoke"].state == "ok"


def test_a_region_that_keeps_3_0_for_a_while(examined):
    found = examined(until="model", region="ap-northeast-2", today=date(2026, 12, 1))
    assert "ends it in ap-northeast-2 on 2027-03-22" in found["model"].found
    assert "--region us-east-1 or eu-west-1" in found["model"].fix


def test_a_first_call_is_not_made_where_it_might_subscribe(local, examined):
    local.faults.append(Fault("GetFoundationModelAvailability", error="AccessDeniedException"))
    local.subscribed = False
    found = examined()
    assert found["invoke"].state == "unknown"
    assert "might accept them" in found["invoke"].found
    assert local.calls["InvokeModel"] == 0
    assert not local.subscribed
    # A start subscribes no one: it may be sent.
    assert "aws-marketplace:Subscribe" in found["start"].fix


def test_an_empty_prefix_and_a_missing_object(local, examined):
    empty = examined(source="nothing/")
    assert (empty["input list"].state, empty["input read"].state) == ("warning", "skipped")
    assert examined(source="videos/missing.mp4")["input list"].state == "failed"


def test_a_bucket_of_others(local, examined):
    local.bucket_owners = {local.bucket: "222222222222"}
    assert "does not belong to account 123456789012" in examined()["owner"].found
    assert examined(bucket_owner="222222222222")["owner"].state == "ok"


def test_the_control_plane_is_where_the_runtime_is(local, examined, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_BEDROCK")
    assert examined(endpoint_url=local.endpoint_url)["access"].state == "ok"


# The call that costs.


def test_invoke_asks_with_its_price_and_what_it_entails(local, in_terminal):
    local.subscribed = False
    words = ("doctor", f"s3://{local.bucket}/videos/", "--invoke")
    process, said = in_terminal(*words, answer="n\n")
    assert process.returncode == 2
    assert "0.00007 USD" in said
    assert "AWS Marketplace" in said
    assert len(local.calls) == 0
    assert in_terminal(*words, answer="y\n")[0].returncode == 0


def test_invoke_pays_for_one_text_and_subscribes(local, examined):
    local.subscribed = False
    found = examined(invoke=True)
    assert found["access"].state == "warning"
    assert "512 numbers, for about 0.00007 USD" in found["invoke"].found
    assert found["start"].state == "ok"
    assert local.subscribed
    assert len(paid(local)) == 1


def test_invoke_tells_what_aws_refuses(local, examined):
    local.faults.append(Fault("InvokeModel", error="AccessDeniedException", message=MARKETPLACE))
    assert "aws-marketplace:Subscribe" in examined(invoke=True)["invoke"].fix
    local.faults[:] = [Fault("InvokeModel", body=b'{"data": []}')]
    assert examined(invoke=True)["invoke"].state == "failed"


def test_invoke_is_paid_for_once_even_if_its_reply_is_lost(local, examined):
    local.faults.append(Fault("InvokeModel", drop="after"))
    assert examined(invoke=True, until="invoke")["invoke"].state == "unknown"
    assert local.calls["InvokeModel"] == 1


def test_invoke_is_not_paid_for_if_no_one_can_be_asked(local, run):
    result = run("--invoke")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert len(local.calls) == 0


# What is shown.


@pytest.mark.parametrize("words", [(), ("-v",), ("--json",)])
def test_secrets_are_never_shown(local, run, monkeypatch, words):
    key, session = local.access_key_id, "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
    local.session_token = session
    monkeypatch.setenv("AWS_SESSION_TOKEN", session)
    said = f"Credential {key} with {SECRET} and {session} is wrong"
    local.faults = [Fault("sts:GetCallerIdentity", error="SignatureDoesNotMatch", message=said)]
    result = run(*words)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", TOKEN)
    shown = result.output + run(*words).output
    assert f"...{key[-4:]}" in shown
    assert not any(secret in shown for secret in (key, SECRET, session, TOKEN))


def test_v_shows_a_traceback(local, run):
    local.faults.append(Fault("s3:PutObject", error="AccessDenied"))
    assert "Traceback" not in run().output
    assert "Traceback" in run("-v").stderr


def test_the_least_policy_comes_where_iam_refused(local, run):
    assert "Statement" not in run().stdout
    local.faults.append(Fault("s3:PutObject", error="AccessDenied"))
    result = run()
    assert result.exit_code == 1
    assert "Failed: output." in result.stdout
    assert json.loads(result.stdout[result.stdout.index("{") :])["Version"] == "2012-10-17"


def test_what_aws_says_is_no_markup_and_moves_no_cursor(local, run):
    local.faults.append(Fault("InvokeModel", error="ValidationException", message="[red]no[/red] \x1b[2J"))
    assert "[red]no[/red] \\x1b[2J" in run().stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "4.0"}, "4.0"),
        ({"source": "videos/"}, "videos/"),
        ({"output_s3_uri": "bucket/marengo"}, "bucket/marengo"),
        ({"bucket_owner": "me"}, "--bucket-owner me"),
        ({"kms_key_id": "alias/mine"}, "--kms-key-id alias/mine"),
        ({"endpoint_url": "nowhere"}, "--endpoint-url nowhere"),
    ],
)
def test_a_users_mistake_is_a_line_and_2(local, run, options, said):
    result = run(**options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert len(local.calls) == 0


# The least policy.


def test_policy_is_all_of_stdout_and_makes_no_call(local, run, monkeypatch):
    result = run("--policy")
    assert result.exit_code == 0
    resources = [word for statement in json.loads(result.stdout)["Statement"] for word in statement["Resource"]]
    assert f"arn:aws:s3:::{local.bucket}/videos/*" in resources
    assert "arn:aws:bedrock:us-east-1:*:async-invoke/*" in resources
    assert len(local.calls) == 0
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert run("--policy").exit_code == 2
    assert run("--policy", region="us-west-2").exit_code == 2


def policy(**settings):
    settings = {"model": MODELS["3.0"], "region": "us-east-1", "invoke_id": M3, "account": "123456789012"} | settings
    return {statement["Sid"]: statement for statement in least_policy(**settings)["Statement"]}


def test_the_model_the_jobs_and_the_profile():
    assert policy()["UseMarengo"]["Resource"] == [MODEL, JOBS]
    profile = f"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.{M3}"
    anywhere = f"arn:aws:bedrock:*::foundation-model/{M3}"
    by_profile = policy(region="eu-west-1", invoke_id=f"eu.{M3}")["UseMarengo"]["Resource"]
    assert by_profile == [anywhere, profile, JOBS.replace("us-east-1", "eu-west-1")]
    own = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
    assert policy(invoke_id=own)["UseMarengo"]["Resource"] == [anywhere, own, JOBS]
    assert policy(invoke_id=MODEL)["UseMarengo"]["Resource"] == [MODEL, JOBS]


def test_prefixes_objects_and_buckets():
    found = policy(read=["s3://a/videos/", "s3://a/b/match.mp4", "s3://whole"], written=["s3://a/out/"])
    assert found["ListBucket1"]["Condition"] == {"StringLike": {"s3:prefix": ["videos/*", "b/match.*", "out/*"]}}
    assert "Condition" not in found["ListBucket2"]
    assert found["ReadMedia"]["Resource"] == [
        f"arn:aws:s3:::{place}" for place in ("a/videos/*", "a/b/match.*", "whole/*")
    ]
    assert found["KeepOutputs"]["Resource"] == ["arn:aws:s3:::a/out/*"]
    assert set(policy()) == {"UseMarengo", "FollowJobs", "AskBedrock"}


def test_letters_that_mean_something_to_iam():
    assert policy(read=["s3://a/50% off? *$/"])["ReadMedia"]["Resource"] == ["arn:aws:s3:::a/50% off${?} ${*}${$}/*"]


def test_a_key_and_an_alias():
    assert policy(kms_key_id=KEY)["UseKey"]["Resource"] == [KEY]
    alias = policy(kms_key_id="arn:aws:kms:us-east-1:123456789012:alias/team/mine")["UseKey"]
    assert alias["Resource"] == ["arn:aws:kms:us-east-1:123456789012:key/*"]
    assert alias["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": ["alias/team/mine"]}}


def test_the_least_policy_is_enough_and_no_more(local, run):
    """It allows all that embedding, reading back, forgetting and the doctor ask of AWS, and nothing of it is idle."""
    source, written = f"s3://{local.bucket}/videos/", f"s3://{local.bucket}/stage/"
    local.s3.put_object(Bucket=local.bucket, Key="videos/match.en.vtt", Body=b"WEBVTT\n")
    local.put(b"a sound", "videos/song.mp3")
    settings = {**local.client_options, "bucket_owner": None}
    with MarengoClient(**settings) as client:
        client.embed_text("a goal")
        for media in (source, source):
            assert not [done.error for done in client.embed_many(media) if done.error]
        client.start(f"{source}match.mp4", scopes=["clip"]).status()
        client.forget(f"{source}match.mp4")
    run(staging_s3_uri=written)
    statements = policy(read=[source], written=[local.output_s3_uri, written]).values()
    used = set()
    for action, resource, prefix in filter(None, map(needed, local.calls)):
        allowing = [s["Sid"] for s in statements if allows(s, action, resource, prefix)]
        assert allowing, (action, resource, prefix)
        used.update((sid, action) for sid in allowing)
    granted = {(s["Sid"], action) for s in statements for action in s["Action"]}
    assert used == granted


def allows(statement, action, resource, prefix):
    patterns = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["*"])
    return (
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        and any(fnmatchcase(prefix, pattern) for pattern in patterns)
    )


def needed(call):
    """(action, resource, listed prefix) of a call, by AWS's service authorization reference."""
    match call.op.partition(":"):
        case ("InvokeModel", *_):
            return "bedrock:InvokeModel", MODEL, ""
        case ("StartAsyncInvoke", *_):
            return "bedrock:InvokeModel", JOBS, ""
        case ("GetAsyncInvoke", *_):
            return "bedrock:GetAsyncInvoke", call.arn, ""
        case ("ListAsyncInvokes" | "GetFoundationModelAvailability", *_):
            return f"bedrock:{call.op}", "*", ""
        case ("s3", _, "ListObjectsV2"):
            return "s3:ListBucket", f"arn:aws:s3:::{call.body['bucket']}", call.body["prefix"]
        case ("s3", _, "DeleteObjects"):
            return "s3:DeleteObject", f"arn:aws:s3:::{call.body['bucket']}/marengo/x", ""
        case ("s3", _, "HeadBucket") | ("sts", *_):
            # STS needs no allowance; a HEAD that is refused tells the region all the same.
            return None
        case ("s3", _, op):
            return f"s3:{op}", f"arn:aws:s3:::{call.body['bucket']}/{call.body['key']}", ""


def test_the_policy_of_the_docs_is_what_the_command_prints(local):
    page = (Path(__file__).parents[2] / "docs/iam.md").read_text("utf-8")
    command = next(line for line in page.splitlines() if line.startswith("marengo doctor") and "--policy" in line)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert json.loads(result.stdout) == json.loads(page.partition("```json\n")[2].partition("```")[0])


# How the stand-in calls Transcribe's operations.


def test_transcribe_is_checked_if_asked_for(local, run):
    assert "Transcription jobs can be listed and read" in run("--transcribe").stdout
    local.faults = [Fault("transcribe:ListTranscriptionJobs", error="AccessDeniedException", message="no")]
    result = run("--transcribe")
    assert result.exit_code == 1 and "transcribe:ListTranscriptionJobs" in result.stdout
    assert not paid(local) and run().exit_code == 0
    policy = json.loads(run("--transcribe", "--policy").stdout)
    granted = {action: s["Resource"][0] for s in policy["Statement"] for action in s["Action"]}
    with MarengoClient(**local.client_options) as client:
        client.transcribe(f"s3://{local.bucket}/videos/match.mp4")
    used = {call.op.rpartition(":")[2]: call.body for call in local.calls if "Transcription" in call.op}
    for op, body in used.items():
        name = f"arn:aws:transcribe:us-east-1:123456789012:transcription-job/{body.get('TranscriptionJobName', '')}"
        assert fnmatchcase(name, granted.get(f"transcribe:{op}", "")), op
    assert {"StartTranscriptionJob", "GetTranscriptionJob", "ListTranscriptionJobs"} <= set(used)

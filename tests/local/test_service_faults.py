"""Each fault, as a bare boto3 client meets it."""

import time
import urllib.request

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError, ResponseStreamingError

from marengo_local import Fault

TEXT = {"inputType": "text", "text": {"inputText": "a dog"}}

STATUSES = {
    "AccessDeniedException": 403,
    "ConflictException": 400,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}


@pytest.mark.parametrize("error", STATUSES)
def test_each_error_has_its_status_and_message(bedrock, error):
    bedrock.local.faults.append(Fault("InvokeModel", error=error, message="so it is"))
    with pytest.raises(ClientError) as caught:
        bedrock.text()
    assert caught.value.response["Error"] == {"Code": error, "Message": "so it is"}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == STATUSES[error]


def test_when_is_the_nth_call_a_probability_or_a_callable(bedrock):
    local = bedrock.local
    local.faults.append(Fault("InvokeModel", when=2, error="InternalServerException"))
    assert failures(bedrock, 4) == [1]
    local.faults[:] = [Fault("InvokeModel", when=0.5, error="InternalServerException")]
    often = failures(bedrock, 40)
    assert 8 <= len(often) == local.faults[0].hits <= 32
    cats = Fault("InvokeModel", when=lambda call: "cat" in str(call.body), error="ModelErrorException")
    local.faults[:] = [cats]
    assert failures(bedrock, 2) == []
    with pytest.raises(ClientError):
        bedrock.text("a cat")
    local.faults[:] = [Fault("InvokeModel", error="ThrottlingException", times=2)]
    assert failures(bedrock, 4) == [0, 1]


def failures(bedrock, times):
    failed = []
    for number in range(times):
        try:
            bedrock.text()
        except ClientError:
            failed.append(number)
    return failed


def test_a_fault_on_a_start_starts_nothing(bedrock):
    bedrock.local.faults.append(Fault("StartAsyncInvoke", when=1, drop="before"))
    with pytest.raises(ConnectionClosedError):
        bedrock.start(TEXT)
    assert len(bedrock.local.jobs) == 0


def test_a_reply_lost_after_the_work_is_found_by_its_token(bedrock):
    bedrock.local.faults.append(Fault("StartAsyncInvoke", when=1, drop="after"))
    with pytest.raises(ConnectionClosedError):
        bedrock.start(TEXT, clientRequestToken="t")
    (job,) = bedrock.local.jobs
    assert bedrock.start(TEXT, clientRequestToken="t") == job.arn


def test_a_connection_dropped_in_the_middle_of_a_body(bedrock):
    bedrock.local.faults.append(Fault("InvokeModel", drop="mid-body"))
    with pytest.raises((IncompleteReadError, ResponseStreamingError, ConnectionClosedError)):
        bedrock.text()
    bedrock.local.faults.clear()
    assert bedrock.text()


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b""])
def test_a_reply_that_a_proxy_put_in_place_of_the_services(bedrock, body):
    where = {"Bucket": bedrock.local.bucket, "Key": "a"}
    bedrock.local.put(b"x" * 100_000, "a")
    bedrock.local.faults[:] = [Fault("StartAsyncInvoke", body=body), Fault("s3:GetObject", body=body, times=1)]
    with pytest.raises(KeyError):
        bedrock.start(TEXT)
    assert len(bedrock.local.jobs) == 1
    reply = bedrock.s3.get_object(**where)
    assert reply["Body"].read() == body and "ETag" not in reply
    assert len(bedrock.s3.get_object(**where)["Body"].read()) == 100_000


def test_delays_slow_bodies_and_latency(bedrock):
    assert min(lasts(bedrock.text) for _ in range(5)) < 0.2
    bedrock.local.faults[:] = [Fault("InvokeModel", delay_sec=0.2)]
    assert lasts(bedrock.text) >= 0.2
    bedrock.local.faults[:] = [Fault("InvokeModel", body_sec=0.2)]
    assert lasts(bedrock.text) >= 0.2
    bedrock.local.faults.clear()
    bedrock.local.latency_sec = 0.2
    assert lasts(bedrock.client.list_async_invokes) >= 0.2


def lasts(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_job_that_fails_and_a_job_that_never_ends(bedrock):
    bedrock.local.faults[:] = [
        Fault("Job", when=1, error="Failed", message="Internal error, try again"),
        Fault("Job", when=lambda call: call.body["clientRequestToken"] == "stuck", delay_sec=float("inf")),
    ]
    failed = bedrock.end_of(bedrock.start(TEXT, clientRequestToken="fails"))
    assert (failed["status"], failed["failureMessage"]) == ("Failed", "Internal error, try again")
    stuck = bedrock.start(TEXT, clientRequestToken="stuck")
    fine = bedrock.end_of(bedrock.start(TEXT, clientRequestToken="fine"))
    assert fine["status"] == "Completed"
    assert bedrock.client.get_async_invoke(invocationArn=stuck)["status"] == "InProgress"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("s3:GetObject", error="AccessDenied"), ClientError),
        (Fault("s3:GetObject", error="NoSuchKey"), ClientError),
        (Fault("s3:GetObject", drop="before"), ConnectionClosedError),
        (Fault("s3:GetObject", drop="after"), ConnectionClosedError),
        (Fault("s3:GetObject", drop="mid-body"), (IncompleteReadError, ResponseStreamingError)),
    ],
    ids=lambda value: value.error or value.drop if isinstance(value, Fault) else "",
)
def test_s3_misbehaves_for_the_clients_keys_only(bedrock, fault, error):
    bedrock.local.put(b"x" * 100_000, "a")
    bedrock.local.faults.append(fault)
    with pytest.raises(error):
        bedrock.s3.get_object(Bucket=bedrock.local.bucket, Key="a")["Body"].read()
    assert len(bedrock.local.s3.get_object(Bucket=bedrock.local.bucket, Key="a")["Body"].read()) == 100_000
    assert bedrock.local.calls["s3:GetObject"] == 1
    assert bedrock.end_of(bedrock.start_video())["status"] == "Completed"


def test_slow_s3_and_its_counts(bedrock):
    bedrock.local.put(b"x", "a b#?%25é")
    bedrock.local.faults[:] = [Fault("s3:HeadObject", delay_sec=0.2)]
    head = {"Bucket": bedrock.local.bucket, "Key": "a b#?%25é"}
    assert lasts(lambda: bedrock.s3.head_object(**head)) >= 0.2
    assert bedrock.local.calls.of("s3:HeadObject")[0].body["key"] == "a b#?%25é"
    bedrock.s3.list_objects_v2(Bucket=bedrock.local.bucket, Prefix="b")
    (listed,) = bedrock.local.calls.of("s3:ListObjectsV2")
    assert listed.body["prefix"] == "b"
    url = bedrock.s3.generate_presigned_url("get_object", Params=head)
    assert urllib.request.urlopen(url).read() == b"x"
    assert bedrock.local.calls["s3:GetObject"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "InvokeModels", "error": "ThrottlingException"},
        {"op": "InvokeModel", "error": "Throttling"},
        {"op": "Job", "drop": "before"},
    ],
)
def test_a_fault_that_could_never_strike_is_refused(wrong):
    with pytest.raises(ValueError, match="Fault: "):
        Fault(**wrong)

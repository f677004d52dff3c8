"""What an account brings along: who calls, by which clock, whether it has subscribed, whose buckets there are."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from marengo_local import Fault

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
TEXT = {"inputType": "text", "text": {"inputText": "a dog"}}


@pytest.fixture
def aws(local):
    """Clients of other services by name."""
    keys = {key: local.client_options[key] for key in ("aws_access_key_id", "aws_secret_access_key")}
    config = Config(retries={"total_max_attempts": 1})

    def client(service, url):
        return boto3.client(service, region_name=local.region_name, endpoint_url=url, config=config, **keys)

    return client


@pytest.fixture
def sts(aws, local):
    return aws("sts", local.sts_endpoint_url)


@pytest.fixture
def availability(aws, local):
    control = aws("bedrock", local.endpoint_url)
    return lambda model_id=M3: control.get_foundation_model_availability(modelId=model_id)


def refusal(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response


def test_sts_is_counted_and_misbehaves(local, sts):
    assert sts.get_caller_identity()["Account"] == local.account_id
    local.faults = [Fault("sts:GetCallerIdentity", error="ExpiredToken")]
    refused = refusal(sts.get_caller_identity)
    assert refused["Error"]["Code"] == "ExpiredToken"
    assert "expired" in refused["Error"]["Message"]
    assert local.calls["sts:GetCallerIdentity"] == 2
    assert sts.assume_role(RoleArn=f"arn:aws:iam::{local.account_id}:role/r", RoleSessionName="session")["Credentials"]


def test_an_account_that_never_used_the_model_subscribes_by_an_invoke(bedrock, local, availability):
    assert availability()["agreementAvailability"]["status"] == "AVAILABLE"
    local.subscribed = False
    assert availability()["agreementAvailability"]["status"] == "NOT_AVAILABLE"
    assert "aws-marketplace:Subscribe" in refusal(lambda: bedrock.start(TEXT))["Error"]["Message"]
    bedrock.text()
    assert local.subscribed
    assert bedrock.start(TEXT)
    assert local.calls["GetFoundationModelAvailability"] == 2


def test_availability_can_be_anything(local, availability):
    local.availability = {"authorizationStatus": "NOT_AUTHORIZED", "agreementAvailability": "PENDING"}
    reported = availability()
    assert (reported["authorizationStatus"], reported["agreementAvailability"]["status"]) == (
        "NOT_AUTHORIZED",
        "PENDING",
    )
    assert refusal(lambda: availability("other.model-v1:0"))["Error"]["Code"] == "ResourceNotFoundException"
    local.faults = [Fault("GetFoundationModelAvailability", error="AccessDeniedException")]
    assert refusal(availability)["Error"]["Code"] == "AccessDeniedException"


def test_a_clock_that_is_off(bedrock, local, sts):
    calls = (
        bedrock.client.list_async_invokes,
        sts.get_caller_identity,
        lambda: bedrock.s3.list_objects_v2(Bucket=local.bucket),
    )

    def skew_sec(reply):
        reported = parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
        return (reported - datetime.now(UTC)).total_seconds()

    for skew in (0.0, 200.0, -200.0):
        local.clock_skew_sec = skew
        assert all(abs(skew_sec(call()) - skew) < 5 for call in calls)
    for skew in (1000.0, -1000.0):
        local.clock_skew_sec = skew
        refused = [refusal(call) for call in calls]
        assert all(abs(skew_sec(reply) - skew) < 5 for reply in refused)
        codes = [reply["Error"]["Code"] for reply in refused]
        assert codes == ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]


def test_the_expected_owner_of_a_bucket(bedrock, local):
    def listed(owner):
        return bedrock.s3.list_objects_v2(Bucket=local.bucket, ExpectedBucketOwner=owner)

    assert listed(local.account_id)
    assert refusal(lambda: listed("111111111111"))["Error"]["Code"] == "AccessDenied"
    local.bucket_owners = {local.bucket: "111111111111"}
    assert listed("111111111111")

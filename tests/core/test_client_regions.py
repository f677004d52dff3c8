"""Model IDs by region and call; bucket owners and bucket regions."""

import warnings
from pathlib import Path

import pytest

import marengo_local
from bedrock_marengo import ConfigurationError, MarengoClient, MarengoWarning, MediaNotFoundError, ServiceError, errors
from langchain_marengo import MarengoEmbeddings
from llama_index_marengo import MarengoEmbedding
from marengo_local import Fault

BASE = {"3.0": "twelvelabs.marengo-embed-3-0-v1:0", "2.7": "twelvelabs.marengo-embed-2-7-v1:0"}
REGIONS = {
    "us-east-1": {"3.0": "", "2.7": "us."},
    "eu-west-1": {"3.0": "eu.", "2.7": "eu."},
    "ap-northeast-2": {"3.0": "", "2.7": "apac."},
}
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"


@pytest.mark.filterwarnings("ignore:AWS ends Marengo")
@pytest.mark.parametrize("region", REGIONS)
def test_each_call_uses_the_regions_model_id(region):
    with marengo_local.serve(region=region, synthetic_sec=6.0) as there:
        uri = there.put(b"v", "a.mp4")
        for version, prefix in REGIONS[region].items():
            with MarengoClient(version, **there.client_options) as client:
                client.embed_text("a")
                client.embed_media(uri)
            assert there.calls.of("InvokeModel")[-1].model_id == prefix + BASE[version]
            assert there.calls.of("StartAsyncInvoke")[-1].model_id == BASE[version]


@pytest.mark.parametrize("region", REGIONS)
def test_the_page_names_each_regions_id(region):
    page = (Path(__file__).parents[2] / "docs" / "iam.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {region} |")]
    for cell, (version, prefix) in zip(row.split(" | ")[1:], REGIONS[region].items(), strict=False):
        assert cell.startswith(f"`{prefix}` profile" if prefix else "base ID"), version


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (BASE["3.0"], BASE["3.0"]),
        ("us." + BASE["2.7"], "us." + BASE["2.7"]),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{BASE['3.0']}", BASE["3.0"]),
        (
            f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{BASE['2.7']}",
            f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{BASE['2.7']}",
        ),
    ],
)
def test_a_model_by_id_profile_or_arn(connect, local, video, model, sent):
    client = connect(model)
    client.embed_text("a")
    client.embed_media(video)
    assert local.calls.of("InvokeModel")[0].model_id == sent
    assert local.calls.of("StartAsyncInvoke")[0].model_id == client.model_id in BASE.values()


def test_an_application_inference_profile(connect, local, video):
    local.application_profiles = {PROFILE: BASE["3.0"]}
    client = connect("3.0", invoke_model_id=PROFILE)
    client.embed_text("a")
    client.embed_media(video)
    assert local.calls.of("InvokeModel")[0].model_id == PROFILE
    assert local.calls.of("StartAsyncInvoke")[0].model_id == BASE["3.0"]
    with pytest.raises(ConfigurationError, match=r"does not identify its model\. Set the version"):
        MarengoClient(PROFILE)


def test_a_wrong_id_is_explained(connect, local):
    with pytest.raises(ServiceError, match=r"on-demand throughput.*to use the default profile"):
        connect("2.7", invoke_model_id=BASE["2.7"]).embed_text("a")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_endpoint_on_this_machine_is_not_behind_a_proxy(local, video, monkeypatch, host):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    there = {name: local.client_options[name].replace("127.0.0.1", host) for name in local.client_options}
    with MarengoClient(**there) as client:
        assert client.embed_media(video).vectors.shape[1] == 512


def test_a_region_without_marengo(connect, local, video):
    client = connect(region_name="us-west-2")
    for call in (lambda: client.embed_text("a"), lambda: client.embed_media(video)):
        with pytest.raises(
            ConfigurationError, match=r"not available in us-west-2.*us-east-1, eu-west-1, ap-northeast-2"
        ):
            call()
    assert len(local.calls) == 0


def test_no_region(monkeypatch, local):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="No region is set: set region_name="):
        MarengoClient().embed_text("a")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert MarengoClient().embed_text("a").shape == (512,)


# The end of a model, which the service enforces.


@pytest.fixture
def seoul():
    with marengo_local.serve(region="ap-northeast-2", synthetic_sec=6.0) as there:
        yield there


def ends(caught):
    return [str(warning.message) for warning in caught if "AWS ends Marengo" in str(warning.message)]


@pytest.mark.parametrize("known", ["setting", "environment"])
def test_a_model_that_ends_in_one_region_warns_once_a_process(monkeypatch, seoul, known):
    options = dict(seoul.client_options)
    if known == "environment":
        monkeypatch.setenv("AWS_DEFAULT_REGION", options.pop("region_name"))
    uri = seoul.put(b"v", "a.mp4")
    with pytest.warns() as caught:
        for _ in range(2):
            with MarengoClient(**options) as client:
                client.embed_texts(map(str, range(40)))
                client.embed_media(uri)
                client.plan(uri)
    (said,) = ends(caught)
    assert "Marengo 3.0 in ap-northeast-2 on 2027-03-22" in said
    assert "active in us-east-1 and eu-west-1: use region_name='us-east-1'" in said


def test_a_job_alone_warns_of_the_end_too(monkeypatch, seoul):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-northeast-2")
    uri = seoul.put(b"v", "a.mp4")
    options = {**seoul.client_options, "region_name": None}
    with pytest.warns(MarengoWarning, match="2027-03-22"), MarengoClient(**options) as client:
        client.embed_media(uri)


def test_each_front_end_warns_of_the_end_once(seoul):
    calls = (
        lambda: MarengoClient(**seoul.client_options).embed_text("a"),
        lambda: MarengoEmbeddings(**seoul.client_options).embed_query("a"),
        lambda: MarengoEmbedding(**seoul.client_options).get_query_embedding("a"),
    )
    for call in calls:
        errors._warned.clear()
        with pytest.warns() as caught:
            call()
            call()
        assert len(ends(caught)) == 1


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_region_where_the_model_is_active_warns_of_nothing(region):
    with marengo_local.serve(region=region, synthetic_sec=6.0) as there, warnings.catch_warnings():
        warnings.simplefilter("error")
        with MarengoClient(**there.client_options) as client:
            client.embed_text("a")
            client.embed_media(there.put(b"v", "a.mp4"))


@pytest.mark.parametrize("region", [None, *REGIONS])
def test_2_7_warns_once_wherever_it_is(region):
    with pytest.warns() as caught:
        for _ in range(2):
            MarengoClient("2.7", region_name=region)
            MarengoClient("2.7")
    (said,) = ends(caught)
    assert "ends Marengo 2.7 on 2026-11-30" in said
    assert "makes no call to 2.7" in said


ENDED = "This model version has reached the end of its life. Please refer to the AWS documentation for more details."
LEGACY = (
    "Access denied. This Model is marked by provider as Legacy and you have not been actively using the model in the "
    "last 30 days. Please upgrade to an active model on Amazon Bedrock"
)


@pytest.mark.parametrize("op", ["InvokeModel", "StartAsyncInvoke"])
@pytest.mark.parametrize("said", [ENDED, LEGACY])
@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ValidationException"])
def test_a_model_that_is_gone_is_the_services_to_refuse(connect, local, video, op, said, code):
    local.faults = [Fault(op, error=code, message=said)]
    client = connect("2.7")
    with pytest.raises(ServiceError, match=r"model='3\.0'.*migrate makes no call to 2\.7") as caught:
        client.embed_text("a") if op == "InvokeModel" else client.embed_media(video)
    assert caught.value.remedy["model"] == "3.0"
    assert "IAM" not in str(caught.value)
    assert local.calls[op] == 1


def test_a_profile_on_a_start_is_explained(connect, local, video):
    said = "The provided model doesn\u2019t support async inference."
    local.faults = [Fault("StartAsyncInvoke", error="ValidationException", message=said)]
    with pytest.raises(ServiceError, match="only the model's base ID, not an inference profile"):
        connect().embed_media(video)


# Buckets.


@pytest.fixture
def elsewhere(local):
    """A bucket in another region, with a video and an image."""
    name = f"{local.bucket}-eu"
    local.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for key in ("a.mp4", "a.png"):
        local.s3.put_object(Bucket=name, Key=key, Body=b"x")
    return name


def bedrock_calls(local):
    return local.calls["InvokeModel"] + local.calls["StartAsyncInvoke"]


def test_a_bucket_in_another_region(connect, local, video, elsewhere):
    client = connect()
    for call in (
        lambda: client.embed_media(f"s3://{elsewhere}/a.mp4"),
        lambda: client.embed_media(f"s3://{elsewhere}/a.png"),
        lambda: client.embed_image(f"s3://{elsewhere}/a.png"),
        lambda: connect(output_s3_uri=f"s3://{elsewhere}/out/").embed_media(video),
    ):
        with pytest.raises(ConfigurationError, match=f"Bucket '{elsewhere}' is in eu-west-1, the model in us-east-1"):
            call()
    assert bedrock_calls(local) == 0


def test_no_such_bucket(connect, local, video):
    for call in (
        lambda: connect().embed_media("s3://no-such-bucket-of-ours/a.mp4"),
        lambda: connect(output_s3_uri="s3://no-such-bucket-of-ours/").embed_media(video),
    ):
        with pytest.raises(MediaNotFoundError, match="There is no bucket 'no-such-bucket-of-ours'"):
            call()
    assert bedrock_calls(local) == 0


def test_segments_need_an_output_prefix(connect, local, video):
    with pytest.raises(ConfigurationError, match="set output_s3_uri="):
        connect(output_s3_uri=None).embed_media(video)
    assert len(local.calls) == 0


# Bucket owners: always sent.


def owner_sent(local):
    return local.calls.of("StartAsyncInvoke")[-1].body["modelInput"]["video"]["mediaSource"]["s3Location"][
        "bucketOwner"
    ]


def output_owner_sent(local):
    return local.calls.of("StartAsyncInvoke")[-1].body["outputDataConfig"]["s3OutputDataConfig"]["bucketOwner"]


def test_bucket_owner_setting(connect, local, video):
    connect(bucket_owner=local.account_id).embed_media(video)
    assert owner_sent(local) == output_owner_sent(local) == local.account_id


def test_bucket_owner_per_bucket(connect, local):
    other = f"{local.bucket}-theirs"
    local.s3.create_bucket(Bucket=other)
    local.s3.put_object(Bucket=other, Key="a.mp4", Body=b"x")
    local.bucket_owners = {other: "999999999999"}
    connect(bucket_owner={other: "999999999999", local.bucket: local.account_id}).embed_media(f"s3://{other}/a.mp4")
    assert (owner_sent(local), output_owner_sent(local)) == ("999999999999", local.account_id)


def test_bucket_owner_from_sts(connect, local, video):
    connect(bucket_owner=None).embed_media(video)
    assert owner_sent(local) == output_owner_sent(local) == local.account_id


def test_sts_is_unavailable(connect, local, video, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=f"owns bucket '{local.bucket}'.*bucket_owner='123456789012'"):
        connect(bucket_owner=None).embed_media(video)
    assert bedrock_calls(local) == 0
    # With a given owner, STS is not called.
    assert len(connect().embed_media(video))


def test_a_wrong_owner_is_the_services_to_refuse(connect, local, video):
    with pytest.raises(ServiceError, match=r"bucketOwner.*Set the account that owns the bucket"):
        connect(bucket_owner="111111111111").embed_media(video)

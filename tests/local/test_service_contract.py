"""What the service refuses, and that it accepts all that AWS's pages document, in both versions."""

import base64
import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

import marengo_local

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
M27 = "twelvelabs.marengo-embed-2-7-v1:0"
US3, US27 = f"us.{M3}", f"us.{M27}"
B64 = base64.b64encode(b"an image").decode()
INLINE = {"base64String": B64}
LARGE = {"base64String": base64.b64encode(b"x" * (5 * 1024 * 1024 + 1)).decode()}
S3 = {"s3Location": {"uri": "s3://BUCKET/a.mp4", "bucketOwner": "123456789012"}}


def text3(**fields):
    return {"inputType": "text", "text": {"inputText": "a dog"}, **fields}


def video3(**fields):
    return {"inputType": "video", "video": {"mediaSource": S3, **fields}}


def audio3(**fields):
    return {"inputType": "audio", "audio": {"mediaSource": S3, **fields}}


def multi3(text, *names, **more):
    sources = [{"mediaType": "image", **INLINE, **({"name": name} if name else {})} for name in names]
    return {"inputType": "multi_input", "multi_input": {"inputText": text, "mediaSources": sources, **more}}


def video27(**fields):
    return {"inputType": "video", "mediaSource": S3, **fields}


def fixed(seconds):
    return {"method": "fixed", "fixed": {"durationSec": seconds}}


def dynamic(seconds):
    return {"method": "dynamic", "dynamic": {"minDurationSec": seconds}}


INVOKE_REFUSED = [
    (M3, {}, "inputType"),
    (M3, [], "JSONObject"),
    (M3, {"inputText": "a dog"}, "inputType"),
    (M3, {"inputType": "text", "inputText": "a dog"}, "text"),
    (M3, {"inputType": "poem", "poem": {}}, "enum"),
    (M3, {"inputType": ["text"]}, "enum"),
    (M3, {"inputType": "text", "text": {"inputText": ""}}, "minLength"),
    (M3, {"inputType": "text", "text": {"inputText": 7}}, "String|string"),
    (M3, {"inputType": "text", "text": {"inputText": "\ud800"}}, "Unicode"),
    (M3, {"inputType": "text", "text": {"inputText": "a", "textTruncate": "end"}}, "textTruncate"),
    (M3, text3(embeddingOption=["visual"]), "embeddingOption"),
    (M3, text3(inferenceId=7), "inferenceId"),
    (M3, {"inputType": "image", "image": {}}, "mediaSource"),
    (M3, {"inputType": "image", "image": {"mediaSource": {}}}, "exactly one"),
    (M3, {"inputType": "image", "image": {"mediaSource": {**INLINE, **S3}}}, "exactly one"),
    (M3, {"inputType": "image", "image": {"mediaSource": {"base64String": "%%%"}}}, "base64"),
    (M3, {"inputType": "image", "image": {"mediaSource": LARGE}}, "5242880"),
    (M3, {"inputType": "image", "image": {"mediaSource": {"s3Location": {"uri": "s3://b/a"}}}}, "bucketOwner"),
    (
        M3,
        {
            "inputType": "image",
            "image": {"mediaSource": {"s3Location": {"uri": "https://b/a", "bucketOwner": "1" * 12}}},
        },
        "pattern",
    ),
    (
        M3,
        {"inputType": "image", "image": {"mediaSource": {"s3Location": {"uri": "s3://bbb/a", "bucketOwner": "12"}}}},
        "pattern",
    ),
    (
        M3,
        {"inputType": "image", "image": {"mediaSource": {"s3Location": {"bucketName": "bbb", "objectKey": "a"}}}},
        "s3Location",
    ),
    (M3, {"inputType": "text_image", "text_image": {"mediaSource": INLINE}}, "inputText"),
    (M3, multi3("<@a> and <@b>", "a"), "placeholders"),
    (M3, multi3("<@a>", "a", "a"), "unique"),
    (M3, multi3("<@a>", "a", "b"), "no placeholder"),
    (M3, multi3("none"), "minimum item count"),
    (M3, multi3("many", *[None] * 11), "maximum item count"),
    (M3, {"inputType": "multi_input", "multi_input": {"mediaSources": [{**INLINE}]}}, "mediaType"),
    (
        M3,
        {"inputType": "multi_input", "multi_input": {"mediaSources": [{**INLINE, "mediaType": "video"}]}},
        "expected: image",
    ),
    (M3, video3(), "enum"),
    (M3, audio3(), "enum"),
    (M3, b'{"inputType": "text", "text": {"inputText": NaN}}', "Malformed"),
    (M3, b"{", "Malformed"),
    (M3, b"\xff", "Malformed"),
    (US27, text3(), "extraneous|required"),
    (US27, {"inputType": "text", "inputText": ""}, "minLength"),
    (US27, {"inputType": "text", "inputText": "a", "textTruncate": "start"}, "enum"),
    (US27, {"inputType": "text", "inputText": "word " * 78, "textTruncate": "none"}, "77"),
    (US27, {"inputType": "text", "inputText": "a", "inferenceId": "x"}, "inferenceId"),
    (US27, {"inputType": "text_image", "inputText": "a", "mediaSource": INLINE}, "enum"),
    (US27, {"inputType": "image", "mediaSource": INLINE, "startSec": 1}, "startSec"),
    (US27, video27(), "enum"),
]

START_REFUSED = [
    (M3, video3(startSec=-1), "minimum|greater"),
    (M3, video3(endSec=3), "segment length"),
    (M3, video3(startSec=10, endSec=13.9), "segment length"),
    (M3, video3(endSec=5, segmentation=fixed(6)), "segment length"),
    (M3, audio3(startSec=5, endSec=5), "segment length"),
    (M3, video3(lengthSec=5), "lengthSec"),
    (M3, video3(segmentation=fixed(11)), "less or equal"),
    (M3, video3(segmentation=fixed(0)), "greater or equal"),
    (M3, video3(segmentation=fixed(2.5)), "integer"),
    (M3, video3(segmentation=fixed(True)), "integer"),
    (M3, video3(segmentation=dynamic(6)), "less or equal"),
    (M3, video3(segmentation={**dynamic(4), **fixed(6)}), "segmentation"),
    (M3, audio3(segmentation=dynamic(4)), "segmentation"),
    (M3, video3(embeddingOption=[]), "minimum item"),
    (M3, video3(embeddingOption="visual"), "array"),
    (M3, video3(embeddingOption=["visual-text"]), "enum"),
    (M3, video3(embeddingOption=["audio", "audio"]), "unique"),
    (M3, audio3(embeddingOption=["visual"]), "enum"),
    (M3, video3(embeddingOption=["visual"], embeddingType=["fused_embedding"]), "minimum item"),
    (M3, audio3(embeddingOption=["audio"], embeddingType=["fused_embedding"]), "minimum item"),
    (M3, video3(embeddingScope=["video"]), "enum"),
    (M3, {"inputType": "video", "video": {"mediaSource": S3}, "embeddingOption": ["visual"]}, "extraneous"),
    (M27, video27(minClipSec=6), "less or equal"),
    (M27, video27(minClipSec=1.5), "integer"),
    (M27, video27(minClipSec=5, useFixedLengthSec=4), "minClipSec"),
    (M27, video27(useFixedLengthSec=1), "greater or equal"),
    (M27, video27(useFixedLengthSec=10.5), "less or equal"),
    (M27, video27(lengthSec=0), "lengthSec"),
    (M27, video27(endSec=9), "endSec"),
    (M27, video27(embeddingOption=["transcription"]), "enum"),
    (M27, video27(embeddingScope=["clip"]), "embeddingScope"),
    (M27, {**video27(minClipSec=4), "inputType": "audio"}, "minClipSec"),
    (M27, {**video27(embeddingOption=["visual-text"]), "inputType": "audio"}, "embeddingOption"),
    (M27, {**video27(embeddingOption=["transcription"]), "inputType": "audio"}, "enum"),
]

START_ACCEPTED = [
    (M3, text3(inferenceId="mine")),
    (M3, {"inputType": "image", "image": {"mediaSource": INLINE}}),
    (M3, {"inputType": "text_image", "text_image": {"inputText": "at night", "mediaSource": INLINE}}),
    (M3, multi3("<@a> beside <@b>", "b", "a")),
    (M3, multi3("", None)),
    (M3, video3(segmentation=dynamic(1), startSec=2, endSec=8.5)),
    (M3, video3(segmentation=fixed(10), embeddingOption=["visual", "audio"], embeddingScope=["clip"])),
    (M3, video3(embeddingType=["fused_embedding"])),
    (M3, audio3(segmentation=fixed(5), endSec=5, embeddingType=["separate_embedding", "fused_embedding"])),
    (M3, {"inputType": "video", "video": {"mediaSource": INLINE}}),
    (M27, {"inputType": "text", "inputText": "word " * 78}),
    (M27, {"inputType": "image", "mediaSource": INLINE}),
    (M27, video27(startSec=1, lengthSec=8.5, useFixedLengthSec=2.5, minClipSec=1, embeddingOption=["visual-text"])),
    (M27, {**video27(useFixedLengthSec=10), "inputType": "audio"}),
    (M27, {**video27(embeddingOption=["audio"]), "inputType": "audio"}),
]


def in_bucket(body, local):
    return json.loads(json.dumps(body).replace("BUCKET", local.bucket))


def case_id(value):
    return str(value)[:60] if isinstance(value, str) else ""


@pytest.mark.parametrize(("model_id", "body", "said"), INVOKE_REFUSED, ids=case_id)
def test_invoke_model_refuses(bedrock, model_id, body, said):
    with pytest.raises(bedrock.client.exceptions.ValidationException, match=said):
        bedrock.invoke(body, model_id)


@pytest.mark.parametrize(("model_id", "body", "said"), START_REFUSED, ids=case_id)
def test_start_async_invoke_refuses(bedrock, model_id, body, said):
    with pytest.raises(bedrock.client.exceptions.ValidationException, match=said):
        bedrock.start(in_bucket(body, bedrock.local), model_id)
    assert len(bedrock.local.jobs) == 0


@pytest.mark.parametrize(("model_id", "body"), START_ACCEPTED, ids=case_id)
def test_what_the_pages_document_is_accepted(bedrock, model_id, body):
    bedrock.local.put(b"a video", "a.mp4")
    rows = bedrock.rows(in_bucket(body, bedrock.local), model_id=model_id)
    assert {len(row["embedding"]) for row in rows} == {512 if model_id == M3 else 1024}


def test_2_7_takes_visual_options_for_audio_and_returns_none(bedrock):
    body = {**video27(embeddingOption=["visual-text", "audio"]), "inputType": "audio"}
    bedrock.local.put(b"a sound", "a.mp4")
    rows = bedrock.rows(in_bucket(body, bedrock.local), model_id=M27)
    assert {row["embeddingOption"] for row in rows} == {"audio"}


@pytest.mark.parametrize(
    ("model_id", "body", "said"),
    [
        (M3, text3(foo=1), "#: extraneous key [foo] is not permitted"),
        (M3, video3(lengthSec=5), "#/video: extraneous key [lengthSec] is not permitted"),
        (M27, video27(endSec=5), "#: extraneous key [endSec] is not permitted"),
    ],
)
def test_an_extra_key_is_named_in_the_services_words(bedrock, model_id, body, said):
    with pytest.raises(ClientError) as caught:
        bedrock.start(in_bucket(body, bedrock.local), model_id)
    message = f"Malformed input request: {said}, please reformat your input and try again."
    assert caught.value.response["Error"] == {"Code": "ValidationException", "Message": message}


def test_a_body_over_25_million_bytes_is_refused(bedrock):
    with pytest.raises(bedrock.client.exceptions.ValidationException, match="25000000"):
        bedrock.text("a" * 25_000_001)


def test_text_beyond_the_limit_is_cut_at_the_end(bedrock):
    long = "word " * 500
    assert bedrock.text(long + "cat") == bedrock.text(long + "dog") != bedrock.text(long[5:] + "dog")


ACCEPTED_IDS = {
    "us-east-1": ({M3, US3}, {US27}),
    "eu-west-1": ({f"eu.{M3}"}, {f"eu.{M27}"}),
    "ap-northeast-2": ({M3}, {f"apac.{M27}"}),
}


@pytest.mark.parametrize("region", ACCEPTED_IDS)
def test_each_region_takes_its_own_ids(connect, region):
    with marengo_local.serve(region=region, synthetic_sec=6.0) as local:
        bedrock = connect(local)
        for version, model, body in ((0, M3, text3()), (1, M27, {"inputType": "text", "inputText": "a"})):
            for prefix in ("", "us.", "eu.", "apac."):
                answered = answers(lambda: bedrock.invoke(body, prefix + model))  # noqa: B023
                assert answered == (prefix + model in ACCEPTED_IDS[region][version]), (prefix, model)
                assert answers(lambda: bedrock.start(body, prefix + model)) == (prefix == "")  # noqa: B023


@pytest.mark.parametrize("region", ACCEPTED_IDS)
def test_a_start_takes_no_profile_whatever_its_form(connect, region):
    account, body = "123456789012", {M3: text3(), M27: {"inputType": "text", "inputText": "a"}}
    application = f"arn:aws:bedrock:{region}:{account}:application-inference-profile/abc123def456"
    with marengo_local.serve(region=region, synthetic_sec=6.0, application_profiles={application: M3}) as local:
        bedrock = connect(local)
        profiles = [(model, i) for model, ids in zip((M3, M27), ACCEPTED_IDS[region], strict=True) for i in ids - {M3}]
        arns = [(model, f"arn:aws:bedrock:{region}:{account}:inference-profile/{i}") for model, i in profiles]
        for model, identifier in (*profiles, *arns, (M3, application)):
            with pytest.raises(ClientError) as caught:
                bedrock.start(body[model], identifier)
            message = "The provided model doesn't support async inference."
            assert caught.value.response["Error"] == {"Code": "ValidationException", "Message": message}
        with pytest.raises(ClientError, match="model identifier is invalid"):
            bedrock.start(body[M3], f"global.{M3}")


def answers(call):
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ValidationException"
        return False
    return True


def test_model_identifiers_in_their_other_forms(bedrock):
    account, body = bedrock.local.account_id, text3()
    application = f"arn:aws:bedrock:us-east-1:{account}:application-inference-profile/abc123def456"
    bedrock.local.application_profiles = {application: M3}
    assert bedrock.invoke(body, application)
    assert bedrock.invoke(body, f"arn:aws:bedrock:us-east-1::foundation-model/{M3}")
    assert bedrock.invoke(body, f"arn:aws:bedrock:us-east-1:{account}:inference-profile/{US3}")
    with pytest.raises(bedrock.client.exceptions.ResourceNotFoundException):
        bedrock.invoke(body, application + "x")
    with pytest.raises(bedrock.client.exceptions.ValidationException, match="identifier is invalid"):
        bedrock.invoke(body, f"arn:aws:bedrock:eu-west-1::foundation-model/{M3}")
    with pytest.raises(bedrock.client.exceptions.ValidationException, match="isn’t supported"):
        bedrock.invoke({"inputType": "text", "inputText": "a"}, M27)
    with pytest.raises(bedrock.client.exceptions.ValidationException, match="identifier is invalid"):
        bedrock.invoke(body, "amazon.titan-embed-text-v2:0")


def test_buckets_must_exist_be_here_and_be_the_owners(bedrock):
    local, invalid = bedrock.local, bedrock.client.exceptions.ValidationException
    with pytest.raises(invalid, match="does not exist"):
        bedrock.start(text3(), s3_uri="s3://no-such-bucket-at-all/x")
    far = local.bucket + "-far"
    local.s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    with pytest.raises(invalid, match="eu-west-1"):
        bedrock.start(text3(), s3_uri=f"s3://{far}/x")
    with pytest.raises(invalid, match="eu-west-1"):
        bedrock.invoke({"inputType": "image", "image": {"mediaSource": bedrock.s3_source(f"s3://{far}/a.jpg")}})
    local.bucket_owners = {local.bucket: "210987654321"}
    with pytest.raises(invalid, match="not owned"):
        bedrock.start_video()


def test_a_request_must_be_signed(bedrock):
    anonymous = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=bedrock.local.endpoint_url,
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ClientError, match="Missing Authentication Token") as caught:
        anonymous.list_async_invokes()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_bearer_token_reaches_sync_calls_only(bedrock):
    def post(path, body):
        headers = {"Authorization": f"Bearer {bedrock.local.api_key}", "Content-Type": "application/json"}
        return urlopen(Request(bedrock.local.endpoint_url + path, json.dumps(body).encode(), headers))

    assert post(f"/model/{M3}/invoke", text3()).status == 200
    output = {"s3OutputDataConfig": {"s3Uri": bedrock.local.output_s3_uri}}
    with pytest.raises(HTTPError) as caught:
        post("/async-invoke", {"modelId": M3, "modelInput": text3(), "outputDataConfig": output})
    assert b"Invalid S3 credentials" in caught.value.read()

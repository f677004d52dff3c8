"""Asynchronous invocations over HTTP: their life, their listing, their quotas, their output on S3."""

import json
import re
import struct
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, ParamValidationError

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
M27 = "twelvelabs.marengo-embed-2-7-v1:0"
TEXT = {"inputType": "text", "text": {"inputText": "a dog"}}


def test_a_job_from_start_to_output(bedrock, held):
    local = bedrock.local
    kms = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    output = {"s3OutputDataConfig": {"s3Uri": f"s3://{local.bucket}/deep/", "kmsKeyId": kms}}
    arn = bedrock.client.start_async_invoke(
        modelId=M3,
        modelInput=bedrock.video("a b#?%é.mp4"),
        outputDataConfig=output,
        clientRequestToken="mine",
        tags=[{"key": "team", "value": "search"}],
    )["invocationArn"]
    assert re.fullmatch(r"arn:aws:bedrock:us-east-1:123456789012:async-invoke/[a-z0-9]{12}", arn)
    started = bedrock.client.get_async_invoke(invocationArn=arn)
    assert started["status"] == "InProgress"
    assert "endTime" not in started
    held.set()
    done = bedrock.end_of(arn)
    assert done["status"] == "Completed"
    assert done["clientRequestToken"] == "mine"
    assert done["modelArn"] == f"arn:aws:bedrock:us-east-1::foundation-model/{M3}"
    place = done["outputDataConfig"]["s3OutputDataConfig"]
    assert place["s3Uri"] == f"s3://{local.bucket}/deep/{arn[-12:]}"
    assert place["kmsKeyId"] == kms
    assert done["endTime"] > done["submitTime"]
    assert local.jobs[arn].tags == {"team": "search"}
    keys = [item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket, Prefix="deep/")["Contents"]]
    assert keys == [f"deep/{arn[-12:]}/manifest.json", f"deep/{arn[-12:]}/output.json"]
    assert "requestId" in json.loads(bedrock.raw_output(done, "manifest.json"))


def test_output_of_3_0(bedrock):
    rows = bedrock.rows(bedrock.video(embeddingType=["separate_embedding", "fused_embedding"]))
    assert {tuple(row) for row in rows} == {("embedding", "embeddingOption", "embeddingScope", "startSec", "endSec")}
    spans = {(row["embeddingScope"], row["startSec"], row["endSec"]) for row in rows}
    assert spans == {("clip", 0.0, 6.0), ("clip", 6.0, 12.0), ("asset", 0.0, 12.0)}
    assert {row["embeddingOption"] for row in rows} == {"visual", "audio", "transcription", "fused"}
    assert len(rows) == 12
    assert all(abs(sum(x * x for x in row["embedding"]) - 1) < 0.01 for row in rows)
    clips = bedrock.rows(bedrock.video(embeddingScope=["clip"], embeddingType=["fused_embedding"]))
    assert [(row["embeddingOption"], row["startSec"]) for row in clips] == [("fused", 0.0), ("fused", 6.0)]


def test_numbers_are_bfloat16(bedrock):
    rows = [*bedrock.rows(bedrock.video()), *bedrock.text()["data"]]
    for row in rows:
        for value in row["embedding"]:
            assert struct.pack("<f", value)[:2] == b"\0\0"
            assert struct.unpack("<f", struct.pack("<f", value))[0] == value


def test_output_of_2_7_has_no_scope_and_widened_times(bedrock):
    bedrock.local.synthetic_sec = 6.2
    source = bedrock.video()["video"]
    rows = bedrock.rows({"inputType": "video", **source}, model_id=M27)
    assert {tuple(row) for row in rows} == {("embedding", "embeddingOption", "startSec", "endSec")}
    assert {row["embeddingOption"] for row in rows} == {"visual-text", "visual-image", "audio"}
    assert max(row["endSec"] for row in rows) == 6.199999809265137
    assert {len(row["embedding"]) for row in rows} == {1024}


def test_text_in_a_job_is_one_bare_row_equal_to_the_sync_reply(bedrock):
    assert bedrock.rows(TEXT) == bedrock.text("a dog")["data"]


def test_vectors_follow_the_sources_bytes(bedrock):
    first = bedrock.rows(bedrock.video("one.mp4"))
    bedrock.local.put(b"other bytes", "one.mp4")
    request = {"mediaSource": bedrock.s3_source(f"s3://{bedrock.local.bucket}/one.mp4")}
    assert bedrock.rows({"inputType": "video", "video": request}) != first


def test_a_token_makes_a_start_idempotent(bedrock):
    video = bedrock.video()
    arn = bedrock.start(video, clientRequestToken="t")
    assert bedrock.start(video, clientRequestToken="t") == arn
    assert len(bedrock.local.jobs) == 1
    with pytest.raises(bedrock.client.exceptions.ConflictException) as caught:
        bedrock.start(video, clientRequestToken="t", tags=[{"key": "a", "value": "b"}])
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert bedrock.start(video, clientRequestToken="u") != arn


@pytest.mark.parametrize("token", ["", "with space", "x" * 257])
def test_tokens_keep_to_their_alphabet(bedrock, token):
    with pytest.raises((ClientError, ParamValidationError), match="clientRequestToken"):
        bedrock.start(TEXT, clientRequestToken=token)


def test_a_missing_source_fails_the_job(bedrock):
    gone = {"mediaSource": bedrock.s3_source(f"s3://{bedrock.local.bucket}/gone.mp4")}
    job = bedrock.end_of(bedrock.start({"inputType": "video", "video": gone}))
    assert job["status"] == "Failed"
    assert "gone.mp4" in job["failureMessage"]


def test_listing_pages_filters_and_sorts(bedrock):
    arns = [bedrock.start(TEXT) for _ in range(7)]
    for arn in arns:
        bedrock.end_of(arn)
    bedrock.local.job_duration_sec = float("inf")
    running = bedrock.start(TEXT)
    pages = bedrock.client.get_paginator("list_async_invokes").paginate(
        sortBy="SubmissionTime", sortOrder="Ascending", PaginationConfig={"PageSize": 3}
    )
    listed = [[job["invocationArn"] for job in page["asyncInvokeSummaries"]] for page in pages]
    assert listed == [arns[:3], arns[3:6], [arns[6], running]]
    newest = bedrock.client.list_async_invokes(maxResults=2)
    assert [job["invocationArn"] for job in newest["asyncInvokeSummaries"]] == [running, arns[6]]
    # A job that starts between two pages shifts neither.
    bedrock.start(TEXT)
    older = bedrock.client.list_async_invokes(maxResults=2, nextToken=newest["nextToken"])
    assert [job["invocationArn"] for job in older["asyncInvokeSummaries"]] == [arns[5], arns[4]]
    done = bedrock.client.list_async_invokes(statusEquals="Completed")["asyncInvokeSummaries"]
    assert {job["invocationArn"] for job in done} == set(arns)
    assert all(job["status"] == "Completed" for job in done)


def test_listing_by_time(bedrock):
    first = bedrock.start(TEXT)
    time.sleep(0.02)
    middle = datetime.now(UTC)
    time.sleep(0.02)
    second = bedrock.start(TEXT)
    after = bedrock.client.list_async_invokes(submitTimeAfter=middle)["asyncInvokeSummaries"]
    before = bedrock.client.list_async_invokes(submitTimeBefore=middle)["asyncInvokeSummaries"]
    assert [job["invocationArn"] for job in after] == [second]
    assert [job["invocationArn"] for job in before] == [first]


@pytest.mark.parametrize("query", [{"maxResults": 1001}, {"nextToken": "forged"}, {"statusEquals": "Stopped"}])
def test_listing_refuses(bedrock, query):
    with pytest.raises(bedrock.client.exceptions.ValidationException):
        bedrock.client.list_async_invokes(**query)


def test_an_unknown_or_forgotten_job(bedrock):
    arn = bedrock.start(TEXT)
    bedrock.local.jobs.forget(arn)
    with pytest.raises(bedrock.client.exceptions.ValidationException, match="not found"):
        bedrock.client.get_async_invoke(invocationArn=arn)
    assert bedrock.client.list_async_invokes()["asyncInvokeSummaries"] == []


def test_job_quota(bedrock, held):
    bedrock.local.max_jobs = 2
    arns = [bedrock.start(TEXT, clientRequestToken=f"t{n}") for n in range(2)]
    with pytest.raises(bedrock.client.exceptions.ServiceQuotaExceededException) as caught:
        bedrock.start(TEXT)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert bedrock.start(TEXT, clientRequestToken="t0") == arns[0]
    held.set()
    for arn in arns:
        bedrock.end_of(arn)
    assert bedrock.start(TEXT)


def test_rates_throttle(bedrock):
    bedrock.local.start_rate, bedrock.local.invoke_rate = 0.2, 1.0
    assert throttled(lambda: bedrock.start(TEXT), 5) >= 2
    assert throttled(bedrock.text, 8) >= 4
    time.sleep(1.1)
    assert throttled(bedrock.text, 1) == 0


def throttled(call, times):
    count = 0
    for _ in range(times):
        try:
            call()
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException"
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            count += 1
    return count


def test_a_duration_turned_down_ends_the_jobs_that_run(bedrock):
    bedrock.local.job_duration_sec = 3600.0
    arn = bedrock.start(TEXT)
    time.sleep(0.1)
    assert bedrock.client.get_async_invoke(invocationArn=arn)["status"] == "InProgress"
    bedrock.local.job_duration_sec = 0.0
    assert bedrock.end_of(arn)["status"] == "Completed"


def test_job_duration_may_depend_on_the_job(bedrock):
    bedrock.local.job_duration_sec = lambda job: 2.0 if job.token == "slow" else 0.0
    slow, quick = (bedrock.start(TEXT, clientRequestToken=name) for name in ("slow", "quick"))
    bedrock.end_of(quick)
    assert bedrock.client.get_async_invoke(invocationArn=slow)["status"] == "InProgress"
    done = bedrock.end_of(slow)
    assert done["status"] == "Completed"
    assert done["endTime"] - done["submitTime"] >= timedelta(seconds=1.99)


@pytest.mark.parametrize(
    ("mutate", "written"),
    [
        (lambda rows: rows[:1] + rows[:1], None),
        (lambda _: b'{"data": [', b'{"data": ['),
        (lambda rows: [{**rows[0], "embedding": [float("nan")]}], None),
    ],
)
def test_outputs_can_be_spoilt(bedrock, mutate, written):
    bedrock.local.mutate_output = mutate
    raw = bedrock.raw_output(bedrock.end_of(bedrock.start(TEXT)))
    assert raw == written if written else len(json.loads(raw)["data"]) in (1, 2)


def test_a_manifest_without_output(bedrock):
    bedrock.local.mutate_output = lambda _: None
    job = bedrock.end_of(bedrock.start(TEXT))
    assert job["status"] == "Completed"
    assert bedrock.raw_output(job, "manifest.json")
    with pytest.raises(bedrock.local.s3.exceptions.NoSuchKey):
        bedrock.raw_output(job)

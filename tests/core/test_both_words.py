"""Amazon Transcribe and Pegasus in one run: plan and budget are upper bounds, and usage is what was billed."""

import json
from functools import cache

import pytest

from bedrock_marengo import Pegasus, Segmentation, Transcribe
from marengo_local import Fault

from ..films import film

film = cache(film)
SIX = {"segmentation": Segmentation.fixed(6), "options": ["visual"]}
EACH = Pegasus(per="segment")
MARENGO_USD = 0.0007


@pytest.fixture
def local(local):
    local.synthetic_sec = None
    local.say("*", [(0.0, 5.0, "He shoots"), (7.0, 11.0, "And there is the goal!")])
    return local


@pytest.fixture
def match(local):
    return local.put(film(seconds=24.0, fps=5), "match.mp4")


@pytest.fixture
def billed(local):
    """US dollars that the stand-in counted, with the seconds that Marengo embedded."""
    return lambda sec: sec * MARENGO_USD + local.usage.transcribe_usd + local.usage.pegasus_usd


@pytest.mark.parametrize("per", ["video", "segment"])
@pytest.mark.parametrize(
    "how", [SIX, {"segmentation": Segmentation.fixed(1)}, {"segmentation": Segmentation.fixed(4), "fused": "only"}, {}]
)
def test_the_plan_is_enough_and_usage_is_what_was_billed(local, connect, billed, per, how):
    lengths = (5.0, 7.4, 18.2)
    for number, seconds in enumerate(lengths):
        local.put(film(seconds=seconds, fps=5, audio="aac" if number else None), f"v/{number}.mp4")
    client, given = connect(), {"transcripts": Transcribe(), "descriptions": Pegasus(per=per), **how}
    plan = client.plan(f"s3://{local.bucket}/v/", **given)
    results = list(client.embed_many(f"s3://{local.bucket}/v/", **given, max_cost_usd=plan.total_usd))
    assert not any(done.error or done.words.errors for done in results)
    assert client.usage.usd == pytest.approx(billed(sum(lengths)), abs=1e-6)
    assert client.usage.usd <= plan.total_usd
    assert connect().plan(f"s3://{local.bucket}/v/", **given).total_usd == 0


def test_what_was_described_in_part_is_still_planned(connect, billed, match):
    list(connect().embed_many([match], descriptions=EACH, end_sec=12.0, **SIX))
    client = connect()
    plan, before = client.plan([match], descriptions=EACH, **SIX), billed(0)
    assert plan.words == {"pegasus": 1}
    [done] = client.embed_many([match], descriptions=EACH, **SIX, max_cost_usd=plan.total_usd)
    assert not done.words.errors
    assert client.usage.usd == pytest.approx(24 * MARENGO_USD + billed(0) - before, abs=1e-6)


def test_a_transcription_that_may_not_have_started_is_planned(local, connect, match):
    """As if a process was killed after its record was written, and before its job was started."""
    list(connect().embed_many([match], transcripts=Transcribe(), **SIX))
    pages = local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]
    [record] = [item["Key"] for item in pages if item["Key"].endswith("words.json")]
    [output] = [item["Key"] for item in pages if "/marengo-" in item["Key"]]
    written = json.loads(local.s3.get_object(Bucket=local.bucket, Key=record)["Body"].read())
    local.put(json.dumps({**written, "done": None}).encode(), record)
    local.s3.delete_object(Bucket=local.bucket, Key=output)
    local.transcriptions.reset()
    client = connect()
    plan = client.plan([match], transcripts=Transcribe(), **SIX)
    [done] = client.embed_many([match], transcripts=Transcribe(), **SIX, max_cost_usd=plan.total_usd)
    assert done.words.said.words(0, 6) == "He shoots"
    assert client.usage.usd == plan.total_usd == pytest.approx(24 * 0.0004)


def test_a_failed_transcription_gives_its_budget_back(local, client, billed, match):
    local.faults = [Fault("TranscriptionJob", error="Failed", message="Internal error, try again.", times=1)]
    plan = client.plan([match], transcripts=Transcribe(), **SIX)
    [done] = client.embed_many([match], transcripts=Transcribe(), **SIX, max_cost_usd=plan.total_usd)
    assert done.words.said.words(0, 6) == "He shoots" and not done.words.errors
    assert client.usage.usd == pytest.approx(billed(24), abs=1e-6)

"""Pegasus' descriptions in an embedding run: each file is described once, within the budget, whatever ends the run."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from functools import cache

import numpy as np
import pytest

from bedrock_marengo import (
    BudgetError,
    ConfigurationError,
    InputError,
    MarengoWarning,
    OutputError,
    Pegasus,
    Segmentation,
    SegmentEmbeddings,
)
from bedrock_marengo.s3 import claims
from bedrock_marengo.words.descriptions import Description, Descriptions, clips_of
from marengo_local import Fault

from ..films import film

film = cache(film)
EACH = Pegasus(per="segment")
SIX = {"segmentation": Segmentation.fixed(6), "options": ["visual"]}


@pytest.fixture
def match(local):
    """A film of 24 s: four segments of 6 s."""
    local.synthetic_sec = None
    return local.put(film(seconds=24.0, fps=5), "match.mp4")


@pytest.fixture
def run(client, local):
    """Embeds with descriptions; what the client counted is what the stand-in did."""

    def run(source, descriptions=EACH, client=client, **settings):
        (done,) = client.embed_many([source], descriptions=descriptions, **{**SIX, **settings})
        assert done.error is None
        return done

    return run


def pegasus(local):
    return [call for call in local.calls.of("InvokeModel") if "pegasus" in (call.model_id or "")]


def seen(done):
    clips = done.segments.select(scope="clip")
    return [done.words.seen.words(segment.start_sec, segment.end_sec) for segment in clips]


def segments(*ranges, option="visual", scope="clip"):
    starts, ends = zip(*ranges, strict=True)
    return SegmentEmbeddings(
        vectors=np.zeros((len(ranges), 2), np.float32),
        start_sec=np.array(starts, float),
        end_sec=np.array(ends, float),
        option=[option] * len(ranges),
        scope=[scope] * len(ranges),
        source="s3://bucket/a.mp4",
        job="3fa9c1d27b041e55",
        model_id="m",
        media_type="video",
    )


@pytest.mark.parametrize(("descriptions", "calls"), [(Pegasus(), 1), (EACH, 4), (Pegasus("1.2"), 4)])
def test_each_file_is_described_once(client, connect, local, run, match, descriptions, calls):
    plan = client.plan([match], descriptions=descriptions, **SIX)
    assert plan.words == {"pegasus": 1} and "may be paid for twice" in str(plan)
    done = run(match, descriptions, max_cost_usd=plan.total_usd)
    assert all(seen(done)) and len(seen(done)) == 4 and not done.words.errors
    assert local.usage.pegasus_calls == calls
    usage = client.usage.services["pegasus"]
    assert (usage.calls, usage.unknown) == (calls, 0)
    assert usage.usd == pytest.approx(local.usage.pegasus_usd, abs=1e-9)
    assert usage.usd <= plan.usd["pegasus"]
    # Another process, a client that may spend nothing, and finished work only.
    for settings in ({}, {"max_cost_usd": 0}, {"only_done": True}):
        assert seen(run(match, descriptions, connect(), **settings)) == seen(done)
    assert client.plan([match], descriptions=descriptions, **SIX).total_usd == 0
    assert local.usage.pegasus_calls == calls
    report = client.forget(match)
    assert not any("276c" in uri and "words" in uri for uri in local.s3.list_objects_v2(Bucket=local.bucket))
    assert any(uri.endswith("words.json") for uri in report.uris)


def test_another_prompt_version_or_file_is_described_again(client, local, run, match):
    run(match)
    run(match, Pegasus(per="segment", prompt="Name the colors."))
    run(match, Pegasus("1.2"))
    run(match, Pegasus(per="segment", max_tokens=600, calls_at_once=2))
    assert local.usage.pegasus_calls == 12
    local.put(film(seconds=18.0, fps=5), "match.mp4")
    run(match)
    assert local.usage.pegasus_calls == 15
    run(match, force=True)
    assert local.usage.pegasus_calls == 18


def test_what_is_sent(client, local, run, match):
    run(match)
    run(match, Pegasus(prompt="Name the players.", extra={"max_segment_duration": 6}))
    *clips, whole = [call.body for call in pegasus(local)]
    assert {frozenset(body) for body in clips} == {
        frozenset({"mediaSource", "inputPrompt", "maxOutputTokens", "temperature"})
    }
    assert all("base64String" in body["mediaSource"] and body["maxOutputTokens"] == 512 for body in clips)
    assert whole["analysis_mode"] == "time_based_metadata" and "inputPrompt" not in whole
    assert whole["max_segment_duration"] == 6 and len(whole["segment_definitions"]) == 1
    assert whole["mediaSource"]["s3Location"]["bucketOwner"] == local.account_id


def test_a_wider_range_asks_only_for_what_is_missing(client, local, run, match):
    run(match, end_sec=12.0)
    assert local.usage.pegasus_calls == 2
    assert all(seen(run(match)))
    assert local.usage.pegasus_calls == 4
    run(match, segmentation=Segmentation.fixed(8))
    assert local.usage.pegasus_calls == 4


def test_audio_and_images_have_none(client, local, png):
    files = [local.put(b"sound", "a.mp3"), local.put(png(), "b.png")]
    for done in client.embed_many(files, descriptions=EACH):
        assert done.error is None and done.words.seen is None and not done.words.errors
    assert client.plan(files, descriptions=EACH).words == {}
    assert local.usage.pegasus_calls == 0


def test_the_budget_stops_before_a_call(client, local, run, match):
    clip = client.ask_price(match, "?", end_sec=6, max_tokens=512)
    # Marengo's own job costs 0.0168 USD.
    with pytest.warns(MarengoWarning, match="no words by TwelveLabs Pegasus"):
        done = run(match, max_cost_usd=0.0168 + 2 * clip, descriptions=Pegasus(per="segment", calls_at_once=1))
    assert isinstance(done.words.errors["TwelveLabs Pegasus"], BudgetError)
    asked = local.usage.pegasus_calls
    assert 2 <= asked < 4
    assert client.usage.usd <= 0.0168 + 2 * clip
    # What was paid for is kept.
    assert all(seen(run(match, Pegasus(per="segment", calls_at_once=1))))
    assert local.usage.pegasus_calls == 4


def test_a_clip_that_is_cut_off_is_asked_again(client, local, run, match):
    texts = iter(["word " * 600] + ["A goal."] * 9)
    local.mutate_answer = lambda answer: {"message": next(texts)}
    assert seen(run(match, Pegasus(per="segment", calls_at_once=1))) == ["A goal."] * 4
    assert sorted(call.body["maxOutputTokens"] for call in pegasus(local)) == [512, 512, 512, 512, 2048]
    assert client.usage.services["pegasus"].usd == pytest.approx(local.usage.pegasus_usd)


def test_a_clip_that_no_answer_can_be_had_for_does_not_lose_the_others(client, local, run, match):
    local.faults = [Fault("InvokeModel", error="ValidationException", message="Unprocessable video", times=1)]
    assert sum(map(bool, seen(run(match)))) == 3
    assert sum(map(bool, seen(run(match)))) == 3
    assert local.calls["InvokeModel"] == 4


@pytest.mark.parametrize(
    "descriptions, answer", [(EACH, "InternalServerException"), (Pegasus(), "ModelErrorException")]
)
def test_a_failure_loses_neither_vectors_nor_what_was_paid(client, local, run, match, descriptions, answer):
    local.faults = [Fault("InvokeModel", error=answer, times=1)]
    with pytest.warns(MarengoWarning, match="may be billed"):
        done = run(match, descriptions)
    assert len(done.segments) and done.words.seen is None
    before = local.usage.pegasus_calls
    assert all(seen(run(match, descriptions)))
    assert local.usage.pegasus_calls == (4 if descriptions is EACH else 1) and before < local.usage.pegasus_calls


def test_an_answer_about_a_video_that_can_not_be_used(client, local, run, match):
    local.mutate_answer = lambda answer: {"segments": [], "definition_errors": [{"id": "segments", "error": "no"}]}
    with pytest.warns(MarengoWarning, match="definitions failed"):
        assert isinstance(run(match, Pegasus()).words.errors["TwelveLabs Pegasus"], OutputError)


def test_a_video_that_is_too_long_is_refused_before_it_costs(client, local, video):
    local.synthetic_sec = 7300.0
    with pytest.warns(MarengoWarning, match="at most 7,200 s.*per='segment'"):
        list(client.embed_many([video], descriptions=Pegasus(), durations={video: 7300.0}))
    assert local.usage.pegasus_calls == 0


def test_two_at_once_pay_once(local, connect, run, match, monkeypatch):
    monkeypatch.setattr(claims, "POLL_SEC", 0.1)
    local.faults = [Fault("InvokeModel", delay_sec=0.3)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(seen(run(match, EACH, connect())))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2] and all(found[0])
    assert local.usage.pegasus_calls == 4


def test_a_claim_is_kept_alive_and_taken_over(client, local, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SEC", 0.05)
    monkeypatch.setattr(claims, "POLL_SEC", 0.05)
    monkeypatch.setattr(claims, "LEASE_SEC", 0.6)
    runtime, uri = client._runtime, f"s3://{local.bucket}/claim.json"
    order = []

    def hold(name, seconds):
        with claims.claimed(runtime.objects, uri, runtime.limiter.token()):
            order.append(f"{name} in")
            time.sleep(seconds)
            order.append(f"{name} out")

    first = threading.Thread(target=hold, args=("a", 1.5))
    first.start()
    while not order:
        time.sleep(0.01)
    hold("b", 0)
    first.join()
    assert order == ["a in", "a out", "b in", "b out"]
    local.put(b"left by a process that died", "claim.json")
    began = time.monotonic()
    hold("c", 0)
    assert time.monotonic() - began >= 0.6
    assert runtime.objects.find(uri) is None


RUN = """
import json, sys
from bedrock_marengo import MarengoClient, Pegasus, Segmentation
from bedrock_marengo.s3 import claims
claims.LEASE_SEC, claims.BEAT_SEC, claims.POLL_SEC = 1.0, 0.2, 0.1
options, source, per = json.loads(sys.argv[1])
with MarengoClient(**options) as client:
    settings = {"segmentation": Segmentation.fixed(6), "options": ["visual"]}
    (done,) = client.embed_many([source], descriptions=Pegasus(per=per, calls_at_once=2), **settings)
    assert not done.words.errors and done.words.seen.words(0, 6)
"""


@pytest.mark.slow
@pytest.mark.promise("Nothing is billed twice")
@pytest.mark.fault("SIGTERM or kill -9", "only descriptions in flight may be paid for twice")
@pytest.mark.parametrize("per", ["segment", "video"])
def test_killed_at_random_moments(local, match, per):
    """At each kill at most the calls in flight, 2 here, are lost."""
    random.seed(7)
    given = json.dumps([{**local.client_options, "output_s3_uri": f"s3://{local.bucket}/marengo/"}, match, per])
    local.faults = [Fault("InvokeModel", delay_sec=0.5)]
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", RUN, given], env=os.environ)
        try:
            process.wait(timeout=random.uniform(1.0, 6.0) if kills < 6 else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        break
    asked = 4 if per == "segment" else 1
    assert asked <= local.usage.pegasus_calls <= asked + 2 * kills


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "1.4"}, "expected '1.5' or '1.2'"),
        ({"model": "1.2", "per": "video"}, "can't return segments with times"),
        ({"per": "scene"}, "'video' or 'segment'"),
        ({"prompt": " "}, "not empty"),
        ({"max_tokens": 1}, "512 to 98,304"),
        ({"temperature": 7}, "from 0 to 1"),
        ({"calls_at_once": 0}, "1 or more"),
        ({"extra": 1}, "expected a mapping"),
    ],
)
def test_a_setting_that_is_not_valid(settings, said):
    with pytest.raises((ConfigurationError, InputError), match=said):
        Pegasus(**settings)


def test_settings_are_values():
    given = Pegasus(extra={"a": [1, {"b": 2}]}, per="segment")
    again = pickle.loads(pickle.dumps(given))
    assert again == given and hash(again) == hash(given)
    assert hash(given) != hash(Pegasus(per="segment"))


def test_another_type_is_refused(client, match):
    with pytest.raises(ConfigurationError, match=r"expected Pegasus\(...\)"):
        client.embed_many([match], descriptions=True)


@pytest.mark.parametrize(
    ("found", "clips"),
    [
        (segments((0, 6), (6, 12)), [(0, 6), (6, 12)]),
        (segments((0, 1), (1, 2), (2, 8), (8, 9)), [(0, 9)]),
        (segments(*((n, n + 1) for n in range(11))), [(0, 4), (4, 11)]),
        (segments((0, 6), (3, 9), (9, 15)), [(0, 6), (9, 15)]),
        (segments((0, 60), scope="asset"), [(0, 60)]),
        (segments((0, 4), (4, 8.0)), [(0, 4), (4, 8)]),
    ],
)
def test_what_is_a_clip(found, clips):
    assert clips_of(found) == clips


def test_descriptions_are_joined_by_overlap():
    found = Descriptions(
        [Description(0, 10, "a"), Description(10, 12, "b"), Description(12, 40, "c"), Description(40, 41, "")]
    )
    assert found.words(0, 6) == "a"
    assert found.words(8, 14) == "b"
    assert found.words(9, 21) == "b c"
    assert found.words(11.9, 12.5) == "c"
    assert found.words(0, 41) == "a b c"
    assert found.words(40, 41) == found.words(50, 60) == ""

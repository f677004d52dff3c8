"""The dry run and its cost, durations, budgets and usage."""

import pickle
import threading
from pathlib import Path

import pytest

from bedrock_marengo import (
    BudgetError,
    ConfigurationError,
    InputError,
    JobError,
    Media,
    OutputError,
    Prices,
    Segmentation,
)
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, AwsSettings
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.embedding.pricing import Budget, Usage
from bedrock_marengo.media.durations import duration_of, requested_sec
from bedrock_marengo.s3.objects import S3Objects
from marengo_local import Fault, reel

LENGTHS = {"a.mp4": 60.0, "b.mp4": 120.0, "c.mp3": 300.0}


@pytest.fixture
def archive(local, png):
    """A prefix with two videos, an audio file and an image."""
    for key in LENGTHS:
        local.put(key.encode(), f"in/{key}")
    local.put(png(), "in/d.png")
    return f"s3://{local.bucket}/in/"


def length(uri):
    return LENGTHS.get(uri.rsplit("/", 1)[-1])


def test_files_that_would_be_started(client, archive):
    plan = client.plan(archive, durations=length, probe=False, options=["visual", "audio"], scopes=["clip"])
    assert plan.started == {"video": 2, "audio": 1, "image": 1} and plan.media_sec == 480
    assert plan.usd == pytest.approx({"video": 180 * 0.0007, "audio": 300 * 0.00014, "image": 0.0001})
    assert plan.total_usd == pytest.approx(0.1681)
    # Two tracks of 10 and 20 shots of about 6 s, one of 30 parts of about 10 s, one image.
    assert plan.vectors == 2 * 30 + 30 + 1
    assert plan.vector_bytes == 91 * 512 * 4 and plan.output_bytes == 91 * 512 * 22
    assert plan.days == pytest.approx(3 * 45 / 20 / 86400)
    assert (plan.joined, plan.reused, plan.unknown, plan.refused) == (0, 0, 0, 0)


def test_a_plan_starts_and_writes_nothing(client, local, archive):
    client.plan(archive)
    assert local.calls["InvokeModel"] + local.calls["StartAsyncInvoke"] + local.calls["s3:PutObject"] == 0


def test_a_prefix_costs_only_its_listings(client, local, archive):
    plan = client.plan(archive, durations=length)
    assert local.calls["s3:ListObjectsV2"] == 2
    assert local.calls["s3:GetObject"] + local.calls["s3:HeadObject"] == 0
    assert sum(plan.started.values()) == 4


@pytest.mark.parametrize("settings", [{}, {"segmentation": Segmentation.fixed(6), "fused": "only"}])
def test_finished_and_running_jobs(client, connect, local, archive, settings):
    client.embed_media(f"{archive}a.mp4", **settings)
    client.embed_media(f"{archive}d.png", **settings)
    local.job_duration_sec = 30.0
    client.start(f"{archive}b.mp4", **settings)
    plan = connect().plan([archive, f"{archive}c.mp3"], durations=length, **settings)
    assert (plan.started, plan.joined, plan.reused, plan.repeated) == ({"audio": 1}, 1, 2, 1)
    assert plan.total_usd == pytest.approx(300 * 0.00014)
    assert sum(connect().plan(archive, probe=False, force=True, **settings).started.values()) == 4
    # Other settings are another job.
    assert sum(connect().plan(archive, probe=False, scopes=["asset"], end_sec=20).started.values()) == 3


def test_unknown_durations_are_listed_separately(client, archive):
    plan = client.plan(archive, durations={f"{archive}a.mp4": 60.0}, probe=False)
    assert (plan.unknown, plan.unknown_names) == (2, (f"{archive}b.mp4", f"{archive}c.mp3"))
    assert plan.media_sec == 60 and plan.total_usd == pytest.approx(60 * 0.0007 + 0.0001)
    assert "2 of unknown length" in str(plan) and f"{archive}b.mp4" in str(plan)
    plan = client.plan(archive, probe=False, assume_duration_sec=100)
    assert plan.unknown == 3 and plan.media_sec == 300
    # A range with an end has a known duration.
    plan = client.plan(archive, probe=False, start_sec=10, end_sec=30)
    assert plan.unknown == 0 and plan.media_sec == 60


def test_local_files(client, local, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    client.embed_media(tmp_path / "a.mp4")
    plan = client.plan(tmp_path, durations=lambda path: 10.0)
    assert (plan.reused, plan.uploaded, plan.uploaded_bytes, plan.started) == (1, 1, 5, {"video": 1})
    assert local.calls["StartAsyncInvoke"] == 1


def test_files_in_other_regions(connect, local, archive):
    bucket = f"{local.bucket}-eu"
    local.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    local.s3.put_object(Bucket=bucket, Key="a.mp4", Body=b"x" * 1024**2)
    uri = f"s3://{bucket}/a.mp4"
    plan = connect().plan([uri, archive], durations=length, probe=False)
    assert plan.refused == 1 and "is in eu-west-1" in plan.refusals[0] and sum(plan.started.values()) == 4
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/", prices=Prices(copied_gb=10.0))
    for source in (uri, f"s3://{bucket}/"):
        plan = client.plan(source, durations=length, probe=False)
        assert (plan.staged, plan.staged_bytes, plan.usd["copies"]) == (1, 1024**2, 10 / 1024)


def test_files_that_would_be_rejected(client, local, archive):
    plan = client.plan([archive, f"{archive}absent.mp4", "a string", "s3://no-such-bucket-of-ours/"], probe=False)
    assert plan.refused == 3 and sum(plan.started.values()) == 4
    assert [name in text for name, text in zip(("absent", "a string", "no-such"), plan.refusals, strict=True)]
    with pytest.raises(InputError, match="no option"):
        client.plan(archive, options=["smell"])


def test_a_plan_as_text(client, local, archive):
    local.put(b"x", "in/notes.txt")
    text = str(client.plan([archive, "a string"], durations=length, probe=False, mean_job_sec=30, jobs_at_once=2))
    for part in ("4 (2 video, 1 audio, 1 image)", "0.13 hours", "0.17 USD", "1 not media", "2 jobs at once, 30 s each"):
        assert part in text, text
    assert "refused    1\n  a string: " in text and "to stage" not in text


async def test_for_asyncio(client, archive):
    assert sum((await client.aplan(archive, probe=False)).started.values()) == 4


# Durations.


@pytest.fixture
def objects(local):
    options = {name: value for name, value in local.client_options.items() if name != "output_s3_uri"}
    return S3Objects(Aws(AwsSettings(**options)), RetryLimiter(4))


def test_durations_from_a_few_ranged_reads(objects, local):
    clip = max(Path(reel.__path__[0]).glob("*.mp4"), key=lambda path: path.stat().st_size)
    uri = local.put(clip, "clip.mp4")
    size = clip.stat().st_size
    expected = duration_of(objects, Media.from_path(clip))
    assert expected == duration_of(objects, Media.from_bytes(clip.read_bytes())) > 5
    for media in (Media.from_s3(uri), Media("video", uri=uri, size=size)):
        assert duration_of(objects, media) == expected
    asked = local.calls.of("s3:GetObject")
    assert 2 <= len(asked) <= 8 and local.calls["s3:HeadObject"] == 0


def test_given_and_unknown_durations(objects, local, video, png):
    media = Media.from_s3(video)
    assert duration_of(objects, media) is None
    assert duration_of(objects, media, {video: 7}) == 7.0
    assert duration_of(objects, media, lambda uri: 8 if uri == video else None) == 8.0
    local.calls.reset()
    assert duration_of(objects, media, {}, probe=False) is None
    assert duration_of(objects, Media.from_bytes(png())) is None
    assert len(local.calls) == 0


def test_durations_of_unreadable_files(client, local, video):
    local.faults = [Fault("s3:GetObject", error="AccessDenied")]
    plan = client.plan(video)
    assert plan.refused == 1 and "AccessDenied" in plan.refusals[0]


@pytest.mark.parametrize(
    ("range_sec", "duration_sec", "requested"),
    [
        ({}, 60, 60),
        ({}, None, None),
        ({"start_sec": 10}, 60, 50),
        ({"start_sec": 10}, None, None),
        ({"end_sec": 20}, None, 20),
        ({"start_sec": 10, "end_sec": 90}, 60, 50),
        ({"start_sec": 70}, 60, 0),
    ],
)
def test_requested_range(range_sec, duration_sec, requested):
    request = MediaRequest(model=MODELS["3.0"], kind="video", **range_sec)
    assert requested_sec(request, duration_sec) == requested


# Budgets.

VIDEO = Media.from_s3("s3://bucket/a.mp4")


def test_a_budget_stops_before_it_is_exceeded():
    budget = Budget(1.0, Prices(video_sec=0.01, image=0.001))
    assert budget.charge(VIDEO, "video", 60) == pytest.approx(0.6)
    budget.charge(VIDEO, "video", 40)
    with pytest.raises(
        BudgetError, match=r"a.mp4 was not started.*would exceed max_cost_usd=1\.0\. Run again"
    ) as caught:
        budget.charge(VIDEO, "video", 1)
    assert (caught.value.spent_usd, caught.value.exhausted, budget.exhausted) == (pytest.approx(1.0), True, True)
    with pytest.raises(BudgetError):
        budget.charge(VIDEO, "image", None)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.exhausted


def test_a_budget_with_unknown_durations():
    budget = Budget(1.0)
    with pytest.raises(BudgetError, match=r"unknown.*assume_duration_sec") as caught:
        budget.charge(VIDEO, "video", None)
    assert not caught.value.exhausted and budget.spent_usd == 0
    budget.charge(VIDEO, "video", 10)
    assert Budget(1.0, assume_duration_sec=100).charge(VIDEO, "video", None) == pytest.approx(0.07)


def test_a_budget_with_copies_and_refunds():
    budget = Budget(0.03)
    cost = budget.charge(VIDEO, "video", 10, copied_bytes=1024**3)
    assert cost == pytest.approx(0.027)
    budget.refund(cost)
    budget.charge(VIDEO, "video", 40)


@pytest.mark.parametrize("settings", [{"max_cost_usd": -1}, {"max_cost_usd": float("nan")}])
def test_invalid_budgets(settings):
    with pytest.raises(ConfigurationError):
        Budget(**settings)
    with pytest.raises(ConfigurationError):
        Budget(1.0, assume_duration_sec=0)


def test_a_budget_is_thread_safe():
    budget, allowed = Budget(1.0, Prices(video_sec=0.01)), []

    def run():
        for _ in range(50):
            try:
                allowed.append(budget.charge(VIDEO, "video", 1))
            except BudgetError:
                return

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 100 and budget.spent_usd == pytest.approx(1.0)


# Usage.


def test_usage_counts_texts_and_images(connect, png):
    client = connect(prices=Prices(text=1.0, image=10.0))
    client.embed_texts(["a", "b", "a"])
    client.embed_image(Media.from_bytes(png()))
    client.embed_text_image("a", Media.from_bytes(png()))
    client.embed_multi_input(None, [Media.from_bytes(png())])
    assert (client.usage.texts, client.usage.images, client.usage.usd) == (2, 3, 32.0)
    client.usage.reset()
    assert client.usage.usd == 0
    with pytest.raises(InputError):
        client.embed_text("")
    assert client.usage.texts == 0


def test_usage_counts_jobs():
    usage = Usage(Prices(video_sec=0.5, copied_gb=1.0))
    for arn in ("a", "b"):
        usage.job(arn, MediaRequest(model=MODELS["3.0"], kind="video", start_sec=2.0))
    assert [usage.measured("a", 12.0), usage.measured("a", 12.0), usage.measured("another's", 12.0)] == [
        10.0,
        None,
        None,
    ]
    usage.copied(1024**3)
    assert (usage.jobs, usage.media_sec, usage.unknown, usage.usd) == ({"video": 2}, 10, 1, 6.0)
    assert "lock" not in repr(usage)


# In a run.


def test_a_run_stops_at_its_budget_and_can_be_continued(connect, local, archive):
    settings = {"durations": length, "max_cost_usd": 0.1, "jobs_at_once": 1}
    done = list(connect().embed_many([f"{archive}{key}" for key in ("a.mp4", "b.mp4", "c.mp3")], **settings))
    assert [type(d.error) for d in done] == [type(None), BudgetError, BudgetError]
    assert local.calls["StartAsyncInvoke"] == 1
    client = connect()
    plan = client.plan(archive, durations=length)
    assert (plan.started, plan.joined, plan.reused) == ({"audio": 1, "image": 1, "video": 1}, 0, 1)
    done = list(client.embed_many(archive, **{**settings, "max_cost_usd": 0.2}))
    assert [d.error for d in done] == [None] * 4 and local.calls["StartAsyncInvoke"] == 3
    assert client.usage.jobs == {"audio": 1, "video": 1}


def test_a_run_that_is_left_refunds_what_it_had_not_started(connect, local):
    for number in range(4):
        local.put(f"video {number}".encode(), f"many/{number}.mp4")
    local.max_jobs, local.job_duration_sec = 1, lambda job: 3600.0 if len(local.jobs) > 1 else 0.0
    next(connect().embed_many(f"s3://{local.bucket}/many/"))
    plan = connect().plan(f"s3://{local.bucket}/many/", probe=False)
    assert plan.reused + plan.joined == len(local.jobs) < 4


def test_a_run_with_a_budget_rejects_unknown_durations(client, local, archive):
    done = {d.uri[-5:]: d.error for d in client.embed_many(archive, max_cost_usd=1.0)}
    assert {key: type(error) for key, error in done.items() if error} == dict.fromkeys(LENGTHS, BudgetError)
    done = client.embed_many(archive, max_cost_usd=1.0, assume_duration_sec=20)
    assert all(d.error is None for d in done)


def test_usage_counts_jobs_however_they_end(client, connect, local):
    """It is what the service was asked for: not what came of it, nor who collected it."""
    job = client.start(local.put(b"a", "v/a.mp4"))
    assert (client.usage.jobs, client.usage.unknown) == ({"video": 1}, 1)
    collector = connect()
    collector.collect(job)
    assert (collector.usage.jobs, collector.usage.usd) == ({}, 0)
    client.collect(job), client.collect(job)
    assert (client.usage.unknown, client.usage.media_sec) == (0, 18)
    local.faults = [Fault("Job", error="Failed", message="Resolution too low", times=1)]
    with pytest.raises(JobError):
        client.embed_media(local.put(b"b", "v/b.mp4"))
    local.mutate_output = lambda rows: b"<html>"
    with pytest.raises(OutputError):
        client.embed_media(local.put(b"c", "v/c.mp4"))
    local.mutate_output, local.job_duration_sec = None, 5.0
    with pytest.raises(JobError, match="still running"):
        client.embed_media(local.put(b"d", "v/d.mp4"), timeout_sec=0.1)
    started = local.calls["StartAsyncInvoke"]
    assert client.usage.jobs == {"video": started} and client.usage.unknown == started - 1 == 5


def test_usage_counts_a_reply_of_no_use(client, local):
    local.faults = [Fault("InvokeModel", body=b'{"data": []}')]
    with pytest.raises(OutputError):
        client.embed_text("a")
    assert client.usage.texts == local.calls["InvokeModel"] == 1


def test_usage_counts_what_a_run_did(client, connect, local, archive):
    assert len(list(client.embed_many(archive))) == 4
    usage = client.usage
    assert (usage.jobs, usage.images, usage.unknown) == ({"video": 2, "audio": 1}, 1, 0)
    assert usage.media_sec == pytest.approx(54) and usage.usd == pytest.approx(36 * 0.0007 + 18 * 0.00014 + 0.0001)
    again = connect()
    assert len(list(again.embed_many(archive))) == 4 and again.usage.usd == 0

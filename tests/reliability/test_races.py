"""What another process does in between, lists that are out of date, and clocks that are wrong."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from bedrock_marengo import (
    BudgetError,
    JobError,
    Manifest,
    MarengoWarning,
    Media,
    MediaNotFoundError,
    NotEmbeddedError,
    OutputError,
)
from bedrock_marengo.aws.retries import TRANSIENT_FAILURE
from bedrock_marengo.embedding import start
from bedrock_marengo.jobs import invocations
from marengo_local import Fault

pytestmark = pytest.mark.promise("Nothing is billed twice")

CHANGED = "has changed since it was listed"
EMPTY = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount></ListBucketResult>'


def listed(local, prefix):
    """A manifest of the objects as they are now."""
    rows = local.s3.list_objects_v2(Bucket=local.bucket, Prefix=prefix)["Contents"]
    lines = [f"{local.bucket},{row['Key']},{row['Size']},{row['ETag'].strip(chr(34))}" for row in rows]
    return Manifest(local.put("\n".join(lines).encode(), "lists/all.csv"))


class TestAListThatIsOutOfDate:
    @pytest.fixture
    def stale(self, local, bucket):
        """A manifest, and the URIs of its videos, which were all replaced since."""
        manifest = listed(local, "v/")
        return manifest, [local.put(f"newer {i}".encode(), f"v/{i}.mp4") for i in range(8)]

    def test_over_media_that_are_done_costs_nothing_however_often_it_runs(self, connect, local, stale, truths, same):
        manifest, uris = stale
        right = truths(uris)
        list(connect().embed_many(uris))
        local.calls.reset()
        with pytest.warns(MarengoWarning, match=CHANGED):
            for _ in range(3):
                found = {done.segments.source: done.segments for done in connect().embed_many(manifest)}
                assert all(same(found[uri], right[uri]) for uri in uris)
        assert local.calls["StartAsyncInvoke"] == 0

    @pytest.mark.parametrize("how", [{}, {"max_cost_usd": 1.0, "assume_duration_sec": 18.0}])
    def test_over_media_that_are_not_done_costs_one_job_each(self, connect, local, stale, truths, same, how):
        manifest, uris = stale
        right = truths(uris)
        with pytest.warns(MarengoWarning, match=CHANGED):
            found = {done.segments.source: done.segments for done in connect().embed_many(manifest, **how)}
        assert local.calls["StartAsyncInvoke"] == len(uris)
        assert all(same(found[uri], right[uri]) for uri in uris)

    def test_that_names_a_file_which_is_gone_is_that_files_error(self, client, local, bucket):
        manifest = listed(local, "v/")
        local.s3.delete_object(Bucket=local.bucket, Key="v/0.mp4")
        errors = {done.uri: done.error for done in client.embed_many(manifest)}
        assert isinstance(errors.pop(f"{bucket}0.mp4"), MediaNotFoundError)
        assert set(errors.values()) == {None}
        assert local.calls["StartAsyncInvoke"] == len(errors)

    def test_of_an_image_costs_no_call(self, client, local, png):
        local.put(png(1), "images/a.png")
        manifest = listed(local, "images/")
        client.embed_media(local.put(png(2), "images/a.png"))
        with pytest.warns(MarengoWarning, match=CHANGED):
            [done] = client.embed_many(manifest)
        assert len(done.segments) == local.calls["InvokeModel"] == 1

    def test_because_it_waited_for_its_turn_is_looked_at_again(self, client, local, bucket, monkeypatch):
        monkeypatch.setattr(start, "FRESH_SEC", 0.2)
        listing = list(client.list_media(bucket))
        local.put(b"newer", "v/0.mp4")
        time.sleep(0.3)
        with pytest.warns(MarengoWarning, match=CHANGED):
            list(client.embed_many(listing))
        assert local.calls["StartAsyncInvoke"] == len(listing)


class TestAnotherProcessInBetween:
    def test_a_claim_that_is_withdrawn_is_made_again(self, connect, local, video, wait_for):
        """A run over its budget withdraws its claim: the other met 412, then 404, and ended the file in NoSuchKey."""
        poor, rich = connect(), connect()
        claimed, reads = threading.Event(), Fault("s3:GetObject", delay_sec=0.7, times=1)

        class Lengths(dict):
            def get(self, uri, default=None):
                claimed.set()
                wait_for(lambda: reads.hits)
                return 18.0

        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(lambda: [d.error for d in poor.embed_many([video], durations=Lengths(), max_cost_usd=0)])
            claimed.wait(10)
            local.faults = [reads]
            assert len(rich.embed_media(video)) == 12
            assert [type(error) for error in run.result()] == [BudgetError]
        assert local.calls["StartAsyncInvoke"] == 1

    @pytest.mark.parametrize("repay_expired", [False, True])
    def test_a_listing_is_made_again_if_another_finished_since(self, connect, local, video, wait_for, repay_expired):
        """It lists, stalls, and claims when the other is done: that was "output is gone", or paid again."""
        slow, quick = connect(), connect()
        claims = Fault("s3:PutObject", delay_sec=2.0, times=1)
        local.faults = [claims]
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(slow.embed_media, video, repay_expired=repay_expired)
            wait_for(lambda: claims.hits)
            assert len(quick.embed_media(video)) == 12
            assert not found.done()
            assert len(found.result()) == 12
        assert local.calls["StartAsyncInvoke"] == 1


def test_an_output_that_another_read_and_that_was_deleted_since_is_not_paid_for_again(
    connect, local, video, keys, held, wait_for, monkeypatch
):
    """Whoever had joined the job found no output, took it for a lost one, and paid for another."""
    monkeypatch.setattr(invocations, "LATE_SEC", 0.0)
    job = connect().start(video)
    with ThreadPoolExecutor(1) as pool:
        joined = threading.Event()
        found = pool.submit(connect().embed_media, video, on_progress=lambda progress: joined.set())
        joined.wait(10)
        # It looks for the output when another has read it, and a lifecycle rule has deleted it.
        polls = Fault("GetAsyncInvoke", delay_sec=1.5, times=1)
        local.faults = [polls]
        wait_for(lambda: polls.hits)
        held.set()
        wait_for(lambda: keys("output.json"))
        assert len(connect().collect(job)) == 12
        local.s3.delete_object(Bucket=local.bucket, Key=keys("output.json")[0])
        with pytest.raises((JobError, OutputError)):
            found.result()
    assert len(local.jobs) == 1


def test_an_output_that_is_gone_when_it_is_read_is_not_marked_as_unusable(
    connect, local, video, keys, held, wait_for, monkeypatch
):
    """Else the mark, and not the deletion, would be why it is missing, and it would be paid for again."""
    monkeypatch.setattr(invocations, "LATE_SEC", 0.0)
    monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda failed: 0.0)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(connect().embed_media, video)
        wait_for(lambda: len(local.jobs))
        reads = Fault("s3:GetObject", delay_sec=1.5, times=1)
        local.faults = [reads]
        held.set()
        wait_for(lambda: reads.hits)
        assert len(connect().embed_media(video)) == 12
        local.s3.delete_object(Bucket=local.bucket, Key=keys("output.json")[0])
        with pytest.raises((JobError, OutputError)):
            found.result()
    assert len(local.jobs) == 1
    assert keys("void.json") == []


@pytest.fixture
def other_bytes(connect, local, video, truth, keys, wait_for):
    """A file as it was listed, after its job has read other bytes and no one has looked at what came of it."""
    (old,) = connect().list_media(video.rpartition("/")[0] + "/")
    local.put(b"newer", "match.mp4")
    job = connect().start(old)
    wait_for(lambda: keys("output.json"))
    return SimpleNamespace(media=old, job=job, right=truth(video))


@pytest.mark.filterwarnings(f"ignore:.*{CHANGED}")
@pytest.mark.promise("No vector is stored under the wrong segment")
class TestAnOutputThatNoOneHasChecked:
    """Its client died, or never waited: who finds it later looks at the file first."""

    @pytest.mark.parametrize("how", ["one", "many"])
    def test_is_not_used_if_it_may_be_of_other_bytes(self, connect, other_bytes, same, how):
        client = connect()
        if how == "one":
            found = client.embed_media(other_bytes.media)
        else:
            (done,) = client.embed_many([other_bytes.media])
            found = done.segments
        assert same(found, other_bytes.right)
        assert found.job != other_bytes.job.id

    def test_is_not_what_was_asked_for_by_only_done(self, connect, local, other_bytes):
        (done,) = connect().embed_many([other_bytes.media], only_done=True)
        with pytest.raises(NotEmbeddedError):
            assert done.segments
        assert local.calls["StartAsyncInvoke"] == 0

    def test_is_refused_by_collect(self, connect, other_bytes):
        client = connect()
        with pytest.raises(OutputError, match="was replaced"):
            client.collect(client.start(other_bytes.media))

    def test_does_not_come_before_one_that_was_checked(self, connect, local, video, wait_for, keys):
        client = connect()
        found = client.embed_media(video)
        (old,) = client.list_media(video.rpartition("/")[0] + "/")
        local.put(b"newer", "match.mp4")
        # S3 dates objects to the second, and no job is as short as this one.
        time.sleep(1.1)
        client.start(old, force=True)
        wait_for(lambda: len(keys("output.json")) == 2)
        assert np.array_equal(np.stack(connect().segment_vectors(list(found))), found.vectors)

    def test_is_noted_once_it_is_used_and_not_paid_for_again(self, connect, local, video, keys, wait_for):
        connect().start(video)
        wait_for(lambda: keys("output.json"))
        assert len(connect().embed_media(video)) == 12
        local.s3.delete_object(Bucket=local.bucket, Key=keys("output.json")[0])
        with pytest.raises(JobError, match="is gone"):
            connect().embed_media(video)
        assert len(local.jobs) == 1

    def test_of_an_image_that_a_job_embedded_is_looked_at_too(self, connect, local, png, keys, wait_for):
        local.put(png(1), "images/a.png")
        (old,) = connect().list_media(f"s3://{local.bucket}/images/")
        local.put(png(2), "images/a.png")
        job = connect().start(old)
        wait_for(lambda: keys("output.json"))
        found = connect().embed_media(old)
        assert np.array_equal(found.vectors[0], connect().embed_image(Media.from_bytes(png(2), "image")))
        assert found.job != job.id


@pytest.mark.filterwarnings(f"ignore:.*{CHANGED}")
class TestAVersionThatIsGone:
    """What became of one version of a file is not held against another, nor against the same bytes later."""

    def test_and_failed_for_good_does_not_stop_an_old_list(self, connect, local, bucket, truths, same):
        manifest = listed(local, "v/")
        local.faults = [Fault("Job", error="Failed", message="The video can't be decoded")]
        assert all(isinstance(done.error, JobError) for done in connect().embed_many(manifest))
        local.faults = []
        uris = [local.put(f"repaired {i}".encode(), f"v/{i}.mp4") for i in range(8)]
        right = truths(uris)
        with pytest.warns(MarengoWarning, match=CHANGED):
            assert all(same(done.segments, right[done.uri]) for done in connect().embed_many(manifest))

    @pytest.mark.parametrize("message", ["The video can't be decoded", "Internal error"])
    @pytest.mark.parametrize("becomes", [b"newer", None])
    def test_during_a_job_that_fails_is_not_to_blame(self, connect, local, video, truth, same, becomes, message):
        right = truth(video)
        local.faults = [Fault("Job", error="Failed", message=message, times=1)]

        def change(progress):
            if progress.stage == "started" and local.faults[0].hits == 1 and len(local.jobs) == 1:
                if becomes is None:
                    local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
                else:
                    local.put(becomes, "match.mp4")

        if becomes is None:
            with pytest.raises(MediaNotFoundError):
                connect().embed_media(video, on_progress=change)
            assert len(local.jobs) == 1
        else:
            found = connect().embed_media(video, on_progress=change)
            assert same(found, truth(video))
        local.put(b"a video", "match.mp4")
        assert same(connect().embed_media(video), right)

    @pytest.mark.parametrize(("name", "body"), [("a.mp4", b"newer"), ("a.png", None), ("a.mp4", b"")])
    def test_before_it_was_copied_is_embedded_as_it_is_now(self, connect, local, png, name, body):
        far = f"{local.bucket}-eu"
        local.s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        local.s3.put_object(Bucket=far, Key=name, Body=png(1) if name.endswith("png") else b"a video")
        client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
        (old,) = client.list_media(f"s3://{far}/")
        if body == b"":
            local.s3.delete_object(Bucket=far, Key=name)
            with pytest.raises(MediaNotFoundError):
                client.embed_media(old)
            return
        local.s3.put_object(Bucket=far, Key=name, Body=body or png(2))
        found = client.embed_media(old)
        assert np.array_equal(
            found.vectors, connect(staging_s3_uri=f"s3://{local.bucket}/stage/").embed_media(old.uri).vectors
        )
        assert local.calls["StartAsyncInvoke"] + local.calls["InvokeModel"] == 1

    def test_and_is_back_is_copied(self, connect, local):
        far = f"{local.bucket}-eu"
        local.s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        local.s3.put_object(Bucket=far, Key="a.mp4", Body=b"a video")
        local.faults = [Fault("s3:CopyObject", error="PreconditionFailed", times=1)]
        assert len(connect(staging_s3_uri=f"s3://{local.bucket}/stage/").embed_media(f"s3://{far}/a.mp4")) == 12
        assert local.calls["StartAsyncInvoke"] == 1

    def test_gives_back_what_its_copy_would_have_cost(self, connect, local):
        far = f"{local.bucket}-eu"
        local.s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        local.s3.put_object(Bucket=far, Key="a.mp4", Body=b"a video")
        client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
        (old,) = client.list_media(f"s3://{far}/")
        local.s3.put_object(Bucket=far, Key="a.mp4", Body=b"newer")
        cost = client._usage.prices.media("video", 18.0)
        (done,) = client.embed_many([old], max_cost_usd=1.5 * cost, durations={old.uri: 18.0})
        assert len(done.segments) == 12


@pytest.mark.parametrize("ahead_sec", [-20, 20, 240])
def test_a_late_output_is_waited_for_whatever_our_clock_says(client, local, video, monkeypatch, ahead_sec):
    """Compared with AWS's clock, a late output looked lost, and its job was paid for three times."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=ahead_sec)

    monkeypatch.setattr(invocations, "datetime", Skewed)
    local.job_duration_sec, ended = 0.3, []

    def is_late(call):
        if any(job.status == "Completed" for job in local.jobs):
            ended.append(time.monotonic())
        return bool(ended) and time.monotonic() - ended[0] < 1

    local.faults = [Fault("s3:ListObjectsV2", body=EMPTY, when=is_late)]
    assert len(client.embed_media(video)) == 12
    assert ended
    assert local.calls["StartAsyncInvoke"] == 1


@pytest.mark.promise("No vector is stored under the wrong segment")
class TestOneRounding:
    def test_different_vectors_whose_times_are_one_in_a_uri_make_an_output_unusable(self, client, local, video):
        def mutate(rows):
            other = {**rows[0], "startSec": 0.001, "embedding": rows[1]["embedding"]}
            return [{**rows[0], "startSec": 0.0005}, other, *rows[1:]]

        local.mutate_output = mutate
        with pytest.raises(OutputError, match="different vectors for one segment"):
            client.embed_media(video)

    def test_no_two_segments_have_one_id(self, client, local, video):
        times = [0.0, 0.0005, 0.0015, 0.0025, 1.0005, 1.2345, 1.2355, 2.675, 8191.0005]
        local.mutate_output = lambda rows: [
            {**rows[0], "startSec": t, "endSec": 9000.0, "embedding": [float(i + 1)] * 512} for i, t in enumerate(times)
        ]
        found = client.embed_media(video)
        segments = list(found)
        assert len({segment.id for segment in segments}) == len(segments) == len(times)
        assert np.array_equal(np.stack(client.segment_vectors(segments)), found.vectors)


def test_a_long_failure_message_takes_no_time():
    began = time.perf_counter()
    for filler in ("d ", " ", "d", "time"):
        assert not TRANSIENT_FAILURE.search("time" + filler * 200_000)
    assert time.perf_counter() - began < 2
    for message in ("Timed out", "time-out", "timeout", "time out", "Request timed-out"):
        assert TRANSIENT_FAILURE.search(message)

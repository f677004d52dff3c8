"""Many files: finished ones cost nothing, quotas lose nothing, and a killed run is continued."""

import contextlib
import pickle

import numpy as np
import pytest

from bedrock_marengo import InputError, JobError, MarengoWarning
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.start_rate import PROBE_ROUNDS, StartLimiter
from marengo_local import Fault

CONTROL = ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes")


@pytest.fixture
def bucket(local):
    """A prefix with 24 videos."""
    for i in range(24):
        local.put(bytes([i]), f"v/{i:02}.mp4")
    return f"s3://{local.bucket}/v/"


def test_listings_and_results_can_be_pickled(client, bucket):
    """A result is read first, if it wasn't yet."""
    [_], [done] = (list(client.embed_many(client.list_media(bucket, limit=1))) for _ in range(2))
    assert done.read is not None
    assert np.array_equal(pickle.loads(pickle.dumps(done)).segments.vectors, done.segments.vectors)
    listing = client.list_media(bucket)
    assert pickle.loads(pickle.dumps(listing)).known_total is listing.known_total is None


def keys(local, end):
    pages = local.s3.get_paginator("list_objects_v2").paginate(Bucket=local.bucket)
    return [item["Key"] for page in pages for item in page["Contents"] if item["Key"].endswith(end)]


def all_good(results, count=24):
    found = [(done.uri, done.error) for done in results]
    return len(found) == len(dict(found)) == count and not any(error for _, error in found)


class TestWhatIsDone:
    def test_costs_only_listings_until_its_vectors_are_read(self, client, connect, local, bucket):
        assert all_good(client.embed_many(bucket))
        local.calls.reset()
        again = list(connect().embed_many(bucket))
        assert all_good(again)
        objects = 24 * 4
        assert local.calls["s3:ListObjectsV2"] <= objects / 1000 + 10
        assert {call.op for call in local.calls} <= {"s3:ListObjectsV2", "s3:HeadBucket"}
        assert len(again[0].segments) == 12
        assert local.calls["s3:GetObject"] == 1 and local.calls["StartAsyncInvoke"] == 0

    def test_is_read_on_the_threads_once_its_segments_are_read(self, client, local, bucket):
        assert all_good(client.embed_many(bucket))
        local.calls.reset()
        with contextlib.closing(client.embed_many(bucket, jobs_at_once=6)) as again:
            assert [len(next(again).segments) for _ in range(20)] == [12] * 20
        # A few more than were taken. Only the first 8 files are looked up one by one.
        assert 20 <= local.calls["s3:GetObject"] <= 20 + 11
        assert local.calls["s3:ListObjectsV2"] == 8 + 2

    def test_and_is_gone_since_the_listing_is_not_paid_for_again(self, client, local, bucket):
        assert all_good(client.embed_many(bucket))
        *_, last = client.embed_many(bucket)
        for key in keys(local, "output.json"):
            local.s3.delete_object(Bucket=local.bucket, Key=key)
        with pytest.raises(JobError, match="is gone"):
            assert last.segments
        assert len(local.jobs) == 24

    def test_is_read_on_the_threads_if_asked_to(self, client, local, bucket):
        assert all_good(client.embed_many(bucket))
        local.calls.reset()
        again = list(client.embed_many(bucket, read_ahead=True))
        assert local.calls["s3:GetObject"] == 24 and all(len(done.segments) == 12 for done in again)

    def test_only_what_is_new_is_paid_for(self, client, local, bucket):
        assert all_good(client.embed_many(bucket))
        local.put(b"new", "v/new.mp4")
        assert all_good(client.embed_many(bucket), 25) and len(local.jobs) == 25

    def test_a_bad_output_of_an_earlier_run_is_replaced_when_it_is_read(self, client, connect, local, bucket):
        assert all_good(client.embed_many(bucket))
        (bad, *_) = keys(local, "output.json")
        local.s3.put_object(Bucket=local.bucket, Key=bad, Body=b'{"data": [')
        assert all(len(done.segments) == 12 for done in connect().embed_many(bucket))
        assert len(local.jobs) == 25


@pytest.mark.fault("Quotas on running jobs and on starts", expect="starts find the rate that holds; no file is dropped")
class TestQuotas:
    def test_no_medium_is_given_up_for_a_quota(self, client, local, bucket):
        local.max_jobs, local.start_rate, local.job_duration_sec = 3, 20.0, 0.2
        assert all_good(client.embed_many(bucket)) and len(local.jobs) == 24

    def test_many_jobs_are_polled_with_few_calls(self, client, local, bucket):
        local.job_duration_sec = 2.0
        # It knows then how long a job takes.
        client.embed_media(local.put(b"first", "first.mp4"))
        local.calls.reset()
        assert all_good(client.embed_many(bucket))
        assert sum(local.calls[op] for op in CONTROL) <= 2 * 24
        # The last ones that are left, not each.
        assert local.calls["GetAsyncInvoke"] <= 6

    def test_a_job_that_the_list_lacks_is_asked_for(self, client, local, bucket):
        # Listed as ended while it is running, since a listing may lag behind.
        local.job_duration_sec = 1.0
        local.faults = [Fault(op="ListAsyncInvokes", error="AccessDeniedException")]
        assert all_good(client.embed_many([f"{bucket}00.mp4", f"{bucket}01.mp4"]), 2)
        assert len(local.jobs) == 2 and local.calls["GetAsyncInvoke"] > 0

    def test_faults_start_nothing_twice(self, client, local, bucket):
        for op in CONTROL:
            local.faults += [Fault(op, 0.1, "InternalServerException"), Fault(op, 0.1, drop="after")]
        assert all_good(client.embed_many(bucket)) and len(local.jobs) == 24

    def test_starts_rise_until_throttled_and_then_slow_down(self):
        starts = StartLimiter()
        before = starts._per_sec
        for _ in range(5):
            starts._started(waited=True)
        risen = starts._per_sec
        assert risen > before
        starts._throttled()
        starts._throttled()  # concurrent calls count once
        assert starts._per_sec == risen / 2
        starts._started(waited=True)
        assert starts._per_sec == pytest.approx(risen / 2 + 0.1 / (risen / 2))
        slow = starts._per_sec
        starts._started(waited=False)  # a rate that delayed no call was not tested
        assert starts._per_sec == slow

    def test_the_ceiling_is_what_runs_when_the_quota_says_no_and_rises_slowly(self):
        starts = StartLimiter(max_per_sec=1e9)
        for _ in range(5):
            starts.call(lambda: None, "a medium", hold=True, token=CancelToken())
        starts._full()
        assert starts._ceiling.jobs == 5
        for _ in range(PROBE_ROUNDS * 5 - 1):
            starts.release()
        assert starts._ceiling.jobs == 5
        starts.release()
        assert starts._ceiling.jobs == 6

    def test_starts_per_second_can_be_limited(self):
        starts = StartLimiter(max_per_sec=2.0)
        for _ in range(100):
            starts._started(waited=True)
        assert starts._per_sec == 2.0


class TestChanges:
    @pytest.mark.fault("The source is replaced while its job runs", expect="a job for the new bytes")
    def test_a_source_that_changes_while_its_job_runs_is_embedded_again(self, client, local, video):
        changed = []

        def change(job):
            if not changed:
                changed.append(local.put(b"the second cut", "match.mp4"))
            return 0.0

        local.job_duration_sec = change
        found = client.embed_media(video)
        assert len(local.jobs) == 2 and len(keys(local, "void.json")) == 1
        local.calls.reset()
        assert client.embed_media(video).job == found.job and local.calls["StartAsyncInvoke"] == 0

    @pytest.mark.fault("The output is deleted later", expect="JobError; embedded again only with repay_expired=True")
    def test_an_output_that_expired_is_paid_again_only_when_told_so(self, client, connect, local, video):
        client.embed_media(video)
        for end in ("output.json", "manifest.json"):
            local.s3.delete_object(Bucket=local.bucket, Key=keys(local, end)[0])
        with pytest.raises(JobError, match=r"output .* is gone .*repay_expired=True"):
            connect().embed_media(video)
        assert len(local.jobs) == 1
        assert len(connect().embed_media(video, repay_expired=True)) == 12 and len(local.jobs) == 2

    @pytest.mark.fault(
        "An S3-like store that refuses conditional writes",
        expect="a warning; the token alone tells two processes apart",
    )
    def test_a_store_that_refuses_conditional_writes(self, client, connect, local, video):
        def conditional(call):
            return call.body.get("key", "").endswith("request.json") and refusing

        refusing = True
        local.faults = [Fault(op="s3:PutObject", error="NotImplemented", status=501, when=conditional, times=1)]
        with pytest.warns(MarengoWarning, match="does not support conditional writes"):
            assert len(client.embed_media(video)) == 12
        assert len(connect().embed_media(video)) == 12 and len(local.jobs) == 1


def test_a_file_that_the_settings_do_not_fit_does_not_stop_the_others(client, local):
    sources = [local.put(b"1", "a.mp4"), local.put(b"2", "b.mp3")]
    from bedrock_marengo import Segmentation

    done = {d.source: d.error for d in client.embed_many(sources, segmentation=Segmentation.dynamic(3))}
    assert done[sources[0]] is None and isinstance(done[sources[1]], InputError)

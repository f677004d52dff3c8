"""Faults of jobs: failed, stuck, started by two, lost between a start and its note, with a source that changes."""

import json
import pickle
import threading
import time
from datetime import timedelta

import numpy as np
import pytest

from bedrock_marengo import InputError, JobError, Media, OutputError
from marengo_local import Fault

pytestmark = pytest.mark.promise("Nothing is billed twice")

PASSING = "An internal error occurred. Please try again."
FINAL = "The video could not be decoded."


def of(name):
    return lambda call: f"/{name}" in json.dumps(call.body)


class TestFailed:
    @pytest.mark.fault("A job failed with a transient message", expect="a new attempt, at most 3 over all runs")
    def test_one_that_passes_is_tried_anew_and_gives_what_a_clean_run_gives(self, connect, local, bucket, truths, same):
        uris = [f"{bucket}{i}.mp4" for i in range(3)]
        wanted = truths(uris)
        local.faults = [Fault("Job", error="Failed", message=PASSING, times=1)]
        done = {d.uri: d.segments for d in connect().embed_many(uris)}
        assert all(same(done[uri], wanted[uri]) for uri in uris)
        assert len(local.jobs) == 4 and sum(job.status == "Failed" for job in local.jobs) == 1

    @pytest.mark.fault(
        "A job failed for good", expect="JobError with Bedrock's message and the ARN; billed again only with force=True"
    )
    def test_one_that_is_final_is_told_and_the_others_go_on(self, connect, local, bucket):
        local.faults = [Fault("Job", error="Failed", message=FINAL, when=of("3.mp4"))]
        for again in ("", "failed before, attempt 1 of 3: "):
            errors = {done.uri[-5:]: done.error for done in connect().embed_many(bucket)}
            (name, error) = next((name, error) for name, error in errors.items() if error)
            assert (name, sum(error is None for error in errors.values())) == ("3.mp4", 7)
            assert isinstance(error, JobError) and again + FINAL in str(error) and error.arn in str(error)
        # The second run has not paid for it again.
        assert len(local.jobs) == 8


@pytest.mark.fault("A stuck job", expect="it holds up no other file; timeout_sec ends the wait; the next run joins it")
class TestStuck:
    @pytest.fixture
    def stuck(self, local):
        local.faults = [Fault("Job", delay_sec=float("inf"), when=of("3.mp4"))]

    def test_one_holds_up_no_other_and_ends_with_the_time_given(self, client, local, bucket, stuck):
        seen = set()
        # It has one of two threads.
        for done in client.embed_many(bucket, jobs_at_once=2):
            seen.add(done.uri[-5:])
            if len(seen) == 7:
                break
        assert "3.mp4" not in seen
        errors = {done.uri[-5:]: done.error for done in client.embed_many(bucket, timeout_sec=0.2)}
        (name,) = [name for name, error in errors.items() if error]
        assert name == "3.mp4" and errors[name].running and "still running after 0.2 s" in str(errors[name])
        assert len(errors) == len(local.jobs) == 8

    def test_the_next_run_joins_it_and_pays_nothing(self, connect, local, bucket, stuck):
        uri = f"{bucket}3.mp4"
        for _ in range(2):
            with pytest.raises(JobError, match=r"still running.*force=True starts another job"):
                connect().embed_media(uri, timeout_sec=0.1, force=True)
        assert len(local.jobs) == 1

    def test_one_that_is_a_day_old_makes_way_when_told_so(self, connect, local, bucket, stuck, truth, same):
        uri = f"{bucket}3.mp4"
        wanted = truth(uri)
        job = connect().start(uri)
        local.faults = []
        local.jobs[job.arn].submit_time -= timedelta(hours=25)
        with pytest.raises(JobError, match="still running"):
            connect().embed_media(uri, timeout_sec=0.1)
        assert same(connect().embed_media(uri, force=True), wanted) and len(local.jobs) == 2


@pytest.mark.fault("Several clients or files want the same result, also after a failure", expect="one job for all")
class TestManyAtOnce:
    @pytest.fixture
    def at_once(self, connect, video):
        """What 3 clients, which know nothing of each other, get of one video at once."""

        def at_once():
            ready, found = threading.Barrier(3), []

            def run(client):
                ready.wait()
                found.append(client.embed_media(video))

            threads = [threading.Thread(target=run, args=(connect(),)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return found

        return at_once

    @pytest.mark.parametrize("how", ["its first job fails", "its first output is unusable", "it is replaced"])
    def test_whoever_meets_it_there_is_one_new_job(self, local, video, truth, same, at_once, how):
        bad = iter([b"<html>"])
        replaced = []

        def replace(job):
            if not replaced:
                replaced.append(local.put(b"the second cut", "match.mp4"))
            return 0.2

        local.job_duration_sec = 0.2
        if how == "its first job fails":
            local.faults = [Fault("Job", error="Failed", message=PASSING, times=1)]
        elif how == "its first output is unusable":
            local.mutate_output = lambda rows: next(bad, rows)
        else:
            local.job_duration_sec = replace
        found = at_once()
        assert len(found) == 3 and len(local.jobs) == 2
        wanted = truth(video)
        assert all(same(one, wanted) for one in found)

    def test_all_lose_their_replies(self, local, video, truth, same, at_once):
        wanted = truth(video)
        local.faults = [Fault(op, drop="after", when=0.3) for op in ("StartAsyncInvoke", "s3:PutObject")]
        found = at_once()
        assert len(found) == 3 and len(local.jobs) == 1 and all(same(one, wanted) for one in found)

    def test_equal_files_under_two_names_are_uploaded_and_embedded_once(self, client, local, keys, tmp_path):
        for i in range(6):
            (tmp_path / f"{i}.mp4").write_bytes(b"the same bytes")
        done = list(client.embed_many(tmp_path))
        assert {done.error for done in done} == {None} and len({d.segments.source for d in done}) == 1
        assert len(keys(".mp4")) == len(local.jobs) == 1

    def test_a_medium_that_comes_twice_in_one_run_is_one_job(self, client, local, video):
        assert [done.error for done in client.embed_many([video] * 6)] == [None] * 6
        assert len(local.jobs) == 1


@pytest.mark.fault("The same file under another output prefix", expect="one job for each prefix")
class TestAnotherOutputPrefix:
    def test_is_another_place_whatever_runs_elsewhere(self, connect, local, video, keys):
        connect().embed_media(video)
        other = connect(output_s3_uri=f"s3://{local.bucket}/marengo/other/")
        began = time.monotonic()
        found = [connect().embed_media(video), other.embed_media(video), other.embed_media(video)]
        assert list(found[0]) == list(found[1]) == list(found[2])
        # Bedrock knows the work by its token, but writes it where it was first asked to: no one waits for it here.
        assert time.monotonic() - began < 5 and len(local.jobs) == 2
        assert len(keys("output.json")) == 2

    def test_finds_its_own_lost_start_again(self, connect, local, video):
        connect().embed_media(video)
        local.faults = [Fault("StartAsyncInvoke", drop="after", times=2)]
        connect(output_s3_uri=f"s3://{local.bucket}/marengo/other/").embed_media(video)
        assert len(local.jobs) == 2

    def test_asks_again_for_the_list_alone_if_that_fails(self, connect, local, video):
        connect().embed_media(video)
        local.calls.reset()
        local.faults = [Fault("ListAsyncInvokes", error="InternalServerException", times=3)]
        connect(output_s3_uri=f"s3://{local.bucket}/marengo/other/").embed_media(video)
        # The token that is in use, and the prefix's own.
        assert local.calls["StartAsyncInvoke"] == 2


@pytest.mark.fault(
    "The reply to a write of request.json is lost", expect="one job, found again by its token or its output"
)
class TestLostInBetween:
    def test_a_request_file_whose_reply_is_lost(self, connect, local, video, truth, same, keys):
        wanted = truth(video)
        # Written without a response; then started without a response.
        local.faults = [Fault("s3:PutObject", drop="after", when=1), Fault("StartAsyncInvoke", drop="after", when=1)]
        assert same(connect().embed_media(video), wanted)
        assert len(local.jobs) == len(keys("request.json")) == 1

    def test_a_note_whose_reply_is_lost(self, connect, local, video, truth, same, keys):
        wanted = truth(video)
        local.faults = [Fault("s3:PutObject", drop="after", when=lambda call: call.number in (2, 4))]
        assert same(connect().embed_media(video), wanted)
        record = json.loads(local.s3.get_object(Bucket=local.bucket, Key=keys("request.json")[0])["Body"].read())
        assert record["arn"] and record["output"] and len(local.jobs) == 1

    def test_whoever_joins_a_job_notes_its_output_so_that_it_expires_only_once(self, connect, local, video, keys, held):
        # The starter is gone before it could read anything.
        connect().start(video)
        connect().embed_media(video, on_progress=lambda progress: held.set())
        for name in keys("output.json"):
            local.s3.delete_object(Bucket=local.bucket, Key=name)
        with pytest.raises(JobError, match=r"output .* is gone .*repay_expired=True"):
            connect().embed_media(video)
        assert len(local.jobs) == 1

    def test_so_it_does_if_the_starter_died_before_it_could_write_the_job_down(
        self, connect, local, video, keys, held, wait_for
    ):
        connect().start(video)
        [name] = keys("request.json")
        record = json.loads(local.s3.get_object(Bucket=local.bucket, Key=name)["Body"].read())
        local.s3.put_object(Bucket=local.bucket, Key=name, Body=json.dumps({**record, "arn": None}))
        held.set()
        wait_for(lambda: keys("output.json"))
        assert len(connect().embed_media(video))
        for output in keys("output.json"):
            local.s3.delete_object(Bucket=local.bucket, Key=output)
        with pytest.raises(JobError, match=r"output .* is gone\. .*repay_expired=True"):
            connect().embed_media(video)
        assert len(local.jobs) == 1
        assert len(connect().embed_media(video, repay_expired=True)) and len(local.jobs) == 2


@pytest.mark.fault(
    "The source is replaced, archived or removed in the middle of its job",
    expect="vectors of the new bytes, or an error; the old output is never used for the new bytes",
)
class TestAReplacedSource:
    """Whatever Bedrock read, no vector comes back under bytes that it may not be of."""

    def test_of_a_job_that_goes_on(self, connect, local, video, truth, same, held, wait_for):
        found = []
        thread = threading.Thread(target=lambda: found.append(connect().embed_media(video)))
        thread.start()
        wait_for(lambda: len(local.jobs))
        local.put(b"the second cut", "match.mp4")
        held.set()
        thread.join()
        assert same(found[0], truth(video)) and len(local.jobs) == 2

    @pytest.mark.parametrize("by", ["a pickle of it", "its output"])
    def test_of_a_job_that_another_process_collects(self, connect, local, video, truth, same, keys, by, wait_for):
        old = truth(video)
        job = connect().start(video)
        wait_for(lambda: keys("output.json"))
        other = connect()
        names = {
            "a pickle of it": lambda: pickle.loads(pickle.dumps(job)),
            "its output": lambda: other.job(f"s3://{local.bucket}/{keys('output.json')[0]}"),
        }
        local.put(b"the second cut", "match.mp4")
        with pytest.raises(
            OutputError, match=r"match\.mp4 is no longer the file that its job was started for.*Embed it again"
        ):
            other.collect(names[by]())
        local.put(b"a video", "match.mp4")
        assert same(other.collect(names[by]()), old)
        # Once it was read while the source was right, what becomes of the source later does not matter.
        local.put(b"the third cut", "match.mp4")
        assert same(connect().collect(connect().job(job.arn)), old) and len(local.jobs) == 1
        local.s3.delete_object(Bucket=local.bucket, Key="match.mp4")
        assert same(connect().collect(connect().job(job.arn)), old)

    def test_that_is_archived_once_it_was_read_is_the_same(self, client, local, video, truth, same):
        def archive(job):
            local.s3.put_object(Bucket=local.bucket, Key="match.mp4", Body=b"a video", StorageClass="GLACIER")
            return 0.0

        wanted = truth(video)
        local.job_duration_sec = archive
        assert same(client.embed_media(video), wanted) and len(local.jobs) == 1

    def test_of_a_listing_that_is_old_when_its_image_is_asked_for(self, client, local, png):
        uri = local.put(png(0), "a.png")
        (listed,) = client.list_media(f"s3://{local.bucket}/", suffixes=".png")
        local.put(png(200), "a.png")
        new = client.embed_image(uri)
        local.calls.reset()
        found = client.embed_media(listed)
        # Paid for twice, since the first vector was of no known bytes; and never again.
        assert listed.etag and np.array_equal(found.vectors, [new]) and local.calls["InvokeModel"] == 2
        assert np.array_equal(client.embed_media(uri).vectors, [new]) and local.calls["InvokeModel"] == 2

    def test_that_changes_for_ever_is_told(self, client, local, video):
        local.job_duration_sec = lambda job: local.put(str(job.number).encode(), "match.mp4") and 0.0
        with pytest.raises(JobError, match=r"replaced during each of its 4 jobs\. Embed it when it no longer changes"):
            client.embed_media(video)
        assert len(local.jobs) == 4

    def test_a_file_that_is_still_written_to(self, client, local, keys, tmp_path):
        path = tmp_path / "camera.mp4"
        path.write_bytes(b"the first minute")

        def writes(call):
            path.write_bytes(b"the first minute and the second")
            return False

        local.faults = [Fault("s3:PutObject", when=writes)]
        with pytest.raises(InputError, match=r"camera\.mp4 changed during the upload"):
            client.embed_media(path)
        assert keys(".mp4") == [] and len(local.jobs) == 0
        local.faults = []
        assert len(client.embed_media(path)) == 12

    def test_a_file_that_goes_away(self, client, local, tmp_path):
        paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
        for path in paths:
            path.write_bytes(path.name.encode())
        media = [Media.from_path(path) for path in paths]
        paths[0].unlink()
        errors = {done.source.path.name: done.error for done in client.embed_many(media)}
        assert errors["b.mp4"] is None and "can't be read: No such file" in str(errors["a.mp4"])
        assert isinstance(errors["a.mp4"], InputError)

"""From files to segments: jobs are reused, joined and paid for once, and output is missing only if that is proven."""

import asyncio
import json
import pickle
import threading

import numpy as np
import pytest

from bedrock_marengo import (
    InputError,
    JobError,
    MarengoClient,
    MarengoError,
    Media,
    MediaNotFoundError,
    OutputError,
    Segment,
    Segmentation,
    SegmentNotFoundError,
    ServiceError,
)
from bedrock_marengo.jobs import invocations
from marengo_local import Fault

PASSING = "An internal error occurred. Please try again."
FINAL = "The video could not be decoded."


def starts(local):
    return local.calls["StartAsyncInvoke"]


def keys(local, ending=""):
    listed = local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/").get("Contents", [])
    return [item["Key"] for item in listed if item["Key"].endswith(ending)]


def edit_request(local, **changes):
    """Change the one request.json, as a crash or a later version would have left it."""
    (key,) = keys(local, "request.json")
    record = json.loads(local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read())
    local.s3.put_object(Bucket=local.bucket, Key=key, Body=json.dumps({**record, **changes}).encode())
    return record


# Results.


def test_a_video(client, local, video):
    found = client.embed_media(video)
    spans = [(s.start_sec, s.end_sec, s.option, s.scope) for s in found]
    tracks = ("visual", "audio", "transcription")
    clips = [(start, start + 6.0, track, "clip") for start in (0.0, 6.0, 12.0) for track in tracks]
    assert spans == clips + [(0.0, 18.0, track, "asset") for track in tracks]
    assert found.vectors.shape == (12, 512) and found.vectors.dtype == np.float32
    assert (found.source, found.media_type, found.model_id) == (video, "video", client.model_id)
    assert len({segment.id for segment in found}) == 12


def test_every_setting_reaches_the_service(client, local, video):
    settings = {"options": ["visual", "audio"], "scopes": ["clip"], "segmentation": Segmentation.fixed(5)}
    found = client.embed_media(video, **settings, start_sec=3, end_sec=13, fused=True)
    assert [(s.start_sec, s.end_sec, s.option) for s in found] == [
        (start, start + 5.0, track) for start in (3.0, 8.0) for track in ("visual", "audio", "fused")
    ]
    assert set(client.embed_media(video, fused="only").option) == {"fused"}


def test_audio_and_image(client, local, png):
    sound = client.embed_media(local.put(b"sound", "talk.mp3"))
    assert set(sound.option) == {"audio", "transcription"} and sound.media_type == "audio"
    uri = local.put(png(), "dog.png")
    image = client.embed_media(uri, options=["visual"], scopes=["clip"])
    assert [(s.start_sec, s.end_sec, s.option, s.scope) for s in image] == [(0.0, 0.0, "image", "clip")]
    assert np.array_equal(image.vectors[0], client.embed_image(uri))


def test_2_7_returns_clips_on_its_own_tracks(connect, local, video):
    found = connect("2.7").embed_media(video, segmentation=Segmentation.fixed(6.2))
    assert set(found.option) == {"visual-text", "visual-image", "audio"} and set(found.scope) == {"clip"}
    assert found[0].end_sec == 6.2 and found.vectors.shape[1] == 1024


def test_local_media_are_uploaded_once(client, connect, local, tmp_path):
    for name in ("a.mp4", "same bytes.mp4"):
        (tmp_path / name).write_bytes(b"local video")
    stages = []
    first = client.embed_media(tmp_path / "a.mp4", on_progress=lambda p: stages.append(p.stage))
    assert first.source.startswith(f"{local.output_s3_uri}uploads/") and first.source.endswith("/a.mp4")
    assert stages[:2] == ["uploading", "started"] and stages[-1] == "completed"
    for again in (tmp_path / "same bytes.mp4", Media.from_bytes(b"local video", kind="video")):
        assert list(connect().embed_media(again)) == list(first)
    assert len(keys(local, ".mp4")) == starts(local) == 1


# Output is reused, and paid for once.


def test_a_second_run_and_a_second_client_reuse_the_output(client, connect, local, video):
    first = client.embed_media(video)
    stages = []
    explicit = {"scopes": ["clip", "asset"], "segmentation": Segmentation.dynamic(4), "start_sec": 0}
    for again in (client, connect()):
        found = again.embed_media(video, on_progress=lambda p: stages.append(p.stage), **explicit)
        assert list(found) == list(first) and np.array_equal(found.vectors, first.vectors)
    assert stages == ["reused", "completed"] * 2
    assert starts(local) == 1


def test_different_options_objects_and_models_are_different_jobs(client, connect, local, video):
    jobs_seen = {client.embed_media(video).job}
    jobs_seen.add(client.embed_media(video, scopes=["clip"]).job)
    jobs_seen.add(connect("2.7").embed_media(video).job)
    local.put(b"another video", "match.mp4")
    jobs_seen.add(client.embed_media(video).job)
    assert len(jobs_seen) == starts(local) == 4


def test_equal_images_are_embedded_once(client, connect, local, png):
    uri = local.put(png(), "dog.png")
    first = client.embed_media(uri)
    assert np.array_equal(connect().embed_media(uri).vectors, first.vectors)
    assert local.calls["InvokeModel"] == 1
    client.embed_media(uri, force=True)
    assert local.calls["InvokeModel"] == 2


def test_a_running_job_is_joined(client, connect, local, video, held):
    job = client.start(video)
    stages = []

    def on_progress(progress):
        stages.append(progress.stage)
        held.set()

    found = connect().embed_media(video, on_progress=on_progress)
    assert stages[0] == "joined" and found.job == job.id and starts(local) == 1


@pytest.mark.fault("A crash between the note and the start of a job", expect="one job")
def test_a_crash_between_write_and_start_gets_one_job(client, connect, local, video):
    local.faults = [Fault(op="StartAsyncInvoke", error="ValidationException", message="the power went out")]
    with pytest.raises(ServiceError, match="the power went out"):
        client.embed_media(video)
    local.faults = []
    found = connect().embed_media(video)
    tokens = {call.body["clientRequestToken"] for call in local.calls.of("StartAsyncInvoke")}
    assert len(tokens) == len(local.jobs) == 1 and len(found) == 12


@pytest.mark.fault("A crash between the start of a job and its note", expect="one job, found by its token")
@pytest.mark.parametrize("settings", [{}, {"tags": {"team": "b"}}], ids=["same", "other tags"])
def test_a_crash_between_start_and_note_gets_one_job(client, connect, local, video, held, settings):
    job = client.start(video)
    edit_request(local, arn=None)
    assert connect(**settings).start(video).arn == job.arn
    held.set()
    found = connect(**settings).embed_media(video)
    assert found.job == job.id and len(local.jobs) == 1


@pytest.mark.fault("A call that asks for a job fails or loses its connection", expect="retried")
@pytest.mark.parametrize(
    "fault",
    [{"error": "ThrottlingException"}, {"error": "InternalServerException"}, {"drop": "before"}, {"drop": "mid-body"}],
)
def test_what_passes_is_waited_out(client, local, video, fault):
    # tests/reliability/test_faults.py has the other calls.
    local.faults = [Fault(op="GetAsyncInvoke", times=1, **fault)]
    assert len(client.embed_media(video)) == 12
    assert len(local.jobs) == 1 and local.faults[0].hits == 1


# Jobs that fail.


def test_a_transient_failure_is_retried_as_a_new_attempt(client, local, video):
    local.faults = [Fault(op="Job", error="x", message=PASSING, times=2)]
    assert len(client.embed_media(video)) == 12
    assert [call.body["clientRequestToken"][-2:] for call in local.calls.of("StartAsyncInvoke")] == ["-1", "-2", "-3"]


@pytest.mark.fault("A job that always fails with a transient message", expect="JobError after 3 attempts over all runs")
def test_a_passing_failure_is_retried_at_most_3_times_over_all_runs(client, connect, local, video):
    local.faults = [Fault(op="Job", error="x", message=PASSING)]
    for run in (client, connect()):
        with pytest.raises(JobError, match=PASSING):
            run.embed_media(video)
    assert starts(local) == 3


@pytest.mark.fault("A job that failed for good in an earlier run", expect="JobError; billed again only with force=True")
def test_a_final_failure_is_not_paid_again_without_force(client, connect, local, video):
    local.faults = [Fault(op="Job", error="x", message=FINAL, times=1)]
    with pytest.raises(JobError, match=FINAL) as caught:
        client.embed_media(video)
    assert caught.value.source == video and caught.value.arn and not caught.value.transient
    with pytest.raises(JobError, match=rf"failed before, attempt 1 of 3: {FINAL}.*force=True"):
        connect().embed_media(video)
    assert starts(local) == 1
    assert len(connect().embed_media(video, force=True)) == 12
    assert len(connect().embed_media(video)) == 12
    assert starts(local) == 2
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.arn) == (str(caught.value), caught.value.arn)


def test_force_embeds_finished_files_again(client, local, video):
    client.embed_media(video)
    client.embed_media(video, force=True)
    assert len(local.jobs) == 2 and len(keys(local, "output.json")) == 2


@pytest.mark.fault("Bedrock no longer knows the job", expect="a new attempt")
def test_a_job_that_bedrock_forgot(client, connect, local, video):
    local.faults = [Fault(op="Job", delay_sec=float("inf"), times=1)]
    job = client.start(video)
    local.jobs.forget(job.arn)
    with pytest.raises(JobError, match=r"no longer knows the job.*force=True"):
        job.status()
    # Without any sign of the job, a new attempt is made, as after a transient failure.
    assert len(connect().embed_media(video)) == 12 and starts(local) == 2


def test_timeout_while_waiting_for_a_job(client, local, video, held):
    with pytest.raises(JobError, match=r"still running after 0.1 s.*The next run joins it"):
        client.embed_media(video, timeout_sec=0.1)
    held.set()
    assert len(client.embed_media(video)) == 12 and starts(local) == 1


# Unusable or late output.


@pytest.mark.fault("An output that appears late", expect="the listing is repeated for 15 s")
def test_an_output_may_appear_late(client, local, video):
    hidden = []

    def hide(call):
        # The first listing after the job is Completed is empty.
        if not hidden and local.calls["GetAsyncInvoke"] and keys(local, "output.json"):
            (key,) = keys(local, "output.json")
            hidden.append((key, local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read()))
            local.s3.delete_object(Bucket=local.bucket, Key=key)
            threading.Timer(0.3, lambda: local.s3.put_object(Bucket=local.bucket, Key=key, Body=hidden[0][1])).start()
        return False

    local.faults = [Fault(op="s3:ListObjectsV2", when=hide)]
    assert len(client.embed_media(video)) == 12 and hidden and starts(local) == 1


@pytest.mark.fault("Completed, but never an output", expect="OutputError after 3 attempts")
def test_an_output_that_never_appears(client, local, video, monkeypatch):
    monkeypatch.setattr(invocations, "LATE_SEC", 0.0)
    local.mutate_output = lambda rows: None
    with pytest.raises(OutputError, match=r"is Completed, but .* has no output"):
        client.embed_media(video)
    assert starts(local) == 3


# Rejected before anything is paid.


def test_a_missing_object(client, local, video):
    for uri in (f"s3://{local.bucket}/none.mp4", f"s3://{local.bucket}/matc.mp4", video.replace("match", "Match")):
        with pytest.raises(MediaNotFoundError, match="There is no object"):
            client.embed_media(uri)
    with pytest.raises(MediaNotFoundError, match="end it with a slash"):
        client.embed_media(Media.from_s3(f"s3://{local.bucket}/match", kind="video"))
    assert starts(local) == 0


@pytest.mark.fault(
    "Access denied, an expired token or a KMS error on a listing or a write",
    expect="ServiceError before anything is billed",
)
@pytest.mark.parametrize("error", ["AccessDenied", "ExpiredToken", "KMS.DisabledException"])
@pytest.mark.parametrize("op", ["s3:ListObjectsV2", "s3:PutObject"])
def test_a_refusal_is_never_taken_for_absent(client, local, video, op, error):
    local.faults = [Fault(op=op, error=error)]
    with pytest.raises(ServiceError, match=error) as caught:
        client.embed_media(video)
    assert caught.value.code == error and starts(local) == 0


@pytest.mark.fault("Access denied on an output of an earlier run", expect="ServiceError; no new job")
def test_an_output_that_access_is_denied_to_is_not_paid_again(client, connect, local, video):
    client.embed_media(video)
    local.faults = [Fault(op="s3:GetObject", error="AccessDenied")]
    with pytest.raises(ServiceError, match=r"GetObject .*AccessDenied.*s3:GetObject"):
        connect().embed_media(video)
    assert starts(local) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Body": b""}, r"is empty \(0 bytes\)"),
        ({"StorageClass": "GLACIER"}, "is archived in GLACIER: restore it first"),
        ({"StorageClass": "DEEP_ARCHIVE"}, "is archived in DEEP_ARCHIVE"),
    ],
)
def test_an_object_that_bedrock_cannot_read(client, local, change, said):
    local.s3.put_object(**{"Bucket": local.bucket, "Key": "a.mp4", "Body": b"v", **change})
    with pytest.raises(InputError, match=said):
        client.embed_media(f"s3://{local.bucket}/a.mp4")
    assert starts(local) == 0


def test_files_that_are_too_large(client, local, png):
    local.put(bytes(5 * 1024**2 + 1), "large.png")
    with pytest.raises(
        InputError, match=r"large.png is 5,242,881 bytes; Marengo 3.0 accepts image files of at most 5,242,880"
    ):
        client.embed_media(f"s3://{local.bucket}/large.png")
    large = Media("video", uri=f"s3://{local.bucket}/a.mp4", size=6 * 1024**3 + 1, etag="x")
    with pytest.raises(InputError, match="accepts video files of at most 6,442,450,944"):
        client.embed_media(large)
    assert local.calls["InvokeModel"] == starts(local) == 0


# Many media.


def test_embed_many_yields_results_as_they_finish(client, local, tmp_path):
    local.job_duration_sec = lambda job: 2.0 if "slow" in str(job.model_input) else 0.0
    slow, fast = local.put(b"1", "slow.mp4"), local.put(b"2", "fast.mp4")
    (tmp_path / "here.mp4").write_bytes(b"3")
    items = [slow, fast, tmp_path / "here.mp4", Media.from_s3(fast)]
    done = list(client.embed_many(iter(items)))
    assert done[-1].source == slow
    assert {id(d.source) for d in done} == {id(item) for item in items}
    assert all(d.error is None and d.uri == d.segments.source for d in done)


def test_one_bad_file_does_not_stop_the_others(client, local, video):
    local.faults = [Fault(op="Job", error="x", message=FINAL, when=lambda call: "/bad.mp4" in str(call.body))]
    bad = local.put(b"bad", "bad.mp4")
    items = ["/etc/passwd", f"s3://{local.bucket}/none.mp4", "s3://no-such-bucket-of-ours/", bad, 5, video]
    done = {str(d.source): d for d in client.embed_many(items)}
    errors = [InputError, MediaNotFoundError, MediaNotFoundError, JobError, InputError]
    assert [type(done[str(item)].error) for item in items[:-1]] == errors
    assert done[video].error is None and len(done[video].segments) == 12 and len(done) == 6


def test_a_prefix_skips_unsupported_files(client, local, png):
    wanted = [local.put(b"v", "in/a.mp4"), local.put(b"s", "in/b/c.MP3"), local.put(png(), "in/d.png")]
    for key, body in (("in/notes.txt", b"x"), ("in/empty.mp4", b""), ("in/a.srt", b"x"), ("in/folder/", b"")):
        local.put(body, key)
    local.put(b"v", "out/z.mp4")
    listing = client.list_media(f"s3://{local.bucket}/in/")
    done = list(client.embed_many(listing))
    assert sorted(d.source for d in done) == sorted(wanted) and not any(d.error for d in done)
    assert listing.skipped == {"not media": 1, "empty": 1}


def test_our_own_output_is_not_a_source(connect, local, tmp_path):
    (tmp_path / "mine.mp4").write_bytes(b"mine")
    for output in (local.output_s3_uri, f"s3://{local.bucket}"):
        client = connect(output_s3_uri=output)
        assert client.embed_media(tmp_path / "mine.mp4").source.startswith(output.rstrip("/") + "/uploads/")
        listed = [media.uri for media in client.list_media(f"s3://{local.bucket}/")]
        assert not [uri for uri in listed if uri.startswith(output.rstrip("/") + "/uploads/")]
    # A user's own files are sources, wherever they are stored.
    uri = local.put(b"v", "marengo/holiday.mp4")
    assert uri in [media.uri for media in connect().list_media(f"s3://{local.bucket}/")]


def test_filters_and_folders(client, local, tmp_path):
    for name in ("a.mp4", "b.mp3", "sub/c.mp4", "sub/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listing = client.list_media(tmp_path, suffixes=".MP4", exclude="sub/*")
    assert [media.path.name for media in listing] == ["a.mp4"]
    assert listing.skipped == {"suffix": 1, "excluded": 1, "not media": 1}
    assert len(list(client.list_media(tmp_path, limit=2))) == 2


def test_leaving_early_stops_promptly_and_loses_nothing(client, local):
    local.job_duration_sec = lambda job: 0.0 if "v0" in str(job.model_input) else 3600.0
    for i in range(4):
        local.put(bytes([i]), f"v{i}.mp4")
    for done in client.embed_many(f"s3://{local.bucket}/"):
        assert done.source.endswith("v0.mp4")
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("marengo-media")]
    assert len(local.jobs.running()) <= 3


async def test_leaving_early_for_asyncio(client, local):
    local.job_duration_sec = lambda job: 0.0 if "v0" in str(job.model_input) else 3600.0
    for i in range(4):
        local.put(bytes([i]), f"v{i}.mp4")

    async def take():
        async for done in client.aembed_many(f"s3://{local.bucket}/"):
            assert done.source.endswith("v0.mp4")
            first.set()

    first = asyncio.Event()
    task = asyncio.create_task(take())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [t for t in threading.enumerate() if t.name.startswith("marengo-media")]


# Start here, collect there.


def test_start_and_collect(client, connect, local, video, held):
    job = client.start(video)
    assert job.status() == "InProgress" and job.output_uri is None and not job.joined
    assert connect().start(video).joined
    held.set()
    found = client.collect(job)
    assert job.status() == "Completed" and found.job == job.id and len(found) == 12
    assert connect().start(video).output_uri.endswith("/output.json")
    assert starts(local) == 1


def test_a_job_can_be_passed_to_another_process(client, connect, local, video, held):
    job = pickle.loads(pickle.dumps(client.start(video)))
    with pytest.raises(MarengoError, match=r"client\.collect"):
        job.status()
    held.set()
    assert len(connect().collect(job)) == 12 and starts(local) == 1


# The vectors of segments.


def test_cached_segment_vectors_need_no_call(client, local, video):
    found = client.embed_media(video)
    local.calls.reset()
    vectors = client.segment_vectors([found[3], found[0].uri])
    assert np.array_equal(vectors, found.vectors[[3, 0]]) and len(local.calls) == 0
    vectors[0][:] = 0
    assert np.array_equal(client.segment_vectors([found[3]])[0], found.vectors[3])


@pytest.mark.parametrize("cache_bytes", [0, 1 << 28])
def test_a_fresh_client_reads_each_job_once(connect, local, png, cache_bytes):
    uris = [local.put(b"1", "a.mp4"), local.put(b"2", "b.mp3"), local.put(png(), "c.png")]
    found = [connect().embed_media(uri) for uri in uris]
    wanted = [embeddings[i % len(embeddings)] for i in range(12) for embeddings in found]
    fresh = connect()
    fresh._runtime.cache._cache_bytes = cache_bytes
    local.calls.reset()
    vectors = fresh.segment_vectors(segment.uri for segment in wanted)
    assert local.calls["s3:GetObject"] == 3 and len(vectors) == 36
    assert all(np.array_equal(vectors[i], found[i % 3].vectors[i // 3 % len(found[i % 3])]) for i in range(36))


def test_the_error_for_an_unknown_segment_names_the_prefix(client, local, video):
    found = client.embed_media(video)
    planted = Segment("s3://other/secret.mp4", 0, 6, "visual", "clip", "0" * 16)
    local.calls.reset()
    with pytest.raises(SegmentNotFoundError, match=rf"{local.output_s3_uri}[0-9a-f]{{16}}/0{{16}}/ has no output.json"):
        client.segment_vectors([planted])
    asked = local.calls.of("s3:ListObjectsV2")
    # Nothing is read, and nothing outside our own prefix is listed.
    assert len(local.calls) == len(asked) == 1
    assert asked[0].body["bucket"] == local.bucket and asked[0].body["prefix"].startswith("marengo/")
    with pytest.raises(SegmentNotFoundError, match=r"has no segment .*it has 12 other segments"):
        client.segment_vectors([Segment(video, 0, 5, "visual", "clip", found.job)])
    with pytest.raises(InputError, match="is not a segment's URI"):
        client.segment_vectors(["a dog"])
    with pytest.raises(SegmentNotFoundError, match="on S3: set output_s3_uri"):
        MarengoClient(region_name="us-east-1").segment_vectors([found[0]])


def test_a_segment_under_another_prefix_is_not_found(client, connect, video):
    found = client.embed_media(video)
    with pytest.raises(SegmentNotFoundError, match="another output_s3_uri"):
        connect(output_s3_uri=client.output_s3_uri + "other/").segment_vectors([found[0]])


async def test_every_call_has_an_async_twin(client, local, video):
    found = await client.aembed_media(video, scopes=["clip"])
    assert list(found) == list(client.embed_media(video, scopes=["clip"]))
    job = await client.astart(video, scopes=["asset"])
    assert set((await client.acollect(job)).scope) == {"asset"}
    assert np.array_equal((await client.asegment_vectors([found[0]]))[0], found.vectors[0])
    assert [done.error async for done in client.aembed_many([video, "s3://"], scopes=["clip"])].count(None) == 1
    assert asyncio.get_running_loop()._default_executor is None


def test_tags_and_kms_key_are_sent_but_not_part_of_the_fingerprint(connect, local, video):
    key = "arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"
    found = connect(tags={"team": "a"}, output_kms_key_id=key).embed_media(video)
    (start,) = local.calls.of("StartAsyncInvoke")
    assert start.body["tags"] == [{"key": "team", "value": "a"}]
    assert start.body["outputDataConfig"]["s3OutputDataConfig"]["kmsKeyId"] == key
    assert connect().embed_media(video).job == found.job and starts(local) == 1

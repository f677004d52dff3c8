"""Amazon Transcribe, as a bare boto3 client meets it."""

import io
import json
import time
import urllib.error
import urllib.request

import av
import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from marengo_local import Fault

UNREADABLE = "can't be accessed. Make sure that you have read permission"


@pytest.fixture
def transcribe(local, monkeypatch):
    for name, value in local.env.items():
        monkeypatch.setenv(name, value)
    return boto3.client("transcribe", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def start(local, transcribe):
    def start(name="job", uri=None, **request):
        languages = {"LanguageCode", "IdentifyLanguage", "IdentifyMultipleLanguages"}
        language = {} if languages & set(request) else {"LanguageCode": "en-US"}
        request = {"Media": {"MediaFileUri": uri or local.put(b"a video", "match.mp4")}, **language, **request}
        return transcribe.start_transcription_job(TranscriptionJobName=name, **request)["TranscriptionJob"]

    return start


@pytest.fixture
def run(transcribe, start):
    def run(name="job", *args, **request):
        start(name, *args, **request)
        return end_of(transcribe, name)

    return run


def end_of(transcribe, name="job", limit_sec=60.0):
    until = time.monotonic() + limit_sec
    while time.monotonic() < until:
        job = transcribe.get_transcription_job(TranscriptionJobName=name)["TranscriptionJob"]
        if job["TranscriptionJobStatus"] in ("COMPLETED", "FAILED"):
            return job
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def body(local, key, bucket=None):
    return local.s3.get_object(Bucket=bucket or local.bucket, Key=key)["Body"].read()


def keys(local):
    return {item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]} - {"match.mp4"}


def refused(call, *args, **request):
    with pytest.raises(ClientError) as caught:
        call(*args, **request)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


class TestWords:
    def test_each_word_has_its_times_and_each_mark_follows_its_word(self, local, run):
        local.say(f"s3://{local.bucket}/match.mp4", [(6.0, 8.0, "Goal!"), (0.0, 4.0, "It's on, now.")])
        run(OutputBucketName=local.bucket, OutputKey="out/match.json")
        results = json.loads(body(local, "out/match.json"))["results"]
        assert results["language_code"] == "en-US"
        assert results["transcripts"] == [{"transcript": "It's on, now. Goal!"}]
        items = [(i["alternatives"][0]["content"], i.get("start_time"), i.get("end_time")) for i in results["items"]]
        assert items == [
            ("It's", "0.0", "1.778"),
            ("on", "1.778", "2.667"),
            (",", None, None),
            ("now", "2.667", "4.0"),
            (".", None, None),
            ("Goal", "6.0", "8.0"),
            ("!", None, None),
        ]
        assert [item["id"] for item in results["items"]] == list(range(7))
        assert [(s["transcript"], s["items"]) for s in results["audio_segments"]] == [
            ("It's on, now.", [0, 1, 2, 3, 4]),
            ("Goal!", [5, 6]),
        ]

    def test_a_script_without_spaces_has_a_word_for_each_character(self, local, run):
        local.say("*", [(0.0, 2.0, "今日は、元気。")], language="ja-JP")
        run(OutputBucketName=local.bucket, LanguageCode="ja-JP")
        results = json.loads(body(local, "job.json"))["results"]
        assert results["transcripts"] == [{"transcript": "今日は、元気。"}]
        assert "".join(item["alternatives"][0]["content"] for item in results["items"]) == "今日は、元気。"
        assert len([item for item in results["items"] if item["type"] == "pronunciation"]) == 5

    def test_silence_is_an_empty_transcript(self, local, run):
        job = run(OutputBucketName=local.bucket, Subtitles={"Formats": ["vtt", "srt"]})
        assert job["TranscriptionJobStatus"] == "COMPLETED"
        results = json.loads(body(local, "job.json"))["results"]
        assert (results["transcripts"], results["items"]) == ([{"transcript": ""}], [])
        assert (body(local, "job.vtt"), body(local, "job.srt")) == (b"WEBVTT\n", b"")

    def test_a_file_of_its_own_comes_before_a_pattern(self, local, run):
        local.say(f"s3://{local.bucket}/match.mp4", [(0, 1, "this one")])
        local.say("s3://*", [(0, 1, "any")])
        run(OutputBucketName=local.bucket)
        assert json.loads(body(local, "job.json"))["results"]["transcripts"][0]["transcript"] == "this one"

    def test_times_that_are_no_range_are_refused(self, local):
        with pytest.raises(ValueError, match=r"'Hello' is from 4 to 4 s"):
            local.say("s3://b/k.mp4", [(4, 4, "Hello")])


class TestOutputs:
    @pytest.mark.parametrize(
        ("output", "stem"),
        [
            ({}, "job"),
            ({"OutputKey": "a/b/match.json"}, "a/b/match"),
            ({"OutputKey": "a/b/match"}, "a/b/match/job"),
            ({"OutputKey": "a/b/"}, "a/b/job"),
        ],
    )
    def test_subtitles_are_next_to_the_transcript(self, local, run, output, stem):
        job = run(OutputBucketName=local.bucket, Subtitles={"Formats": ["vtt", "srt"]}, **output)
        folder = stem.rpartition("/")[0]
        check = f"{folder}/.write_access_check_file.temp".lstrip("/")
        assert keys(local) == {check, *(f"{stem}.{kind}" for kind in ("json", "vtt", "srt"))}
        base = f"https://s3.us-east-1.amazonaws.com/{local.bucket}/{stem}"
        assert job["Transcript"]["TranscriptFileUri"] == f"{base}.json"
        assert job["Subtitles"]["SubtitleFileUris"] == [f"{base}.vtt", f"{base}.srt"]

    @pytest.mark.parametrize(("index", "first"), [({}, "0"), ({"OutputStartIndex": 1}, "1")])
    def test_subtitles_are_numbered_and_split_where_they_get_long(self, local, run, index, first):
        local.say("*", [(0, 1, "Hi."), (3600, 3610, " ".join(["nine chars"] * 9))])
        run(OutputBucketName=local.bucket, Subtitles={"Formats": ["vtt", "srt"], **index})
        head, *cues = body(local, "job.vtt").decode().strip().split("\n\n")
        assert (head, cues[0]) == ("WEBVTT", f"{first}\n00:00:00.000 --> 00:00:01.000\nHi.")
        assert len(cues) == 3 and cues[1].split("\n")[1].startswith("01:00:00.000 --> 01:00:0")
        assert body(local, "job.srt").decode().startswith(f"{first}\n00:00:00,000 --> 00:00:01,000\nHi.\n\n")

    def test_without_a_bucket_the_link_itself_is_good(self, run):
        link = run()["Transcript"]["TranscriptFileUri"]
        assert json.loads(urllib.request.urlopen(link).read())["status"] == "COMPLETED"

    def test_a_file_of_that_name_is_overwritten(self, local, run):
        local.put(b"mine", "job.json")
        run(OutputBucketName=local.bucket)
        assert body(local, "job.json") != b"mine"


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"name": "a job"}, "#/TranscriptionJobName"),
            ({"name": "job\n"}, "#/TranscriptionJobName"),
            ({"IdentifyLanguage": True, "LanguageCode": "en-US"}, "exactly one of"),
            ({"IdentifyLanguage": False}, "exactly one of"),
            ({"LanguageCode": "en-XX"}, "#/LanguageCode"),
            ({"LanguageOptions": ["en-US", "de-DE"]}, "LanguageOptions"),
            ({"IdentifyLanguage": True, "LanguageOptions": ["en-US"]}, "LanguageOptions"),
            ({"MediaFormat": "mov"}, "#/MediaFormat"),
            ({"uri": "s3://no-such-bucket/match.mp4"}, UNREADABLE),
            ({"uri": "https://example.com/match.mp4"}, "#/Media/MediaFileUri"),
            ({"OutputKey": "out/"}, "[OutputKey] needs [OutputBucketName]"),
            ({"OutputBucketName": "no-such-bucket"}, "can't be accessed. Make sure that you have write permission"),
            ({"JobExecutionSettings": {"AllowDeferredExecution": True}}, "needs [DataAccessRoleArn]"),
            ({"Settings": {"VocabularyName": "names"}}, "names couldn't be found"),
            ({"ToxicityDetection": [{"ToxicityCategories": ["ALL"]}]}, "not supported by the stand-in"),
        ],
    )
    def test_a_bad_request_is_refused_before_a_job_exists(self, local, start, request_, message):
        code, status, said = refused(start, **request_)
        assert (code, status) == ("BadRequestException", 400)
        assert message in said
        assert len(local.transcriptions) == 0

    @pytest.mark.parametrize("letter", " =+,@:é日#?")
    def test_an_output_key_has_few_characters(self, local, start, letter):
        key = f"out/a{letter}b.json"
        assert refused(start, OutputBucketName=local.bucket, OutputKey=key)[:2] == ("BadRequestException", 400)
        start(OutputBucketName=local.bucket, OutputKey="a-Z_0.!*'()/b.json")

    def test_media_must_be_readable(self, local, start):
        assert UNREADABLE in refused(start, uri=f"s3://{local.bucket}/no.mp4")[2]
        uri = local.put(b"a video", "old.mp4")
        local.archive_tiers = {uri: "DEEP_ARCHIVE_ACCESS"}
        assert UNREADABLE in refused(start, uri=uri)[2]
        local.s3.create_bucket(
            Bucket="in-dublin", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        ) if "in-dublin" not in {b["Name"] for b in local.s3.list_buckets()["Buckets"]} else None
        local.s3.put_object(Bucket="in-dublin", Key="a.mp4", Body=b"a video")
        assert UNREADABLE in refused(start, uri="s3://in-dublin/a.mp4")[2]

    @pytest.mark.parametrize("ended", [True, False])
    def test_a_name_is_taken_whatever_became_of_its_job(self, local, transcribe, start, ended):
        local.transcription_sec = 0.0 if ended else 3600.0
        start()
        if ended:
            end_of(transcribe)
        assert refused(start)[:2] == ("ConflictException", 409)

    def test_languages_are_identified(self, local, run):
        local.say("*", [(0, 1, "Hallo")], language="de-DE")
        job = run("one", IdentifyLanguage=True)
        assert (job["LanguageCode"], job["IdentifiedLanguageScore"]) == ("de-DE", pytest.approx(0.98))
        assert run("two", IdentifyLanguage=True, LanguageOptions=["fr-FR", "en-US"])["LanguageCode"] == "fr-FR"
        job = run("three", IdentifyMultipleLanguages=True)
        assert job["LanguageCodes"] == [{"LanguageCode": "de-DE", "DurationInSeconds": 12.0}]
        assert "LanguageCode" not in job


class TestJobs:
    def test_a_job_is_queued_then_runs_then_ends(self, local, transcribe, start):
        local.transcription_sec = 3600.0
        assert start()["TranscriptionJobStatus"] == "QUEUED"
        time.sleep(0.1)
        job = transcribe.get_transcription_job(TranscriptionJobName="job")["TranscriptionJob"]
        assert (job["TranscriptionJobStatus"], "Transcript" in job) == ("IN_PROGRESS", False)
        assert refused(transcribe.delete_transcription_job, TranscriptionJobName="job")[0] == "BadRequestException"
        local.transcription_sec = 0.0
        job = end_of(transcribe)
        assert job["CreationTime"] <= job["StartTime"] <= job["CompletionTime"]
        transcribe.delete_transcription_job(TranscriptionJobName="job")
        assert refused(transcribe.get_transcription_job, TranscriptionJobName="job")[:2] == ("NotFoundException", 404)

    def test_jobs_over_the_limit_are_refused_or_wait(self, local, transcribe, start):
        local.max_transcription_jobs, local.transcription_sec = 1, 3600.0
        start("one")
        assert refused(start, "two")[:2] == ("LimitExceededException", 429)
        role = {"AllowDeferredExecution": True, "DataAccessRoleArn": "arn:aws:iam::123456789012:role/transcribe"}
        start("three", JobExecutionSettings=role)
        time.sleep(0.2)
        states = {job.name: job.status for job in local.transcriptions}
        assert states == {"one": "IN_PROGRESS", "three": "QUEUED"}
        local.transcription_sec = 0.0
        assert end_of(transcribe, "three")["TranscriptionJobStatus"] == "COMPLETED"

    @pytest.mark.parametrize(
        ("key", "given", "reason"),
        [
            ("a.mov", {}, "Unsupported media format."),
            ("a.mkv", {}, "Unsupported media format."),
            ("a.mp3", {"MediaFormat": "wav"}, "The media format provided does not match the detected media format."),
            ("a.m4a", {"MediaFormat": "mp4"}, None),
            ("a.mp4", {"MediaSampleRateHertz": 44_100}, "The sample rate provided does not match"),
            ("a.MP4", {}, None),
        ],
    )
    def test_a_format_that_is_not_taken_fails_the_job(self, local, run, key, given, reason):
        job = run(uri=local.put(b"a video", key), **given)
        assert job["TranscriptionJobStatus"] == ("COMPLETED" if reason is None else "FAILED")
        assert reason is None or job["FailureReason"].startswith(reason)

    @pytest.mark.parametrize(("length_sec", "ok"), [(0.4, False), (0.5, True), (14_400.0, True), (14_401.0, False)])
    def test_a_length_that_is_not_taken_fails_the_job(self, local, run, length_sec, ok):
        local.synthetic_sec = length_sec
        assert run()["TranscriptionJobStatus"] == ("COMPLETED" if ok else "FAILED")

    def test_records_are_forgotten(self, local, transcribe, run):
        run()
        local.transcription_retention_sec = 0.0
        assert refused(transcribe.get_transcription_job, TranscriptionJobName="job")[0] == "NotFoundException"
        local.transcription_retention_sec = 60.0
        run()

    def test_pages_hold_their_place_while_jobs_start(self, transcribe, start):
        for number in range(7):
            start(f"Job-{number}")
        page = transcribe.list_transcription_jobs()
        start("Job-7")
        rest = transcribe.list_transcription_jobs(NextToken=page["NextToken"])
        names = [s["TranscriptionJobName"] for p in (page, rest) for s in p["TranscriptionJobSummaries"]]
        assert names == [f"Job-{number}" for number in reversed(range(7))]
        assert "NextToken" not in rest
        found = transcribe.list_transcription_jobs(JobNameContains="job-7", MaxResults=100)
        assert [s["TranscriptionJobName"] for s in found["TranscriptionJobSummaries"]] == ["Job-7"]
        assert refused(transcribe.list_transcription_jobs, MaxResults=101)[0] == "BadRequestException"
        assert refused(transcribe.list_transcription_jobs, NextToken="x")[0] == "BadRequestException"

    def test_what_is_billed_is_counted_by_the_second(self, local, run):
        run("one")
        local.synthetic_sec = 60.2
        run("two")
        run("three", uri=local.put(b"a video", "a.mov"))
        assert (local.usage.transcribe_jobs, local.usage.transcribe_sec) == (2, 15 + 61)
        assert local.usage.transcribe_usd == pytest.approx(76 * 0.024 / 60)


class TestFaults:
    def test_a_reply_can_be_lost_after_the_job_started(self, local, start):
        local.faults = [Fault("StartTranscriptionJob", drop="after", when=1)]
        with pytest.raises(ConnectionClosedError):
            start()
        assert refused(start)[0] == "ConflictException"
        assert local.calls["StartTranscriptionJob"] == 2

    @pytest.mark.parametrize(
        ("error", "status"), [("LimitExceededException", 429), ("InternalFailureException", 500), ("Made", 418)]
    )
    def test_errors_have_the_status_of_the_service(self, local, transcribe, error, status):
        more = {} if status != 418 else {"status": 418}
        local.faults = [Fault("GetTranscriptionJob", error=error, message="so it is", **more)]
        told = refused(transcribe.get_transcription_job, TranscriptionJobName="job")
        assert told == (error, status, "so it is")

    def test_a_job_fails_as_asked_or_writes_something_else(self, local, run):
        local.faults = [Fault("TranscriptionJob", error="Failed", message="Internal error", times=1)]
        assert run("one")["FailureReason"] == "Internal error"
        local.faults = [Fault("TranscriptionJob", body=b"{")]
        run("two", OutputBucketName=local.bucket)
        assert body(local, "two.json") == b"{"

    def test_a_signature_of_others_is_refused(self, local):
        client = boto3.client(
            "transcribe",
            region_name=local.region_name,
            endpoint_url=local.endpoint_url,
            aws_access_key_id=local.access_key_id,
            aws_secret_access_key="not the secret",
        )
        assert refused(client.list_transcription_jobs)[:2] == ("InvalidSignatureException", 400)

    def test_an_api_key_of_bedrock_is_refused(self, local):
        request = urllib.request.Request(
            local.endpoint_url, b"{}", {"X-Amz-Target": "Transcribe.ListTranscriptionJobs"}
        )
        request.add_header("Authorization", f"Bearer {local.api_key}")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert json.loads(caught.value.read())["__type"] == "MissingAuthenticationTokenException"


def media(form, codec, sec=1.0, video=None):
    """A second of noise, or of pictures if `codec` is None."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        if video is not None:
            stream = container.add_stream(video, rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(int(sec * 5)):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if codec is not None:
            stream = container.add_stream(codec, rate=48_000, layout="mono")
            samples = np.zeros((1, int(48_000 * sec)), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 48_000
            for part in av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or None).resample(frame):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "codecs", "found"),
    [
        ("mp4", ("aac",), "mp4"),
        ("mov", ("aac",), "Unsupported media format."),
        ("wav", ("pcm_s16le",), "wav"),
        ("flac", ("flac",), "flac"),
        ("ogg", ("libopus",), "ogg"),
        ("mp3", ("libmp3lame",), "mp3"),
        ("webm", ("libopus",), "webm"),
        ("matroska", ("libopus",), "Unsupported media format."),
        ("adts", ("aac",), "Unsupported media format."),
        ("mp4", (None, 1.0, "libx264"), "The media file has no audio track."),
        (None, None, "Unsupported media format."),
    ],
)
def test_real_media_are_what_their_bytes_are(local, run, form, codecs, found):
    local.synthetic_sec = None
    uri = local.put(media(form, *codecs) if codecs else b"not media", "named.mp4")
    job = run(uri=uri)
    assert job.get("MediaFormat", job.get("FailureReason")) == found

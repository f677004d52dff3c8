"""What Amazon Transcribe hears: one job for each version of a file, next to its embedding, on the same budget."""

import io
import json
import pickle
import time
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from bedrock_marengo import (
    BudgetError,
    ConfigurationError,
    InputError,
    JobError,
    MarengoWarning,
    Media,
    Prices,
    Transcribe,
    Transcript,
)
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.media import containers, durations
from bedrock_marengo.media.sound import upload_sound
from bedrock_marengo.words import transcribe as module
from bedrock_marengo.words.transcript_json import read_words, transcript_of
from marengo_local import Fault
from marengo_local.transcripts import Cue, transcript_json

# How the stand-in calls Transcribe's operations.
START, GET, LIST = (
    f"transcribe:{name}" for name in ("StartTranscriptionJob", "GetTranscriptionJob", "ListTranscriptionJobs")
)
SAID = [(0.0, 4.0, "And there is the goal!"), (10.0, 12.0, "It's over.")]
CAPTIONS = b"WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nby hand\n"
HEARD_USD = 18 * 0.0004
ENGLISH = Transcribe("en-US")


@pytest.fixture
def said(local):
    local.say("*", SAID)


@pytest.fixture
def hear(client):
    """Embeds one file and returns its words; a warning is an error."""

    def hear(source, transcripts=ENGLISH, client=client, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("error", MarengoWarning)
            [done] = client.embed_many(source, transcripts=transcripts, **settings)
        assert done.error is None and len(done.segments) == 12
        return done.words

    return hear


def calls(local, *names):
    names = names or (START, GET, LIST, "StartAsyncInvoke")
    return sum(local.calls[name] for name in names)


def keys(local, ending=""):
    found = local.s3.list_objects_v2(Bucket=local.bucket).get("Contents", [])
    return [item["Key"] for item in found if item["Key"].endswith(ending)]


@pytest.mark.usefixtures("said")
class TestAFileIsHeard:
    def test_with_the_times_of_its_words_and_counted_to_the_cent(self, client, local, video, hear):
        words = hear(video).said
        assert words.words(0, 3) == "And there is the" and words.words(3, 18) == "goal! It's over."
        usage = client.usage.services["transcribe"]
        assert (usage.calls, usage.seconds, usage.unknown) == (1, 18, 0) == (local.usage.transcribe_jobs, 18, 0)
        assert usage.usd == pytest.approx(local.usage.transcribe_usd) == pytest.approx(HEARD_USD)
        assert client.usage.usd == pytest.approx(HEARD_USD + 18 * 0.0007)
        client.usage.reset()
        assert client.usage.services["transcribe"].calls == 0

    @pytest.mark.parametrize("read_ahead", [True, False])
    def test_once_a_second_run_calls_neither_service(self, connect, local, video, hear, read_ahead):
        hear(video)
        # Transcribe forgets a job after 90 days.
        local.transcriptions.reset()
        local.calls.reset()
        client = connect()
        assert hear(video, client=client, read_ahead=read_ahead).said.words(0, 3) == "And there is the"
        assert calls(local) == 0 and client.usage.usd == 0
        plan = client.plan(video, transcripts=Transcribe("en-US"))
        assert plan.reused == 1 and not plan.words and plan.total_usd == 0

    def test_and_its_finished_embedding_is_not_paid_again(self, client, local, video, hear):
        client.embed_media(video)
        plan = client.plan(video, transcripts=Transcribe("en-US"), assume_duration_sec=18)
        assert plan.words == {"transcribe": 1} and plan.total_usd == pytest.approx(HEARD_USD)
        assert hear(video).said.words(0, 3) == "And there is the" and len(local.jobs) == 1

    def test_another_language_or_version_is_another_job_but_not_another_order(self, local, video, hear):
        hear(video, Transcribe(language_options=["en-US", "de-DE"]))
        hear(video, Transcribe(language_options=("de-DE", "en-US"), jobs_at_once=2))
        assert len(local.transcriptions) == 1
        hear(video, Transcribe("de-DE"))
        local.put(b"another video", "match.mp4")
        hear(video, Transcribe("de-DE"))
        assert len(local.transcriptions) == 3

    def test_not_if_captions_are_next_to_it(self, client, local, hear, video, tmp_path):
        local.put(CAPTIONS, "match.vtt")
        assert hear(video).said is None and hear(f"s3://{local.bucket}/").said is None
        (tmp_path / "b.mp4").write_bytes(b"a local video")
        (tmp_path / "b.srt").write_bytes(CAPTIONS)
        assert hear(tmp_path / "b.mp4").said is None
        assert calls(local, START) == 0
        assert not client.plan(f"s3://{local.bucket}/", transcripts=Transcribe()).words

    def test_a_local_file_by_its_upload(self, local, hear, tmp_path):
        (tmp_path / "b.mp4").write_bytes(b"a local video")
        assert hear(tmp_path / "b.mp4").said.words(0, 3) == "And there is the"
        [job] = local.transcriptions
        assert "/uploads/" in job.media_uri

    def test_audio_too_but_no_image(self, client, local, png):
        sound, photo = local.put(b"a song", "song.mp3"), local.put(png(), "a.png")
        heard = {done.uri: done.words.said for done in client.embed_many([sound, photo], transcripts=Transcribe())}
        assert heard[sound].words(0, 3) == "And there is the" and heard[photo] is None
        assert local.usage.transcribe_jobs == 1

    def test_for_both_models_once(self, connect, local, video):
        for model in ("2.7", "3.0"):
            [done] = connect(model).embed_many(video, transcripts=Transcribe())
            assert done.words.said.words(0, 3) == "And there is the"
        assert len(local.transcriptions) == 1 and len(local.jobs) == 2

    async def test_for_asyncio(self, client, local, video):
        [done] = [done async for done in client.aembed_many(video, transcripts=Transcribe())]
        assert done.words.said.words(0, 3) == "And there is the"
        assert (await client.atranscribe(video)).words(0, 3) == "And there is the"
        assert [done.words.said.words(0, 3) async for done in client.atranscribe_many([video])] == ["And there is the"]
        assert len(local.transcriptions) == 1

    def test_only_done_reads_what_is_there(self, client, local, video, hear):
        client.embed_media(video)
        assert hear(video, only_done=True).said is None
        hear(video)
        local.calls.reset()
        assert hear(video, only_done=True).said.words(0, 3) == "And there is the" and calls(local) == 0

    def test_a_part_of_it_is_embedded_but_all_of_it_is_heard_and_billed(self, client, local, video):
        [done] = client.embed_many(video, transcripts=Transcribe(), end_sec=6.0, durations={video: 18.0})
        assert done.words.said.words(6, 18) == "It's over."
        assert client.usage.services["transcribe"].usd == pytest.approx(local.usage.transcribe_usd)

    def test_a_result_goes_to_another_process(self, client, video):
        [done] = pickle.loads(pickle.dumps(list(client.embed_many(video, transcripts=Transcribe()))))
        assert done.words.said.words(0, 3) == "And there is the" and len(done.segments) == 12

    def test_forget_deletes_it_and_then_it_is_heard_again(self, client, local, video):
        client.transcribe(video)
        assert client.forget(video).others >= 2 and not keys(local, "words.json")
        # Transcribe still knows the job, whose output is gone.
        assert client.transcribe(video).words(0, 3) == "And there is the" and len(local.transcriptions) == 2

    def test_force_pays_again(self, local, video, hear):
        hear(video)
        assert hear(video, force=True).said.words(0, 3) == "And there is the"
        assert local.usage.transcribe_jobs == len(local.jobs) == 2

    def test_many_at_once_are_polled_with_few_calls(self, client, local):
        local.transcription_sec = 0.5
        for i in range(30):
            local.put(bytes([i]), f"v/{i}.mp4")
        results = list(client.embed_many(f"s3://{local.bucket}/v/", transcripts=Transcribe()))
        assert [done.words.said.words(0, 3) for done in results] == ["And there is the"] * 30
        assert calls(local, GET, LIST) < 90

    def test_by_itself_its_captions_ignored(self, client, local, video):
        local.put(CAPTIONS, "match.vtt")
        heard = client.transcribe(video)
        assert heard.captions.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nAnd there is the goal!\n")
        assert Transcript.parse(heard.captions).words(10, 12) == "It's over."
        assert [done.words.said for done in client.transcribe_many(video)] == [None]


class TestWhatTranscribeWrites:
    def test_silence_is_no_error(self, local, hear, video):
        assert hear(video).said.words(0, 18) == "" and hear(video).said.captions == "WEBVTT\n"
        assert local.usage.transcribe_jobs == 1

    @pytest.mark.parametrize(
        ("text", "heard"),
        [
            ("今日は、元気。Go now!", "今日は、元気。Go now!"),
            ("It's 5 o'clock, a < b & c.", "It's 5 o'clock, a < b & c."),
            ("مرحبا بكم؟", "مرحبا بكم؟"),
        ],
    )
    def test_words_are_spaced_as_the_language_does(self, text, heard):
        data = transcript_json("job", "1" * 12, [Cue(0, 4, text)], {"language_code": "en-US"})
        transcript = transcript_of(read_words(data, "t.json"))
        assert transcript.words(0, 4) == heard
        assert " ".join(Transcript.parse(transcript.captions).words(0, 4).split()) == heard

    def test_captions_are_short_enough_to_read(self):
        text = " ".join(["nine chars"] * 40)
        data = transcript_json("job", "1" * 12, [Cue(0, 30, text), Cue(60, 61, "Later.")], {})
        blocks = transcript_of(read_words(data, "t.json")).captions.split("\n\n")[1:]
        assert all(len(lines := block.split("\n")) <= 3 and max(map(len, lines[1:])) <= 42 for block in blocks)
        assert blocks[-1] == "00:01:00.000 --> 00:01:01.000\nLater.\n"

    @pytest.mark.parametrize("body", [b"", b'{"results"', b"[]", b'{"results": {"items": 3}}', b"\xff"])
    def test_a_broken_transcript_is_said_and_keeps_the_vectors(self, client, local, video, body):
        local.faults = [Fault("TranscriptionJob", body=body)]
        with pytest.warns(MarengoWarning, match=r"no words by Amazon Transcribe: .*not a transcript"):
            [done] = client.embed_many(video, transcripts=Transcribe())
        assert len(done.segments) == 12 and done.words.said is None


@pytest.mark.usefixtures("said")
class TestPlanAndBudgetAreUpperBounds:
    def test_the_plan_counts_files_without_captions(self, client, local):
        for i in range(3):
            local.put(bytes([i]), f"v/{i}.mp4")
        local.put(CAPTIONS, "v/0.vtt")
        plan = client.plan(f"s3://{local.bucket}/v/", transcripts=Transcribe(), assume_duration_sec=18)
        assert plan.words == {"transcribe": 2}
        assert plan.usd == pytest.approx({"video": 3 * 18 * 0.0007, "transcribe": 2 * HEARD_USD})
        assert "2 transcribe" in str(plan)
        given = {"transcripts": Transcribe(), "embed": False}
        words_only = client.plan(f"s3://{local.bucket}/v/", assume_duration_sec=1, **given)
        assert words_only.usd == pytest.approx({"transcribe": 2 * 15 * 0.0004}) and not words_only.started
        assert client.plan(f"s3://{local.bucket}/v/", **given).unknown == 2

    def test_a_run_stays_within_the_plan_and_its_budget(self, client, local):
        local.put(b"1", "v/1.mp4")
        local.put(b"2", "v/2.mp4")
        prefix, given = f"s3://{local.bucket}/v/", {"transcripts": Transcribe(), "assume_duration_sec": 18}
        planned = client.plan(prefix, **given).total_usd
        results = list(client.embed_many(prefix, **given, max_cost_usd=planned))
        assert [done.error for done in results] == [None, None] and all(done.words.said for done in results)
        assert client.usage.usd == pytest.approx(planned)

    def test_a_refused_budget_is_said_and_loses_no_vectors(self, client, local, video):
        client.embed_media(video)
        with pytest.warns(MarengoWarning, match="no words by Amazon Transcribe: Amazon Transcribe on .* not started"):
            [done] = client.embed_many(video, transcripts=Transcribe(), max_cost_usd=0.001, assume_duration_sec=18)
        assert len(done.segments) == 12 and isinstance(done.words.errors["Amazon Transcribe"], BudgetError)
        # Nothing was started, and a plan does not take it for started.
        assert not keys(local, "words.json") and calls(local, START) == 0
        with pytest.raises(BudgetError):
            client.transcribe(video, max_cost_usd=0.001, assume_duration_sec=18)

    def test_prices_are_the_users(self, connect, local, video):
        client = connect(prices=Prices(transcribe_sec=1.0))
        client.transcribe(video, assume_duration_sec=18, durations={video: 2.0})
        assert client.usage.usd == 15


@pytest.mark.usefixtures("said")
class TestFailures:
    def test_one_is_said_with_its_reason_and_kept(self, client, local, video):
        local.faults = [Fault("TranscriptionJob", error="Failed", message="The audio is on fire.")]
        for _ in range(2):
            with pytest.warns(MarengoWarning, match=r"failed on .*: The audio is on fire\. force=True tries again"):
                [done] = client.embed_many(video, transcripts=Transcribe())
            assert len(done.segments) == 12
        assert len(local.transcriptions) == 1 and client.usage.services["transcribe"].usd == 0
        local.faults = []
        assert client.transcribe(video, force=True).words(0, 3) == "And there is the"

    def test_a_passing_one_is_tried_again(self, client, local, video):
        local.faults = [Fault("TranscriptionJob", error="Failed", message="Internal error, try again.", times=1)]
        assert client.transcribe(video).words(0, 3) == "And there is the"
        assert len(local.transcriptions) == 2 and local.usage.transcribe_jobs == 1

    def test_a_video_without_a_sound_track_is_silent(self, client, local, video):
        local.faults = [Fault("TranscriptionJob", error="Failed", message="The media file has no audio track.")]
        assert client.transcribe(video).words(0, 18) == "" and client.transcribe(video).words(0, 18) == ""
        assert len(local.transcriptions) == 1

    def test_the_embedding_fails_alone(self, client, local, video):
        local.faults = [Fault("Job", error="Failed", message="The video is on fire.")]
        [done] = client.embed_many(video, transcripts=Transcribe())
        assert isinstance(done.error, JobError) and not done.words.errors

    def test_a_file_that_is_replaced_meanwhile_has_no_words_of_another(self, client, local, video):
        def replace(job):
            local.put(b"other bytes", "match.mp4")
            return 0.0

        local.transcription_sec = replace
        with pytest.raises(Exception, match="was replaced while it was transcribed"):
            client.transcribe(video)
        local.transcription_sec = 0.0
        assert client.transcribe(video).words(0, 3) == "And there is the"
        assert len(local.transcriptions) == 2

    @pytest.mark.parametrize(
        "fault",
        [
            *(Fault(START, drop=when, times=2) for when in ("before", "after", "mid-body")),
            Fault(GET, drop="mid-body", times=2),
            *(
                Fault(op, error=error, times=3)
                for op in (START, GET)
                for error in ("ThrottlingException", "LimitExceededException", "InternalFailureException")
            ),
            Fault("s3:GetObject", error="InternalError", times=2),
            Fault("s3:PutObject", error="SlowDown", times=2),
        ],
        ids=lambda fault: f"{fault.op} {fault.error or fault.drop}",
    )
    def test_what_passes_is_passed_and_paid_once(self, client, local, video, hear, fault):
        local.faults = [fault]
        assert hear(video).said.words(0, 3) == "And there is the"
        assert len(local.transcriptions) == 1
        usage = client.usage.services["transcribe"]
        assert (usage.calls, usage.unknown) == (1, 0)
        assert usage.usd == pytest.approx(local.usage.transcribe_usd)

    def test_access_denied_names_the_permission(self, client, local, video):
        message = "User: x is not authorized to perform: transcribe:StartTranscriptionJob on resource: y"
        local.faults = [Fault(START, error="AccessDeniedException", message=message)]
        with pytest.raises(Exception, match=r"Check IAM: transcribe:StartTranscriptionJob"):
            client.transcribe(video)
        assert not keys(local, "words.json")

    def test_more_jobs_than_the_account_allows_wait(self, client, local):
        local.max_transcription_jobs, local.transcription_sec = 2, 0.2
        for i in range(6):
            local.put(bytes([i]), f"v/{i}.mp4")
        results = list(client.transcribe_many(f"s3://{local.bucket}/v/"))
        assert all(done.words.said.words(0, 3) == "And there is the" for done in results) and len(results) == 6
        assert client.usage.services["transcribe"].calls == local.usage.transcribe_jobs == 6

    def test_a_run_that_is_abandoned_ends_at_once_and_the_next_one_joins(self, client, local, video, png):
        local.transcription_sec = 3600.0
        both = [video, local.put(png(), "a.png")]
        for done in client.embed_many(both, transcripts=Transcribe()):
            assert done.uri == both[1]
            while not len(local.transcriptions):
                time.sleep(0.02)
            break
        local.transcription_sec = 0.0
        assert len([done for done in client.embed_many(both, transcripts=Transcribe()) if done.words.said]) == 1
        assert len(local.transcriptions) == len(local.jobs) == 1

    def test_a_timeout_leaves_the_job_to_the_next_call(self, client, local, video):
        local.transcription_sec = 3600.0
        with pytest.raises(JobError, match="The next run joins") as caught:
            client.transcribe(video, timeout_sec=0.2)
        assert caught.value.running
        local.transcription_sec = 0.0
        assert client.transcribe(video).words(0, 3) == "And there is the" and len(local.transcriptions) == 1


def sound_film(container, seconds=6.0, *, track=True, late_sec=0.0):
    """A small film in any container."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        pictures = out.add_stream("mpeg4", rate=5)
        pictures.width = pictures.height = 64
        sound = out.add_stream("mp2" if container == "mpegts" else "aac", rate=48_000, layout="mono") if track else None
        for i in range(round(seconds * 5)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i, np.uint8), format="rgb24")
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode(None))
        if sound:
            noise = np.random.default_rng(0).integers(-9000, 9000, (1, round(seconds * 48_000)), np.int16)
            frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, round(late_sec * 48_000), Fraction(1, 48_000)
            for packets in (sound.encode(frame), sound.encode(None)):
                out.mux(packets)
    return file.getvalue()


@pytest.mark.usefixtures("said")
class TestWhatTranscribeDoesNotRead:
    @pytest.mark.parametrize(("name", "container"), [("a.mov", "mov"), ("a.mkv", "matroska"), ("a.ts", "mpegts")])
    def test_has_its_sound_extracted(self, connect, local, name, container):
        local.synthetic_sec = None
        uri, client = local.put(sound_film(container), name), connect()
        plan = client.plan(uri, transcripts=Transcribe(), embed=False)
        assert client.transcribe(uri, max_cost_usd=plan.total_usd).words(0, 3) == "And there is the"
        [job] = local.transcriptions
        assert job.media_uri.endswith(".flac") and job.media_uri.startswith(client.output_s3_uri)
        assert not keys(local, ".flac")
        assert client.usage.usd == pytest.approx(local.usage.transcribe_usd)

    def test_a_format_that_only_the_job_notices(self, client, local):
        local.synthetic_sec = None
        uri = local.put(sound_film("matroska"), "really-mkv.mp4")
        assert client.transcribe(uri).words(0, 3) == "And there is the"
        assert [job.media_uri.rpartition(".")[2] for job in local.transcriptions] == ["mp4", "flac"]

    def test_words_keep_their_times_if_the_sound_begins_late(self, client, local):
        local.put(sound_film("matroska", late_sec=2.0), "late.mkv")
        media = Media.from_s3(f"s3://{local.bucket}/late.mkv")
        target, objects = f"s3://{local.bucket}/late.flac", client._runtime.objects
        assert upload_sound(objects, media, target, token=CancelToken()) == pytest.approx(8.0, abs=0.1)
        with av.open(io.BytesIO(objects.get(target)[0])) as flac:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in flac.decode(audio=0)])
        assert not heard[: 16_000 * 19 // 10].any() and np.abs(heard[16_000 * 21 // 10 :]).mean() > 100

    def test_a_video_without_a_track_is_silent_and_free(self, client, local):
        local.synthetic_sec = None
        uri = local.put(sound_film("matroska", track=False), "a.mkv")
        assert client.transcribe(uri).words(0, 6) == "" and client.transcribe(uri).captions == "WEBVTT\n"
        assert client.usage.usd == calls(local, START) == 0

    @pytest.mark.parametrize("too", ["large", "unread"])
    def test_without_pyav_it_is_said_before_it_costs(self, client, local, monkeypatch, too):
        for place in (containers, durations, module):
            monkeypatch.setattr(place, "has_av", lambda: False)
        uri = local.put(b"a video", "a.mp4" if too == "large" else "a.mov")
        if too == "large":
            monkeypatch.setattr(module, "LARGEST_BYTES", 3)
        listing = client.list_media(f"s3://{local.bucket}/")
        with pytest.warns(MarengoWarning, match="can't read .* Install the extra 'media'"):
            [done] = client.embed_many(listing, transcripts=Transcribe())
        assert len(done.segments) == 12 and calls(local, START) == 0
        plan = client.plan(listing, transcripts=Transcribe(), force=True, assume_duration_sec=18)
        assert plan.wordless == 1 and not plan.refused and plan.started == {"video": 1} and uri in plan.refusals[0]
        with pytest.raises(InputError, match="can't read"):
            client.transcribe(next(iter(listing)))

    def test_a_file_that_is_too_long(self, client, local, video):
        with pytest.raises(InputError, match=r"lasts 5\.0 h: the limit of Amazon Transcribe is 4 h"):
            client.transcribe(video, durations={video: 5 * 3600.0})
        assert not keys(local, "words.json")

    def test_an_image(self, client, local, png):
        with pytest.raises(InputError, match="is an image"):
            client.transcribe(local.put(png(), "a.png"))


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"language": "english"}, "language"),
            ({"language": "en"}, "language"),
            ({"language": ""}, "language"),
            ({"language": None}, "language"),
            ({"language": ["en-US"]}, "language"),
            ({"language_options": ["en-US"]}, "language_options"),
            ({"language_options": "en-US"}, "language_options"),
            ({"language_options": ["en-US", "xx"]}, "language_options"),
            ({"language_options": ["en-US", None]}, "language_options"),
            ({"language_options": 3}, "language_options"),
            ({"language": "en-US", "language_options": ["en-US", "de-DE"]}, "language_options"),
            ({"vocabulary": "a"}, "vocabulary"),
            ({"language": "en-US", "vocabulary": "a b"}, "vocabulary"),
            ({"data_access_role_arn": "role"}, "data_access_role_arn"),
            ({"jobs_at_once": 0}, "jobs_at_once"),
        ],
    )
    def test_are_checked_at_once(self, settings, name):
        with pytest.raises(ConfigurationError) as caught:
            Transcribe(**settings)
        assert caught.value.setting == name

    def test_are_values(self):
        settings = Transcribe(language_options=["en-US", "de-DE"])
        assert pickle.loads(pickle.dumps(settings)) == settings and len({settings, Transcribe()}) == 2

    @pytest.mark.parametrize(
        ("settings", "request_fields"),
        [
            ({}, {"IdentifyLanguage": True}),
            ({"language": "de-DE"}, {"LanguageCode": "de-DE"}),
            (
                {"language": "multiple", "language_options": ["en-US", "de-DE"]},
                {"IdentifyMultipleLanguages": True, "LanguageOptions": ["en-US", "de-DE"]},
            ),
            (
                {"data_access_role_arn": "arn:aws:iam::123456789012:role/r"},
                {
                    "IdentifyLanguage": True,
                    "JobExecutionSettings": {
                        "AllowDeferredExecution": True,
                        "DataAccessRoleArn": "arn:aws:iam::123456789012:role/r",
                    },
                },
            ),
        ],
    )
    def test_become_the_request(self, connect, local, video, settings, request_fields):
        connect(tags={"team": "a"}).transcribe(video, Transcribe(**settings))
        [job] = local.transcriptions
        own = ("TranscriptionJobName", "Media", "OutputBucketName", "OutputKey", "Tags")
        assert {name: value for name, value in job.request.items() if name not in own} == request_fields
        assert job.request["Tags"] == [{"Key": "team", "Value": "a"}]

    @pytest.mark.parametrize("wrong", [True, "en-US", {"language": "en-US"}])
    def test_of_a_run(self, client, video, wrong):
        for call in (client.embed_many, client.plan):
            with pytest.raises(ConfigurationError, match=r"expected Transcribe\(\.\.\.\)"):
                call(video, transcripts=wrong)
        with pytest.raises(ConfigurationError):
            client.transcribe(video, wrong)

    def test_a_prefix_that_transcribe_refuses_is_refused_at_once(self, connect, local, video):
        client = connect(output_s3_uri=f"s3://{local.bucket}/my output/")
        for call in (client.embed_many, client.plan):
            with pytest.raises(ConfigurationError, match="writes only under prefixes of"):
                call(video, transcripts=Transcribe())

    def test_the_record_is_plain(self, client, local, video):
        client.transcribe(video, Transcribe("en-US"))
        [key] = keys(local, "words.json")
        record = json.loads(local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read())
        assert record["uri"] == video and record["done"]["words"] == 0
        assert record["settings"] == {"language": "en-US", "language_options": [], "vocabulary": None}

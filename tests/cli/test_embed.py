"""`marengo embed`: the plan, the question, the run, and what becomes of media."""

import json
import re
import signal
import threading
import time

import pytest

from bedrock_marengo import Plan
from langchain_marengo import MarengoEmbeddings, MarengoLoader
from llama_index_marengo import MarengoEmbedding, MarengoReader, MarengoSegmenter
from marengo_cli.embed import Limits
from marengo_local import Fault

ASSUME = ("--assume-duration-sec", "12")


def starts(local):
    return len(local.calls.of("StartAsyncInvoke"))


def test_it_shows_the_plan_embeds_and_tells_what_became_of_the_media(local, marengo, bucket):
    local.put(b"\xff\xd8\xff an image", "videos/still.jpg")
    result = marengo("embed", bucket, *ASSUME)
    assert result.exit_code == 0, result.output
    assert "4 (3 video, 1 image)" in result.stderr
    assert "0.0253" in result.stderr
    assert "embedded       4" in result.stdout
    # Two clips of six seconds on three tracks.
    assert "new segments   19" in result.stdout
    assert "0.0253 USD for 36 s of media, 1 images" in result.stdout
    assert starts(local) == 3


def test_its_work_is_found_by_the_loaders_of_both_frameworks(local, marengo, bucket):
    assert marengo("embed", bucket, *ASSUME).exit_code == 0
    settings = local.client_options
    documents = MarengoLoader(bucket, embeddings=MarengoEmbeddings(**settings), show_progress=False).load()
    embed_model = MarengoEmbedding(**settings)
    media = MarengoReader(bucket, embed_model=embed_model).load_data(show_progress=False)
    nodes = MarengoSegmenter(embed_model=embed_model)(media)
    assert len(documents) == len(nodes) == 18
    assert starts(local) == 3


def test_a_second_run_pays_nothing_and_force_pays_again(local, marengo, bucket):
    marengo("embed", bucket, *ASSUME)
    again = marengo("embed", bucket)
    assert again.exit_code == 0
    assert "done before   3" in again.stdout
    assert starts(local) == 3
    assert marengo("embed", bucket, "--force", *ASSUME).exit_code == 0
    assert starts(local) == 6


def test_a_dry_run_starts_nothing(local, marengo, bucket):
    result = marengo("embed", bucket, "--dry-run", *ASSUME)
    assert result.exit_code == 0, result.output
    assert "3, assumed as 12 s each" in result.stdout
    assert "not from the AWS price page" in result.stdout
    unknown = marengo("embed", bucket, "--dry-run", "--json")
    assert unknown.exit_code == 1
    assert json.loads(unknown.stdout)["plan"]["unknown"] == 3
    assert starts(local) == 0


def test_options_are_the_cores(local, marengo, bucket, client):
    words = ("--options", "visual,audio", "--fused", "also", "--segmentation", "fixed:4", "--end-sec", "8")
    result = marengo("embed", bucket, *words, "--scopes", "clip,asset", "--yes")
    assert result.exit_code == 0, result.output
    sent = [call.body["modelInput"]["video"] for call in local.calls.of("StartAsyncInvoke")]
    assert len(sent) == 3
    for body in sent:
        assert body["embeddingOption"] == ["visual", "audio"]
        assert body["embeddingType"] == ["separate_embedding", "fused_embedding"]
        assert body["embeddingScope"] == ["clip", "asset"]
        assert body["segmentation"] == {"method": "fixed", "fixed": {"durationSec": 4}}
        assert body["endSec"] == 8


def test_files_and_folders_of_the_command_line_are_uploaded(local, marengo, tmp_path):
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    (tmp_path / "clips" / "deep" / "a.mp4").write_bytes(b"video a")
    (tmp_path / "clips" / "notes.txt").write_text("no medium")
    (tmp_path / "b.mp3").write_bytes(b"audio b")
    result = marengo("embed", tmp_path / "clips", tmp_path / "b.mp3", "--json", *ASSUME)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert {medium["source"].rsplit("/", 1)[1] for medium in said["media"]} == {"a.mp4", "b.mp3"}
    assert all(medium["uri"].startswith(local.output_s3_uri) for medium in said["media"])
    assert said["plan"]["uploaded"] == 2
    assert said["plan"]["skipped"] == {"not media": 1}


def test_what_is_not_media_is_skipped_or_refused(local, marengo, tmp_path):
    (tmp_path / "clips").mkdir()
    for name, data in {"._a.mp4": b"x", "index.ts": b"let x", "a.heic": b"x", "a.mp4": b"a video"}.items():
        (tmp_path / "clips" / name).write_bytes(data)
    said = json.loads(marengo("embed", tmp_path / "clips", "--json", *ASSUME).stdout)
    assert [medium["source"].rsplit("/", 1)[1] for medium in said["media"]] == ["a.mp4"]
    assert said["plan"]["skipped"] == {"hidden": 1, "not media": 1, "unsupported image": 1}
    for word, why in {
        "gs://bucket/a.mp4": "is not on S3",
        "https://example.org/a.mp4": "is not on S3",
        f"s3://{local.bucket}/a.heic": "convert it to JPEG or PNG",
        tmp_path / "clips" / "a.heic": "convert it to JPEG or PNG",
        tmp_path / "clips" / "index.ts": "not an MPEG transport stream",
    }.items():
        result = marengo("embed", word, *ASSUME)
        assert result.exit_code and why in " ".join(result.output.split())


def test_a_list_of_media_is_a_source(local, marengo, bucket, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(f"bucket,key\n{local.bucket},videos/a.mp4\n{local.bucket},videos/b.mp4\n")
    assert marengo("embed", listed, *ASSUME).exit_code == 0
    assert starts(local) == 2


def test_json_is_all_of_stdout_and_tells_each_medium(local, marengo, bucket):
    gone = f"s3://{local.bucket}/gone.mp4"
    result = marengo("embed", bucket, gone, "--json", *ASSUME)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["counts"] == {"started": 3, "failed": 1}
    assert said["plan"]["started"] == {"video": 3}
    assert said["segments"] == 18
    assert said["usd"] == pytest.approx(3 * 12 * 0.0007)
    media = {medium["source"]: medium for medium in said["media"]}
    assert media[f"{bucket}a.mp4"] == {
        "source": f"{bucket}a.mp4",
        "uri": f"{bucket}a.mp4",
        "became": "started",
        "segments": 6,
        "error": None,
    }
    assert "There is no object" in media[gone]["error"]
    again = json.loads(marengo("embed", bucket, "--json").stdout)
    assert again["counts"] == {"reused": 3}
    assert again["usd"] == 0


def test_one_that_fails_is_told_with_its_reason_and_the_others_are_done(local, marengo, bucket):
    local.faults = [Fault("Job", error="Failed", message="No streams", when=lambda job: "b.mp4" in str(job.body))]
    result = marengo("embed", bucket, *ASSUME)
    assert result.exit_code == 1
    assert "embedded       2" in result.stdout
    assert f"failed: {bucket}b.mp4" in result.stderr
    assert "No streams" in result.stderr


def test_equal_reasons_are_told_once(local, marengo, bucket):
    local.faults = [Fault("s3:PutObject", error="AccessDenied", message="no")]
    result = marengo("embed", bucket, "--yes")
    assert result.exit_code == 1
    assert result.stderr.count("AccessDenied") <= 3
    assert "Traceback" not in result.stderr


class TestMoney:
    def test_above_the_limit_it_asks_and_no_is_no(self, local, bucket, in_terminal):
        process, said = in_terminal("embed", bucket, "--ask-above-usd", "0.02", *ASSUME, answer="n\n")
        assert process.returncode == 2
        assert "Files to embed: 3, for about 0.0252 USD. Continue? [y/N]:" in said
        assert "Nothing was started." in said
        assert starts(local) == 0

    def test_above_the_limit_it_asks_and_yes_is_yes(self, local, bucket, in_terminal):
        # Lengths that can't be read may cost anything.
        process, said = in_terminal("embed", bucket, answer="y\n")
        assert process.returncode == 0, said
        assert "The length and cost of 3 are unknown" in said
        assert "3/3" in said  # the bar
        assert starts(local) == 3

    def test_ctrl_c_at_the_question_is_no_answer(self, local, bucket, in_terminal):
        process, said = in_terminal("embed", bucket, answer=signal.SIGINT)
        assert process.returncode == 130, said
        assert "Stopped." in said
        assert starts(local) == 0

    def test_without_a_terminal_it_refuses_and_says_what_to_give(self, local, marengo, bucket):
        result = marengo("embed", bucket, input="y\n")
        assert result.exit_code == 2
        assert "no terminal" in result.stderr
        assert "--yes" in result.stderr
        assert starts(local) == 0
        assert marengo("embed", bucket, "--yes").exit_code == 0

    def test_a_run_stops_before_the_start_that_would_pass_the_most(self, local, marengo, bucket):
        result = marengo("embed", bucket, "--max-cost-usd", "0.02", *ASSUME)
        assert result.exit_code == 1
        assert "embedded       2" in result.stdout
        assert "not started    1" in result.stdout
        assert "Files not started: 1" in result.stderr
        assert "--max-cost-usd 0.02" in result.stderr
        assert marengo("embed", bucket, "--max-cost-usd", "0.02", *ASSUME).exit_code == 0

    def test_ones_own_prices_decide(self, local, marengo, bucket):
        result = marengo("embed", bucket, "--price", "video_sec=10", *ASSUME)
        assert result.exit_code == 2
        assert "for about 360.00 USD" in result.stderr
        assert starts(local) == 0

    @pytest.mark.parametrize(
        ("limits", "plan", "most"),
        [
            ({}, {"usd": {"video": 99.0}}, 99),
            ({}, {"usd": {"video": 5.0}, "unknown": 1}, float("inf")),
            ({"assume_duration_sec": 60}, {"usd": {"video": 5.0}, "unknown": 1}, 5),
            ({"max_cost_usd": 50}, {"usd": {"video": 5.0}, "unknown": 1}, 50),
            ({"max_cost_usd": 500}, {"usd": {"video": 101.0}}, 101),
        ],
    )
    def test_the_most_that_a_run_may_cost(self, limits, plan, most):
        assert Limits(**limits).most(Plan(jobs_at_once=1, mean_job_sec=1, **plan)) == most

    def test_what_nobody_agreed_to_is_not_spent_though_media_came_after_the_plan(self):
        assert Limits().budget(asked=False) == 100
        assert Limits().budget(asked=True) is None
        assert Limits(yes=True).budget(asked=False) is None
        assert Limits(max_cost_usd=5, yes=True).budget(asked=True) == 5


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["nowhere.mp4"], "'nowhere.mp4': there is no such file or folder"),
            (["s3:/bucket/videos/"], "s3://bucket/prefix/"),
            (["s3://bucket/videos"], "end it with a slash"),
            (["s3:///videos/"], "is not an S3 URI"),
            (["{bucket}", "--segmentation", "shots"], "--segmentation 'shots': expected fixed:SECONDS"),
            (["{bucket}", "--segmentation", "fixed:99"], "1 to 10 seconds"),
            (["{bucket}", "--options", "smell"], "no option 'smell'"),
            (["{bucket}", "--scopes", "scene"], "no scope 'scene'"),
            (["{bucket}", "--options", "fused"], "--fused also"),
            (["{bucket}", "--fused", "only", "--model", "2.7"], "no fused vectors"),
            (["{bucket}", "--model", "3.9"], "3.9"),
            (["{bucket}", "--start-sec", "9", "--end-sec", "3"], "--end-sec"),
            (["{bucket}", "--max-cost-usd", "-1"], "--max-cost-usd -1"),
            (["{bucket}", "--assume-duration-sec", "0"], "--assume-duration-sec 0"),
            (["{bucket}", "--price", "video=1"], "video_sec"),
            (["{bucket}", "--price", "video_sec=much"], "NAME=NUMBER"),
            (["{bucket}", "--output-s3-uri", "bucket/marengo"], "bucket/marengo"),
            (["{bucket}", "--output-s3-uri", ""], "set --output-s3-uri s3://bucket/marengo/"),
            (["{bucket}", "--bucket-owner", "me"], "--bucket-owner me"),
            (["{bucket}", "--profile", "nobody"], "--profile nobody"),
            (["{bucket}", "--region", "mars-1"], "mars-1"),
            (["{bucket}", "--region", "eu-west-1"], "--region us-east-1"),
            (["{bucket}", "--local"], "with --local, all media must be local files"),
        ],
    )
    def test_one_is_a_line_and_2_and_costs_nothing(self, local, marengo, bucket, words, said):
        result = marengo("embed", *(word.replace("{bucket}", bucket) for word in words), "--yes")
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert "Traceback" not in result.stderr
        assert starts(local) == 0

    def test_verbose_tells_where(self, marengo, bucket):
        result = marengo("embed", bucket, "--model", "3.9", "-v")
        assert result.exit_code == 2
        assert "Traceback" in result.stderr

    @pytest.mark.parametrize(("words", "levels"), [((), set()), (("-v",), {"INFO"}), (("-vv",), {"INFO", "DEBUG"})])
    def test_verbose_shows_logs_and_only_for_this_run(self, marengo, bucket, words, levels):
        result = marengo("embed", bucket, *ASSUME, *words)
        assert result.exit_code == 0, result.output
        shown = set(re.findall(r"^\d\d:\d\d:\d\d (\w+) bedrock_marengo", result.stderr, re.M))
        assert shown - {"WARNING"} == levels
        assert ("Started: s3://" in result.stderr) == bool(levels)
        assert "bedrock_marengo" not in result.stdout
        assert "bedrock_marengo" not in marengo("embed", bucket).stderr

    def test_what_aws_refuses_is_a_line_and_1(self, local, marengo, bucket):
        local.faults = [Fault("s3:ListObjectsV2", error="AccessDenied")]
        result = marengo("embed", bucket)
        assert result.exit_code == 1
        assert "AccessDenied" in result.stderr
        assert "Traceback" not in result.stderr

    def test_a_bucket_that_is_not_there_is_told(self, marengo):
        result = marengo("embed", "s3://no-such-bucket/videos/")
        assert result.exit_code == 1
        assert "There is no bucket 'no-such-bucket'." in result.stderr


def test_names_move_no_cursor_and_are_no_markup(local, marengo):
    name = "[red]\x1b[2J.mp4"
    local.put(b"a video", f"odd/{name}")
    local.faults = [Fault("Job", error="Failed", message="bad")]
    result = marengo("embed", f"s3://{local.bucket}/odd/", *ASSUME)
    assert result.exit_code == 1
    assert "odd/[red]\\x1b[2J.mp4" in result.stderr
    assert "\x1b[2J" not in result.output


def test_a_warning_is_a_line(local, marengo, bucket):
    result = marengo("embed", bucket, "--model", "2.7", *ASSUME)
    assert result.exit_code == 0, result.output
    assert "AWS ends Marengo 2.7 on 2026-11-30" in result.stderr
    assert "--model 3.0" in result.stderr
    assert "MarengoWarning" not in result.stderr


def test_ctrl_c_is_one_line_and_the_next_run_finds_the_jobs(local, bucket, shell, marengo, held):
    process = shell("embed", bucket, *ASSUME)
    while starts(local) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Stopped. Jobs that were started continue." in err
    assert "Traceback" not in err

    def end_when_asked():
        while local.calls["GetAsyncInvoke"] < 3:
            time.sleep(0.02)
        held.set()

    local.calls.reset()
    threading.Thread(target=end_when_asked, daemon=True).start()
    result = marengo("embed", bucket, "--json")
    assert json.loads(result.stdout)["counts"] == {"joined": 3}
    assert starts(local) == 0 and len(local.jobs) == 3

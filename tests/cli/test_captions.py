"""`marengo captions`, and `--transcribe` of embed and cost: the plan, the question, what is written and where."""

import json

import pytest

from bedrock_marengo import Transcript
from marengo_local import Fault

ASSUME = ("--assume-duration-sec", "12")
START = "transcribe:StartTranscriptionJob"
CAPTIONS = b"WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nby hand\n"


@pytest.fixture
def folder(local):
    """Two videos of which one has captions."""
    local.say("*", [(0.0, 4.0, "And there is the goal!")])
    local.put(b"a", "v/a.mp4")
    local.put(b"b", "v/b.mp4")
    local.put(CAPTIONS, "v/b.vtt")
    return f"s3://{local.bucket}/v/"


def body(local, key):
    return local.s3.get_object(Bucket=local.bucket, Key=key)["Body"].read()


def keys(local, prefix):
    found = local.s3.list_objects_v2(Bucket=local.bucket, Prefix=prefix).get("Contents", [])
    return [item["Key"] for item in found if not item["Key"].endswith(".temp")]


class TestCaptions:
    def test_are_written_next_to_media_that_have_none(self, local, marengo, folder):
        result = marengo("captions", folder, *ASSUME)
        assert result.exit_code == 0, result.output
        assert "to transcribe" in result.stderr and "0.0060" in result.stderr
        assert f"{folder}a.vtt" in result.stdout and "1 jobs of unknown length" in result.stdout
        assert Transcript.parse(body(local, "v/a.vtt").decode()).words(0, 4) == "And there is the goal!"
        assert body(local, "v/b.vtt") == CAPTIONS and keys(local, "v/") == ["v/a.mp4", "v/a.vtt", "v/b.mp4", "v/b.vtt"]
        # Then there is nothing left to do.
        again = marengo("captions", folder)
        assert again.exit_code == 0 and local.calls[START] == 1 and local.calls["StartAsyncInvoke"] == 0

    def test_of_another_file_are_never_written_over(self, local, marengo, folder):
        local.put(b"a", "v/a.mp3")
        result = marengo("captions", f"{folder}a.mp4", f"{folder}a.mp3", "--yes")
        assert result.exit_code == 0 and keys(local, "v/a") == ["v/a.mp3", "v/a.mp4", "v/a.vtt"]

    def test_go_to_a_folder_or_prefix(self, local, marengo, folder, tmp_path):
        assert marengo("captions", folder, "--output", tmp_path, "--yes").exit_code == 0
        assert "goal" in (tmp_path / "v" / "a.vtt").read_text()
        result = marengo("captions", folder, "--output", f"s3://{local.bucket}/words/", "--yes")
        assert result.exit_code == 0 and keys(local, "words/") == ["words/v/a.vtt"]
        # The transcript was there.
        assert local.calls[START] == 1
        result = marengo("captions", folder, "--output", tmp_path, "--yes")
        assert result.exit_code == 0 and "there already" in result.stdout

    def test_of_local_files(self, local, marengo, tmp_path):
        local.say("*", [(0.0, 4.0, "And there is the goal!")])
        (tmp_path / "a.mp4").write_bytes(b"a local video")
        assert marengo("captions", tmp_path, "--yes").exit_code == 0
        assert "goal" in (tmp_path / "a.vtt").read_text()

    def test_a_key_leads_nowhere_else(self, local, marengo, tmp_path):
        local.say("*", [(0.0, 4.0, "Hello.")])
        uri = local.put(b"a", "v/../../../etc/a.mp4")
        assert marengo("captions", uri, "--output", tmp_path / "out", "--yes").exit_code == 0
        assert (tmp_path / "out" / "v" / "etc" / "a.vtt").exists()

    def test_silence_writes_nothing(self, local, marengo):
        uri = local.put(b"a", "v/a.mp4")
        result = marengo("captions", uri, "--yes")
        assert result.exit_code == 0 and "nothing said" in result.stdout and keys(local, "v/") == ["v/a.mp4"]

    def test_a_dry_run_and_a_no_start_nothing(self, local, marengo, folder):
        assert marengo("captions", folder, "--dry-run", *ASSUME).exit_code == 0
        planned = json.loads(marengo("captions", folder, "--dry-run", "--json", *ASSUME).stdout)
        assert planned["plan"]["words"] == {"transcribe": 1}
        refused = marengo("captions", folder, "--ask-above-usd", "0.001", *ASSUME)
        assert refused.exit_code == 2 and "pass --yes" in refused.stderr
        # An unknown length may cost anything.
        assert marengo("captions", folder).exit_code == 2
        assert local.calls[START] == 0

    def test_failures_and_budgets_are_said(self, local, marengo, folder):
        result = marengo("captions", folder, "--max-cost-usd", "0.001", *ASSUME)
        assert result.exit_code == 1 and "Files not started: 1" in result.stderr and local.calls[START] == 0
        local.faults = [Fault("TranscriptionJob", error="Failed", message="The audio is on fire.")]
        result = marengo("captions", folder, "--json", *ASSUME)
        errors = [done["error"] or "" for done in json.loads(result.stdout)["media"]]
        assert result.exit_code == 1 and "on fire" in "".join(errors)

    @pytest.mark.parametrize("language", ["english", "en", "en-US,xx", ""])
    def test_a_wrong_language(self, marengo, folder, language):
        result = marengo("captions", folder, "--language", language)
        assert result.exit_code == 2 and "is not a language" in result.stderr


class TestTranscribe:
    def test_embed_plans_hears_and_counts(self, local, marengo, folder):
        result = marengo("embed", folder, "--transcribe", "en-US", *ASSUME)
        assert result.exit_code == 0, result.output
        assert "transcribe" in result.stderr and "0.0060" in result.stderr and "0.0228" in result.stderr
        assert "0.0228 USD" in result.stdout and len(local.transcriptions) == 1
        assert marengo("embed", folder, "--transcribe", "en-US").exit_code == 0
        assert len(local.transcriptions) == 1 and len(local.jobs) == 2

    def test_missing_words_are_said(self, local, marengo, folder):
        local.faults = [Fault("TranscriptionJob", error="Failed", message="The audio is on fire.")]
        result = marengo("embed", folder, "--transcribe", "auto", *ASSUME)
        assert result.exit_code == 1 and "on fire" in result.stderr and "--force" in result.stderr
        assert "without words" in result.stdout and "embedded        2" in result.stdout

    def test_cost(self, local, marengo, folder):
        result = marengo("cost", folder, "--transcribe", "auto", "--price", "transcribe_sec=1", *ASSUME)
        assert "15.0" in result.stdout and local.calls[START] == 0

    def test_with_the_stand_in(self, marengo, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"not a video")
        result = marengo("embed", "--local", tmp_path, "--transcribe", "auto")
        assert "Transcribe" in result.output or result.exit_code == 1

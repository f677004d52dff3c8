"""`marengo cost`: of media that are there, and of so many hours without AWS."""

import json

import pytest

from marengo_cli.options import prices_of


def test_of_so_many_hours_without_aws(marengo, monkeypatch, local):
    for name in local.env:
        monkeypatch.delenv(name)
    words = ("--video-hours", 1_000_000, "--audio-hours", 2.5, "--images", 100, "--texts", 1000)
    result = marengo("cost", *words)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[-1] for line in result.stdout.splitlines() if line[:1].isalpha()}
    assert (rows["video"], rows["audio"], rows["image"], rows["text"]) == ("2,520,000.00", "1.2600", "0.0100", "0.0700")
    assert "total  " in result.stdout
    assert "video 1,000,000 hours 0.0007 per second" in " ".join(result.stdout.split())
    assert "from litellm's test data, not from the AWS price page" in result.stdout
    assert "2.7 may have risen since 2026-08-29" in result.stdout
    said = json.loads(marengo("cost", *words, "--json").stdout)
    assert said["total_usd"] == pytest.approx(2_520_000 + 1.26 + 0.01 + 0.07)
    assert said["prices"]["video_sec"] == 0.0007
    assert said["prices_source"] in result.stdout
    assert said["plan"] is None
    assert not local.calls["s3:ListObjectsV2"]


def test_of_media_that_are_there(local, marengo, bucket, client):
    list(client.embed_many(f"{bucket}a.mp4", scopes=["clip"]))
    local.calls.reset()
    result = marengo("cost", bucket, "--assume-duration-sec", "3600", "--texts", "10")
    assert result.exit_code == 0, result.output
    assert "to reuse    1 (done before)" in result.stdout
    assert "2, assumed as 3600 s each" in result.stdout
    assert "5.0400" in result.stdout
    assert "5.0407" in result.stdout
    for call in ("InvokeModel", "StartAsyncInvoke", "s3:PutObject"):
        assert local.calls[call] == 0


def test_a_sum_that_lacks_media_is_not_all(marengo, bucket, local):
    result = marengo("cost", bucket, f"s3://{local.bucket}/gone.mp4")
    assert result.exit_code == 1
    assert "no length   3, not in the sums" in result.stdout
    assert "There is no object" in result.stdout


def test_ones_own_prices(marengo):
    result = marengo("cost", "--video-hours", "1", "--texts", "2", "--price", "video_sec=0.001", "--price", "text=1")
    assert "0.001 per second   3.6000" in result.stdout
    assert "5.6000" in result.stdout
    assert prices_of(["text=0"]).text == 0
    assert prices_of([]).image == 0.0001


def test_of_local_media_without_aws(marengo, tmp_path, monkeypatch):
    monkeypatch.delenv("MARENGO_OUTPUT_S3_URI")
    (tmp_path / "a.mp4").write_bytes(b"a video")
    result = marengo("cost", "--local", tmp_path, "--assume-duration-sec", "10")
    assert result.exit_code == 0, result.output
    assert "0.0070" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Nothing to calculate"),
        (["--video-hours", "-1"], "--video-hours"),
        (["--texts", "2.5"], "--texts"),
        (["--price", "smell=1", "--texts", "1"], "--price smell=1"),
        (["--price", "text=nan", "--texts", "1"], "--price text=nan"),
        (["nowhere/"], "no such file or folder"),
    ],
)
def test_a_mistake_is_2(marengo, words, said):
    result = marengo("cost", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr

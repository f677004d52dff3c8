"""`marengo forget`: what was made from media is deleted, once someone has agreed."""

import json

import pytest

from marengo_local import Fault


@pytest.fixture
def done(client, bucket):
    list(client.embed_many(bucket, scopes=["clip"]))
    return bucket


def kept(local, prefix="marengo/"):
    listed = local.s3.list_objects_v2(Bucket=local.bucket, Prefix=prefix).get("Contents", [])
    return sorted(item["Key"] for item in listed)


def test_a_dry_run_tells_what_would_go(local, marengo, done):
    before = kept(local)
    result = marengo("forget", done, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["created", "for", "outputs", "requests", "others", "size"]
    assert "b.mp4" in result.stdout
    assert "Would delete 9 objects." in result.stdout
    assert kept(local) == before


def test_what_was_made_goes_and_the_media_stay(local, marengo, done):
    result = marengo("forget", f"{done}a.mp4", "--yes")
    assert result.exit_code == 0, result.output
    assert "Deleted 3 objects." in result.stdout
    assert len(kept(local)) == 6
    assert marengo("forget", done, "--yes").exit_code == 0
    assert kept(local) == []
    assert len(kept(local, "videos/")) == 3
    assert "Nothing was created for these" in marengo("forget", done, "--yes").stdout


def test_a_medium_that_is_gone_is_forgotten_by_its_name(local, marengo, done):
    local.s3.delete_object(Bucket=local.bucket, Key="videos/a.mp4")
    assert "Deleted 3 objects." in marengo("forget", f"{done}a.mp4", "--yes").stdout


def test_the_upload_of_a_local_file_goes_and_the_file_stays(local, marengo, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a local video")
    marengo("embed", path, "--yes")
    said = json.loads(marengo("forget", tmp_path, "--yes", "--json").stdout)
    [file] = said["media"]
    assert (file["source"], file["uploads"], file["outputs"]) == (str(path), 1, 1)
    assert len(file["uris"]) == 4
    assert kept(local) == []
    assert path.exists()


def test_no_terminal_to_ask_on_is_a_no(local, marengo, done):
    result = marengo("forget", done, input="y\n")
    assert result.exit_code == 2
    assert "Delete 9 objects? There is no terminal to ask in: pass --yes" in result.stderr
    assert "b.mp4" in result.stderr
    assert len(kept(local)) == 9


def test_a_job_that_still_runs_is_told(local, marengo, client, bucket):
    local.job_duration_sec = float("inf")
    client.start(f"{bucket}a.mp4")
    result = marengo("forget", bucket, "--yes")
    assert "1 jobs have no output yet: run this again" in result.stdout


def test_what_cannot_be_removed_is_told_and_the_rest_goes(local, marengo, done):
    local.faults = [Fault("s3:DeleteObjects", error="AccessDenied", times=1)]
    result = marengo("forget", done, "--yes")
    assert result.exit_code == 1
    assert result.stderr.count("failed: ") == 1
    assert "AccessDenied" in result.stderr
    assert "Deleted 6 objects." in result.stdout
    assert len(kept(local)) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.mp4"], "no such file or folder"),
        (["s3://bucket/a.mp4", "--output-s3-uri", ""], "--output-s3-uri s3://bucket/marengo/"),
    ],
)
def test_a_mistake_is_2(marengo, words, said):
    result = marengo("forget", *words, "--yes")
    assert result.exit_code == 2
    assert said in result.stderr

"""`marengo eval`: the reel's questions over finished work, and a stand-in for one command."""

import json
import math
from pathlib import Path

import pytest

from marengo_local import reel

from ..reel_questions import film, rows

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"


@pytest.fixture
def archive(local, client):
    """The reel and another video, embedded; the prefix and the reel's URI."""
    local.synthetic_sec = None
    uri = local.put(film(), "videos/reel.mp4")
    list(client.embed_many(f"s3://{local.bucket}/videos/", scopes=["clip"]))
    local.calls.reset()
    return f"s3://{local.bucket}/videos/", uri


@pytest.fixture
def written(tmp_path):
    """A file of questions, from rows."""

    def write(rows):
        path = tmp_path / "questions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_the_reels_questions(local, marengo, archive, written, tmp_path):
    prefix, uri = archive
    path = written(rows(uri, images=False))
    result = marengo("eval", path, prefix, "--suggest-weights", "--html", tmp_path / "table.html", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    table = {row["row"]: row for row in said["rows"]}
    assert list(table)[:2] == ["as given", "visual alone"]
    assert {"rrf, visual", "scores, intent", "rrf, balanced"} <= set(table)
    assert table["as given"]["recall@5"] > 0.8 > table["audio alone"]["recall@1"]
    assert table["as given"]["recall@1 low"] == table["as given"]["recall@1 difference"] == 0
    assert table["scores, visual"]["nDCG@10"] == table["as given"]["nDCG@10"]
    assert (len(said["questions"]) / len(table), said["missing_sources"]) == (17, [])
    assert {row["scene"] for row in said["questions"]} == {scene.name for scene in reel.scenes()}
    assert said["suggestion"]["weights"] is None and "17 questions are too few" in said["suggestion"]["reason"]
    # Each question once, and the anchors of the tracks.
    assert len(local.calls.of("InvokeModel")) == 17 + 3
    assert len(local.calls.of("StartAsyncInvoke")) == 0
    assert "rrf, visual" in (tmp_path / "table.html").read_text("utf-8")


def test_a_table_for_people(marengo, archive, written):
    prefix, uri = archive
    result = marengo("eval", written(rows(uri, images=False)[:3]), prefix, "-k", "5", "--suggest-weights")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["recall@1", "recall@5", "MRR"]
    assert lines[1].startswith("as given ") and lines[1].endswith("baseline")
    assert "weights: keep those you have" in lines
    assert "Files searched: 1, segments: " in result.stderr


def test_local_files_go_by_their_paths(marengo, written):
    row = {"query": "a cat looking straight at the camera", "source": str(REEL / "cat.jpg")}
    result = marengo("eval", written([row]), REEL / "cat.jpg", REEL / "rocket.jpg", "--local", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["stand_in"] and said["missing_sources"] == []
    assert said["rows"][0]["recall@1"] == 1
    assert said["rows"][0]["tIoU"] is None


def test_files_that_are_not_there_are_named(marengo, archive, written):
    prefix, uri = archive
    other = {"query": "a goal", "source": f"{prefix}macth.mp4", "start_sec": 0, "end_sec": 6}
    result = marengo("eval", written([*rows(uri, images=False)[:2], other]), prefix, "--json")
    assert result.exit_code == 1
    assert f"has no segments of 1 of the 2 files of right moments: '{prefix}macth.mp4'" in result.stderr
    assert json.loads(result.stdout)["missing_sources"] == [f"{prefix}macth.mp4"]


def test_local_files_that_are_not_searched_are_named(marengo, written):
    rows = [{"query": name, "source": name} for name in (str(REEL / "cat.jpg"), "dog.jpg")]
    result = marengo("eval", written(rows), REEL / "cat.jpg", "--local", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["missing_sources"] == ["dog.jpg"]


def test_where_nothing_is_embedded_nothing_is_paid(local, marengo, bucket, written):
    row = {"query": "a goal", "source": f"{bucket}a.mp4", "start_sec": 0, "end_sec": math.pi}
    result = marengo("eval", written([row]), bucket)
    assert result.exit_code == 1
    assert f"To embed them: marengo embed {bucket}" in result.stderr
    assert not local.calls.of("InvokeModel")


@pytest.mark.parametrize(
    ("row", "options", "problem"),
    [
        ({"query": ""}, [], "line 1: query is empty"),
        ({}, ["-k", "0"], "--k 0: expected a whole number"),
        ({}, ["--min-iou", "2"], "--min-iou 2.0: expected more than 0"),
        ({}, ["--weights", "visul"], "--weights visul"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_paid(local, marengo, bucket, written, row, options, problem):
    path = written([{"query": "a goal", "source": "a.mp4", "start_sec": 0, "end_sec": 6, **row}])
    result = marengo("eval", path, bucket, *options)
    assert (result.exit_code, problem in result.stderr) == (2, True), result.stderr
    assert not local.calls.of("InvokeModel")


def test_words_are_one_more_row(local, marengo, archive, written):
    prefix, uri = archive
    local.put(b"1\n00:00:00,000 --> 00:00:06,000\nOrder 4711 is ready\n", "videos/reel.srt")
    path = written([{"query": "4711", "source": uri, "start_sec": 0, "end_sec": 6}])
    result = marengo("eval", path, prefix, "--words", "bm25", "--suggest-weights", "--json")
    assert result.exit_code == 0, result.output
    table = {row["row"]: row for row in json.loads(result.stdout)["rows"]}
    assert table["words alone"]["recall@1"] == 1
    assert "words alone" not in marengo("eval", path, prefix).stdout

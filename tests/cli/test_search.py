"""`marengo search`: the core alone over finished work, and a stand-in for one command."""

import json
import shutil
from pathlib import Path

import pytest

from bedrock_marengo import Segment
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.weights import cosines
from marengo_local import Fault

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
WEIGHTS = {"visual": 0.8, "audio": 0.1, "transcription": 0.05}


@pytest.fixture
def done(local, client, bucket):
    """The prefix, embedded as the loaders and `marengo embed` do."""
    list(client.embed_many(bucket, scopes=["clip"]))
    local.calls.reset()
    return bucket


@pytest.fixture
def photographs(tmp_path):
    """A folder with two real images."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(REEL / name, folder)
    return folder


def found(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def starts(local):
    return len(local.calls.of("StartAsyncInvoke"))


def test_it_finds_what_the_core_finds(client, marengo, done):
    said = found(marengo("search", "a goal", done, "-k", "4", "--json"))
    query, hits = client.embed_text("a goal"), []
    for medium in client.embed_many(done, scopes=["clip"]):
        scores = cosines(query, medium.segments.vectors)
        hits += [Hit(segment, float(score)) for segment, score in zip(medium.segments, scores, strict=True)]
    moments = find_moments(hits, SearchSettings(weights=WEIGHTS, k=4, fusion="scores"))
    assert [moment["segment"] for moment in said["moments"]] == [moment.best.segment.uri for moment in moments]
    for told, moment in zip(said["moments"], moments, strict=True):
        assert (told["source"], told["start_sec"], told["end_sec"]) == (moment.source, moment.start_sec, moment.end_sec)
        assert told["score"] == pytest.approx(moment.score)
        assert {name: track["rank"] for name, track in told["tracks"].items()} == {
            name: hit.rank for name, hit in moment.tracks.items()
        }
        assert all(Segment.parse(track["segment"]).option == name for name, track in told["tracks"].items())
    assert (said["media"], said["segments"], said["stand_in"]) == (3, 18, False)


def test_a_table_for_people(local, marengo, done):
    result = marengo("search", "a goal", done, "-k", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["file", "time", "cosines,", "and", "words", "spoken", "score", "confidence"]
    assert lines[2].startswith("1   ")
    assert ".mp4   00:0" in lines[2]
    assert "visual 0." in lines[2]
    assert "Files searched: 3, segments: 18. The query cost 0.0001 USD." in result.stderr


def test_each_result_has_its_confidence_and_fits_a_narrow_terminal(local, marengo, done, monkeypatch):
    moments = found(marengo("search", "a goal", done, "--json"))["moments"]
    monkeypatch.setenv("COLUMNS", "44")
    lines = marengo("search", "a goal", done).stdout.splitlines()
    assert all(len(line) <= 44 for line in lines)
    for moment in moments:
        said = f"{moment['score']:.4f} {moment['confidence'] or ''}".strip()
        assert any(line.endswith(said) for line in map(str.rstrip, lines))
    assert sum(line.strip().endswith(".mp4") for line in lines) == len(moments)


def test_variety_if_asked(marengo, done):
    assert "--mmr-lambda 2.0: expected a number from 0 to 1" in marengo("search", "a", done, "--mmr-lambda", "2").stderr
    assert len(found(marengo("search", "a goal", done, "--mmr-lambda", "0.5", "-k", "3", "--json"))["moments"]) == 3


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_nothing_found_is_said_and_1(local, marengo, tmp_path, as_json):
    result = marengo("search", "a goal", f"s3://{local.bucket}/none/", *as_json)
    assert result.exit_code == 1
    assert f"No media found in s3://{local.bucket}/none/. Looked for files that end in .mp4" in result.stderr
    assert as_json or "Nothing found." in result.stderr


def test_it_pays_for_the_query_alone(local, marengo, done):
    local.put(b"a new one", "videos/new.mp4")
    result = marengo("search", "a goal", done)
    assert result.exit_code == 1  # not all were searched
    assert f"Files not embedded yet: 1. To embed them: marengo embed {done}\n" in result.stderr
    assert result.stdout
    assert (len(local.calls.of("InvokeModel")), starts(local)) == (1, 0)


def test_where_nothing_is_embedded_nothing_is_paid_written_or_waited_for(local, marengo, bucket, tmp_path):
    (tmp_path / "a b.mp4").write_bytes(b"a local video")
    local.job_duration_sec = float("inf")
    result = marengo("search", "a goal", bucket, tmp_path / "a b.mp4", "--segmentation", "fixed:4", "--fused", "only")
    assert result.exit_code == 1
    again = f"marengo embed --segmentation fixed:4 --fused only {bucket} '{tmp_path}/a b.mp4'\n"
    assert f"Files not embedded yet: 4. To embed them: {again}" in result.stderr
    assert result.stdout == ""
    for call in ("InvokeModel", "StartAsyncInvoke", "s3:PutObject", "s3:CreateMultipartUpload"):
        assert local.calls[call] == 0


def test_a_medium_that_changed_is_not_embedded_yet(local, marengo, done):
    local.put(b"other bytes", "videos/a.mp4")
    said = json.loads(marengo("search", "a goal", done, "--json").stdout)
    assert said["not_embedded"] == [f"{done}a.mp4"]
    assert said["media"] == 2


def test_local_media_that_were_embedded_are_found_by_their_bytes(marengo, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a local video")
    assert marengo("embed", tmp_path, "--yes").exit_code == 0
    [moment, *_] = found(marengo("search", "a goal", tmp_path, "--json"))["moments"]
    assert moment["name"] == str(tmp_path / "a.mp4")
    assert moment["source"].startswith("s3://")


def test_what_was_embedded_otherwise_is_found_by_the_same_options(client, marengo, bucket):
    list(client.embed_many(bucket, scopes=["clip"], fused="only"))
    assert marengo("search", "a goal", bucket).exit_code == 1
    said = found(marengo("search", "a goal", bucket, "--fused", "only", "--json"))
    assert {track for moment in said["moments"] for track in moment["tracks"]} == {"fused"}


def test_whole_media_are_found_where_only_they_were_embedded(client, marengo, bucket):
    list(client.embed_many(bucket, scopes=["asset"]))
    said = found(marengo("search", "a goal", bucket, "--scopes", "asset", "--json"))
    assert [(moment["start_sec"], moment["end_sec"]) for moment in said["moments"]] == [(0, 12)] * 3


def test_by_image_by_sound_and_by_both_text_and_image(local, marengo, done, photographs, tmp_path):
    image = photographs / "cat.jpg"
    assert len(found(marengo("search", "--image", image, done, "--json"))["moments"]) == 6
    both = found(marengo("search", "--image", image, "--text", "at night", done, "--json"))
    assert both["query"] == f"at night + {image}"
    (tmp_path / "whistle.mp3").write_bytes(b"a whistle")
    found(marengo("search", "--audio", tmp_path / "whistle.mp3", done, "--json"))
    assert [call.body["inputType"] for call in local.calls.of("InvokeModel")] == ["image", "text_image"]
    assert starts(local) == 1


def test_a_repost_takes_no_place(local, marengo, client, bucket, photographs):
    for key, name in (("cat.jpg", "cat.jpg"), ("repost.jpg", "cat.jpg"), ("rocket.jpg", "rocket.jpg")):
        local.put(photographs / name, f"stills/{key}")
    stills = f"s3://{local.bucket}/stills/"
    list(client.embed_many(stills, scopes=["clip"]))
    assert len(found(marengo("search", "a cat", stills, "--json"))["moments"]) == 3
    assert len(found(marengo("search", "a cat", stills, "--distinct", "0.98", "--json"))["moments"]) == 2
    assert "--distinct 2.0: expected a number from 0 to 1" in marengo("search", "a", stills, "--distinct", "2").stderr


def test_doubtful_results_can_be_left_out(marengo, done):
    every = found(marengo("search", "a goal", done, "--weights", "visual=1", "--json"))["moments"]
    result = marengo("search", "a goal", done, "--weights", "visual=1", "--min-confidence", "high", "--json")
    sure = json.loads(result.stdout)
    assert result.exit_code == (0 if sure["moments"] else 1)
    assert sure["moments"] == [moment for moment in every if moment["confidence"] == "high"]
    assert len(sure["moments"]) < len(every)
    assert "--min-confidence sure" in marengo("search", "a goal", done, "--min-confidence", "sure").stderr


def test_a_picture_finds_itself_among_videos(local, marengo, client, bucket, photographs):
    local.put(photographs / "cat.jpg", "videos/cat.jpg")
    list(client.embed_many(bucket, scopes=["clip"]))
    first = found(marengo("search", "--image", photographs / "cat.jpg", bucket, "--json"))["moments"][0]
    assert first["name"] == f"{bucket}cat.jpg"
    assert first["score"] == pytest.approx(1, abs=1e-3)


def test_words_that_lie_beside_are_shown(local, marengo, done):
    captions = b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots, he scores!\n"
    local.put(captions, "videos/a.srt")
    result = marengo("search", "a goal", done)
    assert "He shoots, he scores!" in result.stdout
    moments = found(marengo("search", "a goal", done, "--json"))["moments"]
    assert {moment["words"] for moment in moments if moment["name"].endswith("a.mp4")} == {"He shoots, he scores!", ""}


def test_captions_that_cannot_be_read_lose_no_hit(local, marengo, done):
    local.put(b"no captions", "videos/a.srt")
    result = marengo("search", "a goal", done)
    assert result.exit_code == 0
    assert "a.mp4 is shown without its captions" in result.stderr


def test_weights_decide_which_tracks_are_searched(local, marengo, done):
    said = found(marengo("search", "a goal", done, "--weights", "audio=1", "--json"))
    assert {track for moment in said["moments"] for track in moment["tracks"]} == {"audio"}
    by_rank = found(marengo("search", "a goal", done, "--weights", "audio=1", "--fusion", "rrf", "--json"))
    assert [moment["score"] for moment in by_rank["moments"]] == pytest.approx([1 / (60 + i) for i in range(1, 7)])
    intent = found(marengo("search", "a goal", done, "--weights", "intent", "--json"))
    assert len(intent["moments"]) == 6


def test_neighbours_are_merged_and_sources_bounded_if_asked(marengo, done):
    merged = found(marengo("search", "a goal", done, "--merge-gap-sec", "0", "--json"))["moments"]
    assert [(moment["start_sec"], moment["end_sec"]) for moment in merged] == [(0, 12)] * 3
    one_each = found(marengo("search", "a goal", done, "--max-per-source", "1", "--json"))["moments"]
    assert len({moment["source"] for moment in one_each}) == len(one_each) == 3


def test_an_output_of_no_use_is_told_and_the_others_are_searched(local, marengo, done, client):
    [output] = [
        item["Key"]
        for item in local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/")["Contents"]
        if item["Key"].endswith("output.json")
        and client.job(f"s3://{local.bucket}/{item['Key']}").source.endswith("b.mp4")
    ]
    local.put(b'{"data": [', output)
    result = marengo("search", "a goal", done)
    assert result.exit_code == 1
    assert f"failed: {done}b.mp4" in result.stderr
    assert "Files searched: 2," in result.stderr


class TestLocal:
    def test_ones_own_files_are_searched_without_aws(self, marengo, photographs, monkeypatch):
        for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MARENGO_OUTPUT_S3_URI"):
            monkeypatch.delenv(name)
        # What would lead elsewhere on AWS.
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "a key")
        result = marengo("search", "--local", "a cat", photographs)
        assert result.exit_code == 0, result.output
        assert "1   cat.jpg" in result.stdout
        assert "come from the stand-in, not from Marengo" in result.stderr

    def test_media_on_s3_are_refused(self, marengo, bucket, photographs):
        for words in (["a cat", bucket], ["--image", "s3://bucket/cat.jpg", photographs]):
            result = marengo("search", "--local", *words)
            assert result.exit_code == 2
            assert "with --local, all media must be local files" in result.stderr


class TestPage:
    def test_it_holds_the_hits_and_says_whose_they_are(self, marengo, photographs, tmp_path):
        page = tmp_path / "out.html"
        said = found(marengo("search", "--local", "a rocket", photographs, "--html", page, "--json"))
        assert [Path(moment["name"]).name for moment in said["moments"]] == ["rocket.jpg", "cat.jpg"]
        assert (said["stand_in"], said["usd"], said["html"]) == (True, 0, str(page))
        html = page.read_text()
        assert "a rocket" in html
        assert "cat.jpg" in html
        assert "not from Marengo" in html
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.html"]

    def test_a_page_of_ours_is_written_over_and_nothing_else_unless_told(self, marengo, done, tmp_path, local):
        page = tmp_path / "out.html"
        assert f"A page with players: {page}" in marengo("search", "a goal", done, "--html", page).stdout
        assert marengo("search", "a <b>foul</b>", done, "--html", page).exit_code == 0
        assert "a &lt;b&gt;foul&lt;/b&gt;" in page.read_text()
        page.write_text("my own")
        local.calls.reset()
        refused = marengo("search", "a goal", done, "--html", page)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert page.read_text() == "my own"
        assert local.calls["InvokeModel"] == 0
        assert marengo("search", "a goal", done, "--html", page, "--force").exit_code == 0
        assert page.read_text() != "my own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a goal"], "Pass sources after the query"),
        (["", "{bucket}"], "text is empty"),
        (["a goal", "nowhere/"], "'nowhere/': there is no such file or folder"),
        (["a goal", "{bucket}", "--weights", "smell"], "--weights smell: not a preset"),
        (["a goal", "{bucket}", "--weights", "smell=1"], "'smell', which is not a track"),
        (["a goal", "{bucket}", "--weights", "visual=x"], "--weights 'visual=x': expected NAME=NUMBER"),
        (["a goal", "{bucket}", "-k", "0"], "--k 0: expected a whole number, 1 or more"),
        (["a goal", "{bucket}", "--merge-gap-sec", "-1"], "--merge-gap-sec -1"),
        (["a goal", "{bucket}", "--max-per-source", "0"], "--max-per-source 0"),
        (["a goal", "{bucket}", "--text", "at night"], "--text needs --image"),
        (["{bucket}", "--image", "nowhere.jpg"], "'nowhere.jpg': there is no such file"),
        (["{bucket}", "--image", "{bucket}a.mp4"], "expected 'image' here"),
        (["{bucket}", "--image", "{bucket}a.jpg", "--audio", "{bucket}a.mp3"], "can't combine image with audio"),
        (["{bucket}", "--audio", "{bucket}a.mp3", "--text", "loud"], "--text needs --image"),
        (["a goal", "{bucket}", "--html", "nowhere/out.html"], "--html nowhere/out.html"),
        (["a goal", "{bucket}", "--html", "."], "--html ."),
        (["a goal", "{bucket}", "--html", "/dev/null", "--force"], "--html /dev/null"),
        (["a goal", "{bucket}", "--region", "eu-west-1"], "--region us-east-1"),
    ],
)
def test_a_mistake_is_a_line_and_2_and_costs_nothing(local, marengo, bucket, words, said):
    result = marengo("search", *(word.replace("{bucket}", bucket) for word in words))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert (len(local.calls.of("InvokeModel")), starts(local)) == (0, 0)


def test_a_query_is_text_and_opens_nothing(local, marengo, done):
    for query in ("/etc/passwd", f"{done}a.mp4", "data:image/png;base64,AAAA"):
        assert marengo("search", query, done).exit_code == 0
    assert [call.body["text"]["inputText"] for call in local.calls.of("InvokeModel")][1] == f"{done}a.mp4"


def test_what_aws_refuses_is_a_line_and_1(local, marengo, done):
    local.faults = [Fault("InvokeModel", error="AccessDeniedException")]
    result = marengo("search", "a goal", done)
    assert result.exit_code == 1
    assert "AccessDeniedException" in result.stderr
    assert "Traceback" not in result.stderr


SAID = b"1\n00:00:00,000 --> 00:00:06,000\nOrder 4711 is ready\n\n2\n00:00:06,000 --> 00:00:12,000\nThe weather\n"


@pytest.mark.parametrize("fusion", ["rrf", "scores"])
def test_words_are_a_track_if_asked(local, marengo, done, fusion):
    local.put(SAID, "videos/b.srt")
    options = ("--words", "bm25", "--fusion", fusion, "--json")
    said = found(marengo("search", "4711", done, "--weights", "visual=0.1,words=0.9", *options))
    assert (said["moments"][0]["name"], said["moments"][0]["start_sec"]) == (f"{done}b.mp4", 0.0)
    assert said["moments"][0]["tracks"]["words"].keys() == {"rank", "score", "segment"}
    assert ["words" in moment["tracks"] for moment in said["moments"]].count(True) == 1
    assert "words" in marengo("search", "4711", done, "--words", "bm25").stdout
    for weights in ("intent", "dialogue"):
        said = found(marengo("search", "4711", done, "--weights", weights, *options))
        assert any("words" in moment["tracks"] for moment in said["moments"])
    local.calls.reset()
    result = marengo("search", "4711", done, "--weights", "words=1")
    assert result.exit_code == 2 and "unless you pass --words" in result.stderr and not local.calls


def test_words_are_for_text_alone(local, marengo, done, photographs):
    local.put(SAID, "videos/b.srt")
    image = ("search", "--image", photographs / "cat.jpg", done)
    assert found(marengo(*image, "--words", "bm25", "--json")) == found(marengo(*image, "--json"))
    assert "only track above 0" in marengo(*image, "--words", "bm25", "--weights", "words=1").stderr
    both = found(marengo(*image, "--text", "4711", "--words", "bm25", "--json"))
    assert any("words" in moment["tracks"] for moment in both["moments"])

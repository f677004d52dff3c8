"""Bad input on the command line: a line that names it and the way out, exit code 2, no traceback, nothing paid."""

import pytest
from typer.testing import CliRunner

from marengo_cli.app import app

pytestmark = pytest.mark.promise("Bad input is refused before any call that costs")

VIDEO = "{video}"
OUT = ["--output-s3-uri", "{out}"]

# Command, what the line says of the input, and of the way out.
COMMANDS = [
    (["embed"], "SOURCES", "--help"),
    (["embed", "videos/", *OUT], "'videos/'", "s3://bucket/prefix/"),
    (["embed", "/no/such/film.mp4", *OUT], "'/no/such/film.mp4'", "s3://bucket/key"),
    (["embed", "s3://bucket/film.xyz", *OUT], "'s3://bucket/film.xyz'", "end it with a slash"),
    (["embed", "s3://my bucket/film.mp4", *OUT], "'s3://my bucket/film.mp4'", "in the bucket"),
    (["embed", "https://example.org/film.mp4", *OUT], "'https://example.org/film.mp4'", "s3://bucket/key"),
    (["embed", VIDEO], "Segments", "--output-s3-uri"),
    (["embed", VIDEO, "--output-s3-uri", "bucket/marengo"], "'bucket/marengo'", "s3://bucket/key"),
    (["embed", VIDEO, "--output-s3-uri", "s3://My_Bucket/"], "s3://My_Bucket/", "lower-case"),
    (["embed", VIDEO, *OUT, "--model", "4.0"], "--model 4.0", "Known: 3.0, 2.7"),
    (["embed", VIDEO, *OUT, "--region", "us-west-2"], "us-west-2", "us-east-1, eu-west-1"),
    (["embed", VIDEO, *OUT, "--bucket-owner", "me"], "--bucket-owner me", "12 digits"),
    (["embed", VIDEO, *OUT, "--endpoint-url", "localhost"], "--endpoint-url localhost", "a URL such as"),
    (["embed", VIDEO, *OUT, "--invoke-model-id", "my profile"], "my profile", "or its ARN"),
    (["embed", VIDEO, *OUT, "--staging-s3-uri", "/stage"], "'/stage'", "s3://bucket/key"),
    (["embed", VIDEO, *OUT, "--options", "visul"], "'visul'", "visual, audio"),
    (["embed", VIDEO, *OUT, "--options", ","], "options", "a list of names"),
    (["embed", VIDEO, *OUT, "--scopes", "movie"], "'movie'", "clip, asset"),
    (["embed", VIDEO, *OUT, "--segmentation", "dynamic:0"], "--segmentation 'dynamic:0'", "expected 1 to 5 seconds"),
    (["embed", VIDEO, *OUT, "--segmentation", "6"], "--segmentation '6'", "fixed:6"),
    (["embed", VIDEO, *OUT, "--segmentation", "fixed:11"], "fixed(11)", "1 to 10 seconds"),
    (["embed", VIDEO, *OUT, "--fused", "both"], "'both'", "'only'"),
    (["embed", VIDEO, *OUT, "--model", "2.7", "--fused", "only"], "no fused vectors", "use --model 3.0"),
    (["embed", VIDEO, *OUT, "--start-sec", "-1"], "--start-sec -1", "expected 0 to 14400 seconds"),
    (["embed", VIDEO, *OUT, "--end-sec", "nan"], "--end-sec nan", "expected 0 to 14400 seconds"),
    (["embed", VIDEO, *OUT, "--start-sec", "ten"], "--start-sec", "a valid number"),
    (["embed", VIDEO, *OUT, "--max-cost-usd", "-1"], "--max-cost-usd", "US dollars"),
    (["embed", VIDEO, *OUT, "--max-cost-usd", "nan"], "--max-cost-usd nan", "US dollars"),
    (["embed", VIDEO, *OUT, "--ask-above-usd", "nan"], "nan", "US dollars"),
    (["embed", VIDEO, *OUT, "--assume-duration-sec", "0"], "--assume-duration-sec 0", "more than 0"),
    (["embed", VIDEO, *OUT, "--price", "video=1"], "--price video=1", "video_sec"),
    (["embed", VIDEO, *OUT, "--price", "video_sec"], "--price 'video_sec'", "NAME=NUMBER"),
    (["embed", VIDEO, *OUT, "--option", "visual"], "--option", "--options"),
    (["search", "a goal", "/no/such/"], "'/no/such/'", "s3://bucket/prefix/"),
    (["search", "a goal", VIDEO], "Segments", "--output-s3-uri"),
    (["search", "", VIDEO, *OUT], "text is empty", "at least one word"),
    (["search", "a goal", VIDEO, *OUT, "--k", "0"], "k", "1 or more"),
    (["search", "a goal", VIDEO, *OUT, "--weights", "visul"], "--weights visul", "visual, dialogue"),
    (["search", "a goal", VIDEO, *OUT, "--weights", "visual=x"], "visual=x", "NAME=NUMBER"),
    (["search", "a goal", VIDEO, *OUT, "--weights", "smell=1"], "'smell'", "visual, audio"),
    (["search", "a goal", VIDEO, *OUT, "--fusion", "sum"], "'sum'", "'scores'"),
    (["search", "a goal", VIDEO, *OUT, "--merge-gap-sec", "-1"], "--merge-gap-sec -1", "0 or more"),
    (["search", "a goal", VIDEO, *OUT, "--max-per-source", "0"], "--max-per-source 0", "1 or more"),
    (["search", VIDEO, *OUT, "--image", "/no/such.png"], "'/no/such.png'", "no such file"),
    (
        ["search", VIDEO, *OUT, "--image", "s3://bucket/a.png", "--audio", "s3://bucket/a.mp3"],
        "image with audio",
        "one of",
    ),
    (["search", "a goal", VIDEO, *OUT, "--html", "/no/such/page.html"], "/no/such/page.html", "in an existing folder"),
    (["eval"], "QUESTIONS", "--help"),
    (["eval", "/no/such/q.jsonl", VIDEO, *OUT], "/no/such/q.jsonl", "JSON Lines"),
    (["eval", "{file}", VIDEO, *OUT], "line 1: not JSON", "one object on each line"),
    (["cost", "--video-hours", "-1"], "--video-hours", "greater than or equal to 0"),
    (["cost", "--video-hours", "many"], "--video-hours", "a valid number"),
    (["cost", "--price", "video_sec=-1"], "video_sec=-1", "0 or more"),
    (["cost", "/no/such/film.mp4"], "'/no/such/film.mp4'", "s3://bucket/key"),
    (["forget"], "SOURCES", "--help"),
    (["forget", "match.mp4", *OUT], "'match.mp4'", "s3://bucket/key"),
    (["forget", VIDEO], "", "--output-s3-uri"),
    (["doctor", "s3://my bucket/", *OUT], "'s3://my bucket/'", "in the bucket"),
    (["doctor", "--model", "4.0"], "--model 4.0", "Known: 3.0"),
    (["doctor", *OUT, "--kms-key-id", "alias/mine"], "alias/mine", "arn:aws:kms:"),
    (["local", "--region", "us-west-2"], "us-west-2", "us-east-1"),
    (["local", "--port", "http"], "--port", "a valid integer"),
    (["local", "/no/such/film.mp4"], "/no/such/film.mp4", ""),
    (["demo", "--framework", "haystack"], "'haystack'", "langchain"),
    (["demo", "--store", "{file}"], "{file}", "is a file"),
    (["migrate", "--collection", "old", "--into", "new", *OUT], "--chroma", "--help"),
    (["migrate", "--chroma", "{folder}", "--collection", "old", "--into", "new", *OUT], "{folder}", "chroma.sqlite3"),
    (
        ["migrate", "--chroma", "{folder}", "--collection", "old", "--into", "new", "--output-s3-uri", "x"],
        "'x'",
        "s3://bucket/key",
    ),
    (["sing"], "'sing'", "--help"),
]


@pytest.mark.parametrize(
    ("words", "names", "way_out"), COMMANDS, ids=[f"{row[0][0]}-{i}" for i, row in enumerate(COMMANDS)]
)
def test_a_bad_command_is_refused_in_a_line(marengo_bedrock, monkeypatch, tmp_path, words, names, way_out):
    local = marengo_bedrock
    local.synthetic_sec = 12.0
    monkeypatch.delenv("MARENGO_OUTPUT_S3_URI", raising=False)
    (tmp_path / "file").write_text("not a folder")
    here = {
        "video": local.put(b"a video", "match.mp4"),
        "out": local.output_s3_uri,
        "folder": str(tmp_path),
        "file": str(tmp_path / "file"),
    }
    result = CliRunner().invoke(app, [word.format(**here) for word in words], env={"COLUMNS": "300"})
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert names.format(**here) in said
    assert way_out in said
    assert "Traceback" not in result.output
    assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0

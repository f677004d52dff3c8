"""`marengo local`: the stand-in in one shell, everything else in another."""

import json
import shlex
import signal
import socket

import boto3
import pytest


def exports(process):
    """The environment that the lines to paste make, and the comments."""
    env, comments = {}, []
    while not comments or "Ctrl-C" not in comments[-1]:
        line = process.stdout.readline().rstrip()
        assert line, process.stderr.read()
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            env[name] = value
        else:
            comments.append(line)
    return env, comments


def ended(process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


@pytest.mark.slow
def test_its_exports_make_other_commands_and_boto3_work(shell, marengo, tmp_path, monkeypatch):
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    (tmp_path / "clips" / "a.mp4").write_bytes(b"video a")
    (tmp_path / "clips" / "deep" / "b.mp4").write_bytes(b"video b")
    (tmp_path / "clips" / ".hidden").write_bytes(b"stays")
    (tmp_path / "still one.jpg").write_bytes(b"\xff\xd8\xff an image")
    media = (tmp_path / "clips", tmp_path / "still one.jpg")
    stand_in = shell("local", "--synthetic-sec", "12", "--bucket", "videos", "--region", "eu-west-1", *media)
    env, comments = exports(stand_in)
    assert f"# {tmp_path}/clips is uploaded to s3://videos/clips/" in comments
    assert env["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert env["MARENGO_OUTPUT_S3_URI"] == "s3://videos/marengo/"
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    listed = boto3.client("s3").list_objects_v2(Bucket="videos")["Contents"]
    assert [item["Key"] for item in listed] == ["clips/a.mp4", "clips/deep/b.mp4", "still one.jpg"]
    assert marengo("search", "a goal", "s3://videos/").exit_code == 1
    assert marengo("embed", "s3://videos/", "--yes").exit_code == 0
    found = json.loads(marengo("search", "a goal", "s3://videos/", "--json").stdout)
    assert found["media"] == 3
    assert ended(stand_in) == (0, "", "")


@pytest.mark.parametrize("option", ["--port", "--s3-port"])
def test_a_port_that_is_taken_is_a_line_and_2(marengo, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = marengo("local", option, taken.getsockname()[1])
    assert result.exit_code == 2
    assert "ddress already in use" in result.stderr


def test_a_mistake_is_a_line_and_2(marengo, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.mp4").write_bytes(folder.encode())
    for words, said in (
        (["nowhere"], "nowhere: no such file or folder"),
        ([tmp_path / "a" / "same.mp4", tmp_path / "b" / "same.mp4"], "would both be uploaded as same.mp4"),
        (["--region", "mars-1"], "us-east-1"),
        (["--bucket", "No bucket!"], "No bucket!"),
        (["--port", "99999"], "port=99999: expected a port from 1 to 65535"),
        (["--latency-sec", "nan"], "latency_sec=nan"),
        (["--synthetic-sec", "-3"], "synthetic_sec=-3.0"),
    ):
        result = marengo("local", *words)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert "Traceback" not in result.stderr

"""The three ways in: serve() in a program, the command line, the pytest fixture."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import boto3
import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

import marengo_local

pytest_plugins = ["pytester"]

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
TEXT = json.dumps({"inputType": "text", "text": {"inputText": "a dog"}})


def test_the_handle(bedrock, local):
    options = [
        "region_name",
        "endpoint_url",
        "s3_endpoint_url",
        "transcribe_endpoint_url",
        "aws_access_key_id",
        "aws_secret_access_key",
    ]
    assert list(local.client_options) == [*options, "bucket_owner", "output_s3_uri"]
    assert local.output_s3_uri == f"s3://{local.bucket}/marengo/"
    bedrock.text("a cat")
    bedrock.text("a dog")
    assert local.calls["InvokeModel"] == len(local.calls) == 2
    assert [call.body["text"]["inputText"] for call in local.calls.of("InvokeModel")] == ["a cat", "a dog"]
    before = local.bucket
    local.latency_sec = 1.0
    local.reset()
    assert (len(local.calls), local.latency_sec, local.synthetic_sec) == (0, 0.0, 12.0)
    assert local.bucket != before


def test_environment_variables_suffice(local, monkeypatch, tmp_path):
    for name, value in local.env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a.txt").write_bytes(b"x")
    assert local.put(tmp_path / "a.txt") == f"s3://{local.bucket}/a.txt"
    assert boto3.client("s3").get_object(Bucket=local.bucket, Key="a.txt")["Body"].read() == b"x"
    assert boto3.client("sts").get_caller_identity()["Account"] == local.account_id
    assert boto3.client("bedrock-runtime").invoke_model(modelId=M3, body=TEXT)["body"].read()


def test_objects_are_stored_as_they_were_sent_over_one_connection(local):
    expects = []
    local.s3.meta.events.register(
        "before-send.s3.*", lambda request, **_: expects.append(request.headers.get("Expect"))
    )
    pool = local.s3._endpoint.http_session._manager.connection_from_url(local.s3_endpoint_url)
    before = pool.num_connections
    zipped = gzip.compress(b"a film")
    named = {"Metadata": {"taken_by": "me", "taken-at": "sea"}}
    # Of both ways to send a body: known length, and chunks with a checksum behind them.
    for key, body in (("a b/ä+%2F.gz", zipped), ("pipe.gz", io.BytesIO(zipped)), ("empty", b"")):
        local.s3.put_object(Bucket=local.bucket, Key=key, Body=body, ContentEncoding="gzip", **named)
        stored = local.s3.get_object(Bucket=local.bucket, Key=key)
        assert stored["Body"].read() == (b"" if key == "empty" else zipped)
        assert (stored["ContentEncoding"], stored["Metadata"]) == ("gzip", named["Metadata"])
        assert local.s3.head_object(Bucket=local.bucket, Key=key)["ContentLength"] == stored["ContentLength"]
    assert "100-continue" in str(expects)
    assert pool.num_connections <= before + 1


DEAD = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
EACH_WAY = """
import boto3, marengo_local, os, urllib.request
from bedrock_marengo import MarengoClient
with marengo_local.serve(synthetic_sec=6.0) as local:
    del os.environ["AWS_PROFILE"]
    video = local.put(b"a video", "a.mp4")
    with MarengoClient(**local.client_options) as client:
        [segment, *_] = client.embed_media(video)
        assert urllib.request.urlopen(client.playable_url(segment)).read() == b"a video"
    os.environ.update(local.env)
    boto3.client("s3").head_object(Bucket=local.bucket, Key="a.mp4")
    boto3.client("sts").get_caller_identity()
    print(os.environ["NO_PROXY"], os.environ["no_proxy"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("already", "then"),
    [
        ({}, "127.0.0.1 127.0.0.1"),
        ({"NO_PROXY": ".corp"}, ".corp,127.0.0.1 .corp,127.0.0.1"),
        ({"no_proxy": "localhost,127.0.0.1"}, "localhost,127.0.0.1 localhost,127.0.0.1"),
        ({"NO_PROXY": ".corp", "no_proxy": "*"}, ".corp,127.0.0.1 *"),
    ],
)
def test_nothing_goes_through_a_proxy(already, then):
    """Nor depends on the user's own AWS settings."""
    env = {**os.environ, **dict.fromkeys(PROXIES, DEAD), "AWS_PROFILE": "none", **already}
    ended = subprocess.run([sys.executable, "-c", EACH_WAY], capture_output=True, text=True, timeout=60, env=env)
    assert (ended.stdout.strip(), ended.stderr) == (then, "")


def test_without_a_proxy_the_environment_stays(monkeypatch):
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with marengo_local.serve():
        assert not {"NO_PROXY", "no_proxy"} & os.environ.keys()


def test_several_at_once_and_nothing_left(local, connect):
    before = set(threading.enumerate())
    with marengo_local.serve(synthetic_sec=6.0) as one, marengo_local.serve(synthetic_sec=6.0) as two:
        assert len({local.endpoint_url, one.endpoint_url, two.endpoint_url}) == 3
        assert one.s3_endpoint_url == two.s3_endpoint_url
        connect(one).text()
        one.job_duration_sec = float("inf")
        connect(one).start_video()
        assert (one.calls["InvokeModel"], two.calls["InvokeModel"], len(two.jobs)) == (1, 0, 0)
    assert left_since(before) == []


def test_started_without_a_with_it_serves_until_it_is_closed(connect):
    before = set(threading.enumerate())
    local = marengo_local.start(synthetic_sec=6.0, bucket="mine")
    assert local.put(b"a video", "a.mp4") == "s3://mine/a.mp4"
    client = connect(local)
    assert client.text()
    local.close()
    assert left_since(before) == []
    with pytest.raises(EndpointConnectionError):
        client.text()


def left_since(before):
    # The S3 is one for all, and its threads end when their connections do.
    names = [thread.name for thread in set(threading.enumerate()) - before]
    return [name for name in names if name.startswith("marengo-local") and name != "marengo-local-s3"]


@pytest.mark.slow
def test_started_and_never_closed_it_ends_with_the_process():
    program = "import marengo_local; print(marengo_local.start(bucket='mine').output_s3_uri)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "s3://mine/marengo/\n", "")


def test_closing_does_not_wait_for_a_slow_reply(connect):
    with marengo_local.serve(synthetic_sec=6.0, latency_sec=30.0) as slow:
        client = connect(slow)

        def ask():
            with pytest.raises(ConnectionClosedError):
                client.text()

        asking = threading.Thread(target=ask)
        asking.start()
        while not slow.calls["InvokeModel"]:
            time.sleep(0.01)
        began = time.monotonic()
    asking.join()
    assert time.monotonic() - began < 20


def test_unknown_knobs_and_regions_are_refused():
    with pytest.raises(TypeError, match="latency"), marengo_local.serve(latency=1):
        pass
    with pytest.raises(ValueError, match="us-east-1"), marengo_local.serve(region="us-west-2"):
        pass


def test_the_command_line_tells_where_it_serves_and_ends_cleanly(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"a video")
    with command_line("--json", "--bucket", "my-bucket", str(tmp_path / "clips")) as server:
        said = json.loads(server.stdout.readline())
        names = ("region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key")
        client = boto3.client("bedrock-runtime", **{name: said["client_options"][name] for name in names})
        assert client.invoke_model(modelId=M3, body=TEXT)["body"].read()
        assert said["bucket"] == "my-bucket"
        assert said["media"] == {str(tmp_path / "clips"): "s3://my-bucket/clips/"}
        assert said["env"]["MARENGO_OUTPUT_S3_URI"] == "s3://my-bucket/marengo/"
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.stderr.read() == ""


@pytest.mark.slow
def test_the_command_line_prints_exports_to_paste():
    with command_line() as server:
        lines = [server.stdout.readline() for _ in range(7)]
        assert all(line.startswith("export AWS_") for line in lines)
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


def command_line(*options):
    command = [sys.executable, "-m", "marengo_local", "--synthetic-sec", "6", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_fixture_gives_each_test_a_clean_stand_in(pytester, monkeypatch):
    pytester.makepyfile(
        """
        import boto3, json

        def ask():
            body = json.dumps({"inputType": "text", "text": {"inputText": "a dog"}})
            return boto3.client("bedrock-runtime").invoke_model(modelId="twelvelabs.marengo-embed-3-0-v1:0", body=body)

        def test_one(marengo_bedrock):
            marengo_bedrock.synthetic_sec = 5.0
            marengo_bedrock.put(b"x", "a")
            ask()
            assert marengo_bedrock.calls["InvokeModel"] == 1

        def test_two(marengo_bedrock):
            assert marengo_bedrock.synthetic_sec is None
            assert marengo_bedrock.calls["InvokeModel"] == 0
            assert "Contents" not in marengo_bedrock.s3.list_objects_v2(Bucket=marengo_bedrock.bucket)
        """
    )
    # Named by hand, for the entry point is unknown where the package is not installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.runpytest_subprocess("-p", "marengo_local.pytest_plugin").assert_outcomes(passed=2)

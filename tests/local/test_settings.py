"""Mistakes with the stand-in's settings, its ports and `put`: an error that names what is wrong and what to do."""

import subprocess
import sys

import pytest

import marengo_local


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 99999}, "port=99999: expected a port from 1 to 65535"),
        ({"s3_port": -1}, "s3_port=-1: expected a port"),
        ({"port": "8700"}, "port='8700': expected a port"),
        ({"synthetic_secs": 12}, "no setting 'synthetic_secs'. Did you mean 'synthetic_sec'?"),
        ({"buckets": "b"}, "Did you mean 'bucket'?"),
        ({"colour": "red"}, "The settings are region, port"),
        ({"latency_sec": -1}, "latency_sec=-1: expected a number, 0 or more"),
        ({"synthetic_sec": float("nan")}, "synthetic_sec=nan: expected a number, 0 or more or None"),
        ({"job_duration_sec": "1"}, "job_duration_sec='1': expected a number, 0 or more or a callable"),
        ({"max_jobs": True}, "max_jobs=True"),
    ],
)
def test_a_wrong_setting_is_named(settings, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        marengo_local.start(**settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("synthetic_secs", "Did you mean 'synthetic_sec'?"),
        ("latency", "Did you mean 'latency_sec'?"),
        ("port", "Pass port= to serve()"),
        ("region", "Pass region= to serve()"),
    ],
)
def test_a_setting_that_does_not_exist_can_not_be_changed(local, name, said):
    with pytest.raises(AttributeError) as caught:
        setattr(local, name, 1)
    assert said in str(caught.value)


def test_put_takes_one_file(local, tmp_path):
    for source, said in (
        (tmp_path, "this is a folder"),
        (str(tmp_path), "this is a folder"),
        (tmp_path / "none.mp4", "no such file"),
        (5, "a path or bytes, not int"),
        (bytearray(b"x"), "a path or bytes, not bytearray"),
    ):
        with pytest.raises((TypeError, ValueError, FileNotFoundError)) as caught:
            local.put(source)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "words", [["--port", "99999"], ["nowhere"], ["--latency-sec", "nan"], ["--bucket", "No bucket!"]]
)
def test_a_mistake_in_a_shell_is_a_line_and_2(words):
    ended = subprocess.run([sys.executable, "-m", "marengo_local", *words], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("The stand-in can't start: ") and "Traceback" not in ended.stderr


def test_outside_settings_neither_break_a_client_nor_reach_the_stand_in(local, monkeypatch):
    """With the client's options alone: only the fixture changes the environment."""
    from bedrock_marengo import MarengoClient

    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_BEARER_TOKEN_BEDROCK": "a real key",
        "AWS_AUTH_SCHEME_PREFERENCE": "httpBearerAuth",
        "AWS_USE_FIPS_ENDPOINT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with MarengoClient(**local.client_options) as client:
        client.embed_text("a dog")
        client.embed_media(local.put(b"a video", "a.mp4"))
    assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 1

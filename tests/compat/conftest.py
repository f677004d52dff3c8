"""The stand-in: another process's, named by the environment, so that nothing of it is installed here; else our own."""

import functools
import json
import os
import struct
import uuid
import zlib

import boto3
import pytest
from botocore import session as botocore_session


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once():
    """Otherwise each boto3 session lists and parses botocore's service models: most of a short test's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore_session, "create_loader", functools.cache(botocore_session.create_loader))
        yield


@pytest.fixture
def options(request):
    """Settings for a client: media last 12 s, vectors are drawn from a hash."""
    if "MARENGO_COMPAT" in os.environ:
        return json.loads(os.environ["MARENGO_COMPAT"])
    local = request.getfixturevalue("marengo_bedrock")
    local.synthetic_sec = 12.0
    return local.client_options


@pytest.fixture
def put(options):
    """Puts bytes under a name into a prefix of this test's own, and tells their URI."""
    bucket, folder = options["output_s3_uri"].split("/")[2], uuid.uuid4().hex
    keys = {name: value for name, value in options.items() if name.startswith("aws_")}
    s3 = boto3.client("s3", region_name=options["region_name"], endpoint_url=options["s3_endpoint_url"], **keys)

    def put(body, name):
        s3.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=body)
        return f"s3://{bucket}/{folder}/{name}"

    yield put
    s3.close()


@pytest.fixture
def videos(put):
    """A prefix with three videos, one with captions."""
    put(b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n", "a.srt")
    uris = [put(name.encode(), f"{name}.mp4") for name in "abc"]
    return uris[0].removesuffix("a.mp4")


@pytest.fixture(scope="session")
def png():
    """A grey picture of 128 x 128."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 128, 128, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(128)) * 128)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

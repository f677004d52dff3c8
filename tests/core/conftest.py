"""A client against the stand-in's real HTTP, with invented media."""

import struct
import warnings
import zlib

import pytest

from bedrock_marengo import MarengoClient, invoking

VIDEO_SEC = 18.0


@pytest.fixture(autouse=True)
def _warn_anew():
    """Warnings that come once a process come once a test."""
    invoking._warned.clear()


@pytest.fixture
def local(marengo_bedrock):
    """The stand-in: each medium lasts 18 s, vectors are drawn from a hash."""
    marengo_bedrock.synthetic_sec = VIDEO_SEC
    return marengo_bedrock


@pytest.fixture
def connect(local):
    """Makes clients against the stand-in; they are closed at the end."""
    clients = []

    def make(model="3.0", **settings):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "AWS ends Marengo 2.7")
            client = MarengoClient(model, **{**local.client_options, **settings})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def video(local):
    """The URI of a video on S3."""
    return local.put(b"a video", "match.mp4")


@pytest.fixture(scope="session")
def png():
    """Makes a grey PNG's bytes."""
    return _png


def _png(shade=0, side=128):
    rows = (b"\0" + bytes([shade]) * side) * side

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

"""Lengths and pictures of real media, on whichever PyAV is installed."""

import io

import av
import numpy as np
import pytest

from bedrock_marengo import MarengoClient


@pytest.fixture
def film():
    """An MP4 of 3 s whose title is no UTF-8."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as film:
        film.metadata["title"] = "A TITLE"
        stream = film.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for shade in range(15):
            picture = np.full((128, 128, 3), 10 * shade, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    return file.getvalue().replace(b"A TITLE", b"A\xffTITLE")


def test_lengths_and_frames(options, put, film):
    uri = put(film, "a.mp4")
    with MarengoClient(**options) as client:
        assert client.plan(uri).media_sec == pytest.approx(3.0, abs=0.3)
        first, last = client.frames(uri, [0.0, 2.9])
    assert first[:2] == last[:2] == b"\xff\xd8" and first != last

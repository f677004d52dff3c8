"""The service with its own content model: real media in, found again, refused when they are none."""

import base64
import io
from fractions import Fraction

import av
import numpy as np
import pytest

M27 = "twelvelabs.marengo-embed-2-7-v1:0"


@pytest.fixture
def real(bedrock):
    bedrock.local.synthetic_sec = None
    return bedrock


@pytest.fixture(scope="module")
def video():
    """Five seconds of red, then five of blue."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for number in range(100):
            picture = np.zeros((128, 128, 3), np.uint8)
            picture[..., 0 if number < 50 else 2] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def media(bedrock, data, **fields):
    return {"mediaSource": bedrock.s3_source(bedrock.local.put(data, "a.mp4")), **fields}


def test_a_video_is_cut_and_embedded(real, video):
    given = media(real, video, embeddingOption=["visual"], embeddingType=["separate_embedding"])
    rows = real.rows({"inputType": "video", "video": given})
    clips = [row for row in rows if row["embeddingScope"] == "clip"]
    assert [round(clip["startSec"]) for clip in clips] == [0, 5]
    assert {len(row["embedding"]) for row in rows} == {512}
    red, text = np.array(clips[0]["embedding"]), np.array(real.text("red")["data"][0]["embedding"])
    assert red @ text > np.array(clips[1]["embedding"]) @ text


def test_2_7_sends_fixed_pieces(real, video):
    given = media(real, video, useFixedLengthSec=4, startSec=1, lengthSec=8, embeddingOption=["visual-image"])
    rows = real.rows({"inputType": "video", **given}, model_id=M27)
    assert [(row["startSec"], row["endSec"]) for row in rows] == [(1.0, 5.0), (5.0, 9.0)]
    assert {len(row["embedding"]) for row in rows} == {1024}


@pytest.mark.parametrize("fields", [{"startSec": 11}, {"endSec": 11}])
def test_a_range_beyond_the_video_fails_the_job(real, video, fields):
    job = real.end_of(real.start({"inputType": "video", "video": media(real, video, **fields)}))
    assert job["status"] == "Failed"
    assert "10.00 s" in job["failureMessage"]


def test_what_is_no_video_fails_the_job(real):
    job = real.end_of(real.start({"inputType": "video", "video": media(real, b"no video")}))
    assert job["status"] == "Failed"
    assert "decoded" in job["failureMessage"]


def test_images(real, video):
    picture = av.open(io.BytesIO(video)).decode(video=0)
    png = io.BytesIO()
    next(picture).to_image().save(png, "PNG")
    inline = {"base64String": base64.b64encode(png.getvalue()).decode()}
    on_s3 = real.s3_source(real.local.put(png.getvalue(), "a.png"))
    assert real.invoke(image(inline)) == real.invoke(image(on_s3))
    mixed = {"inputType": "text_image", "text_image": {"inputText": "at night", "mediaSource": inline}}
    assert real.invoke(mixed) != real.invoke(image(inline))
    source = {"name": "a", "mediaType": "image", **inline}
    multi = {"inputType": "multi_input", "multi_input": {"inputText": "<@a> at night", "mediaSources": [source]}}
    assert len(real.invoke(multi)["data"][0]["embedding"]) == 512


def image(source):
    return {"inputType": "image", "image": {"mediaSource": source}}


@pytest.mark.parametrize("key", ["a.png", "missing.png"])
def test_a_bad_image_is_refused(real, key):
    real.local.put(b"no image", "a.png")
    with pytest.raises(real.client.exceptions.ValidationException, match=r"decoded|Could not read"):
        real.invoke(image(real.s3_source(f"s3://{real.local.bucket}/{key}")))

"""The service with its own content model: real media in, found again, refused when they are none."""

import base64
import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ..films import film

M3 = "twelvelabs.marengo-embed-3-0-v1:0"
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


def still(form, side):
    file = io.BytesIO()
    Image.effect_noise((side, side), 50).convert("RGB").save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "side", "said"),
    [
        ("PNG", 127, "127x127 pixels; the minimum is 128x128"),
        ("JPEG", 64, "64x64 pixels; the minimum is 128x128"),
        *((form, 128, "supported formats are JPEG and PNG") for form in ("GIF", "WEBP", "BMP", "TIFF")),
    ],
)
@pytest.mark.parametrize("op", ["InvokeModel", "StartAsyncInvoke"])
@pytest.mark.parametrize("model_id", [M3, M27])
def test_an_image_marengo_does_not_take_is_refused(real, form, side, said, op, model_id):
    source = real.s3_source(real.local.put(still(form, side), "a.img"))
    body = image(source) if model_id == M3 else {"inputType": "image", "mediaSource": source}
    if op == "StartAsyncInvoke":
        assert said in real.end_of(real.start(body, model_id=model_id))["failureMessage"]
        return
    with pytest.raises(real.client.exceptions.ValidationException, match=said):
        real.invoke(body, model_id if model_id == M3 else f"us.{M27}")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_smallest_image_is_taken(real, form):
    assert real.invoke(image(real.s3_source(real.local.put(still(form, 128), "a.img"))))


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("model_id", [M3, M27])
@pytest.mark.parametrize(("seconds", "status"), [(2.0, "Failed"), (3.9, "Failed"), (4.0, "Completed")])
def test_media_under_4_seconds_fail_the_job(real, kind, model_id, seconds, status):
    source = real.s3_source(real.local.put(film(seconds=seconds, audio="pcm_s16le", format="mov"), "a.mov"))
    fields = {"mediaSource": source}
    body = {"inputType": kind, kind: fields} if model_id == M3 else {"inputType": kind, **fields}
    job = real.end_of(real.start(body, model_id=model_id))
    assert job["status"] == status
    assert ("the minimum is 4 s" in job.get("failureMessage", "")) == (status == "Failed")


@pytest.mark.parametrize("synthetic_sec", [None, 12.0])
def test_the_vectors_of_two_versions_can_not_be_compared(bedrock, synthetic_sec):
    bedrock.local.synthetic_sec = synthetic_sec
    source = bedrock.s3_source(bedrock.local.put(still("PNG", 128), "a.png"))
    for body3, body27 in (
        ({"inputType": "text", "text": {"inputText": "a dog"}}, {"inputType": "text", "inputText": "a dog"}),
        (image(source), {"inputType": "image", "mediaSource": source}),
    ):
        new, old = (
            np.array(bedrock.invoke(body, i)["data"][0]["embedding"])
            for body, i in ((body3, M3), (body27, f"us.{M27}"))
        )
        for part in (old[:512], old[512:]):
            assert abs(new @ part) / np.linalg.norm(part) < 0.3
            assert np.mean(new == part) < 0.05


def test_2_7_finds_what_3_0_finds(real, video):
    given = media(real, video, embeddingOption=["visual-text"])
    red, blue = (np.array(row["embedding"]) for row in real.rows({"inputType": "video", **given}, model_id=M27))
    text = np.array(real.invoke({"inputType": "text", "inputText": "red"}, f"us.{M27}")["data"][0]["embedding"])
    assert red @ text > blue @ text + 0.01


def image(source):
    return {"inputType": "image", "image": {"mediaSource": source}}


@pytest.mark.parametrize("key", ["a.png", "missing.png"])
def test_a_bad_image_is_refused(real, key):
    real.local.put(b"no image", "a.png")
    with pytest.raises(real.client.exceptions.ValidationException, match=r"decoded|Could not read"):
        real.invoke(image(real.s3_source(f"s3://{real.local.bucket}/{key}")))

"""Every request we build passes the stand-in's contract, which others wrote from AWS's pages; the rest we refuse."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bedrock_marengo import InputError, Segmentation
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest
from marengo_local import contract

THREE, TWO = MODELS["3.0"], MODELS["2.7"]
CONTRACT = {model.version: model for model in contract.MODELS}
VIDEO = payloads.s3_location("s3://bucket/a b#c?.mp4", "123456789012")
PNG = payloads.inline(b"\x89PNG\r\n\x1a\n")


def check(model, body, operation="InvokeModel"):
    """Send a body through our encoder and the stand-in's contract."""
    sent = json.loads(payloads.encode(body))
    contract.check_model_input(CONTRACT[model.version], operation, sent)
    contract.check_rules(CONTRACT[model.version], sent)
    return sent


def media(model, kind="video", **asked):
    return check(model, MediaRequest(model=model, kind=kind, **asked).body(VIDEO), "StartAsyncInvoke")


# What each version's body looks like.


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, {}),
        ({"options": ["visual"]}, {"embeddingOption": ["visual"]}),
        ({"options": "visual"}, {"embeddingOption": ["visual"]}),
        ({"options": ["audio", "visual", "audio"]}, {"embeddingOption": ["visual", "audio"]}),
        ({"options": iter(["transcription"])}, {"embeddingOption": ["transcription"]}),
        ({"scopes": ["asset", "clip"]}, {"embeddingScope": ["clip", "asset"]}),
        ({"scopes": "clip"}, {"embeddingScope": ["clip"]}),
        (
            {"segmentation": Segmentation.fixed(10)},
            {"segmentation": {"method": "fixed", "fixed": {"durationSec": 10}}},
        ),
        (
            {"segmentation": Segmentation.dynamic(1)},
            {"segmentation": {"method": "dynamic", "dynamic": {"minDurationSec": 1}}},
        ),
        ({"start_sec": 5}, {"startSec": 5.0}),
        ({"start_sec": 0, "end_sec": 6.5}, {"startSec": 0.0, "endSec": 6.5}),
        ({"start_sec": 1.5, "end_sec": 60}, {"startSec": 1.5, "endSec": 60.0}),
        ({"fused": True}, {"embeddingType": ["separate_embedding", "fused_embedding"]}),
        ({"fused": "only"}, {"embeddingType": ["fused_embedding"]}),
        (
            {"fused": "only", "options": ["visual", "audio"]},
            {"embeddingType": ["fused_embedding"], "embeddingOption": ["visual", "audio"]},
        ),
    ],
)
def test_video_3_0(asked, fields):
    assert media(THREE, **asked) == {"inputType": "video", "video": {"mediaSource": VIDEO, **fields}}


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, {}),
        ({"options": ["visual", "audio"]}, {"embeddingOption": ["audio"]}),
        (
            {"segmentation": Segmentation.fixed(1)},
            {"segmentation": {"method": "fixed", "fixed": {"durationSec": 1}}},
        ),
        ({"fused": True, "scopes": ["asset"]}, {"embeddingScope": ["asset"]}),
    ],
)
def test_audio_3_0(asked, fields):
    body = media(THREE, "audio", **asked)
    assert body["inputType"] == "audio" and fields.items() <= body["audio"].items()


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, {}),
        ({"options": ["visual-image", "visual-text"]}, {"embeddingOption": ["visual-text", "visual-image"]}),
        ({"scopes": ["clip"]}, {}),
        ({"end_sec": 30}, {"lengthSec": 30.0}),
        ({"start_sec": 10, "end_sec": 40}, {"startSec": 10.0, "lengthSec": 30.0}),
        ({"segmentation": Segmentation.dynamic(2)}, {"minClipSec": 2}),
        ({"segmentation": Segmentation.fixed(6)}, {"useFixedLengthSec": 6.0}),
        ({"segmentation": Segmentation.fixed(2)}, {"useFixedLengthSec": 2.0, "minClipSec": 2}),
        ({"segmentation": Segmentation.fixed(2.5)}, {"useFixedLengthSec": 2.5, "minClipSec": 2}),
    ],
)
def test_video_2_7_is_flat_and_has_its_own_names(asked, fields):
    assert media(TWO, **asked) == {"inputType": "video", "mediaSource": VIDEO, **fields}


def test_audio_2_7_has_one_option_and_no_shots():
    body = media(TWO, "audio", options=["audio"], segmentation=Segmentation.fixed(2), start_sec=1, end_sec=9)
    ranged = {"startSec": 1.0, "lengthSec": 8.0}
    assert body == {"inputType": "audio", "mediaSource": VIDEO, "useFixedLengthSec": 2.0, **ranged}


@pytest.mark.parametrize("model", [THREE, TWO])
def test_one_setting_serves_a_mixed_bucket(model):
    asked = {"options": list(model.options["video"]), "scopes": ["clip"], "segmentation": Segmentation.fixed(5)}
    for kind in ("video", "audio", "image"):
        media(model, kind, **asked)


def test_text_and_image():
    assert check(THREE, payloads.text(THREE, "a dog")) == {"inputType": "text", "text": {"inputText": "a dog"}}
    assert check(TWO, payloads.text(TWO, "a dog")) == {"inputType": "text", "inputText": "a dog"}
    assert check(TWO, payloads.text(TWO, "a", truncate="error"))["textTruncate"] == "none"
    assert "textTruncate" not in str(check(THREE, payloads.text(THREE, "a", truncate="error")))
    assert check(THREE, payloads.image(THREE, PNG)) == {"inputType": "image", "image": {"mediaSource": PNG}}
    assert check(TWO, payloads.image(TWO, PNG)) == {"inputType": "image", "mediaSource": PNG}
    assert check(THREE, payloads.text_image(THREE, "a", VIDEO))["text_image"] == {
        "inputText": "a",
        "mediaSource": VIDEO,
    }


def test_multi_input_names_only_what_the_text_places():
    body = check(THREE, payloads.multi_input(THREE, "<@a> by <@b>, <@a>", {"a": PNG, "b": VIDEO}))
    sources = [{"name": "a", "mediaType": "image", **PNG}, {"name": "b", "mediaType": "image", **VIDEO}]
    assert body["multi_input"] == {"inputText": "<@a> by <@b>, <@a>", "mediaSources": sources}
    for images in ([PNG] * 10, {str(i): PNG for i in range(10)}):
        body = check(THREE, payloads.multi_input(THREE, None, images))
        assert body["multi_input"] == {"mediaSources": [{"mediaType": "image", **PNG}] * 10}
    check(THREE, payloads.multi_input(THREE, "a dog > a cat", [PNG]))


def test_a_uri_goes_out_raw():
    uri = "s3://bucket/a b#c?d%20e/../é\u2028//f.mp4"
    location = payloads.s3_location(uri, "123456789012")
    body = check(THREE, MediaRequest(model=THREE, kind="video").body(location), "StartAsyncInvoke")
    assert body["video"]["mediaSource"]["s3Location"] == {"uri": uri, "bucketOwner": "123456789012"}


# What is refused, before any call.

KINDS = {"3.0": THREE, "2.7": TWO}
REFUSED = [
    (
        "3.0",
        "video",
        {"options": ["nonsense"]},
        "no option 'nonsense'. Expected one or more of visual, audio, transcription",
    ),
    ("3.0", "video", {"options": ["fused"]}, "For fused vectors set fused=True"),
    ("3.0", "video", {"options": ["visual-text"]}, "no option 'visual-text'"),
    ("3.0", "video", {"options": []}, "expected a list of names"),
    ("3.0", "video", {"options": ""}, "no option ''"),
    ("3.0", "video", {"options": 5}, "expected a list of names"),
    ("3.0", "video", {"options": [None]}, "expected a list of names"),
    ("3.0", "video", {"options": [["visual"]]}, "expected a list of names"),
    ("3.0", "audio", {"options": ["visual"]}, "do not apply to audio"),
    ("3.0", "image", {"options": ["nonsense"]}, "no option 'nonsense'"),
    ("3.0", "video", {"scopes": ["video"]}, "no scope 'video'. Expected one or more of clip, asset"),
    ("3.0", "video", {"scopes": []}, "expected a list of names"),
    ("3.0", "image", {"scopes": ["video"]}, "no scope 'video'"),
    ("3.0", "video", {"fused": "both"}, "expected False, True or 'only'"),
    ("3.0", "video", {"fused": 1}, "expected False, True or 'only'"),
    ("3.0", "video", {"fused": None}, "expected False, True or 'only'"),
    ("3.0", "video", {"fused": True, "options": ["visual"]}, "need two options or more"),
    ("3.0", "audio", {"fused": "only", "options": ["visual", "audio"]}, "need two options or more"),
    ("3.0", "video", {"segmentation": Segmentation.fixed(0.5)}, "expects 1 to 10 seconds \\(whole number\\)"),
    ("3.0", "video", {"segmentation": Segmentation.fixed(6.5)}, "expects 1 to 10 seconds \\(whole number\\)"),
    ("3.0", "video", {"segmentation": Segmentation.fixed(11)}, "expects 1 to 10 seconds \\(whole number\\)"),
    ("3.0", "video", {"segmentation": Segmentation.dynamic(6)}, "expects 1 to 5 seconds \\(whole number\\)"),
    ("3.0", "audio", {"segmentation": Segmentation.dynamic(4)}, "use Segmentation.fixed"),
    ("3.0", "video", {"segmentation": 6}, "segmentation=6: expected Segmentation.fixed"),
    ("3.0", "video", {"segmentation": "fixed"}, "expected Segmentation.fixed"),
    ("3.0", "video", {"start_sec": -1}, "start_sec=-1: expected 0 to 14400 seconds"),
    ("3.0", "video", {"start_sec": "1"}, "start_sec='1'"),
    ("3.0", "video", {"start_sec": True}, "start_sec=True"),
    ("3.0", "video", {"start_sec": math.nan}, "start_sec=nan"),
    ("3.0", "video", {"start_sec": math.inf}, "start_sec=inf"),
    ("3.0", "video", {"end_sec": 14_401}, "end_sec=14401"),
    ("3.0", "video", {"end_sec": [5]}, "end_sec"),
    ("3.0", "video", {"end_sec": 0}, "shorter than one segment"),
    ("3.0", "video", {"start_sec": 10, "end_sec": 10}, "shorter than one segment"),
    ("3.0", "video", {"start_sec": 20, "end_sec": 10}, "shorter than one segment"),
    ("3.0", "video", {"end_sec": 5, "segmentation": Segmentation.fixed(6)}, "one segment \\(6 s\\)"),
    (
        "2.7",
        "video",
        {"options": ["visual"]},
        "no option 'visual'. Expected one or more of visual-text, visual-image, audio",
    ),
    ("2.7", "audio", {"options": ["visual-text"]}, "do not apply to audio"),
    ("2.7", "video", {"options": ["transcription"]}, "no option 'transcription'"),
    ("2.7", "video", {"scopes": ["asset"]}, "no scope 'asset'. Expected one or more of clip"),
    (
        "2.7",
        "video",
        {"fused": True},
        "fused=True: Marengo 2.7 has no fused vectors: fuse the ranks instead, or use model='3.0'",
    ),
    ("2.7", "video", {"fused": "only"}, "no fused vectors"),
    ("2.7", "video", {"segmentation": Segmentation.fixed(1)}, "expects 2 to 10 seconds"),
    ("2.7", "video", {"segmentation": Segmentation.dynamic(1.5)}, "expects 1 to 5 seconds \\(whole number\\)"),
    ("2.7", "video", {"end_sec": 7_201}, "end_sec=7201: expected 0 to 7200 seconds"),
]


@pytest.mark.parametrize(("version", "kind", "asked", "said"), REFUSED)
def test_refused_media_requests(version, kind, asked, said):
    with pytest.raises(InputError, match=said):
        MediaRequest(model=KINDS[version], kind=kind, **asked)


@pytest.mark.parametrize(
    ("model", "words", "images", "said"),
    [
        (THREE, None, [], "expected 1 to 10 images, got 0"),
        (THREE, None, {}, "expected 1 to 10 images, got 0"),
        (THREE, None, [PNG] * 11, "expected 1 to 10 images, got 11"),
        (THREE, "<@b>", {"a": PNG}, "no image has that name. Names: a"),
        (THREE, "<@a>", [PNG], "pass a mapping of name to image"),
        (THREE, "<@>", {"a": PNG}, "no image has that name"),
        (THREE, "a dog", {"a": PNG}, "does not mention the image 'a'"),
        (THREE, "<@a>", {"a": PNG, "b": PNG}, "does not mention the image 'b'"),
        (THREE, "<@a b>", {"": PNG}, "can't be an image's name"),
        (THREE, None, {"<a>": PNG}, "can't be an image's name"),
        (THREE, None, {5: PNG}, "can't be an image's name"),
        (THREE, "", [PNG], "text is empty"),
        (THREE, 5, [PNG], "not int"),
        (TWO, "a dog", [PNG], "2.7 has no multi_input: use model='3.0'"),
    ],
)
def test_refused_multi_inputs(model, words, images, said):
    with pytest.raises(InputError, match=said):
        payloads.multi_input(model, words, images)


def test_a_body_over_the_limit():
    locations = [payloads.inline(bytes(4_700_000))] * 4
    with pytest.raises(InputError, match=r"InvokeModel accepts at most 25,000,000\. Put the images on S3"):
        payloads.encode(payloads.multi_input(THREE, None, locations))


# Either our error, or the contract holds: for anything at all.

versions = st.sampled_from([THREE, TWO])
words = st.one_of(st.text(), st.text(st.characters()), st.sampled_from(["<@a>", "<@a> <@b>", "<@", "<@\ud800>"]))
numbers = st.one_of(st.none(), st.integers(-2, 20_000), st.floats(), st.sampled_from([0.1, 6.1, 0.3, True, "1"]))
names = st.lists(st.sampled_from(["visual", "audio", "transcription", "visual-text", "fused", "clip", "asset", ""]))
cuts = st.one_of(
    st.none(),
    st.builds(Segmentation, st.sampled_from(["fixed", "dynamic"]), st.one_of(st.integers(1, 12), st.floats(0.5, 12))),
)


@given(versions, words, st.sampled_from(["end", "error"]))
@example(THREE, "\ud83d\ude00 \ud800 \0 \u202e", "end")
def test_any_text_passes_or_is_refused(model, text, truncate):
    try:
        body = payloads.text(model, text, truncate=truncate)
    except InputError:
        return
    try:
        check(model, body)
    except Exception as error:
        assert "77 tokens" in str(error), error  # 2.7 counts the tokens itself


@given(
    versions,
    st.sampled_from(["video", "audio", "image"]),
    st.fixed_dictionaries(
        {},
        optional={
            "options": names,
            "scopes": names,
            "segmentation": cuts,
            "start_sec": numbers,
            "end_sec": numbers,
            "fused": st.sampled_from([False, True, "only", 1, "x"]),
        },
    ),
)
@example(THREE, "video", {"start_sec": 0.1, "end_sec": 4.1})
@example(THREE, "video", {"start_sec": 0.7, "end_sec": 6.7, "segmentation": Segmentation.fixed(6)})
@example(TWO, "video", {"start_sec": 0.1, "end_sec": 4.1})
def test_any_media_request_passes_or_is_refused(model, kind, asked):
    try:
        request = MediaRequest(model=model, kind=kind, **asked)
    except InputError:
        return
    check(model, request.body(VIDEO), "StartAsyncInvoke")
    json.dumps(request.canonical(), allow_nan=False)


@given(
    st.one_of(st.none(), words),
    st.one_of(
        st.lists(st.just(PNG), max_size=12),
        st.dictionaries(st.one_of(st.sampled_from("abc"), st.text(st.characters())), st.just(PNG), max_size=12),
    ),
)
@example(None, {"\ud800": PNG})
@example("<@\ud800>", {"\ud800": PNG})
def test_any_multi_input_passes_or_is_refused(text, images):
    try:
        body = payloads.multi_input(THREE, text, images)
        payloads.encode(body)
    except InputError:
        return
    check(THREE, body)


@pytest.mark.parametrize("name", ["options", "scopes", "segmentation"])
def test_a_checked_request_does_not_change(name):
    request = MediaRequest(model=THREE, kind="video")
    with pytest.raises(AttributeError):
        setattr(request, name, None)

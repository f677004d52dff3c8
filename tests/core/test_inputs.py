"""What a user hands in: media of three kinds, queries, ways to cut. A plain string never opens anything."""

import pathlib

import pytest

from bedrock_marengo import InputError, Media, Query, Segmentation
from bedrock_marengo.contract.inputs import split_s3_uri


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", "video"),
        ("a.MP4", "video"),
        ("dir.mp3/a.mov", "video"),
        ("a.tar.mkv", "video"),
        ("#a?b%20.webm", "video"),
        ("../a.avi", "video"),
        ("a.mp3", "audio"),
        ("a.WAV", "audio"),
        ("a.flac", "audio"),
        ("a.jpg", "image"),
        ("a.jpeg", "image"),
        ("a.PNG", "image"),
    ],
)
def test_the_suffix_says_the_kind(name, kind, tmp_path):
    assert Media.from_s3(f"s3://bucket/{name}").kind == kind
    path = tmp_path / pathlib.PurePath(name).name
    path.write_bytes(b"x")
    assert Media.from_path(path) == Media(kind, path=path, size=1)


@pytest.mark.parametrize("name", ["a", "a.txt", ".mp4", "a.mp4.json", "mp4", "a.mp4?x=1", "a.mp4 "])
def test_other_suffixes_need_the_kind(name, tmp_path):
    with pytest.raises(InputError, match="doesn't identify a media type: pass kind="):
        Media.from_s3(f"s3://bucket/{name}")
    assert Media.from_s3(f"s3://bucket/{name}", kind="audio").kind == "audio"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x18ftypM4A ", "audio"),
        (b"\x1aE\xdf\xa3", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio"),
        (b"ID3\x04", "audio"),
        (b"fLaC", "audio"),
        (b"OggS", "audio"),
    ],
)
def test_the_first_bytes_say_the_kind(head, kind):
    for data in (head, bytearray(head), memoryview(head)):
        assert Media.from_bytes(data).kind == kind
    assert Media.from_bytes(head, kind="video").kind == "video"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Media.from_bytes(b""), "empty"),
        (lambda: Media.from_bytes(b"unknown"), "pass kind="),
        (lambda: Media.from_bytes("text"), "takes bytes, not str"),
        (lambda: Media.from_bytes(None), "takes bytes, not NoneType"),
        (lambda: Media.from_bytes(b"x", kind="film"), "kind='film': expected 'video', 'audio' or 'image'"),
        (lambda: Media.from_s3("s3://bucket/a.mp4", kind="film"), "kind='film': expected 'video', 'audio' or 'image'"),
        (lambda: Media.from_s3("s3://bucket/"), "is a prefix, not an object"),
        (lambda: Media.from_s3("s3://bucket"), "is a prefix, not an object"),
        (lambda: Media.from_s3("s3://bucket/folder/"), "is a prefix, not an object"),
        (lambda: Media.from_s3("s3:///a.mp4"), "not an S3 URI"),
        (lambda: Media.from_s3("S3://bucket/a.mp4"), "not an S3 URI"),
        (lambda: Media.from_s3("https://bucket/a.mp4"), "not an S3 URI"),
        (lambda: Media.from_s3(None), "not an S3 URI"),
        (lambda: Media.from_s3("s3://bucket/\ud800.mp4"), "surrogate"),
        (lambda: Media.from_path("/nowhere/a.mp4"), "There is no file"),
        (lambda: Media.from_path("/"), "is a folder, not a file"),
        (lambda: Media.from_path("a\0.mp4"), "There is no file"),
        (lambda: Media("video"), "exactly one"),
        (lambda: Media("video", uri="s3://b/k", data=b"x"), "exactly one"),
    ],
)
def test_what_is_no_medium(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match="is empty"):
        Media.from_path(tmp_path / "a.mp4")


def test_what_is_taken_where_media_are_taken(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    assert Media.of(path).path == path
    assert Media.of("s3://bucket/a.png").uri == "s3://bucket/a.png"
    assert Media.of(Media.of(path)) == Media.of(path)
    with pytest.raises(InputError, match="is of kind 'image': expected 'video' here"):
        Media.of(Media.of(path), "video")


def test_reading_media_on_s3_says_so():
    with pytest.raises(InputError, match="is on S3"):
        Media.from_s3("s3://bucket/a.png").read()


IMAGE = Media("image", data=b"x")


@pytest.mark.parametrize(
    "parts",
    [
        {"text": "a dog"},
        {"image": IMAGE},
        {"text": "a dog", "image": IMAGE},
        {"images": [IMAGE, IMAGE]},
        {"images": {"a": IMAGE}, "text": "<@a>"},
        {"audio": "s3://b/a.mp3"},
        {"video": "s3://b/a.mp4"},
    ],
)
def test_queries_that_marengo_has(parts):
    query = Query(**parts)
    assert all(getattr(query, name) == value for name, value in parts.items())
    with pytest.raises(AttributeError):
        query.text = "other"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "empty"),
        ({"image": IMAGE, "images": [IMAGE]}, "image with images"),
        ({"audio": "s3://b/a.mp3", "video": "s3://b/a.mp4"}, "audio with video"),
        ({"text": "a dog", "audio": "s3://b/a.mp3"}, "text with audio"),
        ({"text": "a dog", "video": "s3://b/a.mp4"}, "text with video"),
    ],
)
def test_queries_that_marengo_lacks(parts, said):
    with pytest.raises(InputError, match=said):
        Query(**parts)


def test_segmentation():
    assert Segmentation.fixed(6) == Segmentation("fixed", 6.0) == Segmentation("fixed", 6)
    assert Segmentation.dynamic() == Segmentation("dynamic", 4.0)


@pytest.mark.parametrize("seconds", [0, -1, True, "6", None, float("nan"), float("inf")])
def test_a_length_is_a_number_of_seconds(seconds):
    for make, setting, limit in (
        (Segmentation.fixed, "duration_sec", "1 to 10"),
        (Segmentation.dynamic, "min_duration_sec", "1 to 5"),
        (lambda s: Segmentation("fixed", s), "seconds", "1 to 10"),
    ):
        with pytest.raises(InputError) as refused:
            make(seconds)
        assert str(refused.value) == f"{setting}={seconds!r}: expected {limit} seconds (whole number)."


def test_an_unknown_way_to_cut():
    with pytest.raises(InputError, match=r"method='scenes'\): use Segmentation\.fixed"):
        Segmentation("scenes", 6)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://b/k", ("b", "k")),
        ("s3://b", ("b", "")),
        ("s3://b//k", ("b", "/k")),
        ("s3://b/a#b?c%20 d/../é", ("b", "a#b?c%20 d/../é")),
    ],
)
def test_s3_uris_are_raw(uri, parts):
    assert split_s3_uri(uri) == parts

"""What a user hands in: media of three kinds, queries, ways to cut. A plain string never opens anything."""

import base64
import os
import pathlib

import numpy as np
import pytest

from bedrock_marengo import InputError, Media, Query, Segmentation
from bedrock_marengo.contract.images import open_image
from bedrock_marengo.contract.inputs import split_s3_uri

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"


def ts(length, packets=2):
    """Packets of MPEG-TS, from a sync byte on."""
    return (b"G" + bytes(length - 1)) * packets


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
        (b"OggS" + bytes(24) + b"\x80theora", "video"),
        (b"FLV\x01\x05", "video"),
        (b"\0\0\x01\xba", "video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0mif1", "video"),
        (b"\0\0\x10\0moov", "video"),
        (ASF + b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b", "video"),
        (ASF, "audio"),
        # MPEG-TS: plain, M2TS, with parity, and cut anywhere.
        (ts(188), "video"),
        (bytes(4) + ts(192), "video"),
        (ts(204), "video"),
        (b"cut off" + ts(188, 6), "video"),
    ],
)
def test_the_first_bytes_say_the_kind(head, kind):
    for data in (head, bytearray(head), memoryview(head)):
        assert Media.from_bytes(data).kind == kind
    assert Media.from_bytes(head, kind="video").kind == "video"


VERSIONS = {"2.5": 0, "2": 2, "1": 3}


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("no_crc", [0, 1])
@pytest.mark.parametrize("bitrate", [1, 9, 14])
def test_every_header_of_mpeg_audio_is_audio(version, layer, no_crc, bitrate):
    second = 0xE0 | version << 3 | (4 - layer) << 1 | no_crc
    assert Media.from_bytes(bytes([0xFF, second, bitrate << 4, 0xC4])).kind == "audio"


@pytest.mark.parametrize("second", [0xF0, 0xF1, 0xF8, 0xF9])
def test_adts_is_audio(second):
    assert Media.from_bytes(bytes([0xFF, second, 0x50, 0x80])).kind == "audio"


@pytest.mark.parametrize(
    "head", [b"\xff\xeb\x90", b"\xff\xfb\xf0", b"\xff\xfb\x9c", b"\xff\xf1\xf4", b"G" * 180, b"\xff\xfe<\0h\0"]
)
def test_what_only_looks_like_sound_or_a_stream(head):
    with pytest.raises(InputError):
        Media.from_bytes(head)


@pytest.mark.parametrize(
    ("head", "image"),
    [
        *((b"\0\0\0\x18ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")),
        *((b"\0\0\0\x18ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
        *((b"\0\0\0\x18ftyp" + brand, "HEIF") for brand in (b"mif1", b"msf1")),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "AVIF"),
        (b"\0\0\0\x1cftypMiHE\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypcrx ", "camera raw"),
        (b"II*\0\x10\0\0\0CR", "TIFF or camera raw"),
        (b"MM\0*", "TIFF or camera raw"),
        (b"FUJIFILMCCD-RAW", "camera raw"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"GIF89a", "GIF"),
        (b"BM6\0\0\0\0\0\0\0", "BMP"),
    ],
)
def test_images_that_marengo_cannot_read(head, image):
    said = rf"is an image \({image}\) that Marengo can't read: convert it to JPEG or PNG"
    for kind in (None, "image", "video"):
        with pytest.raises(InputError, match=said):
            Media.from_bytes(head, kind)
    for text in (base64.b64encode(head + bytes(30)).decode(), f"data:image/x;base64,{base64.b64encode(head).decode()}"):
        with pytest.raises(InputError, match=said):
            open_image(text)


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.avif", "a.tiff", "a.cr3", "a.dng", "a.webp", "a.gif", "a.jxl"])
def test_images_that_marengo_cannot_read_by_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    for source in (tmp_path / name, f"s3://bucket/{name}"):
        for kind in (None, "image"):
            with pytest.raises(InputError, match="convert it to JPEG or PNG"):
                Media.of(source, kind)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text,
        lambda text: f"\n {text}\n",
        lambda text: "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        lambda text: "\t".join(text),
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
    ],
)
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "data:image/png;base64,",
        "data:image/jpg;base64,\n",
        "data:image/png;charset=utf-8;base64,",
        'data:image/png;name="a, b.png";base64,',
        "data:application/octet-stream;base64,",
        "data:;base64,",
        " DATA:IMAGE/PNG; BASE64,",
    ],
)
def test_an_image_as_text(prefix, write, png):
    image = png(shade=120)
    assert open_image(prefix + write(base64.b64encode(image).decode())).data == image


def test_a_data_uri_without_base64(png):
    assert open_image("data:image/png," + "".join(f"%{byte:02x}" for byte in png())).data == png()
    for text in (
        "data:text/html,<html>",
        "data:text/plain;base64,aGVsbG8=",
        "data:image/png;base64,",
        "data:image/png",
    ):
        with pytest.raises(InputError, match="data URI"):
            open_image(text)


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
        (lambda: Media(["video"], uri="s3://b/k"), "kind=list: expected 'video'"),
        (lambda: Media("video", uri="s3://b/k", size="7"), "size='7': expected a whole number of bytes"),
        (lambda: Media("video", uri="s3://b/k", size=-1), "size=-1"),
        (lambda: Media("video", uri="s3://b/k", etag=5), "etag=5: expected a string"),
        (lambda: Media("video", path=b"/a.mp4"), r"path=bytes\): use Media.from_s3"),
        (lambda: Media.from_bytes(b"<!DOCTYPE html><html>"), "is an HTML page, going by its first bytes"),
        (lambda: Media.from_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X"), "AppleDouble"),
        (lambda: Media.of("gs://bucket/a.mp4"), "is not on S3, and only S3 and local files are read"),
        (lambda: Media.of("https://bucket.s3.amazonaws.com/a.mp4"), "'s3://bucket/key'"),
        (lambda: Media.of(pathlib.Path("x" * 5000 + ".mp4")), "File name too long"),
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


class Path:
    """A path object of another library, which would download if it were opened."""

    def __init__(self, text, uri=None):
        self.text, self.uri = text, uri

    def __str__(self):
        return self.text

    def as_uri(self):
        if self.uri is None:
            raise ValueError("relative")
        return self.uri


class Downloads(Path):
    def __fspath__(self):
        raise AssertionError("opened")


@pytest.mark.parametrize(
    "path",
    [
        Downloads("s3://b/a #é%20.mp4"),  # cloudpathlib
        Path("s3://b/a #é%20.mp4"),  # universal_pathlib: not os.PathLike
        Downloads("/b/a #é%20.mp4", "s3://b/a%20%23%C3%A9%2520.mp4"),  # s3path
        Path("s3a://b/a #é%20.mp4"),
        pathlib.Path("s3://b/a #é%20.mp4"),
        pathlib.PureWindowsPath("s3://b/a #é%20.mp4"),
    ],
)
def test_path_objects_that_stand_for_s3(path):
    for made in (Media.of(path), Media.of(path, "video"), Media.from_path(path), Media.from_s3(path)):
        assert made == Media("video", uri="s3://b/a #é%20.mp4")
    assert Media("video", path=path) == Media("video", uri=path) == made


def test_path_objects_that_stand_for_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    for name in ("a.mp4", "s3:/b/a.mp4"):
        (tmp_path / name).write_bytes(b"x")
    entry = next(entry for entry in os.scandir(os.fsencode(tmp_path)) if entry.name == b"a.mp4")
    for path in (pathlib.PurePath(tmp_path, "a.mp4"), entry):
        assert Media.of(path).path == tmp_path / "a.mp4"
    assert Media.of(pathlib.Path("s3://b/a.mp4")).path == pathlib.Path("s3:/b/a.mp4")


@pytest.mark.parametrize("path", [Downloads("gs://b/a.mp4"), Path("az://b/a.mp4"), pathlib.Path("https://e.org/a.mp4")])
def test_path_objects_of_other_stores(path):
    with pytest.raises(InputError, match=r"://\w.* is not on S3.* download it"):
        Media.of(path)


def test_values_of_numpy_are_pythons():
    media = Media(np.str_("video"), uri=np.str_("s3://b/a.mp4"), size=np.int64(7), etag=np.str_("e"))
    assert [type(value) for value in (media.kind, media.uri, media.size, media.etag)] == [str, str, int, str]


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

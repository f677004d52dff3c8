"""What is media, wherever it is listed: not what systems hide, what has other content, or what S3 can't give out."""

import csv
import io
import json
import os
import pathlib
from urllib.parse import quote

import numpy as np
import pytest
from moto.moto_api import state_manager

from bedrock_marengo import InputError, Manifest, MarengoError
from marengo_local import Fault


def rows(*lines):
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue()


def inventory_of(local, storage="STANDARD"):
    """An S3 inventory of all objects in the bucket."""
    listed = local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]
    lines = [(local.bucket, quote(item["Key"]), item["Size"], item["ETag"].strip('"'), storage) for item in listed]
    local.put(rows(*lines).encode(), "inventory/data.csv")
    manifest = {
        "destinationBucket": f"arn:aws:s3:::{local.bucket}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, ETag, StorageClass",
        "files": [{"key": "inventory/data.csv"}],
    }
    return Manifest(local.put(json.dumps(manifest).encode(), "inventory/manifest.json"))


class S3Path:
    """A path object of another library."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def as_uri(self):
        return self.text


HTML = b"<!DOCTYPE html><title>404</title>"
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(4000)
STREAM = (b"G" + bytes(187)) * 30
KEPT = {
    "a.mp4": b"a video",
    "b.hidden/__macosx.mp3": b"a song",
    "stream.ts": STREAM,
    "cut.ts": STREAM[100:],
    "really.ts": b"\0\0\0\x18ftypmp42",
}
SKIPPED = {
    "hidden": [
        *("._a.mp4", "__MACOSX/._a.mp4", "__macosx/a.mp4", ".thumbs/a.jpg", "x/.trash/y/a.mp4", ".DS_Store", "..b.mp4"),
        *("@eaDir/a.mp4/SYNOVIDEO.jpg", "#recycle/a.mp4", "#snapshot/a.mp4", "@Recycle/a.mp4", "~snapshot/a.mp4"),
        *("$RECYCLE.BIN/a.mp4", "System Volume Information/a.mp4", "lost+found/a.mp4", "Thumbs.db", "x/desktop.ini"),
    ],
    "not media": ["notes.txt", "index.ts", "types.d.ts", "qt.ts"],
    "unsupported image": ["a.heic", "a.AVIF", "b.webp", "c.tif", "d.CR3"],
    "empty": ["empty.mp4"],
}
CONTENT = {
    "index.ts": b"export const answer: number = 42;\n",
    "types.d.ts": b"GGGGG = 5;\n" * 200,
    "qt.ts": b'<?xml version="1.0"?><!DOCTYPE TS>',
    "empty.mp4": b"",
}
LOCAL = {
    "not media": {
        "page.mp4": HTML,
        "bom.mp3": b"\xef\xbb\xbf\n" + HTML,
        "wide.mov": "\ufeff<html>".encode("utf-16-le"),
        "denied.mp4": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "error.mp4": b'{"message": "Not Found"}',
        "lfs.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "list.mp4": b"#EXTM3U\n",
        "double.mp4": APPLE_DOUBLE,
        "zip.mov": b"PK\x03\x04",
        "svg.png": b"<svg xmlns=",
    },
    "unsupported image": {"phone.jpg": b"\0\0\0\x18ftypheic", "web.png": b"RIFF\0\0\0\0WEBP"},
}


@pytest.fixture(params=["folder", "prefix", "inventory"])
def mixed(request, local, tmp_path):
    """A source with files that are media, and files that are not."""
    files = KEPT | {name: CONTENT.get(name, b"x") for names in SKIPPED.values() for name in names}
    if request.param == "folder":
        files |= {name: data for contents in LOCAL.values() for name, data in contents.items()}
    for name, data in files.items():
        if request.param != "folder":
            local.put(data, f".mine/{name}" if request.param == "prefix" else name)
            continue
        (tmp_path / ".mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".mine" / name).write_bytes(data)
    if request.param == "inventory":
        return inventory_of(local)
    # What is named is asked for, hidden or not.
    return tmp_path / ".mine" if request.param == "folder" else f"s3://{local.bucket}/.mine/"


def test_what_is_not_media_is_skipped_and_counted(client, local, mixed):
    listing = client.list_media(mixed)
    assert sorted(name_of(media) for media in listing) == sorted(name.rpartition("/")[2] for name in KEPT)
    extra = LOCAL if isinstance(mixed, pathlib.Path) else {}
    assert listing.skipped == {reason: len(names) + len(extra.get(reason, ())) for reason, names in SKIPPED.items()}
    assert not local.calls["StartAsyncInvoke"] and not local.calls["s3:PutObject"]
    # Only an ambiguous suffix costs a GET.
    gets = sum(call.body["key"].endswith(".ts") for call in local.calls.of("s3:GetObject"))
    assert gets == (0 if isinstance(mixed, pathlib.Path) else 6)


def name_of(media):
    return media.name.rpartition("/")[2]


def test_a_hidden_file_that_is_named_is_asked_for(client, local, tmp_path):
    (tmp_path / ".a.mp4").write_bytes(b"a video")
    (tmp_path / "list.csv").write_text(rows((local.bucket, ".trash/b.mp4")))
    uri = local.put(b"a video", ".trash/b.mp4")
    done = client.embed_many([tmp_path / ".a.mp4", uri, Manifest(tmp_path / "list.csv")])
    assert [result.error for result in done] == [None] * 3


def test_content_that_is_not_media_is_refused_before_it_costs(client, local, tmp_path):
    sources = [local.put(b"let x = 5;", "index.ts")]
    for name, data in ({"x.ts": b"let x"} | {n: d for contents in LOCAL.values() for n, d in contents.items()}).items():
        (tmp_path / name).write_bytes(data)
        sources.append(tmp_path / name)
    local.calls.reset()
    for error in [*(result.error for result in client.embed_many(sources)), refusal(client.embed_media, sources[-1])]:
        assert isinstance(error, InputError) and ("expected video" in str(error) or "convert it" in str(error))
    plan = client.plan(sources, probe=False)
    assert plan.refused == len(sources) and not plan.started
    with pytest.raises(InputError, match="convert it to JPEG or PNG"):
        client.embed_image(tmp_path / "phone.jpg")
    assert not local.calls["StartAsyncInvoke"] + local.calls["InvokeModel"] + local.calls["s3:PutObject"]


def refusal(call, source):
    with pytest.raises(MarengoError) as refused:
        call(source)
    return refused.value


def test_a_stream_that_may_not_be_read_is_not_doubted(client, local):
    uri = local.put(b"x", "v/a.ts")
    local.faults = [Fault("s3:GetObject", error="AccessDenied")]
    assert [media.uri for media in client.list_media(f"s3://{local.bucket}/v/")] == [uri]


def test_a_key_that_ends_in_a_slash_is_a_folder(client, local, tmp_path):
    for key, body in (("v/", b""), ("v/match.mp4/", b"x"), ("v/a.mp4/.", b"x"), ("v/b/c.mp4", b"x"), ("v/x/", b"x")):
        local.s3.put_object(Bucket=local.bucket, Key=key, Body=body)
    (tmp_path / "list.csv").write_text(rows((local.bucket, "v/match.mp4/"), (local.bucket, "v/b/c.mp4")))
    for source in (f"s3://{local.bucket}/v/", f"s3://{local.bucket}", Manifest(tmp_path / "list.csv")):
        assert [name_of(media) for media in client.list_media(source)] == ["c.mp4"]


# Archived objects.


@pytest.fixture
def archived(local):
    """Puts an archived object; with a restore, one that is restored or still being restored."""

    def put(key, storage="GLACIER", restore=None):
        place = {"Bucket": local.bucket, "Key": key}
        local.s3.put_object(**place, Body=b"a video", StorageClass=storage)
        if restore:
            local.s3.restore_object(**place, RestoreRequest={"Days": 5})
        if restore == "running":
            # From "accepted" to "in progress" at the first look, and no further.
            state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 0})
            local.s3.head_object(**place)
            state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": 1000})
        return f"s3://{local.bucket}/{key}"

    yield put
    state_manager.unset_transition("s3::keyrestore")


@pytest.mark.parametrize("storage", ["GLACIER", "DEEP_ARCHIVE"])
@pytest.mark.parametrize(
    ("restore", "skipped", "said"),
    [
        ("done", {}, None),
        ("running", {"restoring": 1}, "is still being restored from {storage}"),
        (None, {"archived": 1}, "is archived in {storage}: restore it first"),
    ],
)
def test_what_was_restored_is_read(client, local, archived, storage, restore, skipped, said):
    uri = archived("v/a é&b #%41.mp4", storage, restore)
    listed = inventory_of(local, storage)
    local.calls.reset()
    for source, heads in ((f"s3://{local.bucket}/v/", 0), (listed, 1)):
        listing = client.list_media(source)
        assert [media.uri for media in listing] == ([] if skipped else [uri]) and listing.skipped == skipped
        assert sum(call.body["key"].endswith(".mp4") for call in local.calls.of("s3:HeadObject")) == heads
    # A store whose listings don't say it is asked for each.
    local.faults = [Fault("s3:ListObjectsV2", error="NotImplemented", status=501, times=1)]
    listing = client.list_media(f"s3://{local.bucket}/v/")
    assert [media.uri for media in listing] == ([] if skipped else [uri]) and listing.skipped == skipped
    if said is None:
        assert len(client.embed_media(uri)) > 0
    else:
        with pytest.raises(InputError, match=said.format(storage=storage)):
            client.embed_media(uri)


@pytest.mark.parametrize("tier", ["ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS", None])
def test_archive_tiers_of_intelligent_tiering(client, local, archived, tier):
    uri = archived("a.mp4", "INTELLIGENT_TIERING")
    local.archive_tiers = {uri: tier} if tier else {}
    if tier is None:
        assert len(client.embed_media(uri)) > 0
    else:
        with pytest.raises(InputError, match="is archived in INTELLIGENT_TIERING: restore it first"):
            client.embed_media(uri)


# Paths.


@pytest.mark.parametrize("make", [pathlib.Path, S3Path, pathlib.PureWindowsPath])
def test_a_path_object_is_the_object_or_prefix_that_it_stands_for(client, local, make):
    uri = local.put(b"a video", "2024.11/deep/a.mp4")
    local.put(b"x", "notes.txt")
    for place in (uri, f"s3://{local.bucket}/2024.11/", f"s3://{local.bucket}/2024.11/deep", f"s3://{local.bucket}"):
        for sources in (make(place), [make(place)]):
            assert [media.uri for media in client.list_media(sources)] == [uri]
    with pytest.raises(InputError, match="doesn't identify a media type"):
        list(client.list_media(make(f"s3://{local.bucket}/notes.txt")))
    (done,) = client.embed_many(make(uri))
    assert done.uri == uri and done.error is None


def test_one_bad_item_does_not_end_a_run(client, local, tmp_path):
    class Raises:
        def __fspath__(self):
            raise OSError("no network")

    os.mkfifo(tmp_path / "pipe.mp4")
    good = local.put(b"a video", "a.mp4")
    bad = [None, 5, np.int64(5), b"/a.mp4", {"a": 1}, [good], object(), int, Raises(), pathlib.Path("x" * 5000)]
    bad += [pathlib.Path("a\0b.mp4"), tmp_path / "pipe.mp4", "gs://bucket/a.mp4", S3Path("https://e.org/a.mp4")]
    done = list(client.embed_many([*bad, good]))
    assert sorted(type(result.error).__name__ for result in done) == sorted(["InputError"] * len(bad) + ["NoneType"])
    assert list(client.list_media(tmp_path)) == []

"""Sources: prefixes, manifests, inventories and filters, with captions and tags."""

import csv
import datetime
import gzip
import io
import json
import os
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_marengo import InputError, Manifest, MarengoError, MarengoWarning, Media, ServiceError
from bedrock_marengo.s3.listing import _with_captions
from bedrock_marengo.s3.manifests import Entry
from bedrock_marengo.s3.sidecars import SUFFIXES
from langchain_marengo import MarengoEmbeddings, MarengoLoader
from llama_index_marengo import MarengoEmbedding, MarengoReader
from marengo_local import Fault

KEYS = ["a b+c.mp4", "é/ü.mp4", "match#t=1.mp4"]
CAPTIONS = b"WEBVTT\n\n00:01.000 --> 00:02.000\nGoal\n"
UTC = datetime.UTC


def lists(local):
    return local.calls["s3:ListObjectsV2"]


def rows(*lines):
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue()


@pytest.fixture
def objects(local):
    """(key, size, ETag) of three objects with awkward keys."""
    for key in KEYS:
        local.put(key.encode(), key)
    listed = local.s3.list_objects_v2(Bucket=local.bucket)["Contents"]
    return [(item["Key"], item["Size"], item["ETag"]) for item in listed]


# Manifests.


def test_a_csv_with_and_without_a_header(client, local, objects, tmp_path):
    wanted = sorted(f"s3://{local.bucket}/{key}" for key in KEYS)
    plain = [(local.bucket, key) for key in KEYS]
    full = [(etag.strip('"'), size, key, local.bucket) for key, size, etag in objects]
    files = {
        "plain.csv": rows(*plain),
        "bom.csv": "\ufeff" + rows(("Bucket", "Key"), *plain),
        "full.csv": rows(("ETag", "Size", "Key", "Bucket"), *full),
        "zipped.csv.gz": gzip.compress(rows(*[(local.bucket, *item) for item in objects]).encode()),
    }
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        for manifest in (Manifest(tmp_path / name), Manifest(local.put(data, f"lists/{name}"))):
            found = list(client.list_media(manifest))
            assert sorted(media.uri for media in found) == wanted
            sizes = [size for _, size, _ in objects] if name[0] in "fz" else [None] * 3
            assert sorted(str(media.size) for media in found) == sorted(map(str, sizes))


def test_sizes_and_etags_replace_the_listing(client, local, objects, tmp_path):
    (tmp_path / "list.csv").write_text(rows(*[(local.bucket, *item) for item in objects]))
    client.embed_text("warm")
    plan = client.plan(Manifest(tmp_path / "list.csv"), probe=False)
    assert plan.started == {"video": 3} and lists(local) == 1
    done = list(client.embed_many([Manifest(tmp_path / "list.csv")]))
    assert sorted(d.uri for d in done) == sorted(f"s3://{local.bucket}/{key}" for key in KEYS)
    assert [d.error for d in done] == [None] * 3


def inventory(local, objects, **settings):
    """An S3 inventory of the objects in two files, with URL-encoded keys and old versions."""
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
    encoded = {"a b+c.mp4": "a+b%2Bc.mp4", "é/ü.mp4": "%C3%A9/%C3%BC.mp4", "match#t=1.mp4": "match%23t%3D1.mp4"}
    tail = ("2026-11-01T10:00:00.000Z",)
    current = [
        (local.bucket, encoded[key], "v2", "true", "false", size, *tail, etag.strip('"'), "STANDARD")
        for key, size, etag in objects
    ]
    old = [
        (local.bucket, "a+b%2Bc.mp4", "v1", "false", "false", 1, *tail, "old", "STANDARD"),
        (local.bucket, "gone.mp4", "v1", "true", "true", "", *tail, "", ""),
        (local.bucket, "cold.mp4", "v1", "true", "false", 5, *tail, "abc", "GLACIER"),
    ]
    files = []
    for number, lines in enumerate((current[:2], [*current[2:], *old])):
        local.put(gzip.compress(rows(*lines).encode()), f"inv/data/{number}.csv.gz")
        files.append({"key": f"inv/data/{number}.csv.gz", "size": 1, "MD5checksum": "x"})
    manifest = {
        "sourceBucket": local.bucket,
        "destinationBucket": f"arn:aws:s3:::{local.bucket}",
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": files,
    }
    return local.put(json.dumps(manifest | settings).encode(), "inv/manifest.json")


def test_an_s3_inventory(client, local, objects, tmp_path):
    uri = inventory(local, objects)
    local.s3.download_file(local.bucket, "inv/manifest.json", str(tmp_path / "manifest.json"))
    for manifest in (Manifest(uri), Manifest(tmp_path / "manifest.json")):
        listing = client.list_media(manifest)
        found = {media.uri: (media.size, media.etag) for media in listing}
        wanted = {f"s3://{local.bucket}/{key}": (size, etag.strip('"')) for key, size, etag in objects}
        assert found == wanted and listing.skipped == {"archived": 1}
    older = datetime.datetime(2026, 11, 2, tzinfo=UTC)
    listing = client.list_media(Manifest(uri), modified_after=older)
    assert list(listing) == [] and listing.skipped["older"] == 4


def test_manifests_that_cannot_be_read(client, local, objects, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.csv.gz").write_text("not zipped")
    cases = {
        Manifest(inventory(local, objects, fileFormat="ORC")): "configure it as CSV",
        Manifest(tmp_path / "bad.json"): "not an S3 inventory's manifest.json",
        Manifest(tmp_path / "bad.csv.gz"): "can't be read as CSV",
        Manifest(tmp_path / "absent.csv"): "can't be read",
        Manifest(f"s3://{local.bucket}/absent.csv"): "404",
    }
    for manifest, match in cases.items():
        with pytest.raises(MarengoError, match=match):
            list(client.list_media(manifest))
    # One unreadable manifest does not stop the others.
    items = list(client.list_media([*cases, f"s3://{local.bucket}/{KEYS[0]}"]).items())
    assert [isinstance(media, MarengoError) for _, media in items] == [True] * 5 + [False]


def test_a_bad_row_does_not_stop_the_others(client, local, tmp_path):
    (tmp_path / "list.csv").write_text(rows(["only"], [local.bucket, "a.mp4", "x"], [local.bucket, "b.mp4"]))
    found = [media for _, media in client.list_media(Manifest(tmp_path / "list.csv")).items()]
    assert [type(media) for media in found] == [InputError, InputError, Media]
    assert "line 1 does not have both a bucket and a key" in str(found[0]) and "line 2" in str(found[1])


def test_a_string_never_opens_a_file(client, tmp_path, monkeypatch):
    (tmp_path / "list.csv").write_text("bucket,a.mp4\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="not an S3 URI"):
        Manifest("list.csv")
    with pytest.raises(InputError, match="is not a manifest"):
        Manifest("s3://bucket/list.txt")
    for source in ("list.csv", "s3://bucket/list.csv"):
        with pytest.raises(InputError):
            list(client.list_media(source))


# Filters.


def test_modified_after(client, local, tmp_path):
    local.put(b"v", "in/a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"v")
    now = datetime.datetime.now(UTC)
    os.utime(tmp_path / "b.mp4", (now.timestamp(), now.timestamp()))
    for source in (f"s3://{local.bucket}/in/", tmp_path):
        assert len(list(client.list_media(source, modified_after=now - datetime.timedelta(hours=1)))) == 1
        listing = client.list_media(source, modified_after=now + datetime.timedelta(hours=1))
        assert list(listing) == [] and listing.skipped == {"older": 1}
    with pytest.raises(InputError, match="expected a time zone"):
        client.list_media("s3://bucket/", modified_after=datetime.datetime(2026, 1, 1))


# Captions.


def test_captions_are_found_by_the_listing(client, local):
    for i in range(12):
        local.put(b"v", f"in/v{i}.mp4")
        if i % 2:
            local.put(CAPTIONS, f"in/v{i}.en.vtt")
    found = list(client.list_media(f"s3://{local.bucket}/in/"))
    assert [bool(media.captions) for media in found] == [media.uri[-5] in "13579" for media in found]
    words = [client.captions_of(media) for media in found]
    assert [w is not None and w.words(0, 9) for w in words] == ["Goal" if m.captions else False for m in found]
    assert lists(local) == 1
    # A single object is looked up individually.
    assert client.captions_of(found[1].uri).words(0, 9) == "Goal"
    assert lists(local) == 2


def test_folders_with_the_name_of_a_caption_file_are_ignored(client, local):
    local.put(b"v", "match.mp4")
    local.put(CAPTIONS, "match.d/x.vtt")
    assert client.captions_of(f"s3://{local.bucket}/match.mp4") is None
    (found,) = client.list_media(f"s3://{local.bucket}/")
    assert client.captions_of(found) is None


@pytest.mark.parametrize(
    ("captions", "owners"),
    {
        "lecture.part2.srt": "lecture.part2.mp4",
        "lecture.part2.en.vtt": "lecture.part2.mp4",
        "lecture.part3.srt": "lecture.mp4 lecture.mov",
        "lecture.mov.srt": "lecture.mov",
        # A picture next to a video has no captions.
        "lecture.poster.vtt": "lecture.mp4 lecture.mov",
        "lecture 2.vtt": "",
        "Lecture.vtt": "",
        "lecture.d/x.vtt": "",
        "caf\u00e9.srt": "cafe\u0301.mp4",
        "cafe\u0301.de.ass": "cafe\u0301.mp4",
        # The longest name is compared in one Unicode form, too.
        "caf\u00e9.2.srt": "cafe\u0301.2.mp4",
        "cafe\u0301.3.srt": "caf\u00e9.3.mp4",
        "lecture.e\u0301.srt": "lecture.\u00e9.mp4",
    }.items(),
)
def test_captions_belong_to_the_file_whose_name_they_continue_longest(client, local, tmp_path, captions, owners):
    media = ["lecture.mp4", "lecture.mov", "lecture.part2.mp4", "lecture.poster.jpg", "lecture.\u00e9.mp4"]
    media += ["cafe\u0301.mp4", "cafe\u0301.2.mp4", "caf\u00e9.3.mp4"]
    for name in (*media, captions):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CAPTIONS)
        local.put(CAPTIONS, f"in.1/{name}")
    listed = client.list_media(f"s3://{local.bucket}/in.1/")
    # What a filter leaves out has its captions all the same.
    filtered = client.list_media(f"s3://{local.bucket}/in.1/", exclude=["*part2*", "*.2.mp4", "*.3.mp4"])
    singles = [f"s3://{local.bucket}/in.1/{name}" for name in media]
    for found in (listed, filtered, singles, client.list_media(tmp_path)):
        names = {Media.of(one).name.rpartition("/")[2]: client.captions_of(one) for one in found}
        assert {name for name in names if names[name]} == set(owners.split()) & set(names)


def test_a_folder_in_another_unicode_form_has_the_captions(client, local, tmp_path):
    local.put(b"v", "\u00e9/a.mp4")
    local.put(CAPTIONS, "e\u0301/a.srt")
    [found] = client.list_media(f"s3://{local.bucket}/\u00e9/")
    assert client.captions_of(found) and client.captions_of(found.uri)


@pytest.mark.slow
def test_captions_behind_a_thousand_other_files_are_found(client, local):
    local.put(b"v", "a.mp4")
    local.put(CAPTIONS, "a.vtt")
    for i in range(1001):
        local.put(b"frame", f"a.{i:04}.jpg")
    assert client.captions_of(f"s3://{local.bucket}/a.mp4")


def test_captions_of_a_file_whose_suffix_does_not_say_its_kind(client, local):
    local.put(CAPTIONS, "clip.srt")
    assert client.captions_of(Media.from_s3(f"s3://{local.bucket}/clip", "video"))


@pytest.mark.parametrize("wrap", [str, Path], ids=["object", "file"])
def test_captions_that_are_too_large_are_not_held_in_memory(client, local, tmp_path, monkeypatch, wrap):
    monkeypatch.setattr("bedrock_marengo.s3.sidecars.LARGEST_BYTES", 1024**2)
    video, captions = tmp_path / "a.mp4", tmp_path / "a.srt"
    video.write_bytes(b"v")
    captions.write_bytes(CAPTIONS * 100_000)
    uri = local.put(b"v", "a.mp4")
    local.put(captions.read_bytes(), "a.srt")
    with pytest.raises(InputError, match=r"a\.srt: has more than 1 MB|a\.srt has more than 1 MB"):
        client.captions_of(uri if wrap is str else video)


names = st.lists(st.sampled_from(["a", "b", "a/b", "mp4"]), min_size=1, max_size=3).map(".".join)
suffixes = st.sampled_from([".mp4", ".MOV", ".jpg", ".vtt", ".srt", ".en.VTT", ".ttml", ".txt", "/x.vtt"])


@given(st.sets(st.tuples(names, suffixes).map("".join), max_size=20))
def test_captions_from_a_listing_match_the_rule(keys):
    ordered = sorted(keys, key=str.encode)
    listed = [
        (Entry("b", key), Media("video", uri=f"s3://b/{key}") if key.lower().endswith((".mp4", ".mov")) else None)
        for key in ordered
    ]
    own = {media.uri[7:]: {media.uri[7:], media.uri[7:].rpartition(".")[0]} for _, media in listed if media}

    def continued(captions):
        """The longest name that captions continue."""
        in_folder = (name for names in own.values() for name in names if captions.startswith(f"{name}."))
        return max((name for name in in_folder if "/" not in captions[len(name) :]), key=len, default=None)

    def look(key):
        theirs = [k for k in keys if k.lower().endswith(SUFFIXES) and continued(k) in own[key]]
        ranked = [(len(k.rpartition(".")[0]), SUFFIXES.index(f".{k.lower().rpartition('.')[2]}"), k) for k in theirs]
        return f"s3://b/{min(ranked)[2]}" if ranked else ""

    found = {media.uri: media.captions for media in _with_captions(listed)}
    assert found == {f"s3://b/{key}": look(key) for key in own}


# Tags.


def test_object_tags(client, local, video):
    assert client.object_tags(video) == {}
    tags = [{"Key": "tenant", "Value": "a"}, {"Key": "rights", "Value": ""}]
    local.s3.put_object_tagging(Bucket=local.bucket, Key="match.mp4", Tagging={"TagSet": tags})
    assert client.object_tags(video) == {"tenant": "a", "rights": ""}
    local.faults = [Fault("s3:GetObjectTagging", error="AccessDenied")]
    with pytest.raises(ServiceError, match="GetObjectTagging"):
        client.object_tags(video)


def test_a_folder_that_can_not_be_read_is_an_error_of_its_own(client, tmp_path, monkeypatch):
    for name in ("a", "closed", ".closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"a video")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    # As root, no folder is closed.
    monkeypatch.setattr(os, "scandir", refuse)
    media, error = [found for _, found in client.list_media(tmp_path).items()]
    assert media.path == tmp_path / "a" / "a.mp4"
    assert f"{tmp_path / 'closed'} can't be read: Permission denied" in str(error)


def readings(client, local):
    yield lambda place: list(client.embed_many(place))
    yield lambda place: list(client.embed_many([place]))
    yield lambda place: list(client.list_media(place))
    yield lambda place: client.plan(place)
    yield lambda place: MarengoLoader(place, embeddings=MarengoEmbeddings(**local.client_options)).load()
    yield lambda place: MarengoReader(place, embed_model=MarengoEmbedding(**local.client_options)).load_data()


@pytest.mark.parametrize("place", ["prefix", "folder", "list"])
@pytest.mark.parametrize("way", range(6))
def test_where_nothing_is_found_it_is_said_once(client, local, tmp_path, place, way):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.webp").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("")
    local.put(b"x", "videos/a.webp")
    places = {
        "prefix": f"s3://{local.bucket}/videos/",
        "folder": tmp_path / "clips",
        "list": Manifest(tmp_path / "list.csv"),
    }
    read = list(readings(client, local))[way]
    with pytest.warns(MarengoWarning) as said:
        for _ in range(2):
            read(places[place])
    [message] = [str(warning.message) for warning in said if issubclass(warning.category, MarengoWarning)]
    assert f"No media found in {tmp_path / 'list.csv' if place == 'list' else places[place]}. " in message
    assert ".mp4, " in message
    expected = "There are no files" if place == "list" else "Skipped: 1 unsupported image (such as "
    assert expected in message
    assert place == "list" or "a.webp: convert to JPEG or PNG)" in message


def test_what_was_looked_for_is_said_and_a_find_is_not(client, local):
    local.put(b"a video", "videos/a.mp4")
    prefix = f"s3://{local.bucket}/videos/"
    with pytest.warns(MarengoWarning, match=r"end in \.mov\. Skipped: 1 suffix \(such as videos/a\.mp4\)"):
        list(client.list_media(prefix, suffixes=[".mov"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(client.list_media(prefix))) == 1
        assert list(client.list_media(prefix, limit=0)) == []


def test_a_prefix_without_its_slash_is_told_apart(client, local):
    for name in ("videos", "films/2024"):
        [done] = client.embed_many(f"s3://{local.bucket}/{name}")
        assert "end it with a slash" in str(done.error)

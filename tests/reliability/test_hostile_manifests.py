"""Manifests that decompress to gigabytes or never end a row: refused where they begin, in little memory."""

import csv
import gzip
import io
import json
import re
import sys
import tracemalloc

import pytest

from bedrock_marengo import InputError, Manifest, Media

pytestmark = [pytest.mark.slow, pytest.mark.promise("Memory, threads and open files stay bounded")]

MOST_BYTES = 20 * 1024**2
HUGE = 80 * 1024**2
GOOD = b"bucket,key\nb,a.mp4\n"
# name -> the bytes after the good row
ENDLESS = {
    "one field": lambda: b"a" * HUGE,
    "columns": lambda: b"," * HUGE,
    "NUL": lambda: bytes(HUGE),
    "one quoted field": lambda: b'"' + b"a" * HUGE,
    "quoted lines": lambda: b'"' + b"a\n" * (HUGE // 2),
    # Each field is within csv.field_size_limit, and each line is short.
    "quoted fields": lambda: b'"a\na\n",' * (HUGE // 7),
    "not UTF-8": lambda: b"\xff" * HUGE,
}


@pytest.fixture
def in_little_memory():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()


@pytest.fixture(params=["a file", "S3"])
def manifest(request, tmp_path, local):
    """Makes a manifest of bytes, as a file or on S3."""

    def manifest(name, data):
        if request.param == "S3":
            return Manifest(local.put(data, name))
        (tmp_path / name).write_bytes(data)
        return Manifest(tmp_path / name)

    return manifest


def errors_of(client, manifest):
    found = [media for _, media in client.list_media([manifest, "s3://b/next.mp4"]).items()]
    assert isinstance(found[-1], Media)  # the other sources are not stopped
    return [str(error) for error in found if isinstance(error, InputError)]


@pytest.mark.parametrize("manifest", ["a file"], indirect=True)
@pytest.mark.parametrize("kind", ENDLESS)
def test_a_row_without_end(client, manifest, in_little_memory, kind):
    bomb = manifest("list.csv.gz", gzip.compress(GOOD + ENDLESS[kind](), 1))
    tracemalloc.reset_peak()
    [error] = errors_of(client, bomb)
    assert in_little_memory()
    assert "list.csv.gz, line 3" in error and re.search("the row is longer|field larger|not UTF-8", error)


# The stand-in, which is in this process, holds objects in memory, so that only small ones can be measured.
@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz", "manifest.json"])
def test_each_kind_of_manifest_from_each_place(client, manifest, in_little_memory, name):
    data = (b'{"files":[' if name.endswith("json") else GOOD) + b" " * HUGE
    large = manifest(name, gzip.compress(data, 1) if name.endswith("gz") else data)
    del data
    tracemalloc.reset_peak()
    [error] = errors_of(client, large)
    assert name in error and ("4,194,304 bytes" if name.endswith("json") else "line 3") in error
    assert in_little_memory() or (isinstance(large.where, str) and not name.endswith("gz"))


def test_a_data_file_of_an_inventory(client, local, in_little_memory):
    local.put(gzip.compress(b"b,a.mp4\n" + b"a" * HUGE, 1), "data.csv.gz")
    inventory = {"destinationBucket": local.bucket, "fileFormat": "CSV", "fileSchema": "Bucket, Key"}
    uri = local.put(json.dumps(inventory | {"files": [{"key": "data.csv.gz"}]}).encode(), "manifest.json")
    tracemalloc.reset_peak()
    [error] = errors_of(client, Manifest(uri))
    assert f"s3://{local.bucket}/data.csv.gz, line 2" in error and in_little_memory()


def test_short_rows_without_end_are_read_one_by_one(client, manifest, in_little_memory):
    rows = manifest("list.csv.gz", gzip.compress(GOOD + b"b,a.mp4\n\n" * 200_000))
    tracemalloc.reset_peak()
    assert sum(1 for _ in client.list_media(rows)) == 200_001
    assert in_little_memory()


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(GOOD + b"b,\xff.mp4\n"),
        gzip.compress(GOOD)[:-12],
        gzip.compress(GOOD)[:10] + b"\xff" * 50,  # zlib.error
        gzip.compress(GOOD) + b"garbage",
    ],
    ids=["not UTF-8", "cut off", "not deflated", "garbage"],
)
def test_what_is_damaged_names_the_file_and_the_line(client, tmp_path, data):
    (tmp_path / "list.csv.gz").write_bytes(data)
    [error] = errors_of(client, Manifest(tmp_path / "list.csv.gz"))
    assert "list.csv.gz, line " in error and error.endswith((".", "'"))


def test_the_longest_row_is_read_whatever_the_limit_of_fields_is(client, tmp_path):
    """csv.field_size_limit belongs to the whole process, and programs change it."""
    row = io.StringIO()
    csv.writer(row).writerow(["b", "a\nb.mp4", "", "x" * 100_000, "x" * 100_000])
    (tmp_path / "list.csv").write_text("bucket,key,size,a,b\n" + row.getvalue() + "b,\nb,c.mp4\n")
    before = csv.field_size_limit(sys.maxsize)
    try:
        found = [media for _, media in client.list_media(Manifest(tmp_path / "list.csv")).items()]
    finally:
        csv.field_size_limit(before)
    assert [media.uri for media in found[::2]] == ["s3://b/a\nb.mp4", "s3://b/c.mp4"]
    assert "line 4 does not have both" in str(found[1])  # the row before spans two lines

"""The table of S3 requests in docs/reliability.md: what each promise costs, counted against the stand-in."""

import re
from collections import Counter

import pytest

from bedrock_marengo import Manifest

from .matrix import ROOT

pytestmark = pytest.mark.promise("Nothing is billed twice")

PAGE = (ROOT / "docs/reliability.md").read_text("utf-8").partition("## S3 requests")[2].partition("\n## ")[0]
OPERATIONS = {
    "LIST": "ListObjectsV2",
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "COPY": "CopyObject",
    "DELETE": "DeleteObject",
}
HEAD, _, *ROWS = [[cell.strip() for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*", PAGE, re.M)]
FEW, MORE = 10, 12
"""Files of two runs: what the second makes more is what a file needs. Both are more than are looked up one by one."""


def table(column):
    """The S3 requests for each file, by operation."""
    counts = Counter()
    for request, _, *cells in ROWS:
        counts[OPERATIONS[request.split()[0]]] += int(cells[HEAD[2:].index(column)] or 0)
    return +counts


def uris(local, png, count, *, bucket=None, suffix="mp4"):
    bucket = bucket or local.bucket
    for i in range(count):
        body = png(i) if suffix == "png" else f"{i}".encode()
        local.s3.put_object(Bucket=bucket, Key=f"v/{i}.{suffix}", Body=body)
    return [f"s3://{bucket}/v/{i}.{suffix}" for i in range(count)]


def prefix(local, png, tmp_path, count):
    uris(local, png, count)
    return f"s3://{local.bucket}/v/"


def images(local, png, tmp_path, count):
    uris(local, png, count, suffix="png")
    return f"s3://{local.bucket}/v/"


def manifest(local, png, tmp_path, count):
    uris(local, png, count)
    rows = local.s3.list_objects_v2(Bucket=local.bucket, Prefix="v/")["Contents"]
    lines = [f"{local.bucket},{row['Key']},{row['Size']},{row['ETag'].strip(chr(34))}" for row in rows]
    return Manifest(local.put("\n".join(lines).encode(), "lists/all.csv"))


def local_files(local, png, tmp_path, count):
    for i in range(count):
        (tmp_path / f"{i}.mp4").write_bytes(f"{i}".encode())
    return tmp_path


def other_region(local, png, tmp_path, count):
    bucket = f"{local.bucket}-eu"
    local.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    uris(local, png, count, bucket=bucket)
    return f"s3://{bucket}/v/"


SOURCES = {
    "prefix": prefix,
    "manifest": manifest,
    "URIs": lambda local, png, tmp_path, count: uris(local, png, count),
    "local files": local_files,
    "other region": other_region,
    "images": images,
}


def requests(connect, local, sources):
    """S3 requests of a run that reads all segments."""
    local.calls.reset()
    client = connect(staging_s3_uri=f"s3://{local.bucket}/stage/")
    # One at a time: images in progress at once share one test of whether the prefix can be written.
    results = list(client.embed_many(sources, jobs_at_once=1, options=["visual"], scopes=["clip"]))
    assert all(len(done.segments) for done in results)
    return Counter({name: local.calls[f"s3:{name}"] for name in OPERATIONS.values()})


@pytest.mark.parametrize("name", SOURCES)
def test_each_file_needs_what_the_table_says(connect, local, png, tmp_path, name):
    local.synthetic_sec = 6.0
    found = []
    for count in (FEW, MORE):
        local.reset()
        local.synthetic_sec = 6.0
        sources = SOURCES[name](local, png, tmp_path, count)
        found.append([requests(connect, local, sources) for _ in ("once", "again")])
    (few, few_again), (more, more_again) = found
    assert {op: n / (MORE - FEW) for op, n in (more - few).items()} == table(name)
    again = f"{name} again" if f"{name} again" in HEAD else "again"
    assert {op: n / (MORE - FEW) for op, n in (more_again - few_again).items()} == table(again)

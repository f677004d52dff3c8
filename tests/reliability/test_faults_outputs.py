"""Faults of outputs: what comes back is each segment's own vector, or an error that says where it lies."""

import itertools
import json
import re

import numpy as np
import pytest

from bedrock_marengo import OutputError, ServiceError
from bedrock_marengo.jobs import invocations
from marengo_local import Fault

pytestmark = pytest.mark.promise("No vector is stored under the wrong segment")


def edit(row, change):
    """Rows in which one is changed."""
    return lambda rows: encode([{**r, **change(r)} if i == row else r for i, r in enumerate(rows)])


def put_in(value, at=200):
    return lambda row: {"embedding": [*row["embedding"][:at], value, *row["embedding"][at + 1 :]]}


def encode(rows):
    return json.dumps({"data": rows}).encode()


# What is wrong, how it comes to be, what is said of it.
USELESS = [
    ("cut off in a row", lambda rows: encode(rows)[:70_000], "cut off"),
    ("cut off between rows", lambda rows: encode(rows[:3])[:-2], "cut off"),
    ("a byte is lost", lambda rows: encode(rows).replace(b'"endSec"', b'"endSec'), "not in Marengo's format"),
    ("no bytes", lambda rows: b"", "cut off"),
    ("no rows", lambda rows: encode([]), "no vectors"),
    ("one row of another dimension", edit(4, lambda row: {"embedding": row["embedding"][:-1]}), "511 dimensions"),
    (
        "all rows of the other model",
        lambda rows: encode([{**row, "embedding": row["embedding"] * 2} for row in rows]),
        "1024 dimensions",
    ),
    ("NaN in one number", edit(7, put_in(float("nan"))), "not in Marengo's format"),
    ("infinity in one number", edit(7, put_in(float("-inf"))), "not in Marengo's format"),
    ("a number that float32 can't hold", edit(7, put_in(1e39)), "float32"),
    ("null in one number", edit(11, put_in(None)), "not in Marengo's format"),
    ("no vector in one row", edit(3, lambda row: {"embedding": None}), "not in Marengo's format"),
    ("an end before its start", edit(2, lambda row: {"startSec": 12.0, "endSec": 6.0}), "ends before it starts"),
    ("a time below zero", edit(0, lambda row: {"startSec": -0.5}), "ends before it starts"),
    ("no times", edit(0, lambda row: {"endSec": None}), "no times"),
    ("no option", edit(1, lambda row: {"embeddingOption": None}), "no embeddingOption"),
    (
        "two vectors of one segment",
        lambda rows: encode([*rows, {**rows[0], "embedding": rows[5]["embedding"]}]),
        "Rows 0 and 12 of output.json have different vectors for one segment: 0 to 6 s of 'visual'",
    ),
]

LABELS = ("embeddingOption", "embeddingScope")
SAME = [
    ("out of order", lambda rows: encode(rows[::-1])),
    ("doubled", lambda rows: encode([*rows, *rows[2:9], *rows])),
    ("unknown keys", lambda rows: encode([{**r, "score": {"a": [None, {"data": []}]}, "id": 5} for r in rows])),
    ("nulls", lambda rows: encode([{**row, "text": None, "mediaSource": None} for row in rows])),
    ("lists for strings", lambda rows: encode([{k: [v] if k in LABELS else v for k, v in r.items()} for r in rows])),
    ("other keys around", lambda rows: json.dumps({"v": {"data": []}, "data": rows, "u": {"data": [1]}}).encode()),
    ("a list without the object around it", lambda rows: json.dumps(rows).encode()),
    ("spread over lines", lambda rows: json.dumps({"data": rows}, indent=3).encode()),
    ("times a little off", lambda rows: encode([{**r, "endSec": float(np.float32(r["endSec"] + 1e-6))} for r in rows])),
    (
        "assets without times",
        lambda rows: encode([{k: r[k] for k in r if r["embeddingScope"] == "clip" or "Sec" not in k} for r in rows]),
    ),
]


@pytest.fixture
def spoil(local, truths):
    """Puts a video for each way to write an output; its first so many jobs write theirs so. URI -> a clean run's."""

    def spoil(ways, times=None):
        uris = {name: local.put(name.encode(), f"{name}.mp4") for name in ways}
        wanted = truths(list(uris.values()))
        for name, write in ways.items():
            rows = [
                {
                    "embedding": v.tolist(),
                    "startSec": a,
                    "endSec": b,
                    "embeddingOption": option,
                    "embeddingScope": scope,
                }
                for (_, a, b, option, scope), v in wanted[uris[name]].items()
            ]
            local.faults.append(Fault("Job", body=write(rows), when=of(uris[name]), times=times))
        return wanted

    return spoil


def of(uri):
    return lambda call: uri in json.dumps(call.body)


@pytest.mark.fault(
    "An output that is cut off, has a wrong dimension, NaN, rows without times, or two vectors for one segment",
    expect="marked unusable, a new attempt",
)
def test_those_of_no_use_are_marked_made_anew_and_never_taken(client, connect, local, spoil, same, keys):
    wanted = spoil({name: write for name, write, _ in USELESS}, times=1)
    done = {d.uri: d.segments for d in client.embed_many(list(wanted))}
    assert [uri for uri in wanted if not same(done[uri], wanted[uri])] == []
    assert len(local.jobs) == 2 * len(USELESS) and len(keys("void.json")) == len(USELESS)
    # Neither what runs next nor who asks for a segment's vector takes one that was marked.
    fresh = connect()
    segments = [segment for found in done.values() for segment in found]
    vectors = np.concatenate([found.vectors for found in done.values()])
    assert np.array_equal(fresh.segment_vectors(segments), vectors)
    assert all(same(d.segments, wanted[d.uri]) for d in fresh.embed_many(list(wanted)))
    assert len(local.jobs) == 2 * len(USELESS)


@pytest.mark.fault("An output that stays unusable", expect="OutputError with its place after 3 attempts")
def test_those_that_stay_of_no_use_are_told_with_their_place_and_not_paid_for_ever(client, local, spoil, truth, same):
    some = USELESS[7::5]
    wanted = spoil({name: write for name, write, _ in some})
    good = local.put(b"a good one", "good.mp4")
    wanted[good] = truth(good)
    said = {f"{name}.mp4": words for name, _, words in some}
    place = rf"s3://{local.bucket}/marengo/.*/output\.json: .*"
    for again in (place + "{}", r"attempt 3 of 3.*force=True"):
        done = {d.uri: d for d in client.embed_many(list(wanted))}
        assert same(done.pop(good).segments, wanted[good])
        for uri, failed in done.items():
            assert re.search(again.format(said[uri.rpartition("/")[2]]), str(failed.error))
    assert len(local.jobs) == 3 * len(some) + 1
    local.faults = []
    assert all(same(client.embed_media(uri, force=True), wanted[uri]) for uri in done)
    assert len(local.jobs) == 4 * len(some) + 1


@pytest.mark.fault("Duplicate rows, rows out of order, unknown extra keys, nulls", expect="each segment once, in order")
def test_rows_as_they_may_come_are_the_same_segments(client, connect, local, spoil, same):
    wanted = spoil(dict(SAME))
    for reader in (client, connect()):
        done = {d.uri: d.segments for d in reader.embed_many(list(wanted))}
        assert [uri for uri in wanted if not same(done[uri], wanted[uri])] == []
    assert len(local.jobs) == len(SAME)


@pytest.mark.fault(
    "An output whole, but of a form that this version can't read: a row that names several options",
    expect="OutputError, never the first option; kept, and not paid for again",
)
@pytest.mark.parametrize(("model", "names"), [("3.0", ["visual", "audio"]), ("2.7", ["visual-text", "visual-image"])])
def test_a_row_that_names_several_options_is_kept_and_not_paid_for_again(connect, local, video, keys, model, names):
    local.mutate_output = lambda rows: [*rows[:-1], {**rows[-1], "embeddingOption": names}]
    client = connect(model)
    said = rf"output\.json: Row \d+ .* several values for its option \({', '.join(names)}\)"
    with pytest.raises(OutputError, match=said):
        client.embed_media(video)
    (done,) = client.embed_many([video], read_ahead=True)
    assert re.search(said, str(done.error))
    with pytest.raises(OutputError, match=said):
        client.collect(client.start(video))
    with pytest.raises(OutputError, match=said):
        connect(model).embed_media(video)
    assert len(local.jobs) == 1 and keys("void.json") == []


@pytest.mark.fault(
    "An image's response that names several options", expect="OutputError; kept, and not asked for again"
)
def test_an_image_that_names_several_options_is_kept_too(client, local, png):
    row = {"embedding": [0.1] * 512, "embeddingOption": ["visual", "audio"]}
    local.faults = [Fault("InvokeModel", body=encode([row]))]
    uri = local.put(png(), "dog.png")
    for _ in range(2):
        with pytest.raises(OutputError, match=r"several values for its option \(visual, audio\)"):
            client.embed_media(uri)
    assert local.calls["InvokeModel"] == 1


@pytest.mark.fault("Missing tracks", expect="the tracks that are there")
def test_a_track_that_is_missing_leaves_the_others_as_they_are(client, local, video, truth, same):
    wanted = {place: vector for place, vector in truth(video).items() if "visual" in place}
    local.mutate_output = lambda rows: [row for row in rows if row["embeddingOption"] == "visual"]
    assert same(client.embed_media(video), wanted) and len(wanted) == 4 and len(local.jobs) == 1


@pytest.mark.fault("Rows of an option that was not requested", expect="kept under their own name")
def test_rows_of_an_option_that_was_not_requested_keep_their_own_name(client, local, video):
    def mutate(rows):
        return [*({**row, "embeddingOption": "smell", "embedding": row["embedding"][::-1]} for row in rows), *rows]

    local.mutate_output = mutate
    found = client.embed_media(video, options=["visual"], scopes=["clip"])
    assert found.option == ["visual", "smell"] * 3
    sight, smell = (found.select(option=name).vectors for name in ("visual", "smell"))
    assert np.array_equal(sight, smell[:, ::-1]) and not np.array_equal(sight, smell)


@pytest.mark.fault(
    "S3 answers 404 just after Completed, or an output without its manifest",
    expect="read again; ServiceError if it never comes; the job is kept",
)
class TestNotThereAtOnce:
    def test_listed_and_not_found(self, client, local, video, truth, same):
        wanted = truth(video)
        local.faults = [Fault("s3:GetObject", error="NoSuchKey", times=2)]
        assert same(client.embed_media(video), wanted) and len(local.jobs) == 1 and local.faults[0].hits == 2

    def test_listed_and_never_found(self, connect, local, video, truth, same, monkeypatch):
        wanted = truth(video)
        monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda _: 0.0)
        local.faults = [Fault("s3:GetObject", error="NoSuchKey")]
        with pytest.raises(ServiceError, match=r"GetObject for s3://.*/output\.json: NoSuchKey"):
            connect().embed_media(video)
        local.faults = []
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1

    def test_a_proxys_page_in_its_place(self, client, local, video, truth, same, keys):
        wanted = truth(video)
        local.faults = [Fault("s3:GetObject", body=b"<html>Sign in to the guest network</html>", times=1)]
        assert same(client.embed_media(video), wanted)
        # Read again, not made again.
        assert len(local.jobs) == 1 and keys("void.json") == []

    def test_a_manifest_alone_is_no_live_job(self, client, local, video, monkeypatch, truth, same):
        wanted = truth(video)
        monkeypatch.setattr(invocations, "LATE_SEC", 0.0)
        lost = itertools.chain([None], itertools.repeat(0))
        local.mutate_output = lambda rows: rows if next(lost) == 0 else None
        assert same(client.embed_media(video), wanted) and len(local.jobs) == 2

    def test_an_output_alone_is_enough(self, connect, local, video, truth, same, keys):
        wanted = truth(video)
        connect().embed_media(video)
        local.s3.delete_object(Bucket=local.bucket, Key=keys("manifest.json")[0])
        assert same(connect().embed_media(video), wanted) and len(local.jobs) == 1


@pytest.mark.fault("Two vectors for one image", expect="OutputError; the next call asks again")
def test_an_image_with_two_vectors_is_none(client, local, png):
    local.faults = [
        Fault("InvokeModel", body=encode([{"embedding": [0.1] * 512}, {"embedding": [0.2] * 512}]), times=1)
    ]
    uri = local.put(png(), "dog.png")
    with pytest.raises(OutputError, match="different vectors for one segment"):
        client.embed_media(uri)
    assert len(client.embed_media(uri)) == 1

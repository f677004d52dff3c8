"""What Bedrock sends, as sent, as documented, and broken: vectors come out, or one OutputError."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_marengo import OutputError
from bedrock_marengo.contract import responses
from bedrock_marengo.contract.responses import read_output, read_vector

HERE = {"dimension": 4, "source": "s3://b/k.mp4", "job": "3fa9c1d27b041e55", "model_id": "m", "media_type": "video"}
V = [0.5, -0.25, 1e-30, 1]


@pytest.fixture(params=["msgspec", "simdjson"], autouse=True)
def parser(request, monkeypatch):
    """Each test with the base dependencies, and with the extra "fast"."""
    if request.param == "msgspec":
        monkeypatch.setattr(responses, "simdjson", None)
    else:
        pytest.importorskip("simdjson")


def row(start=0.0, end=6.0, option="visual", scope="clip", vector=V, **more):
    times = {"startSec": start, "endSec": end}
    return {"embedding": vector, "embeddingOption": option, "embeddingScope": scope, **times, **more}


def output(*rows, **more):
    return json.dumps({"data": list(rows), **more}).encode()


def read(data, **more):
    return read_output([data] if isinstance(data, bytes) else data, **{**HERE, **more})


def table(found):
    """A result as plain rows, to compare."""
    return [(*found.metadata(i).items(), *found.vectors[i].tolist()) for i in range(len(found))]


# InvokeModel's reply.


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"embedding": V}]},
        {"data": {"embedding": V}},
        {"data": [{"embedding": V, "embeddingOption": None, "embeddingScope": None, "startSec": None, "endSec": None}]},
        {"data": [{"embedding": V, "new": {"a": [{"b": "}]"}]}}], "usage": {"tokens": 3}, "other": None},
        {"id": "x", "nested": {"data": []}, "data": {"embedding": V}},
        {"embedding": V, "embeddingOption": "visual-text", "startSec": 0, "endSec": 6, "data": None},
        [{"embedding": V, "embeddingOption": ["visual", "audio"]}],
    ],
)
def test_one_vector_in_each_shape_that_is_documented_or_seen(body):
    vector = read_vector(json.dumps(body).encode(), 4)
    assert vector.dtype == np.float32 and vector.tolist() == np.float32(V).tolist()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b'{"data":[]}',
        b'{"data":null}',
        b'{"data":[{"embedding":null}]}',
        b'{"embedding":null}',
        b'[{"embedding":null}]',
        b"[[1,2,3,4]]",
        b'[{"embedding":[1,2,3,4]}]]',
        b'{"data":[{"embedding":[]}]}',
        b'{"data":[{"embedding":[1,2,3]}]}',
        b'{"data":[{"embedding":[1,2,3,4,5]}]}',
        b'{"data":[{"embedding":[1,2,3,"4"]}]}',
        b'{"data":[{"embedding":[1,2,3,null]}]}',
        b'{"data":[{"embedding":[1,2,3,NaN]}]}',
        b'{"data":[{"embedding":[1,2,3,Infinity]}]}',
        b'{"data":[{"embedding":[1,2,3,1e39]}]}',
        b'{"data":[{"embedding":[1,2,3,1e400]}]}',
        b'{"data":[{"embedding":[1,2,3,' + b"9" * 400 + b"]}]}",
        b'{"data":[{"embedding":[1,2,3,4]},{"embedding":[1,2,3,4]}]}',
        b"<html><body>502 Bad Gateway</body></html>",
        b"\xff\xfe",
        b'{"data":' + b"[" * 100_000,
        b'{"x":' + b'{"x":' * 100_000,
    ],
)
def test_a_reply_that_is_no_vector_is_an_output_error(body):
    with pytest.raises(OutputError):
        read_vector(body, 4)
    with pytest.raises(OutputError):
        read(body)


# output.json


def test_rows_come_back_in_order_each_once():
    rows = [
        row(start, start + 6, option, scope, [start, len(option), len(scope), 0])
        for scope, starts in (("clip", (0, 6, 12)), ("asset", (0,)))
        for start in starts
        for option in ("visual", "audio", "transcription", "fused")
    ]
    expected = table(read(output(*rows)))
    random.Random(3).shuffle(rows)
    assert table(read(output(*rows, *rows[:5]))) == expected
    assert [(r[1][1], r[3][1], r[4][1]) for r in expected[:5]] == [
        (0.0, "visual", "clip"),
        (0.0, "audio", "clip"),
        (0.0, "transcription", "clip"),
        (0.0, "fused", "clip"),
        (6.0, "visual", "clip"),
    ]


@given(st.permutations(range(12)), st.lists(st.integers(0, 11)))
def test_any_order_and_any_doubles_give_the_same_rows(order, doubles):
    rows = [row(6 * i, 6 * i + 6, vector=[i, 0, 0, 0]) for i in range(12)]
    found = read(output(*(rows[i] for i in order), *(rows[i] for i in doubles)))
    assert found.vectors[:, 0].tolist() == list(range(12)) and found.start_sec.tolist() == [6.0 * i for i in range(12)]


def test_times_widened_from_float32_are_the_same_segment():
    wide = float(np.float32(6.2))
    found = read(output(row(0, wide), row(0, 6.2), row(wide, 12)))
    assert [(s.start_sec, s.end_sec) for s in found] == [(0.0, 6.2), (6.2, 12.0)]


def test_an_asset_without_times_spans_its_clips():
    asset = {"embedding": V, "embeddingOption": "visual", "embeddingScope": "asset"}
    found = read(output(asset, row(3, 9), row(9, 12.5)))
    assert (found.scope[-1], found.start_sec[-1], found.end_sec[-1]) == ("asset", 3.0, 12.5)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_images_and_audio_need_no_option(kind):
    times = {"startSec": 0, "endSec": 10} if kind == "audio" else {}
    found = read(output({"embedding": V, **times}), media_type=kind)
    assert (found.option, found.scope) == ([kind], ["clip"])
    assert (found[0].start_sec, found[0].end_sec) == (0.0, 10.0 if times else 0.0)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([row(), row(6, 12)]).encode(),
        json.dumps([row(option=["visual"], scope=["clip"]), row(6, 12, ["visual", "visual"])]).encode(),
        output(row(option=["visual"], scope=["clip"]), row(6, 12, scope=[])),
        output(row(), row(6, 12)),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_a_list_of_rows_and_a_list_of_one_name_are_read(monkeypatch, data, piece_bytes):
    monkeypatch.setattr(responses, "PIECE_BYTES", piece_bytes)
    found = read([data[i : i + 7] for i in range(0, len(data), 7)])
    assert (found.option, found.scope, found.end_sec.tolist()) == (["visual"] * 2, ["clip"] * 2, [6.0, 12.0])


def test_a_single_row_that_is_not_in_a_list_is_read():
    flat = {"embedding": V, "embeddingOption": "visual-text", "startSec": 0, "endSec": 6.199999809265137}
    for body in (flat, {"data": flat}, [flat]):
        found = read(json.dumps(body).encode())
        assert (found.option, found.scope, round(found.end_sec[0], 3)) == (["visual-text"], ["clip"], 6.2)


@pytest.mark.parametrize("kind", ["video", "audio", "image"])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"option": ["visual", "audio"]}, r"Row 1 .* several values for its option \(visual, audio\)"),
        ({"option": ["visual-text", "visual-image", "audio"]}, "visual-text, visual-image, audio"),
        ({"option": ["audio", "audio", "transcription"]}, r"\(audio, transcription\)"),
        ({"option": "visual,audio"}, "visual,audio"),
        ({"option": "visual-text|audio"}, "not supported"),
        ({"option": "visual + audio"}, "not supported"),
        ({"scope": ["clip", "asset"]}, r"several values for its scope \(clip, asset\)"),
    ],
)
def test_a_row_that_names_several_is_not_the_first_one(kind, labels, said):
    rows = [row(), row(6, 12, **labels)]
    for data in (output(*rows), json.dumps(rows).encode()):
        with pytest.raises(OutputError, match=said) as caught:
            read(data, media_type=kind)
        assert caught.value.is_kept
        assert "is not paid for again: update this package" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no vectors"),
        ([row(option=None)], "no embeddingOption"),
        ([row(option="")], "no embeddingOption"),
        ([row(start=None)], "no times"),
        ([row(end=None)], "no times"),
        ([row(), row(vector=[1, 2])], "2 dimensions: this model has 4"),
        ([row(vector=[1e39, 0, 0, 0])], "float32"),
        ([row(start=-1)], "before it starts"),
        ([row(6, 3)], "before it starts"),
        ([row(0, 1e300)], "115 days"),
        ([row(0, 1.7e308)], "115 days"),
        ([row(scope="moment")], "moment"),
        ([row(option="a&b")], "a&b"),
        ([row(start="0")], "not in Marengo's format"),
        ([row(option=5)], "not in Marengo's format"),
        ([{"embeddingOption": "visual"}], "not in Marengo's format"),
        ([row(), None], "not in Marengo's format"),
        ([row(), []], "not in Marengo's format"),
        ([row(), "row"], "not in Marengo's format"),
    ],
)
def test_rows_that_can_not_be_used(rows, said):
    with pytest.raises(OutputError, match=said):
        read(output(*rows))


ODD = output(
    row(note='}]},{"embedding":[', nested={"a": {"b": [{}, {"c": "}"}]}}),
    row(6, 12, more=[{"x": {}}], text='\\"}{ \u00e9\u2028'),
    row(12, 18, "audio"),
    row(0, 18, scope="asset"),
    after={"usage": {"rows": [1, {"}": "]"}]}},
)
BEFORE = b' { "version": {"data": [{"x": 1}]}, "data" : [ ' + ODD.removeprefix(b'{"data": [')
SPACED = json.dumps(json.loads(ODD), indent=2).encode().replace(b",\n", b"\n\t , \r\n")
PLAIN = output(row(), row(6, 12), row(12, 18, "audio"), row(0, 18, scope="asset"))


@pytest.mark.parametrize("data", [ODD, BEFORE, SPACED, PLAIN], ids=["odd", "keys before", "spaced", "plain"])
@pytest.mark.parametrize("piece_bytes", [1, 100, 1 << 20])
def test_cuts_between_chunks_change_nothing(monkeypatch, data, piece_bytes):
    monkeypatch.setattr(responses, "PIECE_BYTES", piece_bytes)
    expected = table(read(data))
    assert len(expected) == 4
    for cut in range(len(data) + 1):
        assert table(read([data[:cut], data[cut:]])) == expected
    assert table(read(data[i : i + 1] for i in range(len(data)))) == expected


@pytest.mark.parametrize("data", [ODD, BEFORE, PLAIN], ids=["odd", "keys before", "plain"])
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_cut_off_anywhere_is_an_output_error(monkeypatch, data, piece_bytes):
    monkeypatch.setattr(responses, "PIECE_BYTES", piece_bytes)
    for cut in range(len(data)):
        with pytest.raises(OutputError):
            read(data[:cut])


@pytest.mark.parametrize(
    "broken",
    [
        PLAIN + b"x",
        PLAIN + PLAIN,
        PLAIN.replace(b"}, {", b"} {", 1),
        PLAIN.replace(b"}, {", b"},, {", 1),
        PLAIN.replace(b"}]}", b"},]}"),
        PLAIN.replace(b"}]}", b"}}"),
        PLAIN.replace(b"}]}", b"}]]"),
        PLAIN.replace(b"[{", b"[,{", 1),
        PLAIN.replace(b"6.0", b"NaN", 1),
        PLAIN.replace(b"-0.25", b"-Infinity", 1),
        PLAIN.replace(b"-0.25", b"1e400", 1),
        PLAIN.replace(b"visual", b"\xff", 1),
        PLAIN.replace(b"visual", b"visual\n", 1),
        b"\xef\xbb\xbf" + PLAIN,
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_broken_anywhere_is_an_output_error(monkeypatch, broken, piece_bytes):
    monkeypatch.setattr(responses, "PIECE_BYTES", piece_bytes)
    with pytest.raises(OutputError):
        read(broken)


@given(st.binary())
def test_any_bytes_give_an_output_error(data):
    with pytest.raises(OutputError):
        read(data)


@given(st.integers(0, len(PLAIN) - 1), st.binary(max_size=3))
def test_a_damaged_file_gives_segments_or_an_output_error(place, damage):
    damaged = PLAIN[:place] + damage + PLAIN[place + len(damage) :]
    try:
        found = read(damaged)
    except OutputError:
        return
    assert all(math.isfinite(value) for value in found.vectors.ravel())
    assert all(segment.uri for segment in found)


def test_vectors_are_read_only_for_the_cache_shares_them():
    for found in (read(PLAIN), read(output(row(6, 12), row(0, 6), row(0, 6)))):
        with pytest.raises(ValueError, match="read-only"):
            found.vectors[0] = 0


MEASURE = """
import resource, sys
import numpy as np
from bedrock_marengo.contract.responses import read_output

rows, backwards = 20_000, sys.argv[1] == "backwards"
vector = ",".join(["-0.0103759765625"] * 512)

def chunks(rows):
    yield b'{"data":['
    for i in range(rows):
        start = 6 * (rows - i if backwards else i)
        labels = f'"embeddingOption":"visual","embeddingScope":"clip","startSec":{start},"endSec":{start + 6}'
        yield f'{"," if i else ""}{{"embedding":[{vector}],{labels}}}'.encode()
    yield b"]}"

def read(rows):
    return read_output(chunks(rows), dimension=512, source="s3://b/k", job="0" * 16, model_id="m", media_type="video")

read(100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read(rows)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert found.vectors.shape == (rows, 512) and (np.diff(found.start_sec) > 0).all()
print((after - before) * 1024 - found.vectors.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_memory_stays_near_the_vectors(order):
    # A process of its own: its peak is nobody else's.
    done = subprocess.run([sys.executable, "-c", MEASURE, order], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * 1024**2

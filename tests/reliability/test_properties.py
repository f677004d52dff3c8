"""Any text, any key, any time, any shape of output.json: it works, or it is refused by an error of ours."""

import json
import random
import string
import time
import unicodedata
import urllib.request
import warnings
from urllib.parse import quote, quote_plus, unquote

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bedrock_marengo import MarengoError, MarengoWarning, Segment, ServiceError
from bedrock_marengo.contract import responses
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.responses import read_output
from bedrock_marengo.contract.segment_texts import cuts_uri, find_segment
from bedrock_marengo.jobs.fingerprint import fingerprint, work_prefix
from bedrock_marengo.s3.object_version import SourceIdentity

pytestmark = pytest.mark.promise("Any text, file name or S3 key works unchanged or is refused")

JOB = "3fa9c1d27b041e55"
MEGABYTE = 1_000_000
KMS = "arn:aws:kms:us-east-1:123456789012"

letters = st.characters()
"""All of Unicode, lone surrogates too."""
texts = st.text(letters)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def clients(connect):
    return {version: connect(version) for version in MODELS}


def sent(local):
    """The text that the service got last."""
    [*_, call] = local.calls.of("InvokeModel")
    return call.body["text"]["inputText"]


# Texts.


@settings(max_examples=40)
@given(texts)
@example("\ud83d\ude00 \ud800 \udc00")
@example("\0")
@example("\u202eshort\u202c \u05e2\u05d1\u05e8\u05d9\u05ea")
@example("\ufeff\u2028\u2029\x7f\x85")
@example("s3://bucket/match.mp4#t=0,6&track=visual&job=" + JOB)
@example("<@a> {} % ${x} <script>")
def test_any_text_arrives_as_it_is_or_is_refused(client, local, text):
    try:
        vector = client.embed_text(text)
    except MarengoError:
        assert not text.strip()
        return
    assert vector.shape == (512,)
    # What no UTF-8 can hold becomes the replacement character; a pair of surrogates is the letter it stands for.
    assert sent(local) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600", "\ud800", "\0", "\u202e"])
def test_a_megabyte_of_text_is_sent_whole(client, local, letter):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarengoWarning)
        assert client.embed_text(letter * (MEGABYTE // len(letter.encode(errors="surrogatepass")))).shape == (512,)
    assert local.calls["InvokeModel"] == 1


@given(texts)
@example("k: v\n\n" + "s3://")
def test_no_text_looks_like_a_segment_by_chance(text):
    assert Segment.find(text) is None
    assert find_segment(text) is None
    assert not cuts_uri(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/" + "a" * MEGABYTE,
        "s3://b/" + "%41" * (MEGABYTE // 3) + "#t=1,2",
        "s3://b/k#t=" + "1" * MEGABYTE,
        "s3://" + "-" * MEGABYTE,
        "k: v" + "\n\ns3://b/k#t=1,2" * (MEGABYTE // 17),
        f"see s3://b/k#t=1,2&track=x&job={JOB} " * (MEGABYTE // 52),
        "s3://b/k#t=1,2&track=" * (MEGABYTE // 21),
        "&job=" * (MEGABYTE // 5),
        "k: " * (MEGABYTE // 3),
        "\n" * MEGABYTE,
    ],
    ids=range(10),
)
def test_a_megabyte_that_is_nearly_a_segment_is_read_at_once(text):
    began = time.monotonic()
    assert find_segment(text) is None
    cuts_uri(text)
    assert time.monotonic() - began < 30


# Keys, times and ids.


def twins(key):
    """Keys that some code takes for the same, each once."""
    forms = [unicodedata.normalize(form, key) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    coded = [quote(key), quote(key, safe=""), quote_plus(key), unquote(key)]
    near = [
        key.swapcase(),
        f"{key} ",
        f" {key}",
        f"{key}/",
        f"/{key}",
        f"./{key}",
        f"a/../{key}",
        key.replace("/", "//"),
    ]
    near += [f"{key}#t=0,6", f"{key}&track=visual", f"{key}&scope=asset", f"{key}\0", f"{key}\n", f"{key}%00"]
    return dict.fromkeys(filter(None, [key, *forms, *coded, *near]))


def variants(segment):
    """A segment and its near-duplicates: other keys, 1 ms, another track, scope, job."""
    start, end, key = segment.start_sec, segment.end_sec, segment.source.partition("/")[2]
    for twin in twins(segment.source.removeprefix("s3://bucket/")):
        yield Segment(f"s3://bucket/{twin}", start, end, segment.option, segment.scope, segment.job)
    for bucket in ("bucket.", "bucket-", "Bucket"):
        yield Segment(f"s3://{bucket}/{key}", start, end, segment.option, segment.scope, segment.job)
    for shift in (0.001, 1.0):
        yield Segment(segment.source, start + shift, end, segment.option, segment.scope, segment.job)
        yield Segment(segment.source, start, end + shift, segment.option, segment.scope, segment.job)
    for option in ("visual", "visual-text", "visual.text", "audio", "1"):
        for scope in ("clip", "asset"):
            yield Segment(segment.source, start, end, option, scope, segment.job)
    yield Segment(segment.source, start, end, segment.option, segment.scope, segment.job[::-1])


segments = st.builds(
    Segment,
    source=keys.map(lambda key: f"s3://bucket/{key}"),
    start_sec=st.floats(0, 9_999_000),
    end_sec=st.floats(0, 9_999_000),
    option=st.sampled_from(["visual", "audio", "fused"]),
    scope=st.sampled_from(["clip", "asset"]),
    job=st.text("0123456789abcdef", min_size=16, max_size=16),
)


@given(segments)
@example(Segment("s3://bucket/a b", 0, 6, "visual", "clip", JOB))
@example(Segment("s3://bucket/a%20b", 0, 6, "visual", "clip", JOB))
@example(Segment("s3://bucket/\u00e9\ufb01/..//%2F", 0.0005, 0.0015, "visual", "asset", JOB))
def test_near_duplicates_have_uris_and_ids_of_their_own(segment):
    found = set(variants(segment))
    assert len(found) > 20
    assert len({other.uri for other in found}) == len({other.id for other in found}) == len(found)
    assert {Segment.parse(other.uri) for other in found} == found


@given(keys, st.integers(1, 2**40), st.text(string.hexdigits, min_size=1), st.sampled_from(list(MODELS.values())))
@example("a b", 1, "0", MODELS["3.0"])
@example("a%20b", 1, "0", MODELS["3.0"])
def test_near_duplicates_are_work_of_their_own(key, size, etag, model):
    request = MediaRequest(model=model, kind="video")
    digests = {fingerprint(request, SourceIdentity(f"s3://bucket/{twin}", size, etag)) for twin in twins(key)}
    prefixes = {work_prefix("s3://out/m/", f"s3://bucket/{twin}", JOB) for twin in twins(key)}
    assert len(digests) == len(prefixes) == len(twins(key))


@given(keys, st.floats(width=32), st.floats(width=32))
def test_any_times_give_a_segment_or_an_error_of_ours(key, start_sec, end_sec):
    times = [np.float32(start_sec), end_sec]
    try:
        segment = Segment(f"s3://bucket/{key}", *times, "visual", "clip", JOB)
    except MarengoError:
        assert not all(0 <= time < 9_999_999.9 for time in times)
        return
    # 2.7's times are float32 widened to double: to the millisecond they are the same.
    assert [segment.start_sec, segment.end_sec] == pytest.approx(times, abs=0.00051)
    assert Segment.parse(segment.uri) == segment


KEYS = [
    "a b+c.mp4",
    "a%20b%2Bc.mp4",
    "a b c.mp4",
    "100%.mp4",
    "what?x=1&y=2.mp4",
    f"match.mp4#t=0,6&track=visual&job={JOB}.mp4",
    "../up/../../etc/passwd.mp4",
    "dots/./here.mp4",
    "//doubled//slashes.mp4",
    "s3://bucket/match.mp4",
    unicodedata.normalize("NFC", "é/ü.mp4"),
    unicodedata.normalize("NFD", "é/ü.mp4"),
    "\u05e2\u05d1\u05e8\u05d9\u05ea\u202e.mp4",
    "\U0001f600.mp4",
    "tab\tand\\slash.mp4",
    "\"quoted'<b>&amp;.mp4",
    "*[glob]?.mp4",
    "\x01\x7f.mp4",
    f"{'k' * 1000}.mp4",
]


def test_keys_of_any_kind_are_embedded_found_again_and_played(client, connect, local):
    uris = {local.put(key.encode(), key): key for key in KEYS}
    found = {done.uri: done.segments for done in client.embed_many(f"s3://{local.bucket}/")}
    assert found.keys() == uris.keys()
    assert local.calls["StartAsyncInvoke"] == len(KEYS)
    first = [segments[0] for segments in found.values()]
    # Another process finds each by the URI alone.
    vectors = connect().segment_vectors([segment.uri for segment in first])
    for segment, vector in zip(first, vectors, strict=True):
        assert np.array_equal(vector, found[segment.source].vectors[0])
        url = client.playable_url(segment, expires_sec=60)
        assert urllib.request.urlopen(url).read() == uris[segment.source].encode()
    assert len({vector.tobytes() for vector in vectors}) == len(KEYS)
    assert [client.forget(uri).outputs for uri in uris] == [1] * len(KEYS)


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"\x01\x7f.mp4", "é ü#?%+&.mp4".encode()])
def test_files_of_any_name_are_embedded_and_forgotten(client, tmp_path, name):
    path = tmp_path / name.decode("utf-8", "surrogateescape")
    path.write_bytes(name)
    found = client.embed_media(path)
    assert Segment.parse(found[0].uri) == found[0]
    receipt = client.forget(path)
    assert (receipt.uploads, receipt.outputs) == (1, 1)


# output.json.


@pytest.fixture(params=["msgspec", "simdjson"])
def parser(request, monkeypatch):
    """Each test with the base dependencies, and with the extra "fast"."""
    if request.param == "msgspec":
        monkeypatch.setattr(responses, "simdjson", None)
    else:
        pytest.importorskip("simdjson")


numbers = st.one_of(st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0, -1.0, 1e-38, -1e-30, 0.5]))
labels = st.text(string.ascii_letters + string.digits + "._~-", min_size=1, max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab}]"\\', max_size=4), inner, max_size=3),
    max_leaves=6,
)
more = st.dictionaries(st.sampled_from(["note", "data", "}]},{", "\u00e9\u2028", "embeddingX"]), anything, max_size=2)
rows = st.fixed_dictionaries(
    {
        "embedding": st.lists(numbers, min_size=2, max_size=2),
        "embeddingOption": labels,
        "embeddingScope": st.sampled_from(["clip", "asset"]),
        "startSec": st.floats(0, 100, width=32),
        "endSec": st.floats(100, 200, width=32),
    }
)


class Writer:
    """JSON of a value in one of the many ways that JSON has: spaces, escapes, exponents, order of keys."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def write(self, value):
        if isinstance(value, dict):
            items = self.random.sample(list(value.items()), len(value))
            return self.between("{", [self.text(key) + self.colon() + self.write(item) for key, item in items], "}")
        if isinstance(value, list):
            return self.between("[", [self.write(item) for item in value], "]")
        if isinstance(value, str):
            return self.text(value)
        return self.number(value) if isinstance(value, float) else json.dumps(value)

    def number(self, value):
        return self.random.choice([repr(value), f"{value:.17e}", f"{value:.17E}", f"{value:.60f}"])

    def text(self, text):
        if self.random.random() < 0.6:
            return json.dumps(text, ensure_ascii=self.random.random() < 0.5)
        units = text.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)) + '"'

    def between(self, begin, parts, end):
        return begin + self.space() + f"{self.space()},{self.space()}".join(parts) + self.space() + end

    def colon(self):
        return f"{self.space()}:{self.space()}"

    def space(self):
        return "".join(self.random.choices(" \t\r\n", k=self.random.choice([0, 0, 1, 3])))


def track(found):
    """No two rows may say one segment."""
    return found[0]["embeddingOption"]


def parsed(chunks):
    found = read_output(chunks, dimension=2, source="s3://b/k", job=JOB, model_id="m", media_type="video")
    return [(*found.metadata(i).values(), *found.vectors[i].tolist()) for i in range(len(found))]


@settings(max_examples=40)
@given(data=st.data(), found=st.lists(st.tuples(rows, more), min_size=1, max_size=3, unique_by=track), around=more)
def test_an_output_is_the_same_however_it_is_written_and_cut(parser, data, found, around):
    table = [{**extra, **row} for row, extra in found]
    around.pop("data", None)
    plain = json.dumps({"data": table}).encode()
    written = Writer(data.draw(st.integers(0, 2**32))).write({**around, "data": table}).encode()
    assume(json.loads(written)["data"] == table)
    expected = parsed([plain])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(responses, "PIECE_BYTES", data.draw(st.sampled_from([1, 7, 100, 1 << 20])))
        for cut in range(0, len(written) + 1, max(1, len(written) // 200)):
            assert parsed([written[:cut], written[cut:]]) == expected
        assert parsed(written[i : i + 1] for i in range(len(written))) == expected


# Requests.


def refused_by_us(call):
    """Whether a call is refused by an error of ours, and not because AWS's or botocore's own checks found it wrong."""
    try:
        call()
    except ServiceError as error:
        assert error.code not in ("ParamValidationError", "ValidationException"), error
        return True
    except MarengoError:
        return True
    return False


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.floats(),
    st.text(letters, max_size=4),
    st.binary(max_size=3),
    st.lists(st.sampled_from(["visual", "audio", "clip", 5, None]), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.floats(0, 20).map(np.float32),
    st.integers(0, 20).map(np.int64),
)
asked = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(["options", "scopes", "segmentation", "start_sec", "end_sec", "fused", "force"], values),
)
tags = st.dictionaries(st.text(letters, max_size=3), st.text(letters, max_size=3), max_size=2)


@settings(max_examples=60)
@given(st.sampled_from(["3.0", "2.7"]), asked)
def test_whatever_is_asked_of_a_medium_starts_or_is_refused_by_us(clients, video, model, asked):
    refused_by_us(lambda: clients[model].start(video, **asked))


@settings(max_examples=30)
@given(tags=st.none() | tags | values, key=st.none() | st.text(letters) | values, prefix=st.text(letters, max_size=6))
@example({"a b": ""}, "arn:aws:kms:us-east-1:123456789012:key/" + "0" * 36, "out put#?%/")
@example({"a": "b"}, "arn:aws:kms:us-east-1:123456789012:alias/mine/too", "../..")
def test_whatever_a_client_is_made_with_starts_or_is_refused_by_us(connect, local, video, tags, key, prefix):
    place = f"s3://{local.bucket}/{prefix}"
    refused_by_us(lambda: connect(tags=tags, output_kms_key_id=key, output_s3_uri=place).start(video))


@given(
    st.sampled_from(
        ["embed_text", "embed_texts", "embed_image", "embed_images", "embed_query", "embed_media", "start"]
    ),
    values,
)
def test_whatever_is_handed_in_is_taken_or_refused_by_us(clients, name, value):
    refused_by_us(lambda: getattr(clients["3.0"], name)(value))


allowed = st.text(string.ascii_letters + string.digits + " ._:/=+@-", min_size=1, max_size=8)


@settings(max_examples=20)
@given(
    tags=st.dictionaries(allowed, allowed | st.just(""), max_size=3),
    key=st.sampled_from([None, f"{KMS}:key/{'0' * 36}", f"{KMS}:alias/mine/too"]),
    prefix=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6),
    times=st.tuples(st.integers(0, 5).map(np.int64), st.floats(10, 20).map(np.float32)),
)
@example(tags={}, key=None, prefix="out put#?%2F/../é//", times=(0, 12))
def test_what_the_service_allows_is_started(connect, local, video, tags, key, prefix, times):
    place = f"s3://{local.bucket}/{len(local.jobs)}/{prefix}"
    client = connect(tags=tags, output_kms_key_id=key, output_s3_uri=place)
    job = client.start(video, start_sec=times[0], end_sec=times[1], options=np.array(["visual"]))
    started = local.jobs[job.arn]
    assert started.output_uri.startswith(place.rstrip("/"))
    assert started.tags == tags

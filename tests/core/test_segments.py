"""The URI grammar: every segment has one URI, every URI one segment, and any other text is just text."""

import pickle

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bedrock_marengo import InputError, Segment, SegmentEmbeddings
from bedrock_marengo.contract.segments import MAX_SEC, METADATA_KEYS, time_range

JOB = "3fa9c1d27b041e55"
URI = f"s3://bucket/match.mp4#t=6.5,13&track=visual&job={JOB}"

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
seconds = st.floats(0, MAX_SEC - 0.001)
options = st.sampled_from(["visual", "audio", "transcription", "fused", "image", "visual-text", "visual-image"])
segments = st.builds(
    Segment,
    source=keys.map(lambda key: f"s3://bucket/{key}"),
    start_sec=seconds,
    end_sec=seconds,
    option=options,
    scope=st.sampled_from(["clip", "asset"]),
    job=st.text("0123456789abcdef", min_size=16, max_size=16),
)


@given(segments)
@example(Segment("s3://bucket//a//../b c#t=1,2&track=x?y%20.mp4", 0.0005, 9_999_998.9994, "fused", "asset", JOB))
@example(Segment("s3://bucket/\x00\r\n\u2028 ", 0, 0, "image", "clip", JOB))
def test_a_uri_names_its_segment_and_nothing_else(segment):
    assert Segment.parse(segment.uri) == segment
    assert segment.uri.isascii() and not set(segment.uri) & set(" \r\n\t")


@given(segments, seconds, seconds)
def test_a_moments_uri_has_its_range_and_its_best_segment(segment, start, end):
    uri = segment.uri_within(start, end)
    assert Segment.find(f"{uri}\nwords") == Segment.parse(uri) == segment
    assert time_range(uri) == (round(start, 3), round(end, 3))
    assert Segment.find(f"{segment.uri}&clip=1,2,3") is None


@given(segments, segments)
def test_different_segments_have_different_ids(one, other):
    assert (one == other) == (one.uri == other.uri) == (one.id == other.id)


@given(segments, st.text(), st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_find_reads_the_first_line_and_leaves_the_transcript_alone(segment, transcript, line_end):
    assert Segment.find(segment.uri + line_end + (transcript if line_end else "")) == segment


@given(st.text())
@example("s3://")
@example("\ud800")
@example("s3://b/%FF.mp4#t=0,1&track=visual&job=" + JOB)
def test_find_takes_any_text(text):
    found = Segment.find(text)
    assert found is None or text.startswith(found.uri)


@given(segments, st.data())
def test_one_changed_letter_is_another_segment_or_just_text(segment, data):
    place = data.draw(st.integers(0, len(segment.uri) - 1))
    letter = data.draw(st.characters(exclude_categories=["Cs"]))
    changed = segment.uri[:place] + letter + segment.uri[place + 1 :]
    assume(changed != segment.uri)
    assert Segment.find(changed) != segment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog on a beach",
        "see " + URI,
        " " + URI,
        "\n" + URI,
        "\ufeff" + URI,
        URI.upper(),
        URI.replace("s3://", "S3://"),
        URI.replace("s3://", "https://"),
        URI.replace("bucket", "buck et"),
        URI.replace("bucket", "../bucket"),
        URI.replace("match.mp4", ""),
        URI.replace("match", "my match"),
        URI.replace("match", "%6Datch"),
        URI.replace("match", "caf%c3%a9"),
        URI.replace("match", "caf%C3"),
        URI.replace("match", "café"),
        URI.replace("6.5", "6.50"),
        URI.replace("6.5", "06.5"),
        URI.replace("6.5", "+6.5"),
        URI.replace("6.5", "-6.5"),
        URI.replace("6.5", "6.5001"),
        URI.replace("6.5", "٦.5"),
        URI.replace("6.5", "nan"),
        URI.replace("6.5", "6."),
        URI.replace("6.5", "1e3"),
        URI.replace("13&", "10000000&"),
        URI.replace("6.5,13", "6.5"),
        URI.replace("visual", ""),
        URI.replace("visual", "visual audio"),
        URI.replace(JOB, JOB[:-1]),
        URI.replace(JOB, JOB + "0"),
        URI.replace(JOB, JOB.upper()),
        URI.replace(JOB, "../../../etc/pass"),
        URI + "&scope=clip",
        URI + "&scope=asset&scope=asset",
        URI + "&other=1",
        URI + " and a word",
        URI + "#t=1,2",
        "s3://bucket/match.mp4",
        "s3://bucket/match.mp4#t=6.5,13",
    ],
)
def test_near_misses_are_just_text(text):
    assert Segment.find(text) is None
    with pytest.raises(InputError, match="is not a segment's URI"):
        Segment.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_sec": -0.001},
        {"start_sec": float("nan")},
        {"end_sec": float("inf")},
        {"end_sec": MAX_SEC},
        {"option": ""},
        {"option": "visual&job=0"},
        {"option": "two words"},
        {"option": "visual\n"},
        {"scope": "moment"},
        {"scope": ""},
        {"job": "3fa9"},
        {"job": "../../etc/passwd"},
        {"job": JOB.upper()},
    ],
)
def test_what_no_uri_can_say_is_no_segment(wrong):
    fields = {"source": "s3://b/k.mp4", "start_sec": 0, "end_sec": 1, "option": "visual", "scope": "clip", "job": JOB}
    with pytest.raises(InputError):
        Segment(**{**fields, **wrong})


def columns():
    return SegmentEmbeddings(
        vectors=np.arange(8, dtype=np.float32).reshape(4, 2),
        start_sec=np.array([0.0, 0.0, 6.1999998, 0.0]),
        end_sec=np.array([6.1999998, 6.1999998, 12.0, 12.0]),
        option=["visual", "audio", "visual", "visual"],
        scope=["clip", "clip", "clip", "asset"],
        source="s3://bucket/match.mp4",
        job=JOB,
        model_id="m",
        media_type="video",
    )


def test_rows_are_segments_with_flat_metadata():
    embeddings = columns()
    assert len(embeddings) == 4
    assert [segment.uri.partition("#")[2] for segment in embeddings] == [
        f"t=0,6.2&track=visual&job={JOB}",
        f"t=0,6.2&track=audio&job={JOB}",
        f"t=6.2,12&track=visual&job={JOB}",
        f"t=0,12&track=visual&job={JOB}&scope=asset",
    ]
    for i in range(4):
        assert tuple(embeddings.metadata(i)) == METADATA_KEYS
        assert {type(value) for value in embeddings.metadata(i).values()} == {str, float}


def test_select_keeps_rows_together():
    chosen = columns().select(option="visual", scope="clip")
    assert chosen.vectors.tolist() == [[0, 1], [4, 5]]
    assert list(chosen) == [columns()[0], columns()[2]]
    assert len(columns().select(option="nothing")) == 0


def test_embeddings_go_through_pickle():
    copied = pickle.loads(pickle.dumps(columns()))
    assert list(copied) == list(columns()) and np.array_equal(copied.vectors, columns().vectors)

"""Bands of confidence by hand: documented cosines, else how far a hit stands out of its track."""

import pytest

from bedrock_marengo import Media, Query, Segment
from bedrock_marengo.search import Hit, SearchSettings, find_moments
from bedrock_marengo.search.confidence import Bands, at_least, is_text

JOB = "3fa9c1d27b041e55"


def hits(track, *scores):
    return [Hit(Segment("s3://b/a.mp4", 6.0 * i, 6.0 * i + 6, track, "clip", JOB), s) for i, s in enumerate(scores)]


def bands(found, version="3.0", *, text=True):
    moments = find_moments(found, SearchSettings(weights={hit.segment.option: 1.0 for hit in found}, k=50))
    known = Bands(found, version, text)
    return [known.of(moment) for moment in sorted(moments, key=lambda moment: moment.start_sec)]


@pytest.mark.parametrize("track", ["visual", "fused"])
def test_a_text_and_a_video_by_the_documented_cosines(track):
    assert bands(hits(track, 0.15, 0.07, 0.069, 0.05, 0.049, -0.1)) == ["high", "high", *["medium"] * 2, "low", "low"]


@pytest.mark.parametrize(
    ("track", "version", "text"), [("audio", "3.0", True), ("visual", "3.0", False), ("visual-text", "2.7", True)]
)
def test_others_by_how_far_they_stand_out(track, version, text):
    # The median is 0.4, and the median deviation 0.02, so a spread is 0.02965.
    scores = [0.36, 0.38, 0.38, 0.4, 0.4, 0.4, 0.42, 0.42, 0.45, 0.47, 0.6]
    assert bands(hits(track, *scores), version, text=text) == [*["low"] * 9, "medium", "high"]


def test_of_few_hits_nothing_is_known():
    assert bands(hits("audio", *[0.1] * 8, 0.9)) == [None] * 9


def test_of_equal_hits_none_stands_out():
    assert bands(hits("audio", *[0.1] * 12)) == ["low"] * 12


@pytest.mark.parametrize(
    ("band", "least", "expected"),
    [
        ("low", None, True),
        ("low", "medium", False),
        ("high", "medium", True),
        ("low", "low", True),
        (None, "high", True),
    ],
)
def test_what_is_enough(band, least, expected):
    assert at_least(band, least) is expected


def test_which_queries_are_text():
    image = Media.from_s3("s3://b/a.png")
    assert is_text(Query(text="a goal"))
    assert not any(
        is_text(query) for query in (Query(image=image), Query(text="a", image=image), Query(text="a", images=[image]))
    )

"""Segments by arithmetic; no media."""

from itertools import pairwise

import pytest

from marengo_local.content import Segmentation

SHOTS, SIX = Segmentation(), Segmentation(fixed_sec=6)


def lengths(segments):
    assert all(before[1] == after[0] for before, after in pairwise(segments))
    return [last - first for first, last in segments]


@pytest.mark.parametrize(
    ("length_sec", "expected"),
    [
        (19.25, [6.5, 6.5, 6.25]),  # seen in a real reply
        (4.0, [4.0]),
        (8.9, [8.9]),
        (12.0, [6.0, 6.0]),
        (2.0, [2.0]),
        (601.0, [6.25] * 95 + [7.25]),
    ],
)
def test_an_uncut_shot(length_sec, expected):
    assert lengths(SHOTS.segments("video", 0.0, length_sec)) == pytest.approx(expected)


def test_cuts_lie_on_quarters_and_the_end_does_not():
    assert SHOTS.segments("video", 0.0, 19.35, [(6.07, 1.0), (12.63, 1.0)]) == [
        (0.0, 6.0),
        (6.0, 12.75),
        (12.75, 19.35),
    ]


def test_a_short_shot_joins_across_the_weaker_cut():
    assert SHOTS.segments("video", 0, 14, [(6.0, 0.6), (8.0, 1.9)])[-1] == (8, 14)
    assert SHOTS.segments("video", 0, 14, [(6.0, 1.9), (8.0, 0.6)])[0] == (0, 6)


def test_shots_at_the_ends_are_not_short_either():
    assert SHOTS.segments("video", 0, 8, [(1.0, 2.0), (7.0, 2.0)]) == [(0, 8)]


def test_a_smaller_least_length_keeps_shorter_shots():
    cuts = [(2.0, 1.0), (4.0, 1.0)]
    assert Segmentation(min_clip_sec=2).segments("video", 0, 6, cuts) == [(0, 2), (2, 4), (4, 6)]


def test_a_range_keeps_the_media_clock():
    assert SHOTS.segments("video", 30.0, 42.0, [(10.0, 2.0), (36.0, 1.0)]) == [(30, 36), (36, 42)]
    assert SIX.segments("audio", 3.5, 12.0) == [(3.5, 9.5), (9.5, 12.0)]


@pytest.mark.parametrize(
    ("length_sec", "expected"), [(50, [10] * 5), (16, [8, 8]), (4, [4]), (14, [14]), (26, [26 / 3] * 3)]
)
def test_audio_is_divided_evenly_near_ten_seconds(length_sec, expected):
    assert lengths(SHOTS.segments("audio", 0.0, length_sec)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_fixed_pieces_are_exact_and_the_last_may_be_shorter(kind):
    assert SIX.segments(kind, 0.0, 14.5, [(5.0, 2.0)]) == [(0, 6), (6, 12), (12, 14.5)]
    assert SIX.segments(kind, 0.0, 12.0) == [(0, 6), (6, 12)]
    assert SIX.segments(kind, 0.0, 12.02) == [(0, 6), (6, 12)]

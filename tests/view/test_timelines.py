"""timeline(): a query compared with a whole file."""

import re
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest

from bedrock_marengo import InputError, Query, Segmentation, SegmentEmbeddings, ServiceError
from bedrock_marengo.search.weights import cosines
from marengo_local import Fault
from marengo_view import timeline
from marengo_view.timelines import MAX_BARS, chart_of

from .reading import Drawn

QUERY = np.eye(4, dtype=np.float32)[0]


def clips(scores, *, option="visual", step=6.0, order=None):
    """Clips, one after another, whose cosines with QUERY are these."""
    scores = np.array(scores, np.float32)
    vectors = np.stack([scores, np.sqrt(1 - scores**2), 0 * scores, 0 * scores], axis=1)
    start = np.arange(len(scores)) * step
    order = list(range(len(scores))) if order is None else order
    return SegmentEmbeddings(
        vectors=vectors[order],
        start_sec=start[order],
        end_sec=(start + step)[order],
        option=[option] * len(scores),
        scope=["clip"] * len(scores),
        source="s3://bucket/match.mp4",
        job="3fa9c1d27b041e55",
        model_id="twelvelabs.marengo-embed-3-0-v1:0",
        media_type="video",
    )


def together(*parts):
    return replace(
        parts[0],
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("vectors", "start_sec", "end_sec")
        },
        **{name: [value for part in parts for value in getattr(part, name)] for name in ("option", "scope")},
    )


def rows_of(segments):
    return chart_of("a goal", segments, QUERY, lambda segment: "").rows


class TestBars:
    def test_each_clip_has_a_bar_with_its_cosine_as_height(self):
        [row] = rows_of(clips([0.05, 0.1, 0.2]))
        assert row.track == "visual" and row.highest == pytest.approx(0.2)
        assert [bar.height for bar in row.bars] == pytest.approx([0.25, 0.5, 1.0])
        assert [(bar.start_sec, bar.end_sec) for bar in row.bars] == [(0, 6), (6, 12), (12, 18)]
        assert [bar.left for bar in row.bars] == pytest.approx([0, 1 / 3, 2 / 3])
        assert [bar.width for bar in row.bars] == pytest.approx([1 / 3] * 3)
        assert [bar.is_best for bar in row.bars] == [False, False, True]

    def test_each_track_has_its_own_row_and_scale(self):
        rows = rows_of(together(clips([0.1, 0.05]), clips([0.01, 0.02], option="audio")))
        assert [(row.track, [bar.height for bar in row.bars]) for row in rows] == [
            ("visual", pytest.approx([1.0, 0.5])),
            ("audio", pytest.approx([0.5, 1.0])),
        ]

    def test_assets_are_not_clips(self):
        whole = replace(clips([0.9], step=18.0), scope=["asset"])
        assert len(rows_of(together(clips([0.1, 0.2, 0.3]), whole))[0].bars) == 3
        with pytest.raises(InputError, match=r"s3://bucket/match\.mp4 has no clips, and a timeline needs them"):
            rows_of(whole)

    def test_segments_out_of_order(self):
        scores = [0.1, 0.3, 0.2, 0.05]
        assert rows_of(clips(scores, order=[2, 0, 3, 1])) == rows_of(clips(scores))

    @pytest.mark.parametrize(
        ("scores", "heights"),
        [
            ([-0.1, 0.1, 0.3], [0.0, 0.5, 1.0]),
            ([-0.3, -0.2, -0.1], [0.0, 0.5, 1.0]),
            ([0.2, 0.2, 0.2], [1.0, 1.0, 1.0]),
            ([0.0, 0.0], [0.0, 0.0]),
            ([-0.2, -0.2], [0.0, 0.0]),
            ([0.2], [1.0]),
        ],
    )
    def test_the_scale_starts_at_0_or_the_lowest_cosine(self, scores, heights):
        assert [bar.height for bar in rows_of(clips(scores))[0].bars] == pytest.approx(heights, abs=1e-5)

    def test_2000_clips_share_bars_that_show_their_best(self):
        scores = np.random.default_rng(0).uniform(0.0, 0.2, 2000)
        scores[1234] = 0.5
        [row] = rows_of(clips(scores))
        assert len(row.bars) == MAX_BARS
        assert [bar.start_sec for bar in row.bars] == sorted({bar.start_sec for bar in row.bars})
        assert all(a.end_sec == b.start_sec for a, b in zip(row.bars, row.bars[1:], strict=False))
        [best] = [bar for bar in row.bars if bar.is_best]
        assert best.start_sec <= 1234 * 6 < best.end_sec and best.height == 1.0
        for bar in row.bars[:20]:
            within = scores[round(bar.start_sec / 6) : round(bar.end_sec / 6)]
            assert bar.cosine == pytest.approx(within.max(), abs=1e-6)

    @pytest.mark.parametrize(("seconds", "step"), [(6, 1), (18, 2), (60, 10), (600, 60), (4 * 3600, 1800)])
    def test_ticks_are_few_and_round(self, seconds, step):
        ticks = chart_of("a goal", clips([0.1], step=float(seconds)), QUERY, lambda segment: "").ticks
        assert list(ticks) == list(range(0, seconds + 1, step)) and len(ticks) <= 11

    def test_a_vector_from_another_model(self):
        with pytest.raises(InputError, match="vectors of two models or two lengths can't be compared"):
            chart_of("a goal", clips([0.1]), np.ones(512, np.float32), lambda segment: "")


class TestDrawn:
    @pytest.fixture
    def segments(self, client, match):
        return client.embed_media(match, segmentation=Segmentation.fixed(3))

    def test_labels_show_the_cosines(self, client, segments):
        drawn = Drawn(timeline("a goal", segments, client).html)
        visual = segments.select(option="visual", scope="clip")
        scores = cosines(client.embed_text("a goal"), visual.vectors)
        labels = [attributes["aria-label"] for attributes, _ in drawn.all("a")]
        assert labels[:4] == [
            f"visual, {start} to {end}: {score:.3f}"
            for start, end, score in zip(
                ("00:00", "00:03", "00:06", "00:09"), ("00:03", "00:06", "00:09", "00:12"), scores, strict=True
            )
        ]
        assert len(labels) == 12 and len(drawn.all("g")) == 3
        assert [text for text in drawn.texts("text") if ":" in text][:2] == ["00:00", "00:02"]

    def test_a_bar_links_to_its_time(self, client, segments):
        links = [attributes for attributes, _ in Drawn(timeline("a goal", segments, client).html).all("a")]
        assert [urlsplit(link["href"]).fragment for link in links[:4]] == ["t=0,3", "t=3,6", "t=6,9", "t=9,12"]
        assert {link["rel"] for link in links} == {"noopener noreferrer"}

    def test_the_keyboard_reaches_the_best_of_each_track(self, client, segments):
        links = [attributes for attributes, _ in Drawn(timeline("a goal", segments, client).html).all("a")]
        assert len([link for link in links if "tabindex" not in link]) == 3
        assert {link.get("tabindex", "-1") for link in links} == {"-1"}

    def test_without_links(self, client, segments):
        html = timeline("a goal", segments, client, link=False).html
        assert "http" not in html and Drawn(html).all("a") == []
        assert len(Drawn(html).all("rect", "bar")) == 12

    def test_a_given_vector_saves_the_call(self, client, local, segments):
        vector = client.embed_text("a goal")
        local.calls.reset()
        known = timeline("a goal", segments, client, vector=vector, link=False)
        assert local.calls["InvokeModel"] == 0
        assert known == timeline("a goal", segments, client, link=False)

    def test_any_kind_of_query(self, client, segments, local, match):
        still = local.put(client.frames(match, [1.0])[0], "still.jpg")
        assert Drawn(timeline(Query(image=still), segments, client).html).texts("bdi")[0] == still

    def test_2_7(self, old_client, match):
        segments = old_client.embed_media(match)
        drawn = Drawn(timeline("a goal", segments, old_client, link=False).html)
        assert set(drawn.texts("text")) >= {"visual-text", "visual-image", "audio"}

    def test_aws_errors(self, client, local, segments):
        local.faults = [Fault("InvokeModel", error="AccessDeniedException")]
        with pytest.raises(ServiceError, match="AccessDenied"):
            timeline("another goal", segments, client)

    def test_numbers_are_valid(self, client, segments):
        html = timeline("a goal", segments, client, link=False).html
        assert not re.search(r'="(nan|inf|-?\d+\.\d+e)', html)

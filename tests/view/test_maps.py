"""segment_map(): similar clips are close together."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

from bedrock_marengo import InputError, SegmentEmbeddings
from marengo_view import segment_map
from marengo_view.maps import MAX_POINTS, PALETTE

from .reading import Drawn

# Takes a second each time.
TSNE = pytest.param("tsne", marks=pytest.mark.slow)


def clips(count, source="s3://bucket/match.mp4", *, seed=0, around=None, option="visual", model_id="model"):
    """Random clips, or clips around a vector."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 16)).astype(np.float32)
    if around is not None:
        vectors = around + 0.05 * vectors
    start = np.arange(count) * 6.0
    return SegmentEmbeddings(
        vectors=vectors.astype(np.float32),
        start_sec=start,
        end_sec=start + 6.0,
        option=[option] * count,
        scope=["clip"] * count,
        source=source,
        job="3fa9c1d27b041e55",
        model_id=model_id,
        media_type="video",
    )


def points_of(view):
    """Place, colour and label of each point."""
    drawn = Drawn(view.html)
    return [(float(a["cx"]), float(a["cy"]), a["fill"], text) for a, text in drawn.all("circle")]


def spread(points):
    return np.linalg.norm(np.ptp(np.array([point[:2] for point in points]), axis=0))


class TestPlaces:
    @pytest.mark.parametrize("method", ["pca", TSNE])
    def test_similar_clips_are_close_together(self, method):
        random = np.random.default_rng(1)
        groups = [clips(12, f"s3://bucket/{n}.mp4", seed=n, around=random.normal(size=16)) for n in range(3)]
        points = points_of(segment_map(groups, method=method))
        assert len(points) == 36
        for group in (points[:12], points[12:24], points[24:]):
            assert spread(group) < spread(points) / 3

    @pytest.mark.parametrize("method", [None, TSNE])
    def test_the_same_segments_give_the_same_map(self, method):
        assert segment_map(clips(20), method=method) == segment_map(clips(20), method=method)

    def test_all_points_are_within_the_drawing(self):
        places = np.array([point[:2] for point in points_of(segment_map(clips(30)))])
        assert (places >= 0).all() and (places[:, 0] <= 720).all() and (places[:, 1] <= 480).all()

    @pytest.mark.parametrize("method", ["pca", TSNE])
    @pytest.mark.parametrize("count", [2, 3])
    def test_few_clips(self, method, count):
        assert len(points_of(segment_map(clips(count), method=method))) == count

    @pytest.mark.filterwarnings("error")
    def test_identical_clips(self):
        alike = clips(4, around=np.zeros(16))
        alike.vectors[:] = 1.0
        assert len(points_of(segment_map(alike))) == 4

    def test_custom_projection(self):
        points = points_of(segment_map(clips(3), method=lambda vectors: np.array([[0, 0], [1, 0], [0, 1]])))
        assert [point[:2] for point in points] == [(120.0, 480.0), (600.0, 480.0), (120.0, 0.0)]

    def test_too_many_clips_are_sampled_evenly(self):
        many = clips(2 * MAX_POINTS)
        view = segment_map(many, method=lambda vectors: vectors[:, :2])
        points = points_of(view)
        assert len(points) == MAX_POINTS
        assert Drawn(view.html).texts("figcaption")[0].startswith("3,000 of 6,000 clips")
        assert points[0][3].startswith("match.mp4, 00:00 to") and points[-1][3].endswith("9:59:54 to 10:00:00, visual")


class TestColours:
    def test_by_source(self):
        view = segment_map([clips(3, "s3://bucket/a/match.mp4"), clips(2, "s3://bucket/b.mp4")])
        assert [point[2] for point in points_of(view)] == [PALETTE[0]] * 3 + [PALETTE[1]] * 2
        assert Drawn(view.html).texts("bdi") == ["match.mp4", "b.mp4"]

    def test_files_with_the_same_name_are_distinguished(self):
        view = segment_map([clips(2, "s3://bucket/a/match.mp4"), clips(2, "s3://bucket/b/match.mp4")])
        assert len({point[2] for point in points_of(view)}) == 2
        assert Drawn(view.html).texts("bdi") == ["s3://bucket/a/match.mp4", "s3://bucket/b/match.mp4"]

    def test_the_most_frequent_sources_have_colours(self):
        sources = [clips(2 + (n > 10), f"s3://bucket/{n}.mp4", seed=n) for n in range(12)]
        view = segment_map(sources)
        legend = Drawn(view.html).texts("bdi")
        assert legend[0] == "11.mp4" and legend[-1] == "4 more" and len(legend) == len(PALETTE) + 1
        assert len({point[2] for point in points_of(view)}) == len(PALETTE) + 1

    def test_by_track(self):
        view = segment_map([clips(2), clips(2, option="audio")], color="track")
        assert Drawn(view.html).texts("bdi") == ["visual", "audio"]

    def test_by_time(self):
        colours = [point[2] for point in points_of(segment_map(clips(10), color="time"))]
        assert colours[0] == "#0072b2" and len(set(colours)) == 10
        assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in colours)

    def test_one_track_only(self):
        both = [clips(2), clips(3, option="audio")]
        assert len(points_of(segment_map(both, option="audio"))) == 3


class TestRefused:
    def test_segments_from_two_models(self):
        with pytest.raises(InputError, match=r"from models \['another', 'model'\], whose vectors can't be compared"):
            segment_map([clips(3), clips(3, model_id="another")])

    @pytest.mark.parametrize("segments", [[], clips(0), clips(1), [clips(1)]])
    def test_fewer_than_two_clips(self, segments):
        with pytest.raises(InputError, match=r"needs at least 2 clips, got [01]\.$"):
            segment_map(segments)

    def test_missing_track(self):
        with pytest.raises(InputError, match=r"got 0 with option='sound'; available tracks: \['visual'\]"):
            segment_map(clips(3), option="sound")

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ({"color": "red"}, "color='red' is not supported. Use 'source', 'track', 'time'"),
            ({"method": "lda"}, "method='lda' is not supported. Use 'umap', 'tsne', 'pca' or a callable"),
            ({"method": lambda vectors: vectors}, r"shape \(3, 16\). Expected \(3, 2\) with finite numbers"),
            ({"method": lambda vectors: vectors[:2, :2]}, r"shape \(2, 2\). Expected \(3, 2\) with finite numbers"),
            ({"method": lambda vectors: np.full((3, 2), np.nan)}, "finite numbers"),
        ],
    )
    def test_invalid_settings(self, setting, said):
        with pytest.raises(InputError, match=said):
            segment_map(clips(3), **setting)

    @pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
    def test_umap_is_not_installed(self):
        with pytest.raises(InputError, match="pip install umap-learn"):
            segment_map(clips(40), method="umap")

"""Fusion, moments and routing: orders known by arithmetic."""

import math
from types import MappingProxyType

import numpy as np
import pytest

from bedrock_marengo import ConfigurationError, InputError, Segment
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.search.fusion import Hit, SearchSettings, cut_off, find_moments, rank
from bedrock_marengo.search.migration import Inventory, plan_migration, take_inventory
from bedrock_marengo.search.retrieve import StoreSearch, check_models, retrieve
from bedrock_marengo.search.weights import ANCHORS, PRESETS, cosines, intent_weights, route, tracks_of, weights_of

JOB = "0123456789abcdef"
EVEN = {"visual": 1.0, "audio": 1.0}


def hit(score, track="visual", start=0.0, end=None, source="a", scope="clip", job=JOB):
    """A hit on s3://b/<source>.mp4; a clip lasts 6 s unless said otherwise."""
    end = start + 6 if end is None else end
    return Hit(Segment(f"s3://b/{source}.mp4", start, end, track, scope, job), score)


def spans(moments):
    return [(moment.source[7], moment.start_sec, moment.end_sec) for moment in moments]


class TestRank:
    def test_counts_from_one_within_each_track_and_scope(self):
        ranked = rank([hit(0.1), hit(0.3, start=6), hit(0.2, "audio"), hit(0.9, scope="asset", end=60)])
        found = {(h.segment.option, h.segment.scope, h.segment.start_sec): h.rank for h in ranked}
        assert found == {
            ("visual", "clip", 6.0): 1,
            ("visual", "clip", 0.0): 2,
            ("audio", "clip", 0.0): 1,
            ("visual", "asset", 0.0): 1,
        }

    def test_a_clip_of_two_jobs_counts_once_by_its_best(self):
        ranked = rank([hit(0.2), hit(0.3, job="f" * 16), hit(0.1, start=6)])
        assert [(h.score, h.rank) for h in ranked] == [(0.3, 1), (0.1, 2)]

    def test_equal_scores_keep_one_order_and_share_the_last_ones_rank(self):
        hits = [hit(0.5, start=start) for start in (12, 0, 6)] + [hit(0.9, start=18)]
        assert rank(hits) == rank(hits[::-1])
        assert [(h.segment.start_sec, h.rank) for h in rank(hits)] == [(18.0, 1), (0.0, 4), (6.0, 4), (12.0, 4)]


class TestRankFusion:
    def test_scores_are_sums_of_weight_over_sixty_and_rank(self):
        # A: visual 1st, audio 2nd. B: visual 2nd, audio 1st. With these weights A wins.
        hits = [hit(0.9), hit(0.8, start=6), hit(0.1, "audio"), hit(0.2, "audio", start=6)]
        a, b = find_moments(hits, SearchSettings(weights={"visual": 0.8, "audio": 0.1}))
        assert (a.start_sec, b.start_sec) == (0.0, 6.0)
        assert a.score == pytest.approx(0.8 / 61 + 0.1 / 62)
        assert b.score == pytest.approx(0.8 / 62 + 0.1 / 61)

    def test_second_in_two_tracks_beats_first_in_one(self):
        # 2/62 > 1/61.
        hits = [
            hit(0.9, source="v"),
            hit(0.8, source="c"),
            hit(0.9, "audio", source="s"),
            hit(0.8, "audio", source="c"),
        ]
        assert [m.source[7] for m in find_moments(hits, SearchSettings(weights=EVEN))] == ["c", "s", "v"]

    @pytest.mark.parametrize("preset", ["visual", "balanced"])
    def test_the_best_photograph_is_not_behind_clips_that_add_up_more_tracks(self, preset):
        tracks = ("visual", "audio", "transcription")
        clips = [hit(0.05 - start / 1000, track, start=start) for track in tracks for start in range(0, 60, 6)]
        photograph = hit(0.25, "image", end=0.0, source="z")
        weights = weights_of(preset, (*tracks, "image"))
        sources = [moment.source for moment in find_moments([*clips, photograph], SearchSettings(weights=weights, k=3))]
        assert sources.index("s3://b/z.mp4") <= 1

    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("tracks", [("visual", "audio", "transcription"), ("fused",), ("visual", "fused")])
    def test_no_photograph_is_before_a_clip_whose_picture_is_a_better_match(self, preset, tracks):
        clips = [hit(0.206 - start / 1000, track, start=start) for track in tracks for start in range(0, 60, 6)]
        other = [hit(0.01, track, start=start, source="o") for track in tracks for start in range(0, 60, 6)]
        photographs = [hit(c, "image", end=0.0, source=name) for c, name in ((0.069, "p"), (-0.0, "q"), (0.3, "z"))]
        settings = SearchSettings(weights=weights_of(preset, tracks_of(MODELS["3.0"])), k=99)
        order = [moment.source[7] for moment in find_moments([*photographs, *other, *clips], settings)]
        assert "".join(order).index("p") > "".join(order).rindex("a")
        assert order[-1] == "q"
        if preset in ("visual", "balanced"):
            assert order[0] == "z"
            assert order[11] == "p"

    def test_a_photograph_competes_with_the_pictures_of_2_7_too(self):
        clips = [hit(0.2, track) for track in ("visual-text", "visual-image", "audio")]
        settings = SearchSettings(weights=weights_of("visual", tracks_of(MODELS["2.7"])))
        bad, good = (hit(cosine, "image", end=0.0, source="p") for cosine in (0.1, 0.3))
        assert [m.source[7] for m in find_moments([*clips, bad], settings)] == ["a", "p"]
        assert [m.source[7] for m in find_moments([*clips, good], settings)] == ["p", "a"]

    @pytest.mark.parametrize("fusion", ["rrf", "scores"])
    def test_equal_hits_that_were_not_all_requested_count_for_nothing(self, fusion):
        seen = [hit(0.9 - start / 1000, start=start) for start in range(0, 600, 6)]
        silent = [hit(0.2 + start * 1e-10, "audio", start=start) for start in range(0, 600, 6)]
        settings = SearchSettings(weights=EVEN, fusion=fusion, k=50, fetch_k=50)
        found = find_moments(cut_off(seen + silent, 50), settings)
        assert spans(found) == spans(find_moments(cut_off(seen, 50), settings))

    def test_a_track_that_cant_distinguish_clips_reorders_nothing(self):
        seen = [hit(0.9 - start / 100, start=start) for start in (24, 6, 18, 0, 12)]
        silent = [hit(0.2, "audio", start=start) for start in (0, 6, 12, 18, 24)]
        settings = SearchSettings(weights=EVEN)
        assert spans(find_moments(seen + silent, settings)) == spans(find_moments(seen, settings))

    def test_the_scale_of_a_track_does_not_matter(self):
        hits = [hit(0.01), hit(0.02, start=6), hit(0.9, "audio", start=6), hit(0.95, "audio")]
        small = find_moments(hits, SearchSettings(weights=EVEN))
        large = find_moments([Hit(h.segment, h.score * 50) for h in hits], SearchSettings(weights=EVEN))
        assert spans(small) == spans(large)

    def test_each_tracks_rank_and_score_are_returned(self):
        hits = [hit(0.9), hit(0.2, "audio"), hit(0.3, "audio", start=6)]
        first = find_moments(hits, SearchSettings(weights=EVEN))[0]
        assert {track: (h.rank, h.score) for track, h in first.tracks.items()} == {
            "visual": (1, 0.9),
            "audio": (2, 0.2),
        }
        assert first.best.segment.option == "visual"

    def test_a_track_of_weight_zero_is_not_searched(self):
        settings = SearchSettings(weights={"visual": 1.0, "audio": 0.0})
        assert [target.track for target in settings.targets] == ["visual"]
        assert len(find_moments([hit(0.9, "audio")], settings)) == 0

    def test_times_a_hair_apart_are_one_clip(self):
        # 2.7's times are float32 widened to double.
        hits = [hit(0.9, start=6.199999809265137, end=12.4), hit(0.5, "audio", start=6.2, end=12.399999618530273)]
        [moment] = find_moments(hits, SearchSettings(weights=EVEN))
        assert set(moment.tracks) == {"visual", "audio"}


class TestScoreFusion:
    def test_scores_are_weighted_means(self):
        hits = [hit(0.12), hit(0.06, "audio"), hit(0.10, start=6), hit(0.24, "audio", start=6)]
        settings = SearchSettings(weights={"visual": 0.8, "audio": 0.2}, fusion="scores")
        b, a = find_moments(hits, settings)
        assert (b.start_sec, b.score) == (6.0, pytest.approx(0.8 * 0.10 + 0.2 * 0.24))
        assert (a.start_sec, a.score) == (0.0, pytest.approx(0.8 * 0.12 + 0.2 * 0.06))

    def test_a_missing_track_counts_as_nothing_found(self):
        hits = [hit(0.10), hit(0.09, start=6), hit(0.03, "audio", start=6)]
        settings = SearchSettings(weights=EVEN, fusion="scores")
        b, a = find_moments(hits, settings)
        assert (b.start_sec, b.score, a.score) == (6.0, pytest.approx(0.06), pytest.approx(0.05))

    def test_a_clip_without_a_fused_vector_and_an_image_without_tracks_gain_nothing(self):
        hits = [hit(0.1, "image", end=0.0, source="i"), hit(0.09), hit(0.09, "audio"), hit(0.2, "fused", source="f")]
        weights = {"visual": 0.8, "audio": 0.1, "image": 0.8, "fused": 0.95}
        f, a, i = find_moments(hits, SearchSettings(weights=weights, fusion="scores"))
        assert [m.source[7] for m in (f, a, i)] == ["f", "a", "i"]
        assert [m.score for m in (f, a, i)] == pytest.approx([0.95 * 0.2 / 1.85, 0.9 * 0.09 / 1.85, 0.8 * 0.1 / 1.85])


class TestMoments:
    def test_k_counts_moments_not_hits(self):
        hits = [hit(1 - start / 100, track, start) for start in (0, 6, 12) for track in EVEN]
        moments = find_moments(hits, SearchSettings(weights=EVEN, k=2))
        assert spans(moments) == [("a", 0.0, 6.0), ("a", 6.0, 12.0)]

    @pytest.mark.parametrize(
        "gap, expected",
        [
            (None, [(0.0, 6.0), (6.0, 12.0), (14.0, 20.0)]),
            (0.0, [(0.0, 12.0), (14.0, 20.0)]),
            (1.999, [(0.0, 12.0), (14.0, 20.0)]),
            (2.0, [(0.0, 20.0)]),
        ],
    )
    def test_neighbours_merge_by_their_gap(self, gap, expected):
        hits = [hit(0.9), hit(0.8, start=6), hit(0.7, start=14)]
        moments = find_moments(hits, SearchSettings(weights=EVEN, merge_gap_sec=gap))
        assert [(m.start_sec, m.end_sec) for m in moments] == expected

    def test_a_merged_moment_is_as_good_as_its_best_clip(self):
        hits = [hit(0.7), hit(0.9, start=6), hit(0.8, source="b")]
        first, second = find_moments(hits, SearchSettings(weights=EVEN, merge_gap_sec=0))
        assert spans([first, second]) == [("a", 0.0, 12.0), ("b", 0.0, 6.0)]
        assert first.score == pytest.approx(1 / 61)
        assert [h.segment.start_sec for h in first.hits] == [0.0, 6.0]
        assert first.tracks["visual"].rank == 1

    def test_the_missing_link_joins_two_moments(self):
        hits = [hit(0.9), hit(0.8, start=12), hit(0.7, source="b"), hit(0.6, start=6), hit(0.5, source="c")]
        moments = find_moments(hits, SearchSettings(weights=EVEN, merge_gap_sec=0, k=3))
        assert spans(moments) == [("a", 0.0, 18.0), ("b", 0.0, 6.0), ("c", 0.0, 6.0)]

    def test_other_sources_never_merge(self):
        moments = find_moments(
            [hit(0.9), hit(0.8, start=6, source="b")], SearchSettings(weights=EVEN, merge_gap_sec=99)
        )
        assert len(moments) == 2

    def test_at_most_this_many_of_a_source(self):
        hits = [hit(0.9), hit(0.8, start=6), hit(0.7, start=12), hit(0.1, source="b")]
        moments = find_moments(hits, SearchSettings(weights=EVEN, k=3, max_per_source=2))
        assert spans(moments) == [("a", 0.0, 6.0), ("a", 6.0, 12.0), ("b", 0.0, 6.0)]

    def test_only_these_sources_or_a_prefix(self):
        hits = [hit(0.9), hit(0.8, source="b/c"), hit(0.7, source="b/d"), hit(0.6, source="bb")]
        for sources, expected in ((["s3://b/a.mp4"], 1), (["s3://b/b/"], 2), (["s3://b/a.mp4", "s3://b/b/"], 3)):
            assert len(find_moments(hits, SearchSettings(weights=EVEN, sources=sources))) == expected

    @pytest.mark.parametrize(
        "start, end, expected", [(None, 6, [0]), (6, None, [6, 12]), (5.999, 12, [0, 6]), (7, 8, [6]), (18, None, [])]
    )
    def test_only_what_overlaps_a_time_range(self, start, end, expected):
        hits = [hit(0.9), hit(0.8, start=6), hit(0.7, start=12)]
        moments = find_moments(hits, SearchSettings(weights=EVEN, start_sec=start, end_sec=end))
        assert [m.start_sec for m in moments] == expected


class TestAssets:
    HITS = (
        hit(0.9, source="a"),
        hit(0.8, source="b"),
        hit(0.2, source="a", scope="asset", end=60),
        hit(0.3, source="b", scope="asset", end=60),
    )

    def test_left_alone_they_are_not_searched(self):
        settings = SearchSettings(weights=EVEN)
        assert {target.scope for target in settings.targets} == {"clip"}
        assert spans(find_moments(self.HITS, settings)) == [("a", 0.0, 6.0), ("b", 0.0, 6.0)]

    def test_a_gate_lets_only_the_best_assets_clips_in(self):
        moments = find_moments(self.HITS, SearchSettings(weights=EVEN, asset_gate=1))
        assert spans(moments) == [("b", 0.0, 6.0)]

    def test_a_boost_adds_the_assets_share(self):
        # Without: a 1/61 > b 1/62. With: a 1/61 + 1/62 = b 1/62 + 1/61, so twice the share turns it.
        b, a = find_moments(self.HITS, SearchSettings(weights=EVEN, asset_boost=2.0))
        assert b.score == pytest.approx(1 / 62 + 2 / 61)
        assert a.score == pytest.approx(1 / 61 + 2 / 62)
        assert (b.source[7], a.source[7]) == ("b", "a")

    def test_whole_assets_can_be_what_is_searched(self):
        moments = find_moments(self.HITS, SearchSettings(weights=EVEN, scope="asset"))
        assert spans(moments) == [("b", 0.0, 60.0), ("a", 0.0, 60.0)]

    def test_a_time_range_is_asked_of_clips_not_of_assets(self):
        settings = SearchSettings(weights={"visual": 1.0}, asset_gate=1, start_sec=100)
        assert [(target.scope, target.start_sec) for target in settings.targets] == [("clip", 100), ("asset", None)]


class TestWeights:
    def test_presets_are_the_published_ones(self):
        published = {"visual": (0.8, 0.1, 0.05), "dialogue": (0.2, 0.1, 0.7), "sound": (0.3, 0.6, 0.1)}
        published["balanced"] = (0.4, 0.3, 0.3)
        for name, values in published.items():
            assert tuple(PRESETS[name][track] for track in ("visual", "audio", "transcription")) == values

    @pytest.mark.parametrize("version", MODELS)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_each_preset_weighs_all_tracks_of_each_model(self, version, preset):
        tracks = tracks_of(MODELS[version])
        assert set(weights_of(preset, tracks)) == set(tracks) <= set(ANCHORS)

    def test_tracks_of_the_models(self):
        assert tracks_of(MODELS["3.0"]) == ("visual", "audio", "transcription", "fused", "image")
        assert tracks_of(MODELS["2.7"]) == ("visual-text", "visual-image", "audio", "image")

    @pytest.mark.parametrize(
        "weights, message",
        [
            ("sports", "not a preset"),
            ({"smell": 1}, "not a track of this model"),
            ({"visual": -1}, "0 or more"),
            ({"visual": math.nan}, "0 or more"),
            ({"visual": 0}, "nothing would be searched"),
            ({}, "nothing would be searched"),
        ],
    )
    def test_wrong_ones_are_refused(self, weights, message):
        with pytest.raises(InputError, match=message):
            weights_of(weights, tracks_of(MODELS["3.0"]))

    @pytest.mark.parametrize(
        "settings",
        [
            {"k": 0},
            {"k": True},
            {"fusion": "mean"},
            {"scope": "film"},
            {"merge_gap_sec": -1},
            {"start_sec": 5, "end_sec": 5},
            {"max_per_source": 0},
            {"asset_gate": 0},
            {"asset_boost": math.inf},
            {"sources": "s3://b/a.mp4"},
        ],
    )
    def test_wrong_settings_are_refused(self, settings):
        with pytest.raises(InputError):
            SearchSettings(weights=EVEN, **settings)


AXES = {"visual": np.array([1, 0], np.float32), "audio": np.array([0, 1], np.float32)}


class TestIntent:
    def test_is_softmax_of_alpha_times_cosine(self):
        query = np.array([3, 4], np.float32)  # cosines 0.6 and 0.8
        weights = route(query, AXES, alpha=10)
        assert weights["audio"] == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-5)
        assert sum(weights.values()) == pytest.approx(1)

    def test_alpha_sharpens(self):
        query = np.array([3, 4], np.float32)
        assert route(query, AXES, alpha=0) == {"visual": 0.5, "audio": 0.5}
        assert route(query, AXES, alpha=1000)["audio"] == pytest.approx(1)

    def test_anchors_are_embedded_once(self, local, client):
        query = client.embed_text(ANCHORS["audio"])
        local.calls.reset()
        first = intent_weights(client, query, ("visual", "audio", "transcription"))
        assert max(first, key=first.get) == "audio"
        assert intent_weights(client, query, ("visual", "audio", "transcription")) == first
        assert local.calls["InvokeModel"] == 3


class TestInventory:
    """Only the URI line makes a segment, whatever keys an old or a later row has."""

    METADATA = MappingProxyType({"model_id": "m", "media_type": "video", "source": "s3://b/a.mp4", "end_sec": 6.0})

    def test_rows_that_lack_a_key_or_have_one_more_count(self):
        rows = [(hit(0.0, start=6 * i).segment.uri, {**self.METADATA}) for i in range(3)]
        del rows[0][1]["source"], rows[1][1]["end_sec"], rows[1][1]["media_type"]
        rows[2][1]["confidence"] = 0.5
        held = take_inventory(rows)
        assert held.other == 0
        [holding] = held.of("m").values()
        assert (holding.segments, holding.media_type, holding.seconds) == (3, "video", 18.0)

    def test_a_row_that_names_no_model_counts_as_of_an_unknown_one(self):
        uri = hit(0.0).segment.uri
        held = take_inventory([(uri, {}), (uri, None)])
        assert {model: len(sources) for model, sources in held.models.items()} == {"unknown": 1}
        assert plan_migration(held, Inventory({}), "m").todo["s3://b/a.mp4"].segments == 2

    def test_other_texts_do_not_count_whatever_their_metadata(self):
        held = take_inventory([("a note", {**self.METADATA}), (None, {}), (f"see {hit(0.0).segment.uri}", {})])
        assert (held.models, held.other) == ({}, 3)


class TestModelsNeverMeet:
    @pytest.mark.parametrize("length", [1024, 256])
    def test_other_dimensions_are_refused(self, length):
        with pytest.raises(InputError, match=rf"512 dimensions .* have {length}: vectors of two models or two lengths"):
            cosines(np.ones(512, np.float32), np.ones((3, length), np.float32))

    def test_a_query_of_another_length_is_refused_before_a_store_is_asked(self, client):
        asked = []
        settings = SearchSettings(weights={"visual": 1.0})
        searches = [StoreSearch((target,), asked.append, "This store") for target in settings.targets]
        with pytest.raises(InputError, match=r"256 dimensions .* have 512"):
            retrieve(client, np.ones(256, np.float32), settings, searches)
        assert asked == []

    def test_other_model_ids_are_refused(self):
        old, new = MODELS["2.7"].model_id, MODELS["3.0"].model_id
        check_models([new, new, None], new, "This store")
        with pytest.raises(ConfigurationError, match="two models can't be compared"):
            check_models([new, old], new, "This store")

    @pytest.mark.parametrize("dimension", [256, 511, 512, 1024])
    def test_equal_rows_have_equal_cosines(self, dimension):
        random = np.random.default_rng(0)
        rows = random.normal(size=(3, dimension)).astype(np.float32)
        found = cosines(random.normal(size=dimension).astype(np.float32), np.tile(rows, (101, 1)))
        assert len(set(found.tolist())) == 3

    def test_cosines_do_not_depend_on_length(self):
        query = np.array([3, 4], np.float32)
        vectors = np.array([[6, 8], [0, 0.5], [-3, -4], [0, 0]], np.float32)
        assert cosines(query, vectors).tolist() == pytest.approx([1, 0.8, -1, 0])

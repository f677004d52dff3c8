"""What a search found, in one shape, whatever it was found with and whatever somebody wrote into it."""

from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from bedrock_marengo import InputError, Segment
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, names_of, results_from

JOB = "3fa9c1d27b041e55"
SEGMENT = Segment("s3://bucket/match.mp4", 6.0, 12.0, "visual", "clip", JOB)
METADATA = {"source": SEGMENT.source, "start_sec": 6.0, "end_sec": 12.0, "media_type": "video"}
MOMENT = {**METADATA, "start_sec": 0.0, "score": 0.03, "tracks": {"audio": {"rank": 1, "score": 0.2}}}


def document(metadata=METADATA, words="He shoots", segment=SEGMENT):
    return Document(page_content=f"{segment.uri}\n{words}", metadata=metadata)


def node(metadata=METADATA, words="He shoots"):
    return TextNode(text=f"{SEGMENT.uri}\n{words}", metadata=metadata)


class TestShapes:
    @pytest.mark.parametrize(
        ("hit", "score"),
        [
            (document(), None),
            ((document(), 0.7), 0.7),
            ((document(), np.float32(0.5)), 0.5),
            (node(), None),
            (NodeWithScore(node=node(), score=0.7), 0.7),
            (NodeWithScore(node=node()), None),
            ((node(), 0.7), 0.7),
        ],
    )
    def test_a_segment_of_either_framework(self, hit, score):
        [found] = results_from([hit])
        assert (found.segment, found.start_sec, found.end_sec, found.words) == (SEGMENT, 6.0, 12.0, "He shoots")
        assert (found.source, found.name, found.media_type) == (SEGMENT.source, "match.mp4", "video")
        assert found.score == score
        # Nobody said that the score is a cosine.
        assert found.tracks == {"visual": None}

    @pytest.mark.parametrize("hit", [document(MOMENT), NodeWithScore(node=node(MOMENT), score=0.03)])
    def test_a_moment_of_either_retriever(self, hit):
        [found] = results_from([hit])
        assert (found.start_sec, found.end_sec, found.score, found.tracks) == (0.0, 12.0, 0.03, {"audio": 0.2})

    def test_the_cores_own(self):
        hit = Hit(SEGMENT, 0.12)
        [moment] = find_moments([hit], SearchSettings(weights={"visual": 1.0}))
        found = results_from([moment, hit, SEGMENT, results_from([SEGMENT])[0]])
        assert [one.segment for one in found] == [SEGMENT] * 4
        assert [one.tracks for one in found] == [{"visual": 0.12}, {"visual": 0.12}, {"visual": None}, {"visual": None}]
        assert [one.score for one in found] == [moment.score, 0.12, None, None]

    def test_in_order_and_foreign_documents_are_passed_over(self):
        other = Segment("s3://bucket/other.mp4", 0.0, 6.0, "visual", "clip", JOB)
        foreign = [
            Document(page_content="a document of somebody else's"),
            Document(page_content=f"see {SEGMENT.uri}"),
            TextNode(text=""),
            ImageNode(image_path="cat.jpg"),
            (),
            (document(), 0.1, "three"),
            None,
            "s3://bucket/match.mp4",
            SEGMENT.uri,
            object(),
        ]
        found = results_from(iter([document(), *foreign, document(segment=other)]))
        assert [one.segment for one in found] == [SEGMENT, other]

    def test_an_image(self):
        image = Segment("s3://bucket/goal.jpg", 0.0, 0.0, "image", "clip", JOB)
        assert results_from([document({}, segment=image)])[0].media_type == "image"

    @pytest.mark.parametrize(
        "one", [document(), node(), NodeWithScore(node=node()), SEGMENT, Hit(SEGMENT, 0.1), results_from([SEGMENT])[0]]
    )
    def test_one_in_place_of_many_is_refused(self, one):
        with pytest.raises(InputError, match="pass a list, even for"):
            results_from(one)

    @pytest.mark.parametrize("nothing", [None, 7, "text", b"bytes", {"a": 1}, SimpleNamespace()])
    def test_what_holds_no_hits_is_refused(self, nothing):
        with pytest.raises(InputError, match="takes a list of hits"):
            results_from(nothing)


class TestWhatSomebodyWrote:
    """Anyone can write metadata: invalid values are ignored, and break nothing."""

    @pytest.mark.parametrize(
        "times",
        [
            {"start_sec": "6", "end_sec": "12"},
            {"start_sec": float("nan")},
            {"start_sec": float("-inf"), "end_sec": float("inf")},
            {"start_sec": None, "end_sec": None},
            {"start_sec": -1},
            {"start_sec": 13.0, "end_sec": 12.0},
            {"start_sec": 10**400, "end_sec": 10**401},
            {"start_sec": True, "end_sec": True},
            {"start_sec": [0], "end_sec": {}},
            {"end_sec": 1e300},
        ],
    )
    def test_times_that_are_none_are_the_segments_own(self, times):
        [found] = results_from([document({**METADATA, **times})])
        assert (found.start_sec, found.end_sec) == (6.0, 12.0)

    @pytest.mark.parametrize("tracks", ["7", 7, None, [], {}, {"<b>": {"score": 1}}, {"a b": {"score": 1}}, {7: {}}])
    def test_tracks_that_are_none(self, tracks):
        assert results_from([document({**METADATA, "tracks": tracks})])[0].tracks == {"visual": None}

    def test_scores_that_are_none(self):
        wrong = [None, "0.1", float("nan"), float("inf"), {}, [], True, 10**400, Decimal("0.1")]
        for score in wrong:
            [found] = results_from(
                [(document({**METADATA, "tracks": {"audio": {"score": score}, "visual": score}}), score)]
            )
            assert (found.score, found.tracks) == (None, {"audio": None, "visual": None})

    def test_a_score_in_a_users_own_metadata_is_not_the_searchs(self):
        assert results_from([document({**METADATA, "score": 5})])[0].score is None

    @pytest.mark.parametrize("kind", ["film", None, 7, ["video"], {}])
    def test_a_kind_that_is_none_is_guessed(self, kind):
        assert results_from([document({**METADATA, "media_type": kind})])[0].media_type == "video"

    def test_metadata_that_are_none(self):
        shape = SimpleNamespace(page_content=SEGMENT.uri, metadata="none")
        assert results_from([shape])[0].segment == SEGMENT

    def test_half_a_surrogate_pair_can_still_be_sent(self):
        assert results_from([document(words="goal \ud83d!")])[0].words == "goal ?!"

    @given(
        st.dictionaries(
            st.sampled_from(["start_sec", "end_sec", "score", "tracks", "media_type", "source"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("video"),
                lambda inner: (
                    st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from(["visual", "score", "rank", "<"]), inner, max_size=3)
                ),
                max_leaves=6,
            ),
        ),
        st.none() | st.floats() | st.text(max_size=3),
    )
    def test_nothing_breaks_it(self, metadata, score):
        [found] = results_from([(SimpleNamespace(page_content=SEGMENT.uri, metadata=metadata), score)])
        assert 0 <= found.start_sec <= found.end_sec < 1e7
        assert found.media_type in ("video", "audio", "image")
        assert all(cosine is None or abs(cosine) < 1e30 for cosine in [found.score, *found.tracks.values()])


class TestNames:
    def test_a_file_has_its_name_and_two_of_one_name_their_uris(self):
        sources = ["s3://a/x/match.mp4", "s3://a/y/match.mp4", "s3://a/final.mp4", "s3://a/final.mp4"]
        assert names_of(sources) == {
            "s3://a/x/match.mp4": "s3://a/x/match.mp4",
            "s3://a/y/match.mp4": "s3://a/y/match.mp4",
            "s3://a/final.mp4": "final.mp4",
        }


class TestAllowedPrefixes:
    @pytest.mark.parametrize(
        ("source", "prefixes", "allowed"),
        [
            ("s3://bucket/videos/a.mp4", None, True),
            ("s3://bucket/videos/a.mp4", [], False),
            ("s3://bucket/videos/a.mp4", ["s3://bucket/videos/"], True),
            ("s3://bucket/videos/a.mp4", ["s3://bucket/videos"], True),
            ("s3://bucket/videos/a.mp4", ["s3://bucket"], True),
            ("s3://bucket/videos/a.mp4", ["s3://bucket/videos/a.mp4"], True),
            ("s3://bucket/videos/a.mp4", ["s3://other/", "s3://bucket/"], True),
            ("s3://bucket/videos-of-others/a.mp4", ["s3://bucket/videos"], False),
            ("s3://bucket-of-others/a.mp4", ["s3://bucket"], False),
            ("s3://bucket/a.mp4", ["s3://bucket/videos/"], False),
            ("s3://bucket/videos", ["s3://bucket/videos/"], False),
        ],
    )
    def test_what_is_under_a_prefix(self, source, prefixes, allowed):
        assert is_allowed(source, prefixes) is allowed

    @pytest.mark.parametrize("prefixes", ["s3://bucket/", "s", 7, ["bucket/videos/"], ["s"], [None], [""], ["s3://"]])
    def test_what_is_not_a_prefix_is_refused(self, prefixes):
        with pytest.raises(InputError, match=r"S3 prefixes|is not an S3 URI"):
            check_allowed_prefixes(prefixes)

    def test_none_is_fine(self):
        check_allowed_prefixes(None)
        check_allowed_prefixes([])

"""Metrics by hand, questions as people write them, and intervals on cases whose answer is known."""

import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_marengo import InputError, MarengoWarning, Query, Segment
from bedrock_marengo.search import Question, RightMoment, evaluate, read_questions, results_from
from bedrock_marengo.search.metrics import bootstrap, is_right, metric_names, score, temporal_iou

JOB = "3fa9c1d27b041e55"
MATCH, FINAL, CAT = "s3://b/match.mp4", "s3://b/final.mp4", "s3://b/cat.jpg"


def clip(start_sec, end_sec, source=MATCH, track="visual"):
    return Segment(source, float(start_sec), float(end_sec), track, "clip", JOB)


IMAGE = clip(0, 0, CAT, "image")


def scores(hits, right, k=10, min_iou=None):
    return dict(zip(metric_names(k), score(results_from(hits), right, k, min_iou), strict=True))


class TestMetrics:
    def test_by_hand(self):
        right = [RightMoment(MATCH, 10, 16), RightMoment(FINAL, 0, 4)]
        hits = [clip(0, 6), clip(12, 18), clip(12, 18, track="audio"), clip(0, 4, FINAL)]
        found = scores(hits, right)
        assert (found["recall@1"], found["recall@5"], found["recall@10"]) == (0, 1, 1)
        assert found["MRR"] == 1 / 2
        # At ranks 2 and 4, where 1 and 2 would be ideal; the repeat at rank 3 counts for nothing.
        assert found["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))
        assert found["tIoU"] == pytest.approx((4 / 8 + 1) / 2)
        assert [found[f"R@{n}, IoU={m}"] for n in (1, 5) for m in (0.3, 0.5)] == [0, 0, 1, 1]

    def test_what_is_behind_k_counts_for_nothing(self):
        hits = [clip(20, 26), clip(30, 36), clip(0, 6)]
        assert scores(hits, [RightMoment(MATCH, 0, 6)], k=2) == dict.fromkeys(metric_names(2), 0.0)
        assert metric_names(2)[:2] == ("recall@1", "recall@2")

    def test_what_is_not_a_segment_takes_a_rank(self):
        assert score([None, *results_from([clip(0, 6)])], [RightMoment(MATCH, 0, 6)], 3)[2] == 1 / 2

    def test_one_hit_for_two_moments_is_not_better_than_ideal(self):
        found = scores([clip(0, 10)], [RightMoment(MATCH, 1, 3), RightMoment(MATCH, 4, 9)])
        assert (found["recall@1"], found["nDCG@10"]) == (1, 1)

    @pytest.mark.parametrize(
        ("hit", "right", "expected"),
        [
            (clip(0, 6), (2, 4), True),  # a short moment within a clip
            (clip(12, 18), (10, 16), True),  # the clip's middle, 15, is within
            (clip(12, 18), (10, 13), False),  # neither middle is within the other
            (clip(0, 6), (6, 12), False),  # they only touch
            (clip(0, 6, FINAL), (0, 6), False),
            (clip(0.1 + 0.2, 0.9), (0.3, 0.9), True),
            (clip(0, 6), (None, None), True),
            (clip(0, 0, track="image"), (0, 6), False),
        ],
    )
    def test_a_hit_is_right_by_its_middle(self, hit, right, expected):
        assert is_right(results_from([hit])[0], RightMoment(MATCH, *right)) is expected

    def test_or_by_its_overlap(self):
        [hit] = results_from([clip(0, 6)])
        assert is_right(hit, RightMoment(MATCH, 0, 2), min_iou=1 / 3)
        assert not is_right(hit, RightMoment(MATCH, 0, 2), min_iou=0.34)

    def test_an_image_has_no_time(self):
        found = scores([IMAGE], [RightMoment(CAT)])
        assert (found["recall@1"], found["MRR"]) == (1, 1)
        assert math.isnan(found["tIoU"]) and math.isnan(found["R@1, IoU=0.5"])

    times = st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda t: (float(t[0]), float(t[0] + t[1])))
    moments = st.builds(lambda source, t: (source, *t), st.sampled_from([MATCH, FINAL]), times)

    @given(st.lists(moments, max_size=12), st.lists(moments, min_size=1, max_size=4, unique=True), st.integers(1, 12))
    def test_all_are_from_0_to_1_and_grow_with_k(self, found, right, k):
        hits = results_from([clip(start, end, source) for source, start, end in found])
        right = [RightMoment(*moment) for moment in right]
        values = score(hits, right, k)
        assert all(0 <= value <= 1 for value in values)
        at_k, further = values[metric_names(k).index(f"recall@{k}")], score(hits, right, k + 1)
        assert at_k <= further[metric_names(k + 1).index(f"recall@{k + 1}")]
        # A right hit in front makes nothing worse.
        better = score([*results_from([clip(right[0].start_sec, right[0].end_sec, right[0].source)]), *hits], right, k)
        assert better[0] > 0 and better[metric_names(k).index("MRR")] == 1

    @given(times, times)
    def test_overlap_is_symmetric(self, a, b):
        assert temporal_iou(a, b) == temporal_iou(b, a) <= 1
        assert temporal_iou(a, a) == 1


class TestBootstrap:
    @pytest.mark.parametrize(("mean", "contain_0"), [(0.0, range(90, 99)), (0.5, range(1))])
    def test_95_of_100_intervals_contain_the_mean(self, mean, contain_0):
        values = np.random.default_rng(7).normal(mean, 1.0, (200, 100))
        low, high = bootstrap(values, seed=0)
        assert ((low < mean) & (mean < high)).sum() in range(90, 99)
        assert ((low < 0) & (high > 0)).sum() in contain_0
        # The normal distribution's own interval, about.
        assert (high - low).mean() == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.05)

    def test_it_is_the_same_again_and_another_with_another_seed(self):
        values = np.random.default_rng(7).random((30, 2))
        assert np.array_equal(bootstrap(values, 0), bootstrap(values, 0))
        assert not np.array_equal(bootstrap(values, 0), bootstrap(values, 1))

    def test_the_same_column_has_the_same_interval(self):
        values = np.random.default_rng(7).random((30, 1))
        low, high = bootstrap(np.hstack([values, values]), 0)
        assert low[0] == low[1] and high[0] == high[1]

    def test_what_is_not_known_counts_for_nothing(self):
        low, high = bootstrap(np.array([[0.25, math.nan]] * 3 + [[math.nan, math.nan]]), 0)
        assert (low[0], high[0]) == (0.25, 0.25)
        assert math.isnan(low[1]) and math.isnan(high[1])

    def test_many_questions_are_resampled_in_parts(self):
        assert bootstrap(np.full((3_000, 1), 0.5), 0).tolist() == [[0.5], [0.5]]


ROW = {"query": "a goal", "source": MATCH, "start_sec": 12.0, "end_sec": 18.0}


@dataclass
class Row:
    query: str
    source: str
    start_sec: float | None
    end_sec: float | None
    tags: tuple = ()


def written(tmp_path, *lines):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


class TestQuestions:
    def test_rows_of_one_query_are_one_question(self, tmp_path):
        path = written(
            tmp_path,
            {**ROW, "id": 7, "tags": ["goal"]},
            b"",
            {**ROW, "query": "a cat", "source": CAT, "start_sec": None, "end_sec": None},
            {**ROW, "query": " a goal ", "source": FINAL, "id": 8},
            {**ROW, "start_sec": 12.0000001},
        )
        assert read_questions(path) == [
            Question("a goal", (RightMoment(MATCH, 12, 18), RightMoment(FINAL, 12, 18)), {"id": 7, "tags": ["goal"]}),
            Question("a cat", (RightMoment(CAT),)),
        ]

    def test_what_editors_write(self, tmp_path):
        lines = [b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r", json.dumps({**ROW, "query": "a\u2028b"}).encode()]
        assert [question.query for question in read_questions(written(tmp_path, *lines, b"  "))] == [
            "a goal",
            "a\u2028b",
        ]

    @pytest.mark.parametrize("make", [dict, lambda **row: Row(**row), lambda **row: read_questions([row])[0]])
    def test_rows_of_python(self, make):
        assert read_questions([make(**ROW)])[0].right == (RightMoment(MATCH, 12, 18),)

    def test_data_frames(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame([ROW, {**ROW, "query": "a cat", "source": CAT, "start_sec": None, "end_sec": None}])
        assert [question.right[0] for question in read_questions(frame)] == [
            RightMoment(MATCH, 12, 18),
            RightMoment(CAT),
        ]
        frame = frame.astype({"start_sec": "Int64", "end_sec": "Int64"})
        assert read_questions(frame)[1].right == (RightMoment(CAT),)

    def test_queries_of_media_are_compared_as_such(self):
        rows = [{**ROW, "query": Query(image=Path("cat.jpg")), "start_sec": i} for i in range(2)]
        assert [len(question.right) for question in read_questions(rows)] == [2]

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"query": " "}, "query is empty"),
            ({"query": None}, "query=None: expected a text"),
            ({"source": "match.mp4"}, "source='match.mp4': expected the S3 URI"),
            ({"source": "s3://b/videos/"}, "source='s3://b/videos/': expected the S3 URI"),
            ({"source": None}, "source=None"),
            ({"start_sec": "12"}, "start_sec='12': expected seconds"),
            ({"start_sec": True}, "start_sec=True"),
            ({"start_sec": -1}, "start_sec=-1: expected seconds, 0 or more"),
            ({"end_sec": 1e12}, "less than 10,000,000"),
            ({"end_sec": 12.0001}, "a moment ends after it begins"),
            ({"end_sec": None}, "pass both, or null for both"),
            ({"source": CAT}, "an image has no time"),
        ],
    )
    def test_each_problem_is_named_with_its_line_in_one_error(self, tmp_path, change, problem):
        misspelt = {"start" if name == "start_sec" else name: value for name, value in ROW.items()}
        path = written(tmp_path, ROW, {**ROW, **change}, b"{", b"[1]", b"\xff", misspelt)
        with pytest.raises(InputError) as caught:
            read_questions(path)
        said = str(caught.value)
        assert "have 5 problems: line 2: " in said and problem in said
        for line in ("line 3: not JSON", "line 4: list: expected an object", "line 5: not UTF-8"):
            assert line in said
        assert "line 6: there is no start_sec" in said

    @pytest.mark.parametrize(
        ("questions", "problem"),
        [
            ("questions.jsonl", "pass a file as pathlib.Path"),
            (Path("/no/such/file.jsonl"), "there is no such file"),
            (Path("/"), "there is no such file"),
            (Path("s3://bucket/questions.jsonl"), "read from a local file"),
            ([], "There are no questions"),
            (ROW, "takes a list of rows"),
            (["a goal"], "row 1: 'a goal': expected query"),
            ([Question("a goal", ())], "row 1: the question has no right moment"),
        ],
    )
    def test_what_holds_no_questions_is_refused(self, questions, problem):
        with pytest.raises(InputError, match=problem.replace("(", "\\(")):
            read_questions(questions)

    def test_a_thousand_problems_are_counted(self):
        with pytest.raises(InputError, match=r"1,000 problems: .*; and 950 more"):
            read_questions([{**ROW, "query": ""}] * 1000)


def best(query):
    return [clip(12, 18), clip(0, 6, FINAL)]


def worst(query):
    return [clip(50, 56), clip(0, 6, FINAL)]


@pytest.mark.filterwarnings("ignore::bedrock_marengo.MarengoWarning")
class TestTable:
    def test_retrievers_side_by_side(self):
        found = evaluate(
            {"a": best, "b": worst}, [ROW, {**ROW, "query": "a foul", "start_sec": 40, "end_sec": 44}], k=5
        )
        assert found.names == ("a", "b")
        a, b = found.records()
        assert (a["recall@5"], b["recall@5"], b["recall@5 difference"]) == (0.5, 0, -0.5)
        assert (b["recall@5 low"], b["recall@5 high"]) == (-1, 0)
        assert found.cells("MRR") == ["baseline", "-0.500 [-1.000, +0.000]"]
        assert evaluate([best, worst], [ROW], baseline="worst").cells("MRR")[0] == "+1.000 [+1.000, +1.000]"
        lines = str(found).splitlines()
        assert lines[0].split() == [*("recall@1", "recall@5", "MRR", "nDCG@5", "tIoU"), "nDCG@5,", "difference"]
        assert lines[1].split() == ["a", "0.500", "0.500", "0.500", "0.500", "0.500", "baseline"]
        assert "fewer than 20 questions are too narrow" in str(found)

    def test_each_question_with_its_columns(self):
        found = evaluate(best, [{**ROW, "tags": "goal"}])
        [row] = found.records(per_question=True)
        assert (row["query"], row["tags"], row["row"], row["MRR"]) == ("a goal", "goal", "best", 1)

    def test_as_a_data_frame(self):
        pytest.importorskip("pandas")
        found = evaluate([best, worst], [ROW])
        assert list(found.to_pandas()["recall@1"]) == [1, 0]
        assert len(found.to_pandas(per_question=True)) == 2

    def test_as_html_every_name_is_text(self):
        html = evaluate({"<script>alert(1)</script>\ud800": best}, [ROW])._repr_html_()
        assert "<script>" not in html and "&lt;script&gt;" in html and "http" not in html
        html.encode()

    def test_only_images_have_no_overlap(self):
        found = evaluate(lambda query: [IMAGE], [{"query": "a cat", "source": CAT}])
        assert "-" in str(found).splitlines()[1].split()
        assert math.isnan(found.records()[0]["tIoU low"])

    def test_files_that_nothing_finds_are_warned_of(self):
        with pytest.warns(MarengoWarning, match=r"best never returned 1 of the 1 files .*'s3://b/macth.mp4'"):
            found = evaluate(best, [{**ROW, "source": "s3://b/macth.mp4"}])
        assert found.missing_sources == {"best": ["s3://b/macth.mp4"]}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(best, [ROW])

    @pytest.mark.parametrize(
        ("retriever", "settings", "problem"),
        [
            (best, {"k": 0}, "k=0: expected a whole number"),
            (best, {"min_iou": 0}, "min_iou=0: expected more than 0"),
            (best, {"seed": -1}, "seed=-1"),
            (best, {"baseline": "rrf"}, "baseline='rrf': there is no such row. Rows: best"),
            (5, {}, "5 is not a retriever"),
            ("best", {}, "'best' is not a retriever"),
            (dict, {}, "type is not a retriever"),
            ([], {}, "There are no retrievers"),
            (lambda query: "a text", {}, "takes a list of hits"),
            (lambda query: ["a text"], {}, "none of them is a segment"),
        ],
    )
    def test_what_is_wrong_is_named(self, retriever, settings, problem):
        with pytest.raises(InputError, match=problem):
            evaluate(retriever, [ROW], **settings)

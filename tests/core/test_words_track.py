"""Words as a track: tokens of any language, ranking by BM25, and fusion with what is no cosine."""

import sys
import threading

import pytest

from bedrock_marengo import ConfigurationError, Segment
from bedrock_marengo.contract.words import Words, segment_text
from bedrock_marengo.search import text_index
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.search.decompose import queries_in
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.queries import tracks_and_weights
from bedrock_marengo.search.targets import SearchTarget
from bedrock_marengo.search.text_index import TextIndex, TextRow, kept_index
from bedrock_marengo.search.tokens import tokens_of

JOB = "3fa9c1d27b041e55"
CLIPS = SearchTarget("words")


def clip(n, track="visual", source="s3://b/a.mp4"):
    return Segment(source, 6.0 * n, 6.0 * n + 6, track, "clip", JOB)


def photo(name):
    return Segment(f"s3://b/{name}.jpg", 0.0, 0.0, "image", "clip", JOB)


def row(segment, said, seen=""):
    return TextRow(segment_text(segment, Words(said, seen)), segment)


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("The PRICE is 4711.", "price"),
        ("the price is 4711.", "４７１１"),  # full width
        ("Die Straße", "STRASSE"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("서울 여행", "서울"),
        ("黒猫がいる", "黒猫"),
        ("黒猫がいる", "猫"),
        ("我想买一辆红色的汽车", "汽车"),
        ("สวัสดีครับ", "สวัสดี"),
        ("a red_car-42", "car 42"),
        ("مرحبا بالعالم", "مرحبا"),
        ("e\u0301tude", "étude"),
    ],
)
def test_a_query_finds_its_document_in_any_language(document, query):
    index = TextIndex.of([row(clip(0), document), row(clip(1), "nothing of the kind"), row(clip(2), "何もない")])
    assert [hit.segment for hit in index.search(query, CLIPS, 5)] == [clip(0)]


@pytest.mark.parametrize("text", ["", "?!… — 🎬", "\u200b\ud800"])
def test_what_has_no_tokens_finds_nothing(text):
    assert tokens_of(text) == []
    assert TextIndex.of([row(clip(0), "a goal"), row(clip(1), "?!")]).search(text, CLIPS, 5) == []
    assert TextIndex.of([row(clip(1), "?!")]).search("goal", CLIPS, 5) == []
    assert TextIndex.of([]).search("goal", CLIPS, 5) == []


def test_each_clip_is_indexed_once_with_what_is_said_and_seen():
    tracks = ("transcription", "audio", "visual", "visual")
    index = TextIndex.of([row(clip(0, track), "he shoots", "a red ball") for track in tracks] + [row(clip(1), "")])
    assert len(index) == 1
    for query in ("shoots", "ball"):
        assert [hit.segment for hit in index.search(query, CLIPS, 5)] == [clip(0)]
    assert not {"said", "seen", "06", "s3"} & set(tokens_of(index.texts["clip"][0]))


def test_an_index_is_for_so_many_clips(monkeypatch):
    monkeypatch.setattr(text_index, "MAX_CLIPS", 2)
    with pytest.raises(ConfigurationError, match=r"at most 2 clips .* words='store'"):
        TextIndex.of(row(clip(n), "a goal") for n in range(3))


def test_without_bm25s_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'bedrock-marengo\[hybrid\]'"):
        text_index.check_bm25()


class Store:
    """Rows that count how often they are read."""

    def __init__(self):
        self.rows, self.reads = [row(clip(0), "a goal")], 0

    def read(self):
        self.reads += 1
        return list(self.rows)

    def find(self, query="goal", user_filter=None, version=1, **settings):
        index = kept_index([self], user_filter, version, self.read, **settings)
        return [hit.segment for hit in index.search(query, CLIPS, 5)]


def test_rows_are_read_again_once_they_may_have_changed():
    store = Store()
    assert store.find() == store.find() == [clip(0)] and store.reads == 1
    store.rows.append(row(clip(1), "another goal"))
    assert len(store.find(version=2)) == 2 and store.reads == 2
    forget_contents()
    store.find(version=2)
    assert store.reads == 3
    assert len(store.find(is_local=True)) == 2 and store.reads == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [({"tenant": "a"}, {"tenant": "b"}), ({"n": 1}, {"n": True}), (None, {}), (["a"], ("a",)), ("x = 1", "x = 2")],
)
def test_each_filter_has_an_index_of_its_own(one, other):
    store = Store()
    store.find(user_filter=one)
    store.find(user_filter=other)
    store.find(user_filter=one)
    assert store.reads == 2


def test_a_filter_that_changed_or_may_change_is_another():
    store, mine = Store(), {"tenant": "a"}
    store.find(user_filter=mine)
    mine["tenant"] = "b"
    store.find(user_filter=mine)
    # What a function says may depend on who is asking.
    for _ in range(2):
        store.find(user_filter=len)
    assert store.reads == 4


def test_threads_share_one_index_and_a_process_keeps_only_so_many(monkeypatch):
    store, found = Store(), []
    threads = [threading.Thread(target=lambda: found.append(store.find())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[clip(0)]] * 8 and store.reads == 1
    monkeypatch.setattr(text_index, "_MOST_INDEXES", 2)
    for n in range(5):
        store.find(user_filter=n)
    assert len(text_index._kept) == 2


def words(segment, score):
    return Hit(segment, score, track="words")


def find(hits, **settings):
    weights = {"visual": 1.0, "words": 1.0, "image": 1.0}
    return find_moments(hits, SearchSettings(weights=weights, **settings))


def test_words_are_ranked_among_words_alone():
    hits = [Hit(clip(0), 0.1), Hit(clip(1), 0.2), words(clip(0), 9.0), words(clip(0, "audio"), 9.0)]
    moments = find(hits)
    assert [(m.start_sec, {t: h.rank for t, h in m.tracks.items()}) for m in moments] == [
        (0.0, {"words": 1, "visual": 2}),
        (6.0, {"visual": 1}),
    ]
    assert len(moments[0].hits) == 2


@pytest.mark.parametrize("fusion", ["rrf", "scores"])
def test_a_photograph_that_its_words_find_is_not_held_back_by_its_picture(fusion):
    clips = [Hit(clip(n), 0.2 - n / 100) for n in range(5)]
    plain = [*clips, Hit(photo("cat"), 0.01)]
    assert find(plain, fusion=fusion, k=6)[-1].source == "s3://b/cat.jpg"
    both = [*plain, words(photo("cat"), 7.0)]
    assert find(both, fusion=fusion)[0].source == "s3://b/cat.jpg"
    # By its words alone it is as good as the best clip, which goes first.
    assert find([*clips, words(photo("cat"), 7.0)], fusion=fusion)[1].source == "s3://b/cat.jpg"
    # Other photographs still come after every clip that is a better match.
    assert find([*both, Hit(photo("dog"), 0.0)], fusion=fusion, k=9)[-1].source == "s3://b/dog.jpg"


@pytest.mark.parametrize(
    ("cosines", "score"),
    [([0.12, 0.06], (0.12 + 0.06) / 2), ([-0.1], -0.1 / 2), ([], 1.0)],
)
def test_scores_of_words_are_scaled_to_the_best_cosine(cosines, score):
    hits = [Hit(clip(n), cosine) for n, cosine in enumerate(cosines)]
    found = find([*hits, words(clip(max(0, len(cosines) - 1)), 33.0)], fusion="scores")
    assert next(m for m in found if "words" in m.tracks).score == pytest.approx(score)
    assert next(m for m in found if "words" in m.tracks).tracks["words"].score == 33.0


def test_without_a_text_words_count_for_nothing():
    tracks = ("visual", "words")
    assert tracks_and_weights(tracks, {"visual": 1.0, "words": 2.0}, False) == (("visual",), {"visual": 1.0})
    assert tracks_and_weights(tracks, "intent", True) == (tracks, "intent")


def test_an_answer_is_text_and_a_photograph_is_searched_for_what_a_picture_is():
    answer = '{"visual": "marengo-query:1", "audio": "s3://b/k.mp3", "image": "no", "fused": "no"}'
    found = queries_in(answer, ("visual", "audio", "image", "fused"))
    assert {track: query.text for track, query in found.items()} == {
        "visual": "marengo-query:1",
        "audio": "s3://b/k.mp3",
        "image": "marengo-query:1",
    }

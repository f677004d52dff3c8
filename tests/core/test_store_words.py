"""Words by stores' own text searches: what was found by its URI is no hit, and enough rows are asked for."""

import pytest

from bedrock_marengo import Segment
from bedrock_marengo.contract.words import Words, segment_text
from bedrock_marengo.search.retrieve import StoreHit
from bedrock_marengo.search.store_words import hits_by_words, is_found_by_words


def clip(n, track="visual"):
    return Segment("s3://videos/games/final.mp4", 6.0 * n, 6.0 * n + 6, track, "clip", "3fa9c1d27b041e55")


@pytest.mark.parametrize(
    ("query", "said", "is_found"),
    [
        ("visual", "the goal of the day", False),
        ("visual", "a visual joke", True),
        ("visual", "visually stunning", True),
        ("videos", "a new video", True),
        ("games", "the game is on", True),
        ("games goals", "a goal", True),
        ("00", "the goal", False),
        ("s3 track", "the goal", False),
        ("final", "the goal", True),  # the file's name
        ("final", "", False),
        ("gamés", "the goal", False),
        ("automobile", "a car", True),  # synonyms, of which only the store knows
        ("VIDEOS", "Vidéo", True),
        ("猫", "黒猫がいる", True),
    ],
)
def test_a_segment_is_found_by_its_words(query, said, is_found):
    assert is_found_by_words(query, segment_text(clip(0), Words(said))) is is_found


def test_stores_are_asked_for_more_rows_until_there_are_enough_clips():
    texts = [segment_text(clip(0, track), Words("goal")) for track in ("visual", "audio", "transcription", "fused")]
    texts += [segment_text(clip(n), Words("a save" if n < 9 else "a goal")) for n in range(1, 11)]
    asked = []

    def search(text, rows):
        asked.append((text, rows))
        return [(stored, StoreHit(Segment.find(stored), stored, 1.0)) for stored in texts[:rows]]

    found = hits_by_words([search], "goal\0videos", 3)
    assert [hit.segment for hit in found] == [clip(0), clip(9), clip(10)]
    assert asked == [("goal videos", 9), ("goal videos", 36)]
    assert hits_by_words([search], "?!", 3) == [] and len(asked) == 2

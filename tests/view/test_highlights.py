"""Which words of a caption are marked."""

import unicodedata

import pytest

from bedrock_marengo import Query
from marengo_view import page, show
from marengo_view.highlights import parts_of, query_words

from .reading import Drawn


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("a rocket on its pad", "A Rocket on a pad, rockets on pads", ["Rocket", "pad"]),
        ("the who", "The Who play", ["Who"]),
        ("to be", "to be or not to be", ["be", "be"]),
        ("the", "The end", ["The"]),
        ("don't stop", "Don’t stop", ["Don", "stop"]),
        ("GROSSE straße", "Große Strasse", ["Große", "Strasse"]),
        ("ΟΔΟΣ", "η οδός της οδος", ["οδος"]),
        ("café", f"{unicodedata.normalize('NFD', 'Café')} cafés cafe", [unicodedata.normalize("NFD", "Café")]),
        ("हिन्दी", "यह हिन्दी है, हिन्द नहीं", ["हिन्दी"]),
        ("می‌خواهم", "من می‌خواهم بروم", ["می‌خواهم"]),
        ("火箭", "一枚火箭在发射台上", ["火箭"]),
        ("ロケット", "赤いロケットです", ["ロケット"]),
        ("จรวด", "นี่คือจรวดสีขาว", ["จรวด"]),
        ("ＲＯＣＫＥＴ 2", "rocket 2 and 20", ["rocket", "2"]),
        ("a.b c*", "a.b and c*", ["b", "c"]),
        ("<b>", "<b>b</b>", ["b", "b", "b"]),
        ("", "nothing", []),
        ("!?", "nothing!?", []),
    ],
)
def test_whole_words_of_the_query(query, text, marked):
    parts = list(parts_of(text, query_words(query)))
    assert "".join(part for part, _ in parts) == text
    assert [part for part, is_match in parts if is_match] == marked


@pytest.mark.parametrize("query", ["<b> & script", Query(text="<b> & script")])
def test_marks_are_the_only_elements(client, match, hit, query):
    words = "Said: <script>alert('b')</script> & <b>\nSeen: a &amp; b"
    hits = [hit(match, words=words)]
    for html in (page(hits, client=client, query=query), show(hits, client, query=query).html):
        drawn = Drawn(html)
        assert drawn.texts("p", "said") == ["Said <script>alert('b')</script> & <b>", "Seen a &amp; b"]
        assert drawn.all("mark") == [({}, text) for text in ("script", "b", "script", "b", "b")]

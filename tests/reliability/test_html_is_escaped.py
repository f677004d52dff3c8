"""HTML shown in notebooks and written to pages: whatever stands in a text, a key or a query, it is text."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bedrock_marengo import Segment, SegmentEmbeddings
from bedrock_marengo.search.results import SearchResult

pytest.importorskip("jinja2")
from marengo_view import page, segment_map, show, timeline

pytestmark = pytest.mark.promise("HTML is escaped")

JOB = "3fa9c1d27b041e55"
ATTACKS = [
    "</title></style></script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='alert(1)",
    "javascript:alert(1)",
    "<svg/onload=alert(1)>",
    "</bdi></li></main><iframe src=//example.org>",
    "{{ 7 * 7 }}{% include 'style.css' %}{# x #}",
    "&lt;b&gt;&amp;#60;&#x3c;script&#x3e;",
    "<!--",
    "]]>",
    "\0\ud800\u202e\u2028",
    "`${alert(1)}`",
]
texts = st.one_of(st.sampled_from(ATTACKS), st.text(st.characters()), st.text("<>\"'&/={}% abc-!", max_size=20))


class Skeleton(HTMLParser):
    """The elements of some HTML with the names of their attributes, and where these lead."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.links = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        # Words of the query are marked, wherever a text has them.
        if (tag, attributes) != ("mark", []):
            self.elements.append((tag, tuple(name for name, _ in attributes)))
        self.links += [value for name, value in attributes if name in ("href", "src", "poster", "action", "data")]


def found(key, words, track):
    segment = Segment(f"s3://bucket/{key}", 0.0, 6.0, "visual", "clip", JOB)
    tracks = {track: 0.1} if track else {}
    return SearchResult(
        segment=segment, start_sec=0.0, end_sec=6.0, media_type="audio", tracks=tracks, score=0.1, words=words
    )


def embedded(key):
    return SegmentEmbeddings(
        vectors=np.eye(4, 512, dtype=np.float32),
        start_sec=np.arange(4) * 6.0,
        end_sec=np.arange(1, 5) * 6.0,
        option=["visual"] * 4,
        scope=["clip"] * 4,
        source=f"s3://bucket/{key}",
        job=JOB,
        model_id="m",
        media_type="video",
    )


def drawings(client, key, text):
    """All that is drawn, with a text in every place that takes one. The media can't be read: cards say so."""
    hits, segments = [found(key, text, text), found(f"other/{key}", text, "visual")], embedded(key)
    vector = np.ones(512, np.float32)
    return [
        page(
            hits,
            client=client,
            query=text,
            note=text,
            segments=[segments],
            query_vector=vector,
            allowed_prefixes=["s3://x/"],
        ),
        show(hits, client).html,
        show(hits, client, allowed_prefixes=["s3://x/"]).html,
        timeline(text, segments, client, vector=vector).html,
        segment_map([segments, embedded(f"other/{key}")], method="pca").html,
    ]


@settings(max_examples=25)
@given(texts, texts)
@example("".join(ATTACKS[:10]), "".join(ATTACKS[:10]))
def test_no_text_changes_what_is_drawn(client, key, text):
    # A key is UTF-8; what stands in its place in a query or a caption may be anything.
    key = key.encode(errors="replace").decode() or "k"
    drawn = drawings(client, f"{key}.mp4", text or "x")
    assert all(html.encode() for html in drawn)
    plain = drawings(client, "plain.mp4", "x")
    for ours, harmless in zip(map(Skeleton, drawn), map(Skeleton, plain), strict=True):
        assert ours.elements == harmless.elements
        assert all(
            link.startswith(("#", "http://127.0.0.1", "data:image/", "data:video/", "data:audio/"))
            for link in ours.links
        )
        assert not [name for _, names in ours.elements for name in names if name.startswith("on")]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_typed_is_what_is_read(client, attack):
    """A query stands in the page as it was typed, once the HTML is read back."""

    class Heading(HTMLParser):
        read = None

        def handle_starttag(self, tag, attributes):
            self.read = "" if tag == "h1" else self.read

        def handle_data(self, data):
            if self.lasttag == "h1":
                self.read += data

    heading = Heading(convert_charrefs=True)
    heading.feed(page([], client=client, query=attack))
    assert heading.read.split("\n")[0] == attack.replace("\ud800", "\ufffd")

"""page(): a search as one HTML file."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bedrock_marengo import InputError, Query, Segmentation
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.results import results_from
from bedrock_marengo.search.weights import cosines
from marengo_view import page

from .reading import Drawn

MARKUP = """<img src=x onerror="alert('1')">&amp;</title></style></script><script>alert(2)</script>"""


@pytest.fixture
def segments(client, match):
    return client.embed_media(match, scopes=["clip"], segmentation=Segmentation.fixed(3))


@pytest.fixture
def hits(client, segments):
    """The two best moments on the visual track."""
    scores = cosines(client.embed_text("a goal"), segments.vectors)
    found = [Hit(segment, float(score)) for segment, score in zip(segments, scores, strict=True)]
    return find_moments(found, SearchSettings(weights={"visual": 1.0}, k=2))


class TestPage:
    def test_it_is_complete_and_well_formed(self, client, hits):
        html = page(hits, client=client, query="a goal")
        assert html.startswith("<!doctype html>")
        drawn = Drawn(html)
        assert drawn.texts("title") == drawn.texts("h1") == ["a goal"]
        assert [attributes["id"] for attributes, _ in drawn.all("li", "hit")] == ["hit-1", "hit-2"]
        assert [attributes["lang"] for attributes, _ in drawn.all("html")] == ["en"]
        assert len(drawn.all("video")) == 2

    def test_it_loads_nothing_and_its_policy_forbids_it(self, client, local, hits):
        html = page(hits, client=client, query="a goal")
        for word in ("http:", "https:", "X-Amz", local.access_key_id, "@import", "url("):
            assert word not in re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", html).replace("// ", ""), word
        [(policy, _)] = [(a, t) for a, t in Drawn(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy["content"].startswith("default-src 'none'; img-src data:; media-src data:;")
        assert f"script-src 'sha256-{digest}'" in policy["content"]

    def test_text_is_escaped(self, client, match, hit):
        hits = [hit(match, words=MARKUP), hit(match, tracks={MARKUP: 0.1}), hit(f"s3://no-such-bucket/{MARKUP}.mp4")]
        html = page(hits, client=client, query=MARKUP, note=MARKUP)
        drawn = Drawn(html)
        assert len(drawn.all("script")) == 1 and drawn.all("img") == []
        assert drawn.texts("h1") == drawn.texts("p", "page-note") == drawn.texts("p", "said") == [MARKUP]
        assert not [name for _, attributes, _ in drawn.elements for name in attributes if name.startswith("on")]

    def test_no_results(self, client):
        assert Drawn(page([], client=client, query="a goal")).texts("li") == ["No results."]

    def test_image_query(self, client, local, match, hits):
        still = local.put(client.frames(match, [1.0])[0], "still.jpg")
        drawn = Drawn(page(hits, client=client, query=Query(text="at night", image=still)))
        assert drawn.texts("h1") == [f"at night + {still}"]

    def test_files_outside_the_allowed_prefixes_are_not_read(self, client, local, hits):
        local.calls.reset()
        drawn = Drawn(page(hits, client=client, query="a goal", allowed_prefixes=["s3://other/"]))
        assert drawn.all("video") == [] and local.calls["s3:GetObject"] == 0

    def test_it_can_be_encoded(self, client, match, hit, tmp_path):
        html = page([hit(match, words="\u2028 goal \ufffe \x00")], client=client, query="a goal")
        (tmp_path / "hits.html").write_text(html, "utf-8")

    def test_without_jinja2_the_error_names_the_extra(self):
        script = "import sys; sys.modules['jinja2'] = None; import marengo_view"
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "marengo_view needs jinja2: pip install 'bedrock-marengo[view]'" in result.stderr


class TestTimelines:
    def test_each_source_has_one_with_bars_that_link_to_the_results(self, client, hits, segments):
        drawn = Drawn(page(hits, client=client, query="a goal", segments=[segments]))
        assert len(drawn.all("figure", "chart")) == 1
        best = [(moment.start_sec, moment.end_sec) for moment in hits]
        links = [attributes for attributes, _ in drawn.all("a")]
        # Each of the two moments is one clip on three tracks.
        assert sorted(link["href"] for link in links) == ["#hit-1"] * 3 + ["#hit-2"] * 3
        assert {link["href"] for link in links if clock_of(best[0]) in link["aria-label"]} == {"#hit-1"}

    def test_segments_of_one_file_need_no_list(self, client, hits, segments):
        alone, listed = (page(hits, client=client, query="a goal", segments=some) for some in (segments, [segments]))
        assert Drawn(alone).texts("main") == Drawn(listed).texts("main")

    def test_only_the_sources_of_the_best_results_in_their_order(self, client, local, match, hit):
        data = local.s3.get_object(Bucket=local.bucket, Key="videos/match.mp4")["Body"].read()
        uris = [local.put(data, f"videos/{number}.mp4") for number in range(7)]
        embedded = [client.embed_media(uri, scopes=["clip"]) for uri in uris]
        html = page([hit(uri, 0.0, 0.5) for uri in uris[:6][::-1]], client=client, query="a goal", segments=embedded)
        assert [text.rpartition(" in ")[2] for text in Drawn(html).texts("figcaption")] == [
            "5.mp4",
            "4.mp4",
            "3.mp4",
            "2.mp4",
            "1.mp4",
        ]

    def test_what_would_be_empty_has_none(self, client, match, hit, segments):
        one = client.embed_media(match, scopes=["clip"], segmentation=Segmentation.fixed(10), end_sec=10.0)
        assert Drawn(page([hit(match)], client=client, query="a goal", segments=one)).all("figure") == []
        # At a right angle to every segment.
        vector = np.linalg.svd(segments.vectors)[2][-1]
        for given, rows in ((vector, 0), (segments.vectors[0], 3)):
            html = page([hit(match)], client=client, query="a goal", segments=segments, query_vector=given)
            assert len(Drawn(html).all("g")) == rows

    def test_images_and_assets_have_none(self, client, local, match, hits, segments):
        whole = client.embed_media(match, scopes=["asset"])
        assert Drawn(page(hits, client=client, query="a goal", segments=[whole])).all("figure") == []
        image = local.put(client.frames(match, [1.0])[0], "still.jpg")
        found = client.embed_media(image)
        assert Drawn(page(results_from(found), client=client, query="a goal", segments=found)).all("figure") == []

    def test_a_given_vector_saves_the_call(self, client, local, hits, segments):
        vector = client.embed_text("a goal")
        local.calls.reset()
        page(hits, client=client, query="a goal", segments=segments, query_vector=vector)
        page(hits, client=client, query="a goal")
        assert local.calls["InvokeModel"] == 0

    def test_a_vector_from_another_model(self, client, hits, segments):
        with pytest.raises(InputError, match="vectors of two models or two lengths can't be compared"):
            page(hits, client=client, query="a goal", segments=segments, query_vector=np.ones(1024, np.float32))

    def test_2_7(self, old_client, match):
        segments = old_client.embed_media(match)
        drawn = Drawn(page(results_from(segments)[:2], client=old_client, query="a goal", segments=segments))
        assert {"visual-text", "visual-image", "audio"} <= set(drawn.texts("text"))
        assert len(drawn.all("video")) == 2

    def test_each_clip_of_a_moment_links_to_it(self, client, match, hit, segments):
        moment = replace(hit(match), start_sec=3.0, end_sec=9.0)
        links = Drawn(page([moment], client=client, query="a goal", segments=segments)).all("a")
        assert sorted(a["aria-label"].split(":", 2)[0] for a, _ in links if "visual" in a["aria-label"]) == [
            "visual, 00",
            "visual, 00",
        ]


def clock_of(times):
    return f"00:{int(times[0]):02d} to 00:{int(times[1]):02d}"

"""show(): playable results in a notebook."""

import base64
import io
from urllib.parse import parse_qs, urlsplit

import av
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bedrock_marengo import InputError
from marengo_local import Fault
from marengo_view import View, show

from ..films import beeps_in, frames_in, number_in, pixels_in, sound_in
from .conftest import FPS
from .reading import Drawn

MARKUP = """<img src=x onerror="alert('1')">&amp;</li></style><script>alert(2)</script>"""


def data_in(url, kind):
    head, _, data = url.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(data)


def number_of(url):
    return number_in(pixels_in(data_in(url, "image/jpeg")))


class TestLinked:
    def test_each_result_has_a_player_that_starts_at_its_moment(self, client, match, hit):
        drawn = Drawn(show([hit(match), hit(match, 0.0, 3.5)], client).html)
        players = [attributes for attributes, _ in drawn.all("video")]
        assert [urlsplit(player["src"]).fragment for player in players] == ["t=6,12", "t=0,3.5"]
        assert all("X-Amz-Signature=" in player["src"] for player in players)
        assert [number_of(player["poster"]) for player in players] == [9 * FPS, 17]
        assert [player["aria-label"] for player in players] == [
            "match.mp4, 00:06 to 00:12",
            "match.mp4, 00:00 to 00:03",
        ]
        assert all("controls" in player for player in players)

    def test_a_card_shows_file_time_tracks_and_words(self, client, match, hit):
        drawn = Drawn(show([hit(match, words="He shoots, he scores!")], client).html)
        assert drawn.texts("bdi", "name") == ["match.mp4"]
        assert drawn.texts("span", "times") == ["00:06 to 00:12"]
        assert drawn.texts("span", "track") == ["visual 0.123", "audio"]
        assert drawn.texts("p", "said") == ["He shoots, he scores!"]
        assert drawn.all("span", "score") == drawn.all("p", "note") == []

    def test_a_score_that_is_not_a_cosine_is_labelled_score(self, client, match, hit):
        drawn = Drawn(show([hit(match, score=0.5, tracks={"visual": None})], client).html)
        assert drawn.texts("span", "score") == ["score 0.500"]

    def test_files_with_the_same_name_are_distinguished(self, client, local, match, hit):
        other = match.replace("videos/", "more/")
        local.s3.copy_object(Bucket=local.bucket, Key="more/match.mp4", CopySource=match.removeprefix("s3://"))
        assert Drawn(show([hit(match), hit(other)], client).html).texts("bdi", "name") == [match, other]

    @pytest.mark.parametrize("seconds", [60, 7 * 24 * 3600])
    def test_links_expire(self, client, match, hit, seconds):
        [(player, _)] = Drawn(show([hit(match)], client, expires_sec=seconds).html).all("video")
        assert parse_qs(urlsplit(player["src"]).query)["X-Amz-Expires"] == [str(seconds)]

    def test_sound_and_images(self, client, local, match, song, hit):
        still = client.frames(match, [2.0])[0]
        image = hit(local.put(still, "stills/goal.jpg"), 0.0, 0.0, media_type="image", tracks={"image": 0.2})
        drawn = Drawn(show([hit(song, media_type="audio"), image], client).html)
        [(player, _)] = drawn.all("audio")
        assert urlsplit(player["src"]).fragment == "t=6,12"
        [(picture, _)] = drawn.all("img")
        assert picture["alt"] == "goal.jpg" and number_of(picture["src"]) == 20
        assert drawn.all("video") == []


class TestInline:
    def test_the_output_contains_the_moment(self, client, match, hit):
        html = show([hit(match)], client, inline=True).html
        [(player, _)] = Drawn(html).all("video")
        clip = data_in(player["src"], "video/mp4")
        frames = frames_in(clip)
        assert number_in(frames[0][1]) == 6 * FPS and number_in(frames[-1][1]) == 12 * FPS - 1
        assert beeps_in(sound_in(clip))[:2] == pytest.approx([0.0, 1.0], abs=0.05)
        assert number_of(player["poster"]) == 9 * FPS

    def test_the_output_has_no_links_and_no_credentials(self, client, local, match, song, hit):
        html = show([hit(match), hit(song, media_type="audio")], client, inline=True).html
        for secret in ("http", "X-Amz", local.access_key_id, "AWSAccessKeyId"):
            assert secret not in html

    def test_sound_and_images(self, client, local, match, song, hit):
        image = hit(local.put(client.frames(match, [2.0])[0], "goal.jpg"), 0.0, 0.0, media_type="image")
        drawn = Drawn(show([hit(song, media_type="audio"), image], client, inline=True).html)
        [(player, _)] = drawn.all("audio")
        with av.open(io.BytesIO(data_in(player["src"], "audio/mp4"))) as container:
            assert container.duration / 1_000_000 == pytest.approx(6.0, abs=0.05)
        [(picture, _)] = drawn.all("img")
        assert number_of(picture["src"]) == 20

    def test_a_long_moment_is_cut(self, client, match, hit, monkeypatch):
        from marengo_view import cards

        monkeypatch.setattr(cards, "CLIP_SEC", 2.0)
        drawn = Drawn(show([hit(match)], client, inline=True).html)
        [(player, _)] = drawn.all("video")
        assert len(frames_in(data_in(player["src"], "video/mp4"))) == 2 * FPS
        assert drawn.texts("p", "note") == ["Only the first 2 seconds are shown."]

    def test_width(self, client, match, hit):
        [(player, _)] = Drawn(show([hit(match)], client, inline=True, width=64).html).all("video")
        assert frames_in(data_in(player["src"], "video/mp4"))[0][1].shape[1] == 64
        assert pixels_in(data_in(player["poster"], "image/jpeg")).shape[1] == 128


class TestNotShown:
    """One file that can't be shown doesn't affect the others."""

    @pytest.mark.parametrize("inline", [False, True])
    def test_the_card_has_a_note(self, client, local, match, song, hit, inline):
        gone = match.replace("match", "gone")
        broken = local.put(b"no film at all", "broken.mp4")
        hits = [hit(gone), hit(match), hit(broken), hit(song), hit("s3://no-such-bucket-of-ours/a.mp4")]
        drawn = Drawn(show(hits, client, inline=inline).html)
        assert len(drawn.all("li", "hit")) == 5
        notes = drawn.texts("p", "note")
        assert "NoSuchKey" in notes[0] and "NoSuchBucket" in notes[-1]
        assert "can't be decoded" in notes[1]
        # A browser may play a format that PyAV can't decode, and a video without a frame.
        assert len(drawn.all("video")) == (2 if inline else 3)
        assert any(note.startswith("No thumbnail: ") and "has no video track" in note for note in notes)

    def test_access_denied(self, client, local, match, hit):
        local.faults = [Fault("s3:GetObject", error="AccessDenied")]
        drawn = Drawn(show([hit(match)], client).html)
        assert drawn.all("video") == []
        assert drawn.texts("p", "note")[0].startswith("No preview: GetObject for s3://")

    def test_files_outside_the_allowed_prefixes_are_neither_read_nor_signed(self, client, local, match, hit):
        secret = match.replace("videos/", "secret/")
        local.s3.copy_object(Bucket=local.bucket, Key="secret/match.mp4", CopySource=match.removeprefix("s3://"))
        local.calls.reset()
        drawn = Drawn(show([hit(secret), hit(match)], client, allowed_prefixes=[f"s3://{local.bucket}/videos/"]).html)
        assert len(drawn.all("video")) == 1
        assert drawn.texts("p", "note") == ["Not shown: this file is outside the allowed prefixes."]
        assert {call.body["key"] for call in local.calls.of("s3:GetObject")} == {"videos/match.mp4"}

    def test_no_results(self, client):
        assert Drawn(show([], client).html).texts("li") == ["No results."]

    def test_forged_documents_are_handled(self, client, match, hit):
        text = hit(match).segment.uri
        planted = [
            Document(page_content=text, metadata={"start_sec": "now", "tracks": "all", "media_type": MARKUP}),
            Document(page_content=text, metadata={"tracks": {MARKUP: {"score": "x"}}, "score": MARKUP}),
            Document(page_content=text.replace("match", "%00%1B%C2%85"), metadata={}),
            NodeWithScore(node=TextNode(text=text, metadata={"end_sec": None}), score=float("nan")),
            (Document(page_content=text), "near"),
        ]
        drawn = Drawn(show([*planted, hit(match)], client).html)
        assert len(drawn.all("li", "hit")) == 6 and len(drawn.all("video")) == 5


class TestText:
    def test_two_views_on_one_page_have_no_ids_in_common(self, client, match, hit):
        view = show([hit(match)], client)
        Drawn(view.html + view.html)

    def test_notebook_display(self, client, match, hit):
        view = show([hit(match)], client)
        assert isinstance(view, View)
        assert view._repr_html_() == view.__html__() == view.html
        assert "X-Amz" not in repr(view)


class TestRefused:
    @pytest.mark.parametrize("width", [0, 10_000, "320px;color:red", None])
    def test_invalid_widths(self, client, width):
        with pytest.raises(InputError, match="16 to 4096 pixels"):
            show([], client, width=width)


def test_framework_results_with_framework_embeddings(local, match):
    from langchain_core.vectorstores import InMemoryVectorStore

    from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments

    embeddings = MarengoEmbeddings(**local.client_options)
    store = InMemoryVectorStore(embeddings)
    add_segments(store, MarengoLoader(match, embeddings=embeddings, fused="only", show_progress=False).load())
    found = store.similarity_search_with_score("a goal", k=2)
    drawn = Drawn(show(found, embeddings).html)
    assert len(drawn.all("video")) == 2
    assert drawn.texts("span", "track") == ["fused", "fused"]
    assert drawn.texts("span", "score") == [f"score {score:.3f}" for _, score in found]

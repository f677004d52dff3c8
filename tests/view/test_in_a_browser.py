"""What is drawn, in Chromium: it plays from the right moment, by mouse and by keys, in light and dark."""

import re

import numpy as np
import pytest

from bedrock_marengo import Segmentation
from bedrock_marengo.search.results import results_from
from marengo_view import page, segment_map, show, timeline

from ..films import film, number_in
from .conftest import FPS

# Of a player's picture: a pixel of its left half and one of its right.
PIXELS = """(async (player) => {
  const [wide, high] = [player.videoWidth, player.videoHeight];
  const context = new OffscreenCanvas(wide, high).getContext("2d", { willReadFrequently: true });
  const at = (x) => [...context.getImageData(x, high / 3, 1, 1).data];
  // A player that has not been asked for a frame has none to draw, and leaves nothing.
  if (player.paused) player.currentTime = player.currentTime;
  for (let times = 0; times < 400 && !at(0)[3]; times++) {
    await new Promise((done) => setTimeout(done, 25));
    if (!player.seeking) context.drawImage(player, 0, 0);
  }
  return [at(Math.round(wide / 4)), at(Math.round(wide * 3 / 4))];
})"""
# Contrast of each text with what is behind it, by the formula of WCAG 2; opacity counts.
CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (color, alpha, behind) => {
    canvas.globalAlpha = 1; canvas.fillStyle = behind; canvas.fillRect(0, 0, 1, 1);
    canvas.globalAlpha = alpha; canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = getComputedStyle(document.body).backgroundColor;
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("script, style, title")) continue;
    const style = getComputedStyle(element);
    let alpha = 1;
    for (let at = element; at; at = at.parentElement) alpha *= Number(getComputedStyle(at).opacity);
    const text = light(over(element.closest("svg") ? style.fill : style.color, alpha, ground));
    const behind = light(over(ground, 1, ground));
    const ratio = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    found.push([ratio, element.className.baseVal ?? element.className, element.textContent.trim().slice(0, 30)]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def made():
    """What was made once: a page holds all that it shows."""
    return {}


@pytest.fixture
def written(request, made, tmp_path):
    """The page of a search: three moments of a film, a song, and a film that is gone."""
    if not made:
        client, match, song, hit = map(request.getfixturevalue, ("client", "match", "song", "hit"))
        segments = client.embed_media(match, scopes=["clip"], segmentation=Segmentation.fixed(3))
        hits = [hit(match, 6.0, 9.0, words="He shoots"), hit(match, 0.0, 3.0), hit(match, 9.0, 12.0)]
        hits += [hit(song, 2.0, 6.0, media_type="audio"), hit(match.replace("match", "gone"))]
        made["page"] = page(hits, client=client, query="a goal", segments=segments, note="By the stand-in.")
    path = tmp_path / "hits.html"
    path.write_text(made["page"], "utf-8")
    return path


def player(start_sec):
    return f"document.querySelector('.hit[data-start-sec=\"{start_sec}\"] :is(video, audio)')"


def shown_by(tab, video):
    """The number that a player shows."""
    left, right = tab.run(f"{PIXELS}({video})")
    return number_in(np.array([[left] * 8 + [right] * 8], np.uint8)[..., :3])


class TestThePage:
    def test_the_video_of_the_right_second_plays_from_there(self, opened, written):
        with opened(written) as tab:
            video = player(6.0)
            tab.until(f"{video}.readyState >= 2")
            assert tab.run(f"[{video}.currentTime, {video}.duration]") == [0, pytest.approx(3.0, abs=0.05)]
            assert shown_by(tab, video) == 6 * FPS
            tab.run(f"{video}.play()")
            tab.until(f"{video}.currentTime > 0.5")
            tab.run(f"{video}.pause()")
            assert shown_by(tab, video) == pytest.approx(60 + FPS * tab.run(f"{video}.currentTime"), abs=2)
            # Every other one is the second it says, too.
            for start_sec in (0.0, 9.0):
                tab.until(f"{player(start_sec)}.readyState >= 2")
                assert shown_by(tab, player(start_sec)) == start_sec * FPS
            tab.until(f"{player(2.0)}.readyState >= 2")
            assert tab.run(f"{player(2.0)}.duration") == pytest.approx(4.0, abs=0.05)

    def test_by_keys(self, opened, written):
        def at():
            return tab.run("document.activeElement.id")

        def playing():
            return tab.run(
                "[...document.querySelectorAll('.hit')].filter((hit) => "
                "hit.querySelector('video, audio')?.paused === false).map((hit) => hit.id)"
            )

        with opened(written) as tab:
            tab.press("p")
            assert (at(), playing()) == ("", [])
            for key, place in (("j", 1), ("j", 2), ("k", 1), ("k", 1), ("5", 5), ("j", 5), ("7", 5)):
                tab.press(key)
                assert at() == f"hit-{place}", key
            assert playing() == []
            tab.press("1")
            tab.until(f"{player(6.0)}.currentTime > 0.1")
            assert (at(), playing()) == ("hit-1", ["hit-1"])
            tab.press("4")
            tab.until(f"{player(2.0)}.currentTime > 0.1")
            assert (at(), playing()) == ("hit-4", ["hit-4"])
            tab.press("p")
            tab.until(f"{player(2.0)}.paused")
            tab.press("p")
            tab.until(f"!{player(2.0)}.paused")
            tab.press("1")
            tab.press("2")
            tab.press("3")
            tab.until(f"{player(9.0)}.currentTime > 0.1")
            assert playing() == ["hit-3"]
            assert tab.complaints == []

    def test_the_focus_is_seen_and_keys_go_on_from_it(self, opened, written):
        with opened(written) as tab:
            tab.press("j")
            assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            assert float(tab.run("getComputedStyle(document.activeElement).outlineWidth").removesuffix("px")) >= 2
            # A player has buttons, too.
            for _ in range(12):
                tab.press("Tab")
                if (place := tab.run("document.activeElement.closest('.hit').id")) != "hit-1":
                    break
            assert place == "hit-2"
            tab.press("j")
            assert tab.run("document.activeElement.id") == "hit-3"

    def test_a_bar_of_the_timeline_plays_its_hit_each_time(self, opened, written):
        with opened(written) as tab:
            for _ in range(2):
                tab.click('a[href="#hit-3"] rect')
                tab.until(f"{player(9.0)}.currentTime > 0.1")
                assert tab.run("document.activeElement.id") == "hit-3"
                tab.press("p")
                tab.until(f"{player(9.0)}.paused")
                tab.run(f"{player(9.0)}.currentTime = 0")

    def test_it_asks_for_nothing_and_nothing_is_complained_of(self, opened, written):
        with opened(written) as tab:
            tab.until(f"{player(6.0)}.readyState >= 2")
            tab.press("1")
            tab.until(f"{player(6.0)}.currentTime > 0.1")
            assert tab.complaints == []
            asked = [url for url in tab.requests if not url.startswith("data:")]
            assert asked == [written.as_uri()]

    def test_its_policy_lets_nothing_else_run_or_load(self, opened, written):
        html = written.read_text("utf-8")
        planted = '<script>window.ran = 1</script><img src="http://127.0.0.1:9/x" onerror="window.ran = 2">'
        written.write_text(html.replace("<h1", f"{planted}<h1"), "utf-8")
        with opened(written) as tab:
            assert tab.run("window.ran") is None
            assert len([said for said in tab.complaints if "Content Security Policy" in said]) >= 2

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read(self, opened, written, scheme):
        with opened(written, scheme=scheme) as tab:
            measured = tab.run(CONTRAST)
            ground = tab.run("getComputedStyle(document.body).backgroundColor")
        assert len(measured) > 30
        assert [text for text in measured if text[0] < 4.5] == []
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")

    @pytest.mark.parametrize("width", [320, 400, 1600])
    def test_it_fits_any_screen(self, opened, written, width):
        with opened(written, width=width) as tab:
            assert tab.run("document.documentElement.scrollWidth") <= width
            sizes = tab.run(
                "[...document.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect().height)"
            )
            assert min(sizes) > 10

    def test_what_shows_something_has_a_name(self, opened, written):
        with opened(written) as tab:
            nodes = tab.page.context.new_cdp_session(tab.page).send("Accessibility.getFullAXTree")["nodes"]
        named = {
            role: [node.get("name", {}).get("value", "") for node in nodes if node.get("role", {}).get("value") == role]
            for role in ("Video", "button", "link", "image", "heading", "meter")
        }
        assert named["Video"] == [f"match.mp4, {t}" for t in ("00:06 to 00:09", "00:00 to 00:03", "00:09 to 00:12")]
        assert named["button"] == [*(f"Play {name}" for name in named["Video"]), "Play song.mp4, 00:02 to 00:06"]
        files = ["match.mp4 3 results, 00:12", "song.mp4 00:12", "gone.mp4"]
        assert sorted(named["heading"]) == sorted(["a goal", *files, "Similarity over time"])
        assert all(re.match(r"(visual|audio|transcription), 00:", name) for name in named["link"])
        assert not [role for role, names in named.items() if "" in names]


class TestInANotebook:
    def test_a_linked_video_begins_at_its_moment(self, opened, client, match, hit, tmp_path):
        path = tmp_path / "cell.html"
        path.write_text(show([hit(match, 6.0, 9.0), hit(match, 2.5, 3.0)], client).html, "utf-8")
        with opened(path) as tab:
            for start_sec in (6.0, 2.5):
                video = player(start_sec)
                tab.until(f"{video}.readyState >= 2")
                assert tab.run(f"{video}.currentTime") == pytest.approx(start_sec, abs=1 / FPS)
                assert tab.run(f"{video}.duration") == pytest.approx(12.0, abs=0.1)
            tab.run(f"{player(2.5)}.play()")
            tab.until(f"{player(2.5)}.paused")
            # Chromium looks four times a second, more seldom when the machine is busy.
            assert 3.0 <= tab.run(f"{player(2.5)}.currentTime") < 6.0

    def test_the_colours_of_a_clip_are_the_sources(self, opened, client, local, hit, tmp_path):
        picture = np.full((96, 160, 3), (200, 60, 40), np.uint8)
        uri = local.put(film(seconds=2.0, audio=None, pictures=lambda number: picture), "red.mp4")
        path = tmp_path / "cell.html"
        path.write_text(show([hit(uri, 0.0, 2.0)], client, inline=True).html, "utf-8")
        with opened(path) as tab:
            tab.until(f"{player(0.0)}.readyState >= 2")
            left, right = tab.run(f"{PIXELS}({player(0.0)})")
        assert left == right == pytest.approx([200, 60, 40, 255], abs=6)

    @pytest.mark.parametrize(("ground", "text"), [("#ffffff", "#1f2328"), ("#111111", "#e0e0e0")])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read_whatever_the_notebooks_colours(
        self, opened, client, match, hit, tmp_path, ground, text, scheme
    ):
        # A notebook's theme is not the system's.
        segments = client.embed_media(match, scopes=["clip"])
        views = [show([hit(match, words="He shoots")], client), timeline("a goal", segments, client, link=False)]
        views += [segment_map(segments, method=lambda vectors: vectors[:, :2]), show([], client)]
        path = tmp_path / "cell.html"
        path.write_text(f'<body style="background: {ground}; color: {text}">{"".join(v.html for v in views)}', "utf-8")
        with opened(path, scheme=scheme) as tab:
            measured = [said for said in tab.run(CONTRAST) if said[2] != "\u25cf"]
        assert len(measured) > 15
        assert [said for said in measured if said[0] < 4.5] == []

    def test_a_bar_opens_the_film_in_a_tab_of_its_own(self, opened, client, match, tmp_path):
        segments = client.embed_media(match, scopes=["clip"])
        path = tmp_path / "cell.html"
        path.write_text(timeline("a goal", segments, client).html, "utf-8")
        with opened(path) as tab:
            assert tab.run("[...document.querySelectorAll('a')].every((a) => a.getAttribute('target') === '_blank')")
            assert tab.complaints == []

    def test_hits_of_embedded_media(self, opened, client, match, tmp_path):
        path = tmp_path / "cell.html"
        found = results_from(client.embed_media(match, scopes=["clip"], options=["visual"]))
        path.write_text(show(found, client, inline=True).html, "utf-8")
        with opened(path) as tab:
            for one in found:
                tab.until(f"{player(one.start_sec)}.readyState >= 2")
                assert shown_by(tab, player(one.start_sec)) == one.start_sec * FPS

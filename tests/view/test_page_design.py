"""The page of a search as people use it: in Chromium, on phones and wide screens, by keys, with a screen reader."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from bedrock_marengo import Query, Segmentation
from marengo_view import page, segment_map, show, timeline

from ..films import film

SCREENS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark"), (2200, "light"), (2200, "dark")]
PHONE = {"is_mobile": True, "has_touch": True}
WORDS = "Said: A goal, and what a goal!\nSeen: The goalkeeper looks up."
BOX = "document.querySelector('{}').getBoundingClientRect()"


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def views(request, made, tmp_path):
    """The page of a search, and what a notebook shows of it: a film with three moments, a tall one, a song, a photo."""
    if not made:
        client, local, match, song, hit = map(request.getfixturevalue, ("client", "local", "match", "song", "hit"))
        tall = local.put(film(seconds=4.0, width=96, height=160), "tall.mp4")
        photo = local.put(client.frames(match, [2.0])[0], "photo.jpg")
        hits = [
            hit(match, 6.0, 9.0, words=WORDS, tracks={"visual": 0.3, "audio": 0.0001}),
            hit(photo, 0.0, 0.0, media_type="image", tracks={"image": 0.2}),
            hit(match, 0.0, 3.0, tracks={"visual": 0.15}),
            hit(tall, 1.0, 3.0, words="No goal.", tracks={"visual": 0.1}),
            hit(song, 2.0, 6.0, media_type="audio", tracks={"audio": 0.1}),
            hit(match, 9.0, 12.0, tracks={"visual": 0.01}),
            hit(match.replace("match", "gone"), tracks={"visual": -0.01}),
        ]
        segments = client.embed_media(match, scopes=["clip"], segmentation=Segmentation.fixed(3))
        made["page.html"] = page(hits, client=client, query="the goal", segments=segments, note="By the stand-in.")
        parts = [show(hits, client, inline=True, query=Query(text="the goal"))]
        parts += [
            timeline("a goal", segments, client, link=False),
            segment_map(segments, method=lambda vectors: vectors[:, :2]),
        ]
        body = "".join(part.html for part in parts)
        made["cell.html"] = f'<!doctype html><html lang="en"><title>Cell</title><main><h1>Cell</h1>{body}</main></html>'
    for name, html in made.items():
        (tmp_path / name).write_text(html, "utf-8")
    return tmp_path


@pytest.fixture
def written(views):
    return views / "page.html"


def playing(tab):
    return tab.run("[...document.querySelectorAll('.playing')].map((hit) => hit.id)")


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_nothing(opened, views, width, scheme):
    for name in ("page.html", "cell.html"):
        with opened(views / name, width=width, scheme=scheme, **(PHONE if width == 390 else {})) as tab:
            tab.run("document.querySelectorAll('details').forEach((toggle) => (toggle.open = true))")
            if name == "page.html":
                tab.click("#hit-1 .play")
                tab.until("document.querySelector('#hit-1').matches('.started')")
            found = Axe().run(tab.page)
            assert found.violations_count == 0, found.generate_report()


def test_results_are_grouped_by_file_in_the_order_of_the_best(opened, written):
    with opened(written) as tab:
        groups = tab.run(
            "[...document.querySelectorAll('.file')].map((file) => [file.querySelector('.name').textContent,"
            " ...[...file.querySelectorAll('.number')].map((number) => number.textContent)])"
        )
    ranks = {"match.mp4": ["1", "3", "6"], "photo.jpg": ["2"], "tall.mp4": ["4"], "song.mp4": ["5"], "gone.mp4": ["7"]}
    assert groups == [[name, *numbers] for name, numbers in ranks.items()]


def test_a_player_shows_the_time_in_its_file(opened, written):
    with opened(written) as tab:
        assert tab.run("[...document.querySelectorAll('video, audio')].some((player) => player.controls)") is False
        tab.click("#hit-1 .play")
        tab.until("document.querySelector('#hit-1 .at').textContent === '00:07'")
        tab.click("#hit-1 .play")
        tab.until("!document.querySelector('.playing')")
        tab.run(
            "const seek = document.querySelector('#hit-1 input'); seek.value = 2.5; "
            "seek.dispatchEvent(new Event('input', { bubbles: true }))"
        )
        tab.until("document.querySelector('#hit-1 .at').textContent === '00:08'")
        assert tab.run("document.querySelector('#hit-1 input').ariaValueText") == "00:08"
        # 8.5 of 12 seconds, and the hit from 6 to 9.
        assert float(tab.run("document.querySelector('#hit-1').style.getPropertyValue('--at')")) == pytest.approx(
            8.5 / 12, abs=0.01
        )
        strip, part = tab.run(
            f"[{BOX.format('#hit-1 .strip')}, {BOX.format('#hit-1 .strip i')}].map((box) => [box.x, box.width])"
        )
        assert (part[0] - strip[0]) / strip[1] == pytest.approx(0.5, abs=0.01)
        assert part[1] / strip[1] == pytest.approx(0.25, abs=0.01)


def test_its_sound_is_decoded(opened, written):
    with opened(written) as tab:
        for number in (1, 5):
            tab.press(str(number))
            tab.until(f"document.querySelector('#hit-{number} :is(video, audio)').webkitAudioDecodedByteCount > 0")


def test_a_key_pauses_what_it_started(opened, written):
    with opened(written) as tab:
        for key in ("1", "p"):
            tab.press(key)
            tab.until("document.querySelector('#hit-1.playing')")
            tab.press(key)
            tab.until("!document.querySelector('.playing')")
        tab.press("1")
        tab.press("5")
        tab.until("document.querySelector('#hit-5.playing')")
        assert playing(tab) == ["hit-5"]


@pytest.mark.parametrize("how", ["click", "2"])
def test_a_photo_opens_large(opened, written, how):
    with opened(written) as tab:
        for close in ("Escape", "2", "click"):
            tab.click("#hit-2 img") if how == "click" else tab.press(how)
            tab.until("document.querySelector('dialog').open")
            assert tab.run("document.querySelector('dialog img').alt") == "photo.jpg"
            large, small = tab.run(f"[{BOX.format('dialog img')}, {BOX.format('#hit-2 img')}].map((box) => box.height)")
            assert large > small
            tab.click("dialog button") if close == "click" else tab.press(close)
            tab.until("!document.querySelector('dialog').open")
        assert tab.complaints == []


def test_a_tall_video_has_no_bars(opened, written):
    with opened(written) as tab:
        tab.until("document.querySelector('#hit-4 video').readyState >= 1")
        width, height = tab.run(f"(({{ width, height }}) => [width, height])({BOX.format('#hit-4 video')})")
        assert width / height == pytest.approx(96 / 160, abs=0.01)


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1280, 3), (2200, 6)])
def test_columns_fill_the_screen(opened, written, width, columns):
    with opened(written, width=width, **(PHONE if width == 390 else {})) as tab:
        lefts = tab.run(
            "[...document.querySelectorAll('.hit')].map((hit) => Math.round(hit.getBoundingClientRect().x))"
        )
        rights = tab.run("[...document.querySelectorAll('.hit')].map((hit) => hit.getBoundingClientRect().right)")
        hints = tab.run("document.querySelector('.keys').checkVisibility()")
        chart = tab.run("[document.querySelector('.wide')].map((chart) => [chart.scrollWidth, chart.clientWidth])[0]")
        assert tab.run("document.documentElement.scrollWidth") <= width
    assert len(set(lefts)) == columns and max(rights) > 0.95 * width
    assert hints is (width > 390)
    assert (chart[0] > chart[1]) is (width == 390)


def test_words_relevance_and_scores(opened, written):
    with opened(written) as tab:
        said = tab.run("[...document.querySelectorAll('#hit-1 .said')].map((line) => line.innerText)")
        assert said == ["Said A goal, and what a goal!", "Seen The goalkeeper looks up."]
        assert tab.run("[...document.querySelectorAll('#hit-1 mark')].map((m) => m.textContent)") == ["goal", "goal"]
        shares = tab.run(
            "[...document.querySelectorAll('.meter')].map((meter) => [meter.ariaValueNow, "
            "meter.firstChild.style.width])"
        )
        # Of a file's results, in the order of files: 1, 3, 6, 2, 4, 5, 7. None has more than the one before it.
        assert shares == [[share, f"{share}%"] for share in ("100", "50", "3", "100", "33", "33", "0")]
        assert not tab.run("document.querySelector('#hit-1 .track').checkVisibility()")
        assert "0.000" not in written.read_text("utf-8").partition("<script")[0]

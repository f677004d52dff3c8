"""What notebooks show of a plan, of usage, of segments and of moments: small tables, escaped."""

from html.parser import HTMLParser

import pytest

from bedrock_marengo import Segment, Segmentation
from bedrock_marengo.search.fusion import Hit, SearchSettings, find_moments
from bedrock_marengo.search.results import results_from

MARKUP = "<script>alert('&')</script>\u202e\n\ud800.mp4"


class Table(HTMLParser):
    """The rows of the one table, and the tags of everything."""

    def __init__(self, value):
        super().__init__(convert_charrefs=True)
        self.rows, self.tags = [], set()
        html = value._repr_html_()
        html.encode()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.lasttag in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def segments(client, video):
    return client.embed_media(video, scopes=["clip"], segmentation=Segmentation.fixed(1))


def test_segments(client, video, segments):
    shown = Table(segments)
    assert shown.rows[:2] == [["time", "track", "scope"], ["0 to 1 s", "visual", "clip"]]
    assert len(shown.rows) == 11
    assert f"match.mp4: segments {len(segments)}, dimension 512" in segments._repr_html_()
    assert Table(segments[0]).rows == [["file", video], ["time", "0 to 1 s"], ["track", "visual"], ["scope", "clip"]]
    assert len(Table(segments.select(option="none")).rows) == 1


def test_a_moment_and_a_result(video):
    hit = Hit(Segment(video, 6.0, 12.0, "visual", "clip", "0" * 16), 0.1234)
    [moment] = find_moments([hit], SearchSettings(weights={"visual": 1.0}))
    rows = [["file", video], ["time", "00:06 to 00:12"], ["visual", "0.123"]]
    assert Table(moment).rows == Table(results_from([moment])[0]).rows == rows


def test_a_plan_and_usage_name_a_cost_only_if_there_is_one(client, video):
    plan = client.plan([video], durations={video: 3600.0})
    rows = Table(plan).rows
    assert ["to start", "1 (1 video)"] in rows and f"cost       {dict(rows)['cost']}" in str(plan)
    assert "USD" not in client.usage._repr_html_()
    client.embed_media(video)
    client.embed_text("a goal")
    rows = dict(Table(client.usage).rows)
    assert rows.pop("cost").endswith(" USD")
    assert rows == {"texts": "1", "video jobs": "1", "media": "18 s"}
    assert "USD" not in client.plan([video])._repr_html_()


def test_names_are_text(client, local):
    hit = Hit(
        Segment(f"s3://{local.bucket}/{MARKUP.replace(chr(0xD800), '?')}", 6.0, 12.0, "visual", "clip", "0" * 16), 0.1
    )
    [moment] = find_moments([hit], SearchSettings(weights={"visual": 1.0}))
    for value in (hit.segment, moment, results_from([moment])[0], client.plan([f"s3://{local.bucket}/<b>.exe"])):
        assert Table(value).tags <= {"div", "table", "tr", "td", "th", "p"}

"""Captions: what is said, once, and when, whatever the format, encoding and faults of the file."""

import codecs
import re
import warnings
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_marengo import InputError, MarengoWarning, Transcript


@pytest.fixture(autouse=True)
def _no_unexpected_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", MarengoWarning)
        yield


def clock(sec, comma="."):
    return f"{int(sec // 3600):02}:{int(sec // 60 % 60):02}:{sec % 60:06.3f}".replace(".", comma)


def srt(cues):
    return "\n".join(f"{i}\n{clock(a, ',')} --> {clock(b, ',')}\n{text}\n" for i, (a, b, text) in enumerate(cues, 1))


def webvtt(cues):
    return "WEBVTT\n\n" + "\n".join(f"{clock(a)} --> {clock(b)} align:start\n{text}\n" for a, b, text in cues)


def sbv(cues):
    return "\n".join(f"{clock(a)},{clock(b)}\n{text}\n" for a, b, text in cues)


def ass(cues):
    cells = [(clock(a), clock(b), text.replace("\n", "\\N")) for a, b, text in cues]
    rows = "".join(f"Dialogue: 0,{start},{end},Default,,0,0,0,,{text}\n" for start, end, text in cells)
    fields = "Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
    styles = "[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n"
    return f"[Script Info]\n; a comment\n{styles}\n[Events]\nFormat: {fields}\n{rows}"


def ttml(cues):
    rows = "".join(
        f'<p begin="{clock(a)}" end="{clock(b)}">{text.replace(chr(10), "<br/>")}</p>' for a, b, text in cues
    )
    head = '<?xml version="1.0"?>\n<tt xmlns="http://www.w3.org/ns/ttml"><head><title>Not said</title></head>'
    return f"{head}<body><div>{rows}</div></body></tt>"


every_format = pytest.mark.parametrize("write", [srt, webvtt, sbv, ass, ttml])


def words(captions, start_sec=0, end_sec=1e9):
    return Transcript.parse(captions).words(start_sec, end_sec)


# All formats.


@every_format
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Two\nlines", "Two lines"),
        ("- Are you there?\n\n- Nearly home.", "- Are you there? - Nearly home."),
        ("<i>Hi</i> &amp; bye&#160;&#39;x&#39; &lt;b&gt;", "Hi & bye 'x' <b>"),
        (r"{\an8}print({x}) {or so}", "print({x}) {or so}"),
        ("if a &lt; b and c &gt; d", "if a < b and c > d"),
        ("5", "5"),
    ],
)
def test_text(write, text, said):
    assert words(write([(0, 2, text), (1234567, 1234569, "Late")]), 0, 2) == said
    # 342 hours.
    assert words(write([(0, 2, text), (1234567, 1234569, "Late")]), 1234567) == "Late"


@every_format
@pytest.mark.parametrize("line_break", ["\r\n", "\r", "\r\r\n"], ids=ascii)
def test_line_breaks(write, line_break):
    assert words(write([(0, 1, "a\nb"), (1, 2, "c")]).replace("\n", line_break)) == "a b c"


@every_format
def test_times_that_cannot_be_used_cost_only_their_cue(write):
    text = write([(0, 1, "zero"), (1, 2, "one"), (5, 3, "ends before it starts"), (3, 4, "three"), (4, 5, "big")])
    text = text.replace(clock(4), "9" * 400 + ":00:01.000").replace(clock(4, ","), "9" * 400 + ":00:01,000")
    with pytest.warns(MarengoWarning, match=r"2 of 5 cues|3 of 5 cues"):
        found = words(text)
    assert found.startswith("zero one")
    assert "ends" not in found and "big" not in found


@every_format
def test_cues_that_are_repeated_with_the_same_times_are_said_once(write):
    assert words(write([(0, 1, "No."), (0, 1, "No."), (1, 2, "No.")])) == "No. No."


# SRT and WebVTT.


@pytest.mark.parametrize(
    ("captions", "said"),
    {
        "00:00:01,000 --> 00:00:02,000\na 5\n2\n00:00:02,000 --> 00:00:03,000\nb": "a 5 b",
        "1\n00:00:01,000 --> 00:00:02,000\na\n7\n00:00:02,000 --> 00:00:03,000\nb": "a b",
        # A countdown without numbers or blank lines.
        "00:01.0 --> 00:02.0\n3\n00:02.0 --> 00:03.0\n2\n00:03.0 --> 00:04.0\n1": "3 2 1",
        "00:00:01.000-->00:00:02.000\na\n\n\n\n2\n00:00:02 --> 00:00:03\nb": "a b",
        "00:00:01,000 --> 00:00:02,000 X1:40 X2:600\na": "a",
        "00:00:01,000 --> 00:00:02,000 a b": "a b",
        "\ufeff1\n00:00:01,000 --> 00:00:02,000\na\n\n\ufeff1\n00:00:02,000 --> 00:00:03,000\nb": "a b",
        "00:01.000 --> 00:02.000\nx --> y\n5 --> 6": "x --> y 5 --> 6",
        '00:01.000 --> 00:02.000\n<font color="#fff">a</font><br>b List<int>': "a b List",
        "NOTE: said\n00:01.000 --> 00:02.000\na\n\nNOTE: said": "a NOTE: said",
        "WEBVTT\n\nSTYLE\n::cue {}\n\nNOTE\nnot said\n\nintro\n00:01.000 --> 00:02.000\na\n\nNOTE no\nno\n\n"
        "REGION\nid:a\n\nx/12-0\n00:02.000 --> 00:03.000\n<v Roger>b": "a b",
        "WEBVTT\n\n00:01.0 --> 00:02.0\na\n\nb c\n00:02.0 --> 00:03.0\nd\n\ntail\n00:03.0 --> 00:04.0\ne": "a b c d e",
        "WEBVTT\n\nthe intro\n00:01.0 --> 00:02.0\na\n\nthe end\n00:02.0 --> 00:03.0\nb": "a b",
        "WEBVTT\nKind: captions\n00:01.0 --> 00:02.0\na\n\nb c\n00:02.0 --> 00:03.0\nd": "a b c d",
        "1\n\n00:00:01,000 --> 00:00:02,000\n\na\n\n2\n\n00:00:02,000 --> 00:00:03,000\n\nb": "a b",
        # Files that were joined.
        "WEBVTT\n\n00:01.000 --> 00:02.000\na\n\nWEBVTT\nX-TIMESTAMP-MAP=LOCAL:0\n\n00:02.000 --> 00:03.000\nb": "a b",
        "0:00:01.000,0:00:02.000\na[br]b\n\n0:00:02.000,0:00:03.000\n1:30,2:45": "a b 1:30,2:45",
    }.items(),
)
def test_cues_are_known_by_their_times(captions, said):
    assert words(captions) == said


def test_words_of_cues_that_overlap_are_not_mixed():
    found = Transcript.parse(srt([(0, 8, "one two three four"), (2, 4, "Aside remark")]))
    assert found.words(0, 9) == "one two three four Aside remark"
    assert found.words(2, 4) == "two Aside remark"
    # Each until the next begins.
    assert words(srt([(0, 6, "one two"), (2, 8, "three four"), (4, 9, "five")]), 0, 4) == "one two three four"


# Rolling captions.

LINES = ["red apples fall", "on green grass", "at noon today", "and then rest"]


def rolling(shown, *, hold=False, inline=False):
    """Cues of 4 s, with up to ``shown`` lines each, the last of them new; as YouTube makes them and as others do."""
    for i, line in enumerate(LINES):
        first, *rest = line.split()
        new = first + "".join(f"<{clock(4 * i + at)}><c> {word}</c>" for at, word in enumerate(rest, 1))
        above = LINES[max(0, i + 1 - shown) : i]
        yield 4 * i + 0.01 * hold, 4 * i + 4, "\n".join([*above, new if inline else line] if above else [" ", line])
        if hold:
            yield 4 * i + 4, 4 * i + 4.01, "\n".join([*above[-(shown - 2) :] * (shown > 2), line, " "])


@every_format
@pytest.mark.parametrize(
    "cues",
    [
        list(rolling(2)),
        list(rolling(3)),
        list(rolling(2, hold=True)),
        [(a, b + 2, text) for a, b, text in rolling(2)],
        [(a, b - 0.5, text) for a, b, text in rolling(2)],
        [(a, b, text.replace("\n", " ")) for a, b, text in rolling(2)],
        [(2 * i, 2 * i + 2, " ".join(LINES[i // 2].split()[: 1 + 2 * (i % 2)])) for i in range(8)],
    ],
    ids=["two lines", "three lines", "held", "overlapping", "with gaps", "joined lines", "word by word"],
)
def test_a_rolling_line_is_said_once_when_it_is_spoken(write, cues):
    found = Transcript.parse(write(cues))
    assert [found.words(4 * i, 4 * i + 4) for i in range(3)] == LINES[:3]
    assert found.words(12, 99) == LINES[3]


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("shown", [2, 3])
def test_inline_times(hold, shown):
    found = Transcript.parse(webvtt(rolling(shown, hold=hold, inline=True)))
    assert [found.words(4 * i, 4 * i + 4) for i in range(4)] == LINES
    assert found.words(5, 6) == "green"


def test_a_line_is_held_without_its_inline_times():
    text = webvtt([(0, 2, "Hello<00:00:01.000><c> there</c>"), (2, 4, "Hello there"), (4, 6, "Next")])
    assert words(text) == "Hello there Next"


def test_a_word_with_an_inline_time_is_not_spread_over_the_pause_behind_it():
    text = "WEBVTT\n\n00:00.000 --> 00:12.000\nred<00:01.000><c> app</c><00:01.500>les<00:02.000> fall"
    assert words(text, 0, 3) == "red apples fall"


@every_format
@pytest.mark.parametrize(
    ("cues", "said"),
    [
        (["No.", "No."], "No. No."),
        (["No.", "No.", "No."], "No. No. No."),
        (["No.\nNo.", "No."], "No. No. No."),
        (["No.", "No.\nI said no.", "Why?", "Because."], "No. No. I said no. Why? Because."),
        (["over the", "the moon", "and back"], "over the the moon and back"),
        (["la la", "la la\nla la", "la la\nend"], "la la la la end"),
    ],
)
def test_what_is_said_twice_is_kept_twice(write, cues, said):
    assert words(write([(i, i + 1, text) for i, text in enumerate(cues)])) == said


def test_a_chorus_with_inline_times_is_kept():
    cues = [(i, i + 1, f"la<{clock(i + 0.5)}> la") for i in range(3)]
    assert words(webvtt(cues)) == "la la la la la la"


# ASS and TTML.


def test_ass():
    head, fields = (
        "[Script Info]\n[V4 Styles]\nStyle: a,b,not-a-colour\n[Events]\n",
        "Format: Start, End, Style, Text\n",
    )
    rows = r"""Dialogue: 0:00:01.00,0:00:02.00,a,{\k20}Hello,\Nwide\hworld print(\{x\})
Comment: 0:00:02.00,0:00:03.00,a,not said
Dialogue: 0:00:03.00,0:00:04.00,a,{\p1}m 0 0 l 9 9{\an8} l 0 9{\p0}Sign"""
    assert words(head + fields + rows) == "Hello, wide world print({x}) Sign"


TT = '<tt xmlns="http://www.w3.org/2006/10/ttaf1" xmlns:ttp="a#parameter" ttp:frameRate="25" ttp:tickRate="1000">'


@pytest.mark.parametrize(
    ("body", "said"),
    {
        '<div begin="10s"><p begin="1s" end="2s">A</p></div>': (11, "A"),
        '<div><div><p begin="5000t" dur="1s">A</p></div></div>': (5, "A"),
        '<div><p begin="00:00:08:12" end="00:00:09:00">A</p></div>': (8.48, "A"),
        '<div><p begin="0.5m" dur="0.0005h">A</p></div>': (30, "A"),
        '<div><p begin="1500ms" end="9s"><span>A</span>pple <metadata/>\n  pie</p></div>': (1.5, "Apple"),
        '<div timeContainer="seq"><p dur="2s">-</p><p dur="2s">A</p></div>': (2, "A"),
        '<div><p><span begin="3s" end="4s">A</span> <span begin="8s" end="9s">B</span></p></div>': (3, "A"),
    }.items(),
)
def test_times_of_ttml(body, said):
    start, word = said
    assert words(f"{TT}<body>{body}</body></tt>", start, start + 2) == word


# Encodings.


@every_format
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_the_byte_order_mark_says_the_encoding(tmp_path, write, mark, encoding):
    (tmp_path / "a.srt").write_bytes(mark + write([(0, 1, "schön 日本 😀")]).encode(encoding))
    assert Transcript.of(tmp_path / "a.srt").words(0, 9) == "schön 日本 😀"


def test_xml_may_declare_its_encoding(tmp_path):
    declared = ttml([(0, 1, "schön")]).replace('"1.0"', '"1.0" encoding="ISO-8859-1"')
    (tmp_path / "a.ttml").write_bytes(declared.encode("latin-1"))
    assert Transcript.of(tmp_path / "a.ttml").words(0, 9) == "schön"
    assert words(declared) == "schön"


@every_format
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("schön", "cp1252"),
        ("日本", "shift_jis"),
        ("中文", "gbk"),
        ("a", "utf-16-le"),
        ("a", "utf-16-be"),
        ("a", "utf-32-le"),
    ],
)
def test_a_file_in_another_encoding_is_refused_by_name(tmp_path, write, text, encoding):
    (tmp_path / "a.srt").write_bytes(write([(0, 1, text)]).encode(encoding))
    with pytest.raises(InputError, match=r"a\.srt: .*save them as UTF-8"):
        Transcript.of(tmp_path / "a.srt")


# Hostile files.

ONE = "00:00:00.000 --> 00:00:01.000\n"
HOSTILE = {
    "a reference of 5,000 digits": ONE + "&#" + "9" * 5000 + ";",
    "hexadecimal": ONE + "&#x" + "f" * 5000 + ";",
    "hours of 400 digits": "9" * 400 + ":00:00,000 --> 00:00:01,000\na",
    "hours of 5,000 digits": ONE.replace("00:00:01", "9" * 5000 + ":00:01") + "a",
    "1e308": "1e308 --> 1e309\na",
    "negative": "-00:00:05,000 --> -00:00:01,000\na",
    "end before start": "00:00:05,000 --> 00:00:01,000\na",
    "no end": "00:00:05,000 -->\na",
    "NUL": ONE + "a\0b",
    "empty": "",
    "entities": '<?xml version="1.0"?><!DOCTYPE tt [<!ENTITY a "a">]><tt><p begin="1s" end="2s">&a;</p></tt>',
    "deep and unclosed": "<tt>" + "<div>" * 100_000,
    "huge ticks": f'<tt tickRate="0"><p begin="{"9" * 400}t" end="1s">a</p></tt>',
    "not TTML": '<?xml version="1.0"?><transcript><p t="0">a</p></transcript>',
    "no times": "<tt><body><p>a</p></body></tt>",
    "ASS without events": "[Script Info]\nTitle: a",
    "ASS of odd times": "[Script Info]\nDialogue: 0,x,\nDialogue: \nDialogue: 0,"
    + "9" * 400
    + ":00:00.0,0:00:01.0,,,,,,,a",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.srt").write_text(text)
    with pytest.raises(InputError, match=r"a\.srt: "):
        Transcript.of(tmp_path / "a.srt")


@pytest.mark.parametrize(
    "unit", ["<", "<a", "{\\p1", "&#1", "1:", "1-", "\n", "a ", "a\n", "<00:00.5>", "\n\nNOTE", ONE]
)
@pytest.mark.parametrize(
    "head", [ONE, "WEBVTT\n\n" + ONE, "[Script Info]\nDialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,"]
)
def test_long_files_are_read_in_linear_time(head, unit):
    """A quadratic step would take minutes: ``faulthandler_timeout`` would end the test."""
    text = head + unit * (400_000 // len(unit))
    assert isinstance(Transcript.parse(f"{text}\n\n{ONE}{text}"), Transcript)


def test_deep_markup_needs_no_recursion():
    depth = 100_000
    text = (
        f'<tt>{"<div>" * depth}<p begin="0s" end="1s">{"<span>" * depth}a{"</span>" * depth}</p>{"</div>" * depth}</tt>'
    )
    assert words(text) == "a"


PIECES = [
    "\n",
    "\r\n",
    " ",
    "1",
    "-",
    "00:00:01,000",
    "0:1",
    "-->",
    ",",
    "9" * 400,
    "<",
    ">",
    "<c>",
    "<00:00.5>",
    "&amp;",
]
PIECES += [
    "&#",
    ";",
    "{\\an8}",
    "{",
    "}",
    "WEBVTT",
    "NOTE",
    "[Script Info]",
    "Dialogue: 0,",
    "Format: Start, End",
    "a",
    "\\N",
]
PIECES += [
    "<tt>",
    '<p begin="1s"',
    ' end="1:0"',
    "</p>",
    "</tt>",
    "\ufeff",
    "\x1b[31m",
    "\ud800",
    "1e308",
    "é",
    "\u2028",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from(["", ONE, "<tt>", "[Events]\n"]))
def test_any_text_gives_words_or_our_error(text, head):
    with warnings.catch_warnings(), suppress(InputError):
        warnings.simplefilter("ignore", MarengoWarning)
        found = Transcript.parse(head + text).words(-1e300, 1e300)
        # What a store or a terminal could not take.
        assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]", found)


@given(st.binary(max_size=60))
def test_any_bytes_give_words_or_our_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "a.srt"
    path.write_bytes(data)
    with suppress(InputError):
        Transcript.of(path)

"""SRT, WebVTT and SBV -> cues. A cue begins at each line of times, whatever is between them."""

from __future__ import annotations

import re
from itertools import pairwise

from bedrock_marengo.words.cues import TIME, Cues, seconds_of

__all__ = ["read_timed_lines"]

_TIMES = re.compile(rf"\s*({TIME})\s*-{{1,2}}>\s*({TIME})")
_SBV_TIMES = re.compile(r"\s*(\d+:\d\d:\d\d\.\d{3}),(\d+:\d\d:\d\d\.\d{3})\s*$")
_BROKEN_TIMES = re.compile(r"\s*[-+]?\d[\d:;.,eE+\- ]*-{1,2}>")
_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION|WEBVTT)(?:\s|$)")
"""What begins a block of WebVTT that is not a cue; WEBVTT where files were joined."""


def read_timed_lines(text: str) -> Cues:
    """The cues of SRT, WebVTT or SBV. Numbers, blank lines and the format's own header may be missing.

    Args:
        text: with ``\\n`` as its line breaks.
    """
    lines = text.split("\n")
    webvtt = text.lstrip().startswith("WEBVTT")
    starts = [i for i in range(len(lines)) if _begins_cue(lines, i)]
    first = [line.strip() for line in lines[: starts[0]]][-2:] if starts else []
    # Above the first cue; in WebVTT not the last line of the file's header.
    labelled = bool(first and first[-1]) and (first[-1].isdecimal() or (webvtt and first[0] == ""))
    cues = Cues()
    for count, (at, until) in enumerate(pairwise([*starts, len(lines)]), 1):
        body = lines[at + 1 : until]
        if until < len(lines):
            body = _without_label(body, str(count + 1), webvtt=webvtt, labelled=labelled)
        if webvtt:
            body = _without_blocks(body)
        match = _TIMES.match(lines[at]) or _SBV_TIMES.match(lines[at])
        if match is None:
            cues.add(lines[at], None, None, "")
        else:
            text = "\n".join([_text_after(lines[at][match.end() :]), *body])
            # SBV's line break.
            cues.add(lines[at], seconds_of(match[1]), seconds_of(match[2]), text.replace("[br]", "\n"))
    return cues


def _begins_cue(lines: list[str], at: int) -> bool:
    line = lines[at]
    if "->" not in line:
        return "," in line and bool(_SBV_TIMES.match(line))
    if _TIMES.match(line):
        return True
    # "5 --> 6" may be text: times that are broken are where a cue begins.
    above = lines[at - 1].strip() if at else ""
    return (not above or above.isdecimal()) and bool(_BROKEN_TIMES.match(line))


def _without_label(body: list[str], number: str, *, webvtt: bool, labelled: bool) -> list[str]:
    """A cue's text without the label of the next cue: its number, or in WebVTT any name.

    Args:
        body: the lines between the times of the two.
        number: of the next cue, if each has one.
        webvtt: whether labels may be names.
        labelled: whether the first cue has a label.
    """
    last = next((i for i in range(len(body) - 1, -1, -1) if body[i].strip()), None)
    if last is None:
        return body
    label, adjacent = body[last].strip(), last == len(body) - 1
    alone = last > 0 and not body[last - 1].strip()
    if label.isdecimal():
        is_label = (adjacent and (alone or labelled)) or (label == number and (adjacent or alone))
    else:
        # Auto-captions have lines of one space, which end no cue; and the first line of text is not a label.
        alone = last > 0 and not body[last - 1] and any(line.strip() for line in body[:last])
        is_label = webvtt and adjacent and alone and (labelled or " " not in label)
    return body[:last] if is_label else body


def _without_blocks(body: list[str]) -> list[str]:
    kept, above, skipping = list[str](), "text", False
    for line in body:
        skipping = bool(line) and (skipping or (not above and bool(_BLOCK.match(line))))
        if not skipping:
            kept.append(line)
        above = line
    return kept


def _text_after(rest: str) -> str:
    """What is on the line of times behind them: settings such as ``align:start``, or text."""
    return "" if all(":" in word for word in rest.split()) else rest

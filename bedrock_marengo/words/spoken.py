"""What is said in each cue, and when: words with times, each once."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bedrock_marengo.words.cues import TIME, Cue, seconds_of

__all__ = ["spoken_words"]

_OVERRIDES = re.compile(r"\{\\[^{}]*\}")
"""ASS tags such as ``{\\an8}``, which SRT has, too. Other text in braces is text."""
_INLINE = re.compile(rf"<({TIME})>")
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
"""A tag begins with its name: ``a < b`` is text."""
_CONTROL = re.compile("[\x01-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
_MARK = "\0"
"""Stands for an inline time; a caption file has none of its own."""

HOLD_SEC = 0.1
"""Nothing is said in a shorter cue: those that hold a line of auto-captions last 0.01 s."""
STILL_SHOWN_SEC = 1.0
"""How long after a cue its lines may still be carried into the next."""
WORD_SEC = 1.0
"""The longest that a word with an inline time lasts."""
_LINES, _OVERLAP = 8, 100
"""Lines and words that are carried at most, so that long cues are compared in linear time."""


@dataclass(slots=True)
class _Shown:
    """The words that a cue shows."""

    start_sec: float
    end_sec: float
    lines: list[list[str]] = field(default_factory=list)
    inline: list[tuple[int, float]] = field(default_factory=list)
    """Index of a word and the time it is said."""
    untimed: int = 0
    """How many words are on the lines above the first with an inline time."""

    @property
    def words(self) -> list[str]:
        return [word for line in self.lines for word in line]


def spoken_words(cues: Sequence[Cue]) -> Iterator[tuple[float, str]]:
    """The words with the middle of the time in which each is said, in the order of the cues.

    A cue's words are spread evenly over it, or between their inline times. A cue that is repeated with the same times,
    and lines of rolling captions that are still shown from the cue before, are not said again.
    """
    shown = [found for found in map(_shown, sorted(cues, key=lambda cue: cue.start_sec)) if found.lines]
    shown = list({(cue.start_sec, cue.end_sec, *map(tuple, cue.lines)): cue for cue in shown}.values())
    carried = [0, *(_carried(before, now) for before, now in pairwise(shown))]
    rolling = _are_rolling(shown, carried)
    for i, cue in enumerate(shown):
        held = i > 0 and _is_held(shown[i - 1], cue, carried[i])
        said_before = carried[i] if rolling or held or cue.inline else 0
        after = shown[i + 1] if i + 1 < len(shown) else None
        # Of cues that overlap, one is said until the next begins.
        rolls_on = after is not None and cue.start_sec < after.start_sec < cue.end_sec < after.end_sec
        yield from _timed(cue, said_before, after.start_sec if after and rolls_on else cue.end_sec)


def _are_rolling(shown: Sequence[_Shown], carried: Sequence[int]) -> bool:
    """Whether most cues begin with what the one before ends with. "No." after "No." does not count: it is speech."""
    close = [(b, now, n) for (b, now), n in zip(pairwise(shown), carried[1:], strict=False) if _is_close(b, now)]
    signs = sum(bool(n) and (before.lines != now.lines or _is_held(before, now, n)) for before, now, n in close)
    return signs >= 2 and 2 * signs >= len(close)


def _is_close(before: _Shown, now: _Shown) -> bool:
    return now.start_sec - before.end_sec <= STILL_SHOWN_SEC


def _is_held(before: _Shown, now: _Shown, carried: int) -> bool:
    """Whether a cue only goes on showing lines: it is too short for speech, or only the cue before has inline times."""
    short = now.end_sec - now.start_sec <= HOLD_SEC
    return carried == len(now.words) and (short or bool(before.inline and not now.inline))


def _carried(before: _Shown, now: _Shown) -> int:
    """How many of a cue's first words are those that the cue before it still shows."""
    if not _is_close(before, now):
        return 0
    old, new = before.words, now.words
    found = [len(old)] if new[: len(old)] == old else []
    for k in range(1, min(len(before.lines), len(now.lines), _LINES) + 1):
        last = before.lines[-1]
        if before.lines[-k:-1] == now.lines[: k - 1] and now.lines[k - 1][: len(last)] == last:
            found.append(sum(map(len, before.lines[-k:])))
    if len(now.lines) == 1:
        # One equal word is chance: "over the" before "the moon".
        found += [k for k in range(2, min(len(old), len(new), _OVERLAP) + 1) if old[-k:] == new[:k]]
    # What has an inline time is said now.
    return max((count for count in found if not now.inline or count <= now.untimed), default=0)


def _timed(cue: _Shown, first: int, end_sec: float) -> Iterator[tuple[float, str]]:
    words = cue.words
    marks = [mark for mark in cue.inline if mark[0] >= first]
    if not marks or marks[0][0] > first:
        marks.insert(0, (first, cue.start_sec))
    longest = WORD_SEC if cue.inline else end_sec - cue.start_sec
    for (begin, start), (end, until) in pairwise([*marks, (len(words), end_sec)]):
        step = min(max(0.0, until - start) / max(1, end - begin), longest)
        yield from ((start + step * (i - begin + 0.5), words[i]) for i in range(begin, end))


def _shown(cue: Cue) -> _Shown:
    times: list[float | None] = []

    def mark(found: re.Match[str]) -> str:
        times.append(seconds_of(found[1]))
        return _MARK

    text = _INLINE.sub(mark, _OVERRIDES.sub("", cue.text))
    text = _CONTROL.sub("", html.unescape(_TAG.sub("", _LINE_BREAK.sub("\n", text))))
    shown, pending, at, count = _Shown(cue.start_sec, cue.end_sec), None, 0, 0
    for line in text.split("\n"):
        words: list[str] = []
        for token in line.split():
            word = token.strip(_MARK)
            leading = len(token) - len(token.lstrip(_MARK))
            pending = times[at + leading - 1] if leading else pending
            if word:
                if pending is not None and cue.start_sec <= pending <= cue.end_sec:
                    shown.untimed = shown.untimed if shown.inline else count
                    shown.inline.append((count + len(words), pending))
                words.append(word.replace(_MARK, ""))
                pending = None
            at += token.count(_MARK)
            pending = times[at - 1] if word and token.endswith(_MARK) else pending
        if words:
            shown.lines.append(words)
            count += len(words)
    return shown

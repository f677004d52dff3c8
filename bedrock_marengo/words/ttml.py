"""TTML and DFXP -> cues."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from xml.parsers import expat

from bedrock_marengo.errors import InputError, short_repr
from bedrock_marengo.words.cues import Cues, seconds_of

__all__ = ["read_ttml"]

_OFFSET = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)(h|ms|m|s|f|t)")
_FRAMES = re.compile(r"(\d{1,9}:\d{1,2}:\d{1,2}):(\d{1,9})(?:\.\d+)?")
_RATE = re.compile(r"0*[1-9]\d{0,8}")
_SPACE = re.compile(r"\s+")


def read_ttml(text: str) -> Cues:
    """The cues of a TTML or DFXP file: its paragraphs, with the times of their spans as inline times.

    Raises:
        InputError: It is not XML or not TTML, or it defines entities.
    """
    try:
        return _Reader().read(text)
    except expat.ExpatError as error:
        raise InputError(f"The captions are not valid XML: {error}.") from None


@dataclass(slots=True)
class _Element:
    """An element that is open, with times from the start of the file."""

    start_sec: float
    end_sec: float
    next_sec: float
    """Where its next child counts from."""
    sequential: bool = False
    valid: bool = True


class _Reader:
    """Takes events instead of a tree, so that depth needs no recursion."""

    def __init__(self) -> None:
        self._cues = Cues()
        self._open = [_Element(0.0, math.inf, 0.0)]
        self._units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "f": 1 / 30, "t": 1.0}
        self._text: list[str] | None = None
        self._times: list[str] = []
        self._spans: list[tuple[float, float]] = []

    def read(self, text: str) -> Cues:
        parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        parser.EntityDeclHandler = self._refuse_entities
        parser.Parse(text.encode("utf-8", "replace"), True)
        return self._cues

    def _start(self, name: str, given: dict[str, str]) -> None:
        tag = _local(name)
        values = {_local(key): value for key, value in given.items()}
        if len(self._open) == 1:
            if tag != "tt":
                raise InputError(
                    f"The captions are XML, but not TTML: the root element is {short_repr(tag)}, expected 'tt'."
                )
            self._set_rates(values)
        timed = [f'{key}="{values[key]}"' for key in ("begin", "end", "dur") if key in values]
        element = self._element(values)
        self._open.append(element)
        if tag == "p":
            self._text, self._times, self._spans = [], timed, []
        elif self._text is not None and tag == "br":
            self._text.append("\n")
        elif self._text is not None and timed and element.valid:
            self._spans.append((element.start_sec, element.end_sec))
            self._text.append(_inline(element.start_sec))

    def _element(self, values: dict[str, str]) -> _Element:
        parent = self._open[-1]
        base = parent.next_sec
        begin, end, duration = (self._seconds(values.get(key)) for key in ("begin", "end", "dur"))
        start = base + (begin or 0.0)
        until = min(
            parent.end_sec,
            math.inf if end is None else base + end,
            math.inf if duration is None else start + duration,
        )
        if parent.sequential and until < math.inf:
            parent.next_sec = until
        readable = all(self._seconds(values[key]) is not None for key in ("begin", "end", "dur") if key in values)
        return _Element(start, until, start, values.get("timeContainer") == "seq", parent.valid and readable)

    def _end(self, name: str) -> None:
        element = self._open.pop()
        if _local(name) != "p" or self._text is None:
            return
        start, end = element.start_sec, element.end_sec
        if self._spans and not self._times:
            start, end = min(span[0] for span in self._spans), max(span[1] for span in self._spans)
        # Without an end, the text is at its start.
        valid = element.valid and (start > 0 or end < math.inf or bool(self._times))
        text = "".join(self._text)
        if text.strip():
            times = " ".join(self._times) or "no times"
            self._cues.add(times, start if valid else None, start if end == math.inf else end, text)
        self._text = None

    def _add(self, data: str) -> None:
        if self._text is not None:
            # Words are read from all formats alike, which have entities and tags.
            self._text.append(html.escape(_SPACE.sub(" ", data), quote=False))

    def _refuse_entities(self, *_: object) -> None:
        raise InputError("The captions define XML entities, which may expand without end: save them without a DOCTYPE.")

    def _set_rates(self, values: dict[str, str]) -> None:
        rate = _rate(values.get("frameRate"))
        top, _, bottom = values.get("frameRateMultiplier", "1 1").partition(" ")
        frames = (rate or 30) * (_rate(top) or 1) / (_rate(bottom) or 1)
        self._units |= {"f": 1 / frames, "t": 1 / (_rate(values.get("tickRate")) or rate or 1)}

    def _seconds(self, time: str | None) -> float | None:
        if time is None:
            return None
        if match := _OFFSET.fullmatch(time.strip()):
            return float(match[1]) * self._units[match[2]]
        if match := _FRAMES.fullmatch(time.strip()):
            clock = seconds_of(match[1])
            return None if clock is None else clock + int(match[2]) * self._units["f"]
        return seconds_of(time)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _rate(value: str | None) -> int | None:
    return int(value) if value and _RATE.fullmatch(value.strip()) else None


def _inline(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds, 3), 60)
    return f"<{int(minutes)}:{seconds:06.3f}>"

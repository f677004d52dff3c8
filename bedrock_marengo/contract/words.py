"""The text of a segment: its URI, a line that people and models can read, and the words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bedrock_marengo.contract.segments import Segment, time_range
from bedrock_marengo.errors import visible

__all__ = ["Words", "clock", "heading", "segment_text", "span", "words_in"]

_SAID, _SEEN = "Said: ", "Seen: "


class Words(NamedTuple):
    """What is said in a segment or moment, and what is seen, each on one line. Labelled only if both are there."""

    said: str = ""
    seen: str = ""

    def __str__(self) -> str:
        if self.said and self.seen:
            return f"{_SAID}{self.said}\n{_SEEN}{self.seen}"
        return self.said or self.seen

    @classmethod
    def find(cls, text: str) -> Words | None:
        """What is said and what is seen, if a text labels both; None if its words are of one kind."""
        said, _, seen = text.partition("\n")
        labelled = said.startswith(_SAID) and seen.startswith(_SEEN)
        return cls(said.removeprefix(_SAID), seen.removeprefix(_SEEN)) if labelled else None

    @classmethod
    def joined(cls, texts: Iterable[str]) -> str:
        """The words of several segments as those of one moment: each once, in order."""
        texts = list(texts)
        both = [words for text in texts if (words := cls.find(text)) is not None]
        said, seen = (" ".join(dict.fromkeys(lines)) for lines in (zip(*both, strict=True) if both else ((), ())))
        others = dict.fromkeys(line for text in texts if cls.find(text) is None for line in text.splitlines())
        return "\n".join(filter(None, [str(cls(said, seen)), *others]))


def segment_text(segment: Segment, words: Words = Words()) -> str:  # noqa: B008  immutable
    """A segment's text, as it is stored."""
    return "\n".join(
        filter(None, [segment.uri, heading(segment.source, segment.start_sec, segment.end_sec), str(words)])
    )


def words_in(text: str) -> str:
    """The words in the text of a segment or moment, without its URI and its heading; those of the first version too."""
    segment, times = Segment.find(text), time_range(text)
    if segment is None or times is None:
        return ""
    first, _, rest = text.partition("\n")[2].partition("\n")
    words = rest if first.strip() == heading(segment.source, *times).strip() else f"{first}\n{rest}"
    # Half a surrogate pair can't be sent or written.
    return words.strip().encode("utf-8", "replace").decode()


def heading(source: str, start_sec: float, end_sec: float) -> str:
    """``match.mp4, 00:12 to 00:18``: a file's name and a time range; an image has its name alone."""
    return ", ".join(filter(None, [visible(source.rpartition("/")[2]), span(start_sec, end_sec)]))


def span(start_sec: float, end_sec: float) -> str:
    """``00:06 to 00:12``: a time range as a person reads it; empty for an image."""
    return f"{clock(start_sec)} to {clock(end_sec)}" if end_sec > start_sec else ""


def clock(seconds: float) -> str:
    """Whole seconds as ``MM:SS``, or as ``H:MM:SS`` from one hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"

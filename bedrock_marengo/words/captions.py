"""SRT, VTT -> the words of a time range."""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from pathlib import Path

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.sidecars import captions_next_to
from bedrock_marengo.validation import short_repr

__all__ = ["Transcript", "captions_of"]

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class Transcript:
    """Captions as words with times: a cue's words are spread evenly over it, so that each segment gets a word once.

    Examples:
        >>> Transcript.parse("1\\n00:00:00,000 --> 00:00:04,000\\nHe shoots, he scores!").words(0, 2)
        'He shoots,'
    """

    def __init__(self, words: list[tuple[float, str]], captions: str = "") -> None:
        self.captions = captions
        """The text that was parsed, unchanged."""
        self._words = sorted(words, key=lambda word: word[0])
        self._times = [time for time, _ in self._words]

    @classmethod
    def parse(cls, captions: str) -> Transcript:
        """Read SRT or WebVTT. Both are blocks with ``start --> end``, so the format need not be known.

        Raises:
            InputError: Not a string, or it contains no cues.
        """
        if not isinstance(captions, str):
            raise InputError(
                f"Captions must be a string (SRT or WebVTT) or a pathlib.Path, not {short_repr(captions)}."
            )
        words: list[tuple[float, str]] = []
        cues = 0
        for block in re.split(r"\n\s*\n", captions.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
            lines = block.split("\n")
            at = next((i for i, line in enumerate(lines) if _TIMES.match(line)), None)
            if at is None:
                continue
            cues += 1
            words += _spread(lines[at], " ".join(lines[at + 1 :]))
        if not cues:
            raise InputError(
                f"The captions {short_repr(captions)} contain no cues: SRT and WebVTT have lines like "
                "00:00:01.000 --> 00:00:04.000."
            )
        return cls(words, captions)

    @classmethod
    def of(cls, captions: Transcript | Path | str) -> Transcript:
        """A transcript, a file with one, or the text of one. A string is never a path.

        Raises:
            InputError: The file can't be read, or it contains no cues.
        """
        if isinstance(captions, Transcript):
            return captions
        if isinstance(captions, Path):
            try:
                return cls.parse(captions.read_text("utf-8", "replace"))
            except OSError as error:
                raise InputError(f"The captions in {str(captions)!r} can't be read: {error}") from None
        return cls.parse(captions)

    def words(self, start_sec: float, end_sec: float) -> str:
        """The words whose middle is from ``start_sec`` up to, not including, ``end_sec``."""
        low, high = bisect_left(self._times, start_sec), bisect_left(self._times, end_sec)
        return " ".join(word for _, word in self._words[low:high])


def captions_of(objects: S3Objects, media: Media) -> Transcript | None:
    """The captions stored next to a file; None if there are none.

    Raises:
        InputError: The captions can't be read.
        ServiceError: AWS refused.
    """
    found = captions_next_to(objects, media)
    if found is None:
        return None
    name, data = found
    try:
        return Transcript.parse(data.decode("utf-8", "replace"))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _spread(times: str, text: str) -> list[tuple[float, str]]:
    match = _TIMES.match(times)
    assert match  # noqa: S101  the caller found it
    start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
    words = html.unescape(_TAGS.sub("", text)).split()
    step = max(0.0, end - start) / len(words) if words else 0.0
    return [(start + step * (i + 0.5), word) for i, word in enumerate(words)]


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")

"""Transcribe's JSON -> words with their own times, and captions (WebVTT) made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from bedrock_marengo.errors import OutputError
from bedrock_marengo.words.captions import Transcript

__all__ = ["TranscriptWord", "read_words", "transcript_of", "webvtt"]

_GAP = 3
"""Characters of the transcript, such as spaces, that may be between two of its words."""
LINE_CHARACTERS, LINES = 42, 2
CUE_SEC, PAUSE_SEC = 7.0, 1.5
"""How long a cue may be, and the pause that ends one: what subtitle guides recommend."""
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "।")


class TranscriptWord(NamedTuple):
    """One word, its punctuation with it; ``text`` begins with a space if there is one before it."""

    start_sec: float
    end_sec: float
    text: str


class _Alternative(msgspec.Struct):
    content: str = ""


class _Item(msgspec.Struct):
    type: str = "pronunciation"
    start_time: float | None = None
    end_time: float | None = None
    alternatives: list[_Alternative] = []


class _Whole(msgspec.Struct):
    transcript: str = ""


class _Results(msgspec.Struct):
    items: list[_Item] = []
    transcripts: list[_Whole] = []


class _Output(msgspec.Struct):
    results: _Results


def read_words(data: bytes, name: str) -> list[TranscriptWord]:
    """The words in a transcript file of Transcribe, in order; none for silence.

    Raises:
        OutputError: It is truncated, or not a transcript.
    """
    try:
        # Its numbers are strings.
        results = msgspec.convert(msgspec.json.decode(data), _Output, strict=False).results
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise OutputError(f"{name} is not a transcript of Amazon Transcribe: {error}") from None
    # The items don't say where there are spaces: the whole transcript does, also for scripts without them.
    whole, at = " ".join(each.transcript for each in results.transcripts), 0
    found: list[TranscriptWord] = []
    for item in results.items:
        text = item.alternatives[0].content if item.alternatives else ""
        place = whole.find(text, at, at + len(text) + _GAP)
        is_mark = item.type == "punctuation"
        space = "" if is_mark or not found else " " if place < 0 or whole[at:place].strip() != whole[at:place] else ""
        at = place + len(text) if place >= 0 else at
        if is_mark:
            if found:
                found[-1] = found[-1]._replace(text=found[-1].text + text)
        elif text and item.start_time is not None:
            end_sec = item.start_time if item.end_time is None else item.end_time
            found.append(TranscriptWord(item.start_time, max(item.start_time, end_sec), space + text))
    return found


def transcript_of(words: Sequence[TranscriptWord]) -> Transcript:
    """A transcript with the words' own times; its ``captions`` are WebVTT."""
    timed = [((word.start_sec + word.end_sec) / 2, word.text) for word in words]
    return Transcript(timed, webvtt(words), between="")


def webvtt(words: Sequence[TranscriptWord]) -> str:
    """The words as WebVTT, in cues that can be read: two lines and 7 s at most, ended by sentences and pauses."""
    blocks = ["WEBVTT"]
    for cue in _cues(words):
        times = f"{_clock(cue[0].start_sec)} --> {_clock(max(cue[-1].end_sec, cue[0].start_sec + 0.001))}"
        blocks.append("\n".join([times, *_lines(cue)]))
    return "\n\n".join(blocks) + "\n"


def _cues(words: Sequence[TranscriptWord]) -> Iterator[list[TranscriptWord]]:
    cue: list[TranscriptWord] = []
    for word in words:
        if cue and (
            word.start_sec - cue[-1].end_sec > PAUSE_SEC
            or word.end_sec - cue[0].start_sec > CUE_SEC
            or len(_lines([*cue, word])) > LINES
            or cue[-1].text.endswith(_SENTENCE_ENDS)
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _lines(cue: Sequence[TranscriptWord]) -> list[str]:
    """The lines of a cue, broken between words. Its text is escaped: "<" and "&" begin what is not text."""
    lines = [""]
    for word in cue:
        if len(lines[-1]) + len(word.text) > LINE_CHARACTERS and lines[-1]:
            lines.append("")
        lines[-1] += word.text if lines[-1] else word.text.lstrip()
    return [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines]


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3_600_000:02d}:{millis // 60_000 % 60:02d}:{millis // 1000 % 60:02d}.{millis % 1000:03d}"

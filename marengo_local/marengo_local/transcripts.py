"""What Amazon Transcribe writes: the transcript as JSON, with a time for each word, and subtitles as WebVTT and SRT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Cue", "Word", "subtitles", "transcript_json", "words_of"]

# Scripts without spaces: each of their characters is a word.
_UNSPACED: Final = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS: Final = ".,!?;:…。、，！？؟،।"
_WORD: Final = re.compile(
    rf"(?P<mark>[{re.escape(_MARKS)}]+)(?=\s|\Z|[{_UNSPACED}])"
    rf"|(?P<word>[{_UNSPACED}]|[^\s{_UNSPACED}]+?(?=[{re.escape(_MARKS)}]*(?:\s|\Z|[{_UNSPACED}])))"
)
_SUBTITLE_CHARACTERS: Final = 80
_HEADS: Final = {"vtt": "WEBVTT\n", "srt": ""}
_DECIMAL_MARKS: Final = {"vtt": ".", "srt": ","}


@dataclass(frozen=True, slots=True)
class Cue:
    """What is said from one time to another."""

    start_sec: float
    end_sec: float
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its times and the punctuation after it. `space` is what is between it and the word before."""

    start_sec: float
    end_sec: float
    text: str
    marks: str
    space: str


def words_of(cue: Cue) -> list[Word]:
    """The words of a cue, each as long as its share of the letters."""
    found: list[list[str]] = []
    last = 0
    for match in _WORD.finditer(cue.text):
        if match["word"] is not None:
            found.append([match["word"], "", " " if found and cue.text[last : match.start()].isspace() else ""])
        elif found:
            found[-1][1] += match["mark"]
        last = match.end()
    letters = sum(len(text) for text, _, _ in found)
    words, start_sec = [], cue.start_sec
    for text, marks, space in found:
        end_sec = start_sec + (cue.end_sec - cue.start_sec) * len(text) / letters
        words.append(Word(start_sec, end_sec, text, marks, space))
        start_sec = end_sec
    return words


def transcript_json(job: str, account_id: str, cues: Sequence[Cue], languages: dict[str, Any]) -> bytes:
    """The transcript file; `languages` are the fields of `results` that name them."""
    items: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for cue in cues:
        words, first = words_of(cue), len(items)
        if not words:
            continue
        for word in words:
            times = {"start_time": _seconds(word.start_sec), "end_time": _seconds(word.end_sec)}
            items.append(_item(len(items), "pronunciation", "0.998", word.text) | times)
            for mark in word.marks:
                items.append(_item(len(items), "punctuation", "0.0", mark))
        segments.append(
            {
                "id": len(segments),
                "transcript": _text(words),
                "start_time": _seconds(cue.start_sec),
                "end_time": _seconds(cue.end_sec),
                "items": list(range(first, len(items))),
            }
        )
    transcript = " ".join(segment["transcript"] for segment in segments)
    results = {**languages, "transcripts": [{"transcript": transcript}], "items": items, "audio_segments": segments}
    return json.dumps({"jobName": job, "accountId": account_id, "status": "COMPLETED", "results": results}).encode()


def subtitles(kind: str, cues: Iterable[Cue], first_number: int) -> bytes:
    """A "vtt" or "srt" file; without words, it has no cues."""
    parts = [part for cue in cues for part in _parts(words_of(cue))]
    mark = _DECIMAL_MARKS[kind]
    entries = (
        f"{number}\n{_timestamp(part[0].start_sec, mark)} --> {_timestamp(part[-1].end_sec, mark)}\n{_text(part)}\n"
        for number, part in enumerate(parts, first_number)
    )
    return "\n".join(filter(None, [_HEADS[kind], *entries])).encode()


def _parts(words: Sequence[Word]) -> Iterable[list[Word]]:
    """Words by subtitle: as many as fit into two lines."""
    part: list[Word] = []
    for word in words:
        if part and len(_text([*part, word])) > _SUBTITLE_CHARACTERS:
            yield part
            part = []
        part.append(word)
    if part:
        yield part


def _text(words: Iterable[Word]) -> str:
    return "".join(f"{word.space}{word.text}{word.marks}" for word in words).strip()


def _item(number: int, kind: str, confidence: str, content: str) -> dict[str, Any]:
    return {"id": number, "type": kind, "alternatives": [{"confidence": confidence, "content": content}]}


def _seconds(sec: float) -> str:
    return str(round(float(sec), 3))


def _timestamp(sec: float, mark: str) -> str:
    whole, milliseconds = divmod(round(sec * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{mark}{milliseconds:03d}"

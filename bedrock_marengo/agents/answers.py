"""What a tool answers: short text for the model, plain JSON for the program, both within a size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any, NamedTuple
from urllib.parse import quote

from bedrock_marengo.agents.archive import Row
from bedrock_marengo.agents.plain_text import NOTE, beginning, clock_time, cut, fenced, one_line, quoted, size
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.segments import seconds_text
from bedrock_marengo.contract.words import words_in
from bedrock_marengo.search.results import SearchResult

__all__ = [
    "LEAST_MAX_BYTES",
    "MAX_BYTES",
    "MOST_MAX_BYTES",
    "Frame",
    "ListedVideo",
    "ToolAnswer",
    "fitting_count",
    "moment_fields",
    "moments_answer",
    "page",
    "time_text",
    "video_fields",
    "video_id",
    "videos_answer",
]

MAX_BYTES = 8_000
"""Bytes of UTF-8 of a default answer's text: about 2,000 tokens. Its JSON has at most twice as many. Ours."""
LEAST_MAX_BYTES, MOST_MAX_BYTES = 6_000, 30_000
"""What can be set: room for the longest id; and with the JSON less than 100,000 bytes, about 25,000 tokens."""
_RESERVED = 700
"""Bytes for the lines before and after a list."""
_WORDS, _LEAST_WORDS = 300, 24
"""Bytes of a moment's words in a list: at most, and at least, or there are none. Ours."""
_NAME = 200
_TRACKS, _TRACK = 8, 40
"""Tracks that are shown, and the characters of a track's name."""


class Frame(NamedTuple):
    """A picture of a moment.

    Attributes:
        time_sec: seconds from the start of the file.
        jpeg: at most 512 pixels wide.
    """

    time_sec: float
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """What a tool answers.

    Attributes:
        text: for the model.
        data: the same for the program: a dict of plain JSON types.
        frames: pictures, if they were asked for.
        rows: the moments of ``data`` as the store has them, for a framework's own documents.
        links: id of a moment -> presigned URL, if the tools have ``links=True``. Not for the model.
        is_error: whether the call was refused or failed; the text says why and what to do.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    rows: tuple[Row, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    is_error: bool = False

    @property
    def parts(self) -> list[str | bytes]:
        """What the model gets: the text, then the JPEGs."""
        return [self.text, *(frame.jpeg for frame in self.frames)]


class ListedVideo(NamedTuple):
    """A file of the archive.

    Attributes:
        source: raw S3 URI.
        segments: how many the store holds.
        is_more: whether it may hold more than that.
        end_sec: the end of its last segment; 0 for an image.
        tracks: embedding options.
        media_type: "video", "audio" or "image".
    """

    source: str
    segments: int
    is_more: bool
    end_sec: float
    tracks: frozenset[str]
    media_type: str


def video_id(source: str) -> str:
    """A source's URI, percent-encoded as in a segment's URI: printable ASCII, whatever its key has."""
    bucket, key = split_s3_uri(source)
    return f"s3://{bucket}/{quote(key, safe='/~', errors='replace')}"


def moment_fields(found: SearchResult, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A moment for the program, without its words."""
    confidence = metadata.get("confidence")
    return {
        "id": found.segment.uri_within(found.start_sec, found.end_sec),
        "video": video_id(found.source),
        "file": _file(found.source),
        "media_type": found.media_type,
        "start_sec": found.start_sec,
        "end_sec": found.end_sec,
        "start": clock_time(found.start_sec),
        "end": clock_time(found.end_sec),
        "confidence": confidence if confidence in ("low", "medium", "high") else None,
        "tracks": {track[:_TRACK]: cosine for track, cosine in islice(found.tracks.items(), _TRACKS)},
    }


def video_fields(video: ListedVideo) -> dict[str, Any]:
    """A file of the archive for the program."""
    return {
        "id": video_id(video.source),
        "file": _file(video.source),
        "media_type": video.media_type,
        "duration_sec": video.end_sec,
        "duration": clock_time(video.end_sec),
        "segments": video.segments,
        "is_more_segments": video.is_more,
        "tracks": [track[:_TRACK] for track in sorted(video.tracks)[:_TRACKS]],
    }


def time_text(fields: Mapping[str, Any]) -> str:
    """``65-71.5 s (00:01:05-00:01:11)``; of an image, ``image``."""
    if fields["end_sec"] <= fields["start_sec"]:
        return "image"
    seconds = f"{seconds_text(fields['start_sec'])}-{seconds_text(fields['end_sec'])}"
    return f"{seconds} s ({fields['start']}-{fields['end']})"


def moments_answer(
    found: Sequence[dict[str, Any]], rows: Sequence[Row], more: str, *, max_bytes: int, links: Mapping[str, str]
) -> ToolAnswer:
    """The answer of a search.

    Args:
        found: the fields of each moment, best first.
        rows: the same moments as the store has them.
        more: how to get more; "" if there are no more.
        max_bytes: the most bytes of the text; the JSON has at most twice as many.
        links: id -> presigned URL.
    """
    if not found:
        text = "No moments found. Try other words, or search without sources, start_sec and end_sec."
        return ToolAnswer(text=text, data={"moments": [], "is_confident": False, "more": "", "note": text})
    heads = [_moment_line(i, each) for i, each in enumerate(found, start=1)]
    kept = fitting_count(heads, found, max_bytes)
    most = max_bytes - _RESERVED
    in_text = most - sum(size(head) + 1 + size(fenced("")) + 1 for head in heads[:kept])
    # Escaped in JSON, words may be twice as long.
    in_json = most - sum(_json_size(each) for each in found[:kept]) // 2
    share = min(_WORDS, in_text // kept, in_json // kept)
    words = [cut(one_line(words_in(row.text)), share) if share >= _LEAST_WORDS else "" for row in rows[:kept]]
    is_confident = any(each["confidence"] != "low" for each in found)
    note = "" if is_confident else "No confident match: all are rated low. Say so, or search again with other words."
    lines = [NOTE, note] if note else [NOTE]
    lines += [f"{head} {fenced(text)}" if text else head for head, text in zip(heads, words, strict=False)]
    if kept < len(found):
        more = f"{len(found) - kept} more don't fit here: narrow the search with sources, start_sec and end_sec."
    if more:
        lines.append(more)
    moments = [
        {"number": i, **each, "words": text} for i, (each, text) in enumerate(zip(found, words, strict=False), start=1)
    ]
    return ToolAnswer(
        text="\n".join(lines),
        data={"moments": moments, "is_confident": is_confident, "more": more, "note": note},
        rows=tuple(rows[:kept]),
        links={each["id"]: links[each["id"]] for each in moments if each["id"] in links},
    )


def videos_answer(found: Sequence[dict[str, Any]], more: str, cursor: str | None) -> ToolAnswer:
    """One page of the archive."""
    nothing = "No videos on this page." if more else "There are no videos in this archive."
    lines = [NOTE if found else nothing, *map(video_line, found)]
    if more:
        lines.append(more)
    return ToolAnswer(text="\n".join(lines), data={"videos": list(found), "more": more, "cursor": cursor})


def video_line(video: Mapping[str, Any]) -> str:
    """``"match.mp4", 750 s (00:12:30), 375 segments (audio, visual), id s3://...``."""
    length = f"{seconds_text(video['duration_sec'])} s ({video['duration']})" if video["duration_sec"] else "image"
    is_one = video["segments"] == 1 and not video["is_more_segments"]
    count = f"{video['segments']:,}{'+' if video['is_more_segments'] else ''} segment{'' if is_one else 's'}"
    return f"{quoted(video['file'])}, {length}, {count} ({', '.join(video['tracks'])}), id {video['id']}"


def fitting_count(lines: Sequence[str], fields: Sequence[Mapping[str, Any]], max_bytes: int) -> int:
    """How many entries of a list fit, at least one: the lines in the text, the fields in twice as much JSON.

    Args:
        lines: of the text.
        fields: of the JSON.
        max_bytes: the most bytes of the text.
    """
    texts = accumulate(size(line) + 1 for line in lines)
    jsons = accumulate(_json_size(each) for each in fields)
    most = max_bytes - _RESERVED
    return max(1, sum(text <= most and sent <= 2 * most for text, sent in zip(texts, jsons, strict=True)))


def page(text: str, start: int, max_bytes: int) -> tuple[str, int]:
    """The part of a long text from a character on, and where the next one starts; 0 if this is the last."""
    part = text[start : start + max_bytes + 1]
    if size(part) <= max_bytes:
        return part, 0
    kept = beginning(part, max_bytes)
    return kept, start + len(kept)


def _moment_line(i: int, moment: Mapping[str, Any]) -> str:
    rated = moment["confidence"] or "not rated"
    return f"[{i}] {quoted(moment['file'])}, {time_text(moment)}, confidence {rated}, id {moment['id']}"


def _file(source: str) -> str:
    return cut(one_line(source.rpartition("/")[2]), _NAME)


def _json_size(fields: Mapping[str, Any]) -> int:
    return len(json.dumps(fields)) + 40

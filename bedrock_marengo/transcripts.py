"""SRT, VTT -> the words of a time range."""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.checks import brief
from bedrock_marengo.errors import InputError, ServiceError
from bedrock_marengo.inputs import Media, split_s3_uri

if TYPE_CHECKING:
    from bedrock_marengo.aws import Aws

__all__ = ["SUFFIXES", "Transcript", "by_rank", "captions_beside"]

SUFFIXES = (".vtt", ".srt")

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class Transcript:
    """Captions as words with times: a cue's words are spread evenly over it, so that a cut gets each word once.

    Examples:
        >>> Transcript.parse("1\\n00:00:00,000 --> 00:00:04,000\\nHe shoots, he scores!").words(0, 2)
        'He shoots,'
    """

    def __init__(self, words: list[tuple[float, str]], captions: str = "") -> None:
        self.captions = captions
        """What was parsed, as it was."""
        self._words = sorted(words, key=lambda word: word[0])
        self._times = [time for time, _ in self._words]

    @classmethod
    def parse(cls, captions: str) -> Transcript:
        """Read SRT or WebVTT, told apart by nothing: both are blocks with ``start --> end``.

        Raises:
            InputError: No string, or no cue in it.
        """
        if not isinstance(captions, str):
            raise InputError(f"Captions must be a string, not {brief(captions)}: SRT or WebVTT, or a pathlib.Path.")
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
                "These captions hold no cue: SRT and WebVTT have lines like 00:00:01.000 --> 00:00:04.000."
            )
        return cls(words, captions)

    @classmethod
    def of(cls, captions: Transcript | Path | str) -> Transcript:
        """A transcript, a file with one, or the text of one: a string is never a path."""
        if isinstance(captions, Transcript):
            return captions
        if isinstance(captions, Path):
            try:
                return cls.parse(captions.read_text("utf-8", "replace"))
            except OSError as error:
                raise InputError(f"Captions in {str(captions)!r} can't be read: {error}") from None
        return cls.parse(captions)

    def words(self, start_sec: float, end_sec: float) -> str:
        """The words whose middle lies from ``start_sec`` up to, not including, ``end_sec``."""
        low, high = bisect_left(self._times, start_sec), bisect_left(self._times, end_sec)
        return " ".join(word for _, word in self._words[low:high])


def captions_beside(aws: Aws, media: Media) -> Transcript | None:
    """The captions that lie beside a medium under its own name: ``match.vtt``, ``match.srt``, ``match.en.vtt``.

    A medium that comes from a prefix's listing knows its captions; of any other the bucket is listed once.

    Returns:
        None if there are none.

    Raises:
        InputError: They are no captions.
        ServiceError: AWS refused.
    """
    if media.path is not None:
        beside = sorted(media.path.parent.glob(f"{_escaped(media.path.stem)}.*"), key=lambda path: by_rank(path.name))
        return next((Transcript.of(path) for path in beside if path.suffix.lower() in SUFFIXES), None)
    if media.uri is None:
        return None
    bucket, _ = split_s3_uri(media.uri)
    try:
        name = (
            _name_beside(aws, media.uri) if media.captions is None else media.captions.removeprefix(f"s3://{bucket}/")
        )
        if not name:
            return None
        body = aws.s3.get_object(Bucket=bucket, Key=name)["Body"].read()
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "GetObject", f"captions of {media.uri}") from error
    try:
        return Transcript.parse(body.decode("utf-8", "replace"))
    except InputError as error:
        raise InputError(f"s3://{bucket}/{name}: {error}") from None


def by_rank(name: str) -> tuple[int, bool, str]:
    """The order in which captions of one medium are taken: match.vtt before match.en.vtt, .vtt before .srt."""
    return len(name), not name.lower().endswith(".vtt"), name


def _name_beside(aws: Aws, uri: str) -> str | None:
    """The key of the captions beside one object, by one listing."""
    bucket, key = split_s3_uri(uri)
    stem = f"{key[: -len(suffix)] if (suffix := Path(key).suffix) else key}."
    listed = aws.s3.list_objects_v2(Bucket=bucket, Prefix=stem).get("Contents", [])
    names = (item["Key"] for item in listed if "/" not in item["Key"][len(stem) :])
    return min((name for name in names if name.lower().endswith(SUFFIXES)), key=by_rank, default=None)


def _spread(times: str, text: str) -> list[tuple[float, str]]:
    match = _TIMES.match(times)
    assert match  # noqa: S101  the caller found it
    start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
    words = html.unescape(_TAGS.sub("", text)).split()
    step = max(0.0, end - start) / len(words) if words else 0.0
    return [(start + step * (i + 0.5), word) for i, word in enumerate(words)]


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _escaped(stem: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", stem)

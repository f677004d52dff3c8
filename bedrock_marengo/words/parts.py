"""The part of a video that Pegasus gets: a clip inside the request, a whole file by S3, or a window of one."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bedrock_marengo.contract.inputs import Media, check_content, split_s3_uri
from bedrock_marengo.contract.moments import FileRange
from bedrock_marengo.contract.payloads import Location
from bedrock_marengo.contract.segments import MAX_SEC
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.media.clips import clip_of
from bedrock_marengo.media.durations import duration_of
from bedrock_marengo.s3.listing import locate
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import upload
from bedrock_marengo.validation import is_number
from bedrock_marengo.words.pegasus_calls import PegasusCalls
from bedrock_marengo.words.pegasus_contract import INLINE_BYTES, MIN_SEC, PegasusModel

__all__ = ["Part", "PartSender", "Sent"]

CLIP_SEC = 1200.0
"""Longer clips don't fit into a request: their sound alone is 10 MB. Ours."""
WIDTHS = (864, 640, 480, 320)
"""Of clips, in pixels. TwelveLabs' own API needs 360 on each side, which 864 give for any ratio up to 2.4 to 1. A clip
that is too large for a request is made once more, with the widest of these that should fit.
"""
LEAST_SEC = MIN_SEC + 0.25
"""What a range is widened to: a clip may be shorter than its range by a frame."""
MARGIN_SEC = 0.25
"""By how much a clip may be longer than its range, by a frame of its video or sound."""
HAIR_SEC = 0.002
REST_SEC = 0.5
"""A range that lacks less of its file is the whole file: containers and Marengo differ by some frames about the end."""

How = Literal["clip", "whole", "window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a video, and how it is sent.

    Attributes:
        media: the file.
        start_sec: seconds from the file's start.
        end_sec: its end; None for a whole file of unknown length.
        most_sec: the seconds that a call about it is billed for at most.
        how: "clip": inside the request. "whole": by S3. "window": fields name a part of a file on S3.
    """

    media: Media
    start_sec: float
    end_sec: float | None
    most_sec: float
    how: How

    @property
    def name(self) -> str:
        """In messages: the file, and the times of a part."""
        if self.how == "whole" or self.end_sec is None:
            return self.media.name
        return f"{self.media.name} from {self.start_sec:g} to {self.end_sec:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A part as a request has it.

    Attributes:
        location: the clip, or where it is on S3.
        window: fields that name a part of the file on S3.
        billed_sec: the seconds of video that a call is billed for; None if the length is unknown.
    """

    location: Location = field(repr=False)
    window: Mapping[str, float]
    billed_sec: float | None


class PartSender:
    """Finds the part of a file to send, and makes it ready to be sent.

    Args:
        objects: S3.
        calls: knows where Pegasus finds a file on S3.
        output_s3_uri: where local files are uploaded; None to put them into requests.
    """

    def __init__(self, objects: S3Objects, calls: PegasusCalls, output_s3_uri: str | None) -> None:
        self._objects = objects
        self._calls = calls
        self._output_s3_uri = output_s3_uri

    def part(self, file: FileRange, model: PegasusModel, duration_sec: float | None = None) -> Part:
        """The part of a file to send: at least 4 s of it. Reads the file's length; nothing is cut or uploaded.

        Args:
            file: the file and a range in it, which is widened if it is too short.
            model: the version that is asked.
            duration_sec: the file's length, if it is known; otherwise it is read.

        Raises:
            InputError: Not a video, or a range that is not in the file, or that is too long for the model.
        """
        media = file.media
        if media.kind != "video":
            raise InputError(
                f"{media.name} is of the media type {media.kind}: Pegasus only sees videos. For what is said in audio, "
                "use a transcript; for images, use a vision model."
            )
        length = duration_of(self._objects, media) if duration_sec is None else _checked("duration_sec", duration_sec)
        if length is not None and length < MIN_SEC:
            raise InputError(f"{media.name} lasts {length:g} s; Pegasus needs at least {MIN_SEC:g} s of video.")
        start, end = _range(file, length)
        if start <= 0 and (end is None or (length is not None and end >= length - REST_SEC)):
            return self._whole(media, model, length)
        if end is None:
            raise InputError(
                f"The length of {media.name} is unknown, so a part of it needs an end: set {{end_sec}}.",
                remedy={"end_sec": ...},
            )
        if end - start <= CLIP_SEC:
            return Part(media=media, start_sec=start, end_sec=end, most_sec=end - start + MARGIN_SEC, how="clip")
        return self._window(media, start, end, model, length)

    def prepare(self, part: Part, model: PegasusModel) -> Sent:
        """Cut the clip, or upload a local file.

        Raises:
            ConfigurationError: PyAV is not installed, or the bucket is in another region.
            InputError: The clip or the file is too large.
            MediaNotFoundError: There is no such file.
            ServiceError: AWS refused.
        """
        if part.how == "clip":
            return self._clip(part)
        window: dict[str, float] = {}
        if part.how == "window" and part.end_sec is not None and model.window is not None:
            window = dict(zip(model.window, (part.start_sec, part.end_sec), strict=True))
        billed = None if part.end_sec is None else part.end_sec - part.start_sec
        return Sent(location=self._file(part.media, model), window=window, billed_sec=billed)

    def _whole(self, media: Media, model: PegasusModel, length: float | None) -> Part:
        if length is not None and length > model.max_sec:
            raise InputError(
                f"{media.name} lasts {length:,.0f} s; Pegasus {model.version} accepts at most {model.max_sec:,.0f} s. "
                "Ask about a part of it, by {start_sec} and {end_sec}, or describe it with {per}.",
                remedy={"start_sec": ..., "end_sec": ..., "per": "segment"},
            )
        _check_size(media, model)
        # A file of unknown length may be as long as the model accepts.
        most = model.max_sec if length is None else length
        return Part(media=media, start_sec=0.0, end_sec=length, most_sec=most, how="whole")

    def _window(self, media: Media, start: float, end: float, model: PegasusModel, length: float | None) -> Part:
        """A part that is too long for a clip."""
        if model.window is None or (length is not None and length > model.max_sec):
            raise InputError(
                f"The range from {start:g} to {end:g} s of {media.name} lasts {end - start:,.0f} s; at most "
                f"{CLIP_SEC:,.0f} s of it can be sent to Pegasus {model.version} as a clip. Ask about a shorter range."
            )
        _check_size(media, model)
        # Whether the service bills the window or all of the file is not documented.
        most = model.max_sec if length is None else length
        return Part(media=media, start_sec=start, end_sec=end, most_sec=most, how="window")

    def _clip(self, part: Part) -> Sent:
        end = part.end_sec or 0.0
        clip = clip_of(self._objects, part.media, part.start_sec, end, width=WIDTHS[0], sound="aac")
        if len(clip) > INLINE_BYTES:
            fits = WIDTHS[0] * math.sqrt(INLINE_BYTES / len(clip)) * 0.9
            width = next((width for width in WIDTHS if width <= fits), WIDTHS[-1])
            clip = clip_of(self._objects, part.media, part.start_sec, end, width=width, sound="aac")
        if len(clip) > INLINE_BYTES:
            raise InputError(
                f"A clip of {part.name} is {len(clip):,} bytes even at {WIDTHS[-1]} pixels; a request to Pegasus holds "
                f"at most {INLINE_BYTES:,} bytes of video. Ask about a shorter range."
            )
        made = duration_of(self._objects, Media.from_bytes(clip, "video"))
        if made is not None and made < MIN_SEC - HAIR_SEC:
            raise InputError(
                f"{part.media.name} has only {made:.1f} s of content from {part.start_sec:g} to {end:g} s; Pegasus "
                f"needs at least {MIN_SEC:g} s. Choose another range."
            )
        return Sent(location=_inline(clip), window={}, billed_sec=made or end - part.start_sec)

    def _file(self, media: Media, model: PegasusModel) -> Location:
        if media.uri is None and self._output_s3_uri is None:
            check_content(media)
            if (media.size or 0) > INLINE_BYTES:
                raise ConfigurationError(
                    f"{media.name} is {media.size:,} bytes: a file over {INLINE_BYTES:,} bytes is sent to Pegasus by "
                    "S3. Set {output_s3_uri}, under which it is uploaded.",
                    setting="output_s3_uri",
                    remedy={"output_s3_uri": "s3://bucket/marengo/"},
                )
            return _inline(media.read())
        if media.uri is None and self._output_s3_uri is not None:
            self._objects.check_bucket(split_s3_uri(self._output_s3_uri)[0])
            media = upload(self._objects, media, self._output_s3_uri)
        assert media.uri is not None  # noqa: S101  uploaded
        location = self._calls.location(media.uri)
        found = locate(self._objects, media, "etag")
        _check_size(Media("video", uri=found.uri, size=found.size), model)
        return location


def _inline(data: bytes) -> Location:
    return {"base64String": base64.b64encode(data).decode("ascii")}


def _check_size(media: Media, model: PegasusModel) -> None:
    if media.size is not None and media.size > model.max_bytes:
        raise InputError(
            f"{media.name} is {media.size:,} bytes; Pegasus {model.version} accepts files of at most "
            f"{model.max_bytes:,} bytes. Ask about a part of it, or compress it."
        )


def _range(file: FileRange, length: float | None) -> tuple[float, float | None]:
    """A range within the file, of at least 4 s."""
    start = 0.0 if file.start_sec is None else _checked("start_sec", file.start_sec, least=0.0)
    end = length if file.end_sec is None else _checked("end_sec", file.end_sec)
    if length is not None:
        if start >= length:
            raise InputError(
                f"{start:g} s is after the end of {file.media.name}, which lasts {length:g} s.",
                setting="start_sec",
            )
        end = min(end or length, length)
    if end is None:
        return start, None
    if end <= start:
        raise InputError(
            f"The range from {start:g} to {end:g} s of {file.media.name} is empty: the end must be after the start.",
            setting="end_sec",
        )
    end = max(end, start + LEAST_SEC)
    if length is not None and end > length:
        end, start = length, min(start, max(0.0, length - LEAST_SEC))
    return start, end


def _checked(name: str, value: Any, *, least: float = 1e-3) -> float:
    if not (is_number(value) and least <= value < MAX_SEC):
        raise InputError(f"expected seconds, {least:g} or more and below {MAX_SEC:g}.", setting=name, value=value)
    return float(value)

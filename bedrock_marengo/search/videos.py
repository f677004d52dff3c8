"""The best moments of a search as videos for a language model that accepts them: cut out, or as files on S3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from warnings import warn

from bedrock_marengo.contract.moments import is_allowed
from bedrock_marengo.errors import InputError, MarengoWarning, ServiceError
from bedrock_marengo.search.results import OtherText, SearchResult
from bedrock_marengo.validation import is_int

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["MAX_CLIP_SEC", "MAX_VIDEOS", "MAX_VIDEO_BYTES", "VideoPart", "Videos", "check_videos", "videos_of"]

Videos = bool | Literal["s3"]
"""Whether moments come as videos: cut out of their files; or as whole files, which the model reads from S3."""
MAX_VIDEOS = 1
"""What Amazon Nova accepts in one request."""
MAX_VIDEO_BYTES = 15_000_000
"""Of all clips in one message, before base64: the 25 MB of a request of Converse, and room for the rest. Ours."""
MAX_CLIP_SEC = 60.0
"""A longer moment is cut off here. Ours."""

MIME_TYPES: Mapping[str, str] = {
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "flv": "video/x-flv",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "wmv": "video/x-ms-wmv",
    "3gp": "video/3gpp",
}
"""Suffix -> type, of the videos that Converse takes from S3."""


class VideoPart(NamedTuple):
    """A video in a message.

    Attributes:
        mime_type: such as "video/mp4".
        data: the clip; None if the model reads the file from S3.
        s3_uri: the file; None for a clip.
    """

    mime_type: str
    data: bytes | None = None
    s3_uri: str | None = None


def check_videos(video: Videos, max_videos: int, max_video_bytes: int) -> None:
    """Refuse settings that can't be used.

    Raises:
        InputError: The first of them.
    """
    if video not in (True, False, "s3"):
        raise InputError("expected True, False or 's3'.", setting="video", value=video)
    for name, value in (("max_videos", max_videos), ("max_video_bytes", max_video_bytes)):
        if not is_int(value, 0):
            raise InputError("expected a whole number, 0 or more.", setting=name, value=value)


def videos_of(
    client: MarengoClient,
    found: Sequence[SearchResult | OtherText],
    video: Videos,
    *,
    max_videos: int,
    max_video_bytes: int,
    width: int,
    allowed_prefixes: Sequence[str] | None,
) -> dict[int, VideoPart]:
    """Place -> video, for the best moments of videos that can be had. The others have frames.

    Args:
        client: reads the files, with its credentials.
        found: the moments, best first.
        video: how they are sent; False for none.
        max_videos: how many.
        max_video_bytes: the most bytes of all clips together.
        width: the largest width of a clip, in pixels.
        allowed_prefixes: the only S3 prefixes and objects to read.

    Raises:
        ConfigurationError: PyAV is not installed.
    """
    parts: dict[int, VideoPart] = {}
    left = max_video_bytes
    for i, hit in enumerate(found):
        if not video or len(parts) == max_videos:
            break
        if not isinstance(hit, SearchResult) or hit.media_type != "video":
            continue
        if is_allowed(hit.source, allowed_prefixes) and (part := _part(client, hit, video, left, width)) is not None:
            parts[i] = part
            left -= len(part.data or b"")
    return parts


def _part(client: MarengoClient, hit: SearchResult, video: Videos, most: int, width: int) -> VideoPart | None:
    if video == "s3":
        mime_type = MIME_TYPES.get(hit.source.rpartition(".")[2].lower())
        return None if mime_type is None else VideoPart(mime_type, s3_uri=hit.source)
    try:
        clip = client.clip(hit.media, hit.start_sec, min(hit.end_sec, hit.start_sec + MAX_CLIP_SEC), width=width)
    except (InputError, ServiceError) as error:
        warn(f"There is no clip of {hit.source}: {error}", MarengoWarning, stacklevel=1)
        return None
    return VideoPart("video/mp4", clip) if len(clip) <= most else None

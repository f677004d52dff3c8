"""Frames of videos and images, sampled with PyAV: for people, and for models that accept images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import inf
from typing import TYPE_CHECKING, Any

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.contract.segments import MAX_SEC
from bedrock_marengo.errors import InputError
from bedrock_marengo.media.containers import DECODER, open_container
from bedrock_marengo.media.orientation import UPRIGHT, Turn, turn_of_frame, turn_of_image
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import check_width, is_number, require_many, short_repr

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

__all__ = ["frames_of"]

_MICROSECONDS = 1_000_000
"""FFmpeg's unit of a container's times."""
_MOST_HZ = 768_000
"""No recorder samples faster; a damaged file may claim it, and would be slow to resample."""
_HAIR_SEC = 0.0005
"""A time in milliseconds may be just before its frame's."""
_LEADS_SEC = (0, 2, 10, 60, inf)
"""How far before a time to begin decoding, if a shorter lead was not enough."""


def frames_of(objects: S3Objects, media: Media, at_sec: Sequence[float], *, width: int) -> list[bytes]:
    """JPEGs of the frames at some times, in the order asked; after the end it is the last frame.

    Args:
        objects: S3.
        media: a video, or an image, for which the times do not matter.
        at_sec: seconds from the file's start.
        width: maximum width in pixels; the height keeps the aspect ratio.

    Raises:
        ConfigurationError: PyAV is not installed.
        InputError: A file without pictures or that can't be decoded, or a time or width out of range.
        ServiceError: AWS refused to return the bytes.
    """
    times = list(require_many(at_sec, "frames", "times"))
    check_width(width)
    _check_times(times)
    found: dict[float, bytes] = {}
    with open_container(objects, media) as container:
        picture = next((stream for stream in _tracks(container) if stream.type == "video"), None)
        if picture is None:
            raise InputError(f"{media.name} has no video track to take a frame from: use a video or an image.")
        still = None if KINDS[media.kind].timed or not times else _still(container, picture)
        for time in sorted(set(times)):
            frame, turn = still or (_frame_at(container, picture, time), None)
            if frame is None:
                raise InputError(f"{media.name} has no frame that can be decoded. Check the file, or convert it.")
            found[time] = _jpeg(_pixels(frame, picture, width, turn))
    return [found[time] for time in times]


def _check_times(times: Sequence[float]) -> None:
    for time in times:
        if not (is_number(time) and 0 <= time < MAX_SEC):
            raise InputError(f"{short_repr(time)} is not a time: expected seconds, 0 or more and below {MAX_SEC:g}.")


def _tracks(container: InputContainer) -> list[Any]:
    """The video and audio streams that a player plays, in this order, if there are any. Cover art is not video."""
    from av.stream import Disposition

    known: list[Any] = [stream for stream in container.streams if stream.codec_context]
    pictures = [s for s in known if s.type == "video" and not s.disposition & Disposition.attached_pic]
    sounds = [s for s in known if s.type == "audio" and 0 < s.codec_context.sample_rate <= _MOST_HZ]
    found = [*pictures[:1], *sounds[:1]]
    for stream in found:
        stream.thread_type = "AUTO"
        stream.codec_context.options = DECODER
    return found


def _length_sec(container: InputContainer) -> float:
    """The length, which for some formats is an estimate; infinite if unknown."""
    return container.duration / _MICROSECONDS if container.duration else inf


def _sec(ticks: int | None, stream: Any) -> float:
    """A stream's time from the start of its container, as players count."""
    return float((ticks or 0) * stream.time_base) - (stream.container.start_time or 0) / _MICROSECONDS


def _go(container: InputContainer, stream: Any, time: float) -> None:
    """Seek to where decoding gives what a player shows at a time: the last key frame before it.

    MPEG-TS has no index of its key frames, so longer leads are tried in turn.
    """
    for lead in _LEADS_SEC:
        start = max(0.0, time - lead)
        _seek(container, start)
        if not start:
            return
        _, first, _ = next(_decoded(container, [stream]), (None, inf, None))
        if first <= time + _HAIR_SEC:
            break
    _seek(container, start)


def _seek(container: InputContainer, time: float) -> None:
    import av

    first = container.start_time or 0
    # To find the start, seek to a time before it: its first packets may have earlier times. What has no index before
    # its first key frame, such as an old FLV whose sound begins first, is read from its first byte.
    for place, by_bytes in ((first + int((time or -1) * _MICROSECONDS), False), (first, False), (0, True)):
        try:
            container.seek(place, unsupported_byte_offset=by_bytes)
        except av.FFmpegError:
            # After its end, or not seekable: what is left is its start, or the current position.
            continue
        return


def _decoded(container: InputContainer, streams: Sequence[Any], until: float = inf) -> Iterator[tuple[Any, float, Any]]:
    """Frames in the file's order, with the stream and the time of each, up to about a time.

    Damaged frames are skipped, as players do.
    """
    import av

    for packet in container.demux(*streams):
        is_over = packet.dts is not None and _sec(packet.dts, packet.stream) > until
        # Frames that decoders still hold come last.
        for stream in streams if is_over else [packet.stream]:
            try:
                frames = stream.decode(None if is_over else packet)
            except av.FFmpegError:
                continue
            for frame in frames:
                yield stream, _sec(frame.pts, stream), frame
        if is_over:
            return


def _frame_at(container: InputContainer, stream: Any, time: float) -> VideoFrame | None:
    """The frame that a player shows at a time: the last one that begins no later."""
    shown = None
    _go(container, stream, min(time, _length_sec(container)))
    for _, begins, frame in _decoded(container, [stream]):
        if shown is not None and begins > time + _HAIR_SEC:
            break
        shown = frame
    return shown


def _still(container: InputContainer, stream: Any) -> tuple[VideoFrame | None, Turn]:
    """An image's pixels as they are stored, and its turn."""
    import av

    frame, turn = None, UPRIGHT
    for packet in container.demux(stream):
        if packet.size:
            turn = turn_of_image(bytes(packet))
        try:
            frame = next(iter(stream.decode(packet)), None)
        except av.FFmpegError:
            continue
        if frame is not None:
            break
    return frame, turn


def _pixels(frame: VideoFrame, stream: Any, width: int, turn: Turn | None = None) -> Any:
    """RGB ``(height, width, 3)``, upright and with square pixels, both sides even."""
    turn = turn_of_frame(frame) if turn is None else turn
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    wide, high = frame.width * aspect, float(frame.height)
    scale = min(1.0, width / (high if turn.transposed else wide))
    return turn.apply(
        frame.reformat(width=_even(wide * scale), height=_even(high * scale), format="rgb24").to_ndarray()
    )


def _even(side: float) -> int:
    """An even number of pixels, at most the given one."""
    return max(2, round(side) // 2 * 2)


def _jpeg(pixels: Any) -> bytes:
    import av

    codec: Any = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 25)
    codec.options = {"qmin": "4", "qmax": "4"}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])

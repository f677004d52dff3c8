"""Part of a video or audio file as a small MP4."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.errors import InputError
from bedrock_marengo.media.containers import open_container
from bedrock_marengo.media.frames import _HAIR_SEC, _check_times, _decoded, _go, _length_sec, _pixels, _tracks
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import check_width

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer, OutputContainer

__all__ = ["clip_of"]

_TICKS = 90_000
"""Ticks of a clip's clock per second: MPEG's own."""
_SOUND_HZ = 48_000
_SOUND_BITS = {"mp3": 48_000, "aac": 32_000}
"""Codec of the sound -> bits per second of each of its one or two channels."""
_PICTURE_SEC = 1 / 31
"""A browser's thumbnail needs no more frames per second than this."""
_LAG_SEC = 2
"""How far a container's tracks lag behind one another at most."""
# A few hundred kilobytes for ten seconds of a thumbnail. One thread each, because several are made at once.
_VIDEO_OPTIONS = {"crf": "28", "preset": "veryfast", "bf": "0", "threads": "1"}


def clip_of(
    objects: S3Objects,
    media: Media,
    start_sec: float,
    end_sec: float,
    *,
    width: int,
    sound: Literal["mp3", "aac"] = "mp3",
) -> bytes:
    """A part of a video or audio file as a small MP4 that begins where the part does: H.264, and MP3 unless told.

    Args:
        objects: S3.
        media: a video or audio file.
        start_sec: seconds from the file's start.
        end_sec: seconds from the file's start.
        width: maximum width in pixels; the height keeps the aspect ratio.
        sound: its codec. All browsers play MP3 in MP4, and so do the webviews of VS Code, which have no AAC.

    Raises:
        ConfigurationError: PyAV is not installed.
        InputError: An image, a file that can't be decoded, or nothing between these times.
        ServiceError: AWS refused to return the bytes.
    """
    check_width(width)
    _check_times([start_sec, end_sec])
    if not KINDS[media.kind].timed:
        raise InputError(f"{media.name} is an {media.kind}, which has no clips: use frames().")
    if end_sec <= start_sec:
        raise InputError(
            f"A clip of {media.name} from {start_sec:g} to {end_sec:g} s is empty: the end must be after the start."
        )
    file = io.BytesIO()
    with open_container(objects, media) as container:
        import av

        with av.open(file, "w", format="mp4") as film:
            if not _transcode(container, film, start_sec, end_sec, width, sound):
                raise InputError(
                    f"{media.name} has nothing from {start_sec:g} to {end_sec:g} s: choose a range within the file."
                )
    return file.getvalue()


def _transcode(
    container: InputContainer, film: OutputContainer, start: float, end: float, width: int, sound: str
) -> bool:
    """Write what is between two times; False if nothing is."""
    outputs: dict[str, Any] = {}
    # Written at the end: the file's header names all tracks, whose sizes are known from their first frames.
    packets: dict[str, list[Packet[Any]]] = {"video": [], "audio": []}
    for stream, time, frame in _between(container, start, end):
        if stream.type == "video":
            pixels = _pixels(frame, stream, width)
            output = outputs.get("video") or _video_track(film, pixels)
            frame = _video_frame(pixels, time - start)
        else:
            output = outputs.get("audio") or _sound_track(film, sound, frame.layout.nb_channels)
            frame.pts, frame.time_base = round((time - start) * frame.sample_rate), Fraction(1, frame.sample_rate)
        outputs[stream.type] = output
        packets[stream.type] += output.encode(frame)
    for kind, output in outputs.items():
        packets[kind] += output.encode(None)
    _hold(packets["video"], min(end, _length_sec(container)) - start)
    film.mux([*packets["video"], *packets["audio"]])
    return any(packets.values())


def _between(container: InputContainer, start: float, end: float) -> Iterator[tuple[Any, float, Any]]:
    """What a player plays between two times, in the file's order: frames, with the stream and the time of each."""
    streams = _tracks(container)
    if not streams:
        return
    going = {stream.index for stream in streams}
    standing, latest = None, -inf
    _go(container, streams[0], start)
    for stream, time, frame in _decoded(container, streams, end + _LAG_SEC):
        if time >= end:
            going.discard(stream.index)
            if not going:
                break
        elif stream.type == "audio":
            if time >= start - _HAIR_SEC:
                yield stream, max(start, time), frame
        elif time <= start + _HAIR_SEC:
            standing = stream, start, frame
        else:
            if standing is not None:
                yield standing
                standing, latest = None, start
            if time - latest >= _PICTURE_SEC:
                yield stream, time, frame
                latest = time
    # The frame that was shown when the part began, if no other followed.
    if standing is not None and start < _length_sec(container):
        yield standing


def _hold(pictures: Sequence[Packet[Any]], length_sec: float) -> None:
    """Show each frame until the next one, the last until the end."""
    ends = [picture.pts or 0 for picture in pictures[1:]] + [round(length_sec * _TICKS)]
    for picture, end in zip(pictures, ends, strict=False):
        picture.duration = max(1, end - (picture.pts or 0))


def _video_track(film: OutputContainer, pixels: Any) -> Any:
    from av.video.reformatter import ColorRange, Colorspace

    track: Any = film.add_stream("h264", rate=Fraction(30), options=_VIDEO_OPTIONS)
    track.height, track.width = pixels.shape[:2]
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = Fraction(1, _TICKS)
    # What _video_frame's pixels are converted to; a browser would guess from the size.
    track.codec_context.colorspace, track.codec_context.color_range = Colorspace.ITU601, ColorRange.MPEG
    return track


def _sound_track(film: OutputContainer, codec: str, channels: int) -> Any:
    track: Any = film.add_stream(codec, rate=_SOUND_HZ, layout="mono" if channels == 1 else "stereo")
    track.bit_rate = _SOUND_BITS[codec] * min(channels, 2)
    return track


def _video_frame(pixels: Any, time: float) -> VideoFrame:
    import av

    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
    return frame

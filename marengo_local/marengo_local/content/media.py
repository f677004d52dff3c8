"""Decoding with PyAV: still images, and one pass over a file that yields frames, samples and captions."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import av.container
import av.error
import numpy as np
from av.stream import Disposition

from marengo_local.content.space import Array

Source = str | os.PathLike[str] | BinaryIO
RATE_HZ: Final = 16_000
# In other formats, a seek may land between keyframes, where decoding fails; those are read from the start.
INDEXED_FORMATS: Final = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
# Frames further apart make the time of a cut inaccurate.
SPARSE_SEC: Final = 0.25
# FFmpeg's formats that contain their own media: a playlist, a session description or an image sequence named match.mp4
# must not open other files or addresses.
STILL_FORMATS: Final = "apng,bmp_pipe,gif,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
MEDIA_FORMATS: Final = "aac,asf,avi,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,ogg,wav"
# A picture of a few kilobytes may decode to gigabytes. Twice 8K video.
MAX_PIXELS: Final = 1 << 26
# Each scan of a progressive JPEG may take a few bytes and a pass over the whole picture. Real ones have about ten.
MAX_SCANS: Final = 100


class UndecodableMedia(Exception):  # noqa: N818 - named after the file
    """The content is not an image, video or audio, or has no stream of the requested kind."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame in the decoder's pixel format."""

    sec: float
    frame: av.VideoFrame


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples, float32 in -1 to 1, at 16 kHz."""

    sec: float
    samples: Array


@dataclass(frozen=True, slots=True)
class Caption:
    """A cue of an embedded subtitle track."""

    start_sec: float
    end_sec: float
    words: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The duration and streams of a file, known without decoding it."""

    duration_sec: float
    has_video: bool
    has_audio: bool


def still(data: bytes) -> av.VideoFrame:
    """Decode a JPEG, PNG or other still image; raises UndecodableMedia for anything else."""
    with _open_still(data) as container:
        for frame in container.decode(video=0):
            return frame
    raise UndecodableMedia("not an image: no frame could be decoded")


def still_outline(data: bytes) -> tuple[str, int, int]:
    """FFmpeg's name of an image's codec, width and height; raises UndecodableMedia for anything else."""
    with _open_still(data) as container:
        codec = container.streams.video[0].codec_context
        return codec.name, codec.width, codec.height


def outline(source: Source, formats: str = MEDIA_FORMATS) -> Outline:
    """Duration and streams, from the container's header if it has them."""
    with opened(source, formats) as container:
        video, audio, _ = first_streams(container)
        if not (video or audio):
            raise UndecodableMedia("neither video nor audio: no video or audio stream found")
        length_sec = container.duration / av.time_base if container.duration else _scanned_sec(container)
        if length_sec <= 0:
            raise UndecodableMedia("neither video nor audio: the file has no duration")
        return Outline(length_sec, bool(video), bool(audio))


def play(
    source: Source, start_sec: float, end_sec: float, *, video: bool, audio: bool, captions: bool
) -> Iterator[Picture | Sound | Caption]:
    """Decode the requested streams of [start_sec, end_sec) in one pass, in file order; skips damaged packets."""
    with opened(source) as container:
        origin_sec = (container.start_time or 0) / av.time_base
        pairs = zip(first_streams(container), (video, audio, captions), strict=True)
        streams = [stream for stream, requested in pairs if requested and stream is not None]
        if not streams:
            return
        readers = {stream.index: _reader(stream, start_sec, end_sec) for stream in streams}
        if start_sec > 0 and container.format.name in INDEXED_FORMATS:
            container.seek(int((start_sec + origin_sec) * av.time_base))
        for packet in container.demux(*streams):
            begins_sec = _seconds(packet.pts, packet.time_base, origin_sec)
            # One extra second, since frames are in decoding order and streams are interleaved loosely.
            if begins_sec is not None and begins_sec > end_sec + 1.0:
                break
            with suppress(av.error.InvalidDataError):
                yield from readers[packet.stream.index].read(packet, origin_sec)
        for reader in readers.values():
            yield from reader.rest(origin_sec)


@dataclass(slots=True)
class _PictureReader:
    stream: Any
    start_sec: float
    end_sec: float

    last_sec: float | None = None

    def __post_init__(self) -> None:
        self.stream.thread_type = "AUTO"
        # Decoding takes most of the time and five frames per second are enough, so B-frames are skipped.
        self.stream.codec_context.skip_frame = "BIDIR"

    def read(self, packet: Any, origin_sec: float) -> Iterator[Picture]:
        return self._kept(packet.decode(), origin_sec)

    def rest(self, origin_sec: float) -> Iterator[Picture]:
        with suppress(av.error.EOFError, av.error.InvalidDataError):
            yield from self._kept(self.stream.decode(None), origin_sec)

    def _kept(self, frames: Sequence[av.VideoFrame], origin_sec: float) -> Iterator[Picture]:
        for frame in frames:
            sec = _seconds(frame.pts, frame.time_base, origin_sec)
            if sec is None:
                continue
            if self.last_sec is not None and sec - self.last_sec > SPARSE_SEC:
                # Some encoders write mostly B-frames. Skip only the unreferenced ones.
                self.stream.codec_context.skip_frame = "NONREF"
            self.last_sec = sec
            if self.start_sec - 1e-3 <= sec < self.end_sec:
                yield Picture(sec, frame)


class _SoundReader:
    def __init__(self, stream: Any, start_sec: float, end_sec: float) -> None:
        self._range = start_sec, end_sec
        self._stream = stream
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        self._next_sec: float | None = None

    def read(self, packet: Any, origin_sec: float) -> Iterator[Sound]:
        for frame in packet.decode():
            if self._next_sec is None:
                self._next_sec = _seconds(frame.pts, frame.time_base, origin_sec) or 0.0
            yield from self._resampled(frame)

    def rest(self, origin_sec: float) -> Iterator[Sound]:
        if self._next_sec is not None:
            yield from self._resampled(None)

    def _resampled(self, frame: av.AudioFrame | None) -> Iterator[Sound]:
        start_sec, end_sec = self._range
        for resampled in self._resampler.resample(frame):
            samples = resampled.to_ndarray()[0].astype(np.float32)
            begins_sec = self._next_sec or 0.0
            self._next_sec = begins_sec + len(samples) / RATE_HZ
            first = max(0, round((start_sec - begins_sec) * RATE_HZ))
            kept = samples[first : max(0, round((end_sec - begins_sec) * RATE_HZ))]
            if len(kept):
                yield Sound(begins_sec + first / RATE_HZ, kept)


@dataclass(slots=True)
class _CaptionReader:
    stream: Any
    start_sec: float
    end_sec: float

    def read(self, packet: Any, origin_sec: float) -> Iterator[Caption]:
        begins_sec = _seconds(packet.pts, packet.time_base, origin_sec)
        if begins_sec is None or packet.size == 0:
            return
        ends_sec = begins_sec + float((packet.duration or 0) * packet.time_base)
        words = " ".join(_words(subtitle) for subtitle in packet.decode())
        if words.strip() and begins_sec < self.end_sec and ends_sec > self.start_sec:
            yield Caption(begins_sec, ends_sec, words)

    def rest(self, origin_sec: float) -> Iterator[Caption]:
        return iter(())


_READERS: Final = {"video": _PictureReader, "audio": _SoundReader, "subtitle": _CaptionReader}


def _reader(stream: Any, start_sec: float, end_sec: float) -> Any:
    return _READERS[stream.type](stream, start_sec, end_sec)


def _words(subtitle: Any) -> str:
    """The plain text of a subtitle event; empty for bitmap subtitles (DVD, Blu-ray)."""
    dialogue = getattr(subtitle, "dialogue", b"")
    return dialogue.decode("utf-8", "replace") if isinstance(dialogue, bytes) else str(dialogue)


@contextmanager
def opened(source: Source, formats: str = MEDIA_FORMATS) -> Iterator[av.container.InputContainer]:
    """Open for reading; raises UndecodableMedia if FFmpeg can't read it, but FileNotFoundError as is."""
    safe = {"format_whitelist": formats, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    # PyAV 19 ignores titles that are not UTF-8, and has no such setting.
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    # A file that has a name is opened here, since FFmpeg may read others that are named like it.
    with Path(source).open("rb") if isinstance(source, str | os.PathLike) else nullcontext(source) as file:
        file.seek(0)
        try:
            with av.open(file, "r", options=safe, **lenient) as container:
                for stream in (*container.streams.video, *container.streams.audio, *container.streams.subtitles):
                    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
                yield container
        except (av.error.FFmpegError, ValueError, IndexError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UndecodableMedia(f"FFmpeg can't decode it: {reason}") from error


@contextmanager
def _open_still(data: bytes) -> Iterator[av.container.InputContainer]:
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise UndecodableMedia(f"not an image: a JPEG with more than {MAX_SCANS} scans")
    try:
        with opened(io.BytesIO(data), STILL_FORMATS) as container:
            yield container
    except UndecodableMedia as error:
        raise UndecodableMedia(f"not an image: {error}") from error


def first_streams(container: av.container.InputContainer) -> tuple[Any, Any, Any]:
    """The first video (not cover art), audio and subtitle stream; None for each that is missing."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    first = [next(iter(streams), None) for streams in (moving, container.streams.audio, container.streams.subtitles)]
    return first[0], first[1], first[2]


def _scanned_sec(container: av.container.InputContainer) -> float:
    """The end of the last packet, for containers without a duration in the header, such as piped ones."""
    origin_sec = (container.start_time or 0) / av.time_base
    ends = [
        (_seconds(packet.pts, packet.time_base, origin_sec) or 0.0) + float((packet.duration or 0) * packet.time_base)
        for packet in container.demux()
        if packet.pts is not None
    ]
    return max(ends, default=0.0)


def _seconds(pts: int | None, time_base: Any, origin_sec: float) -> float | None:
    return None if pts is None or time_base is None else float(pts * time_base) - origin_sec

"""The sound of a video or audio file as FLAC, for services that don't read its container."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.media.containers import open_container
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import upload_to

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

__all__ = ["upload_sound"]

RATE_HZ = 16_000
"""What speech recognition uses; an hour has about 60 MB."""
GAP_SEC, LONGEST_GAP_SEC = 0.1, 3600.0
"""Pauses of a track that are filled with silence: shorter ones are its frames' rounding, longer ones damaged times."""
_MICROSECONDS = 1_000_000
"""FFmpeg's unit of a container's start."""


def upload_sound(objects: S3Objects, media: Media, uri: str, *, token: CancelToken) -> float | None:
    """Extract a file's sound (mono) and upload it.

    Args:
        objects: S3.
        media: a local file, or one on S3, of which only what is needed is read.
        uri: where to upload to.
        token: cancels it.

    Returns:
        Its length in seconds; None if the file has no sound, and nothing was uploaded.

    Raises:
        InputError: The file can't be decoded.
        ServiceError: AWS refused to read or to write.
        ConfigurationError: PyAV is not installed.
        ClosedError: It was cancelled.
    """
    with tempfile.TemporaryDirectory(prefix="marengo-") as folder:
        path = Path(folder, "sound.flac")
        with open_container(objects, media) as container:
            length_sec = _write_flac(container, path, token, media.name)
        if length_sec is not None:
            upload_to(objects, path, uri)
    return length_sec


def _write_flac(container: InputContainer, path: Path, token: CancelToken, name: str) -> float | None:
    """Write the first sound track, each sample at its time in the file: its length in seconds, None without one."""
    import av  # an extra, and 0.1 s

    if not container.streams.audio:
        return None
    samples = 0
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    with av.open(str(path), "w", "flac") as out:
        stream: Any = out.add_stream("flac", RATE_HZ, layout="mono")
        for at_sec, frame in _frames(container, token, name):
            pieces = list(resampler.resample(frame))
            # Sound that begins late, or pauses: words would get earlier times.
            late = round(at_sec * RATE_HZ) - samples
            if GAP_SEC * RATE_HZ < late < LONGEST_GAP_SEC * RATE_HZ:
                pieces[:0] = _silence(late)
            for piece in pieces:
                samples += piece.samples
                piece.pts = None
                out.mux(stream.encode(piece))
        for piece in resampler.resample(None):
            samples += piece.samples
            piece.pts = None
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return samples / RATE_HZ or None


def _frames(container: InputContainer, token: CancelToken, name: str) -> Iterator[tuple[float, AudioFrame]]:
    """Frames of the first sound track, with their times from the start of the file."""
    import av

    began = (container.start_time or 0) / _MICROSECONDS
    for packet in container.demux(container.streams.audio[0]):
        token.check(f"Extracting the sound of {name}")
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            # A player skips what is damaged.
            continue
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                yield (frame.time or began) - began, frame


def _silence(samples: int) -> list[AudioFrame]:
    import av

    frames = []
    while samples > 0:
        frame = av.AudioFrame("s16", "mono", min(samples, RATE_HZ))
        frame.sample_rate = RATE_HZ
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        samples -= frame.samples
        frames.append(frame)
    return frames

"""Films whose frames differ: each shows its number, in grey, and beeps at every whole second."""

import functools
import io
from fractions import Fraction

import av
import numpy as np

HZ = 48_000
BEEP_SEC = 0.1
# One for each sixteenth, far enough apart for any codec.
_GREYS = np.linspace(24, 232, 16)


def film(
    *,
    seconds=4.0,
    fps=25,
    width=160,
    height=96,
    format="mp4",  # noqa: A002
    video="libx264",
    audio="aac",
    times=None,
    gop=25,
    b_frames=2,
    start_sec=0.0,
    aspect=None,
    crf=18,
    pictures=None,
):
    """A film's bytes. ``times``: when each frame begins, for a rate that varies; ``pictures``: number -> RGB."""
    file = io.BytesIO()
    times = list(times) if times is not None else [n / fps for n in range(round(seconds * fps))]
    with av.open(file, "w", format=format) as container:
        streams = []
        if video:
            picture = container.add_stream(video, rate=Fraction(fps))
            picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
            picture.gop_size = gop
            if video not in ("mpeg4", "mpeg2video"):  # which know rates only
                picture.codec_context.time_base = Fraction(1, 90_000)
            if video == "libx264":
                picture.options = {"preset": "ultrafast", "bf": str(b_frames), "sc_threshold": "0", "crf": str(crf)}
            if aspect:
                picture.codec_context.sample_aspect_ratio = aspect
            streams.append(_pictures(picture, times, start_sec, pictures or numbered(width, height)))
        if audio:
            sound = container.add_stream(audio, rate=HZ, layout="mono")
            streams.append(_beeps(sound, seconds, start_sec))
        for packets in _by_time(streams):
            container.mux(packets)
    return file.getvalue()


def numbered(width, height):
    """Draws a number as two greys, its sixteens on the left and its ones on the right."""

    def draw(number):
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[:, : width // 2] = _GREYS[number // 16 % 16]
        pixels[:, width // 2 :] = _GREYS[number % 16]
        return pixels

    return draw


def number_in(pixels):
    """The number that a picture shows."""
    middle = pixels.shape[1] // 2
    digits = [
        int(np.abs(_GREYS - np.median(part)).argmin()) for part in (pixels[:, : middle - 2], pixels[:, middle + 2 :])
    ]
    return digits[0] * 16 + digits[1]


def pixels_in(jpeg):
    """A JPEG's RGB."""
    with av.open(io.BytesIO(jpeg)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def frames_in(data):
    """A film's frames: time in seconds and RGB of each."""
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound_in(data):
    """A film's sound as it is heard: float mono at 48 kHz from the film's start on."""
    with av.open(io.BytesIO(data)) as container:
        start_sec = (container.start_time or 0) / 1_000_000
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=HZ)
        heard = np.zeros(0, np.float32)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                first = round((part.time - start_sec) * HZ)
                samples = part.to_ndarray()[0][max(0, -first) :]
                end = max(0, first) + len(samples)
                heard = np.pad(heard, (0, max(0, end - len(heard))))
                heard[end - len(samples) : end] = samples
    return heard


def beeps_in(sound):
    """When beeps begin, in seconds."""
    loud = np.abs(sound) > 0.1
    # Loud here, and nothing loud in the 50 ms before.
    quiet_sec = round(0.05 * HZ)
    starts = [i for i in np.flatnonzero(loud) if not loud[max(0, i - quiet_sec) : i].any()]
    return [i / HZ for i in starts]


def _digit(part):
    return int(np.abs(_GREYS - np.median(part)).argmin())


def _pictures(stream, times, start_sec, draw):
    for number, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
        frame.pts, frame.time_base = round((start_sec + time) * 90_000), Fraction(1, 90_000)
        yield time, stream.encode(frame)
    yield float("inf"), stream.encode(None)


def _beeps(stream, seconds, start_sec):
    moments = np.arange(round(seconds * HZ)) / HZ
    sound = np.where(moments % 1.0 < BEEP_SEC, 0.5 * np.sin(2 * np.pi * 880 * moments), 0).astype(np.float32)
    for first in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(sound[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = HZ, Fraction(1, HZ)
        frame.pts = round(start_sec * HZ) + first
        yield first / HZ, stream.encode(frame)
    yield float("inf"), stream.encode(None)


def _by_time(streams):
    """Packets of all streams, those of the earliest first."""
    heads = [(stream, *next(stream)) for stream in streams]
    while heads:
        heads.sort(key=lambda head: head[1])
        stream, _, packets = heads.pop(0)
        yield packets
        if (following := next(stream, None)) is not None:
            heads.append((stream, *following))


@functools.cache
def _film_of_12_sec(gop):
    return film(seconds=12.0, fps=5, gop=gop)


def talking_films(local, folder, *, on_s3):
    """Two videos of 12 s without captions, in which something is said, as the source of a loader."""
    local.synthetic_sec = None
    local.say("*", [(0.0, 5.0, "He shoots"), (6.0, 11.0, "And there is the goal!")])
    for name, gop in (("first.mp4", 25), ("second.mp4", 10)):
        (folder / name).write_bytes(_film_of_12_sec(gop))
        if on_s3:
            local.put(_film_of_12_sec(gop), f"v/{name}")
    return f"s3://{local.bucket}/v/" if on_s3 else folder

"""The demo's reel: a video of nine short scenes made from photos and clips, and questions about it.

`reel.json` defines scenes and questions; it was written before the content model. The video is built at run time.
"""

import io
import json
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

__all__ = [
    "TITLE",
    "Crop",
    "Question",
    "Scene",
    "absent",
    "build",
    "captions",
    "film",
    "media",
    "query_image",
    "questions",
    "scene_at",
    "scenes",
    "sound",
]

# In the file, so that Transcribe's stand-in recognizes it: it hears the captions.
TITLE: Final = "The reel of marengo_local"
SOUND_HZ: Final = 32_000
AAC_FRAME: Final = 1024
# During a scene, the camera zooms into a photo, from its full width to nine tenths of it.
ZOOM: Final = 0.1
# How far the camera pans down over the height that doesn't fit, starting at the top, where faces are.
PAN: Final = 0.4

Pixels = np.ndarray


@dataclass(frozen=True, slots=True)
class Scene:
    """A part of the reel; times are seconds from its start."""

    name: str
    file: str
    start_sec: float
    end_sec: float
    holds: str


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the frame `at_sec` after the scene's start; the box is left, top, right, bottom as fractions."""

    scene: str
    at_sec: float
    box: tuple[float, float, float, float]
    mirror: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A text or image query, and the scene that answers it; None if nothing in the reel does."""

    text: str | None
    image: Crop | None
    answer: str | None


def scenes() -> list[Scene]:
    """The scenes in order."""
    return [Scene(**scene) for scene in _plan()["scenes"]]


def questions() -> list[Question]:
    """All questions; the demo asks the first four."""
    return [_question(question) for question in _plan()["questions"]]


def absent() -> Question:
    """A question that no scene answers."""
    return _question(_plan()["absent"])


def scene_at(sec: float) -> Scene:
    """The scene at a time of the reel; raises ValueError outside of it."""
    for scene in scenes():
        if scene.start_sec <= sec < scene.end_sec:
            return scene
    raise ValueError(f"No scene at {sec} s. The reel has 0 to {scenes()[-1].end_sec:g} s.")


def media() -> dict[str, Path]:
    """The clips and photos that the reel is made of, by file name, in the order of the scenes."""
    return {scene.file: Path(__file__).with_name(scene.file) for scene in scenes()}


def film() -> bytes:
    """The reel as MP4 in memory, as `build` writes it."""
    file = io.BytesIO()
    build(file)
    return file.getvalue()


def captions() -> str:
    """WebVTT with a description of each scene. The words are not spoken in the video."""
    cues = (f"{_timestamp(scene.start_sec)} --> {_timestamp(scene.end_sec)}\n{scene.holds}\n" for scene in scenes())
    return "\n".join(["WEBVTT\n", *cues])


def sound(name: str) -> bytes:
    """The sound of one scene as WAV, mono, 16-bit; raises ValueError for an unknown scene."""
    samples = _sound(_scene(name))
    file = io.BytesIO()
    with wave.open(file, "wb") as track:
        track.setnchannels(1)
        track.setsampwidth(2)
        track.setframerate(SOUND_HZ)
        track.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def build(path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write the reel as MP4 (H.264, AAC) to a path or an open file."""
    plan = _plan()
    with av.open(os.fspath(path) if isinstance(path, str | os.PathLike) else path, "w", format="mp4") as film:
        film.metadata["title"] = TITLE
        # A single thread makes the output the same on every machine.
        options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        video = film.add_stream("libx264", rate=plan["fps"], options=options)
        video.width, video.height, video.pix_fmt = plan["width"], plan["height"], "yuv420p"
        audio = film.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for scene in scenes():
            for pixels in _frames(scene):
                film.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(video.encode(None))
        track = np.concatenate([_sound(scene) for scene in scenes()])
        for first in range(0, len(track), AAC_FRAME):
            frame = av.AudioFrame.from_ndarray(track[None, first : first + AAC_FRAME], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, first, Fraction(1, SOUND_HZ)
            film.mux(audio.encode(frame))
        film.mux(audio.encode(None))


def query_image(question: Question) -> bytes:
    """The JPEG of an image question: a frame, cropped and maybe mirrored; raises ValueError for a text question."""
    crop = question.image
    if crop is None:
        raise ValueError("The question is a text, not an image. Use its text.")
    scene = _scene(crop.scene)
    place = round(crop.at_sec * _plan()["fps"])
    pixels = next(pixels for at, pixels in enumerate(_frames(scene)) if at == place)
    high, wide, _ = pixels.shape
    left, top, right, bottom = crop.box
    part = pixels[round(top * high) : round(bottom * high), round(left * wide) : round(right * wide)]
    return _jpeg(part[:, ::-1] if crop.mirror else part)


@cache
def _plan() -> Any:
    return json.loads(files(__package__).joinpath("reel.json").read_text("utf-8"))


def _scene(name: str) -> Scene:
    for scene in scenes():
        if scene.name == name:
            return scene
    raise ValueError(f"The reel has no scene {name!r}. Use one of {', '.join(scene.name for scene in scenes())}.")


def _timestamp(sec: float) -> str:
    minutes, rest = divmod(sec, 60)
    return f"{int(minutes):02d}:{rest:06.3f}"


def _question(plan: dict[str, Any]) -> Question:
    image = plan.get("image")
    crop = image and Crop(image["scene"], image["at_sec"], tuple(image["crop"]), image["mirror"])
    return Question(plan.get("text"), crop, plan.get("answer"))


def _bytes(scene: Scene) -> io.BytesIO:
    return io.BytesIO(files(__package__).joinpath(scene.file).read_bytes())


def _count(scene: Scene, per_sec: int) -> int:
    return round(scene.end_sec * per_sec) - round(scene.start_sec * per_sec)


def _frames(scene: Scene) -> Iterator[Pixels]:
    """The scene's frames, RGB (height, width, 3); if a clip is too short, its last frame is repeated."""
    count = _count(scene, _plan()["fps"])
    fitted = VideoReformatter()
    with av.open(_bytes(scene), "r") as container:
        if scene.file.endswith(".jpg"):
            photograph = next(container.decode(video=0)).to_ndarray(format="rgb24")
            for place in range(count):
                yield _fitted(_window(photograph, place / count), fitted)
            return
        shown = 0
        for shown, frame in enumerate(container.decode(video=0), 1):
            pixels = _fitted(_window(frame.to_ndarray(format="rgb24"), None), fitted)
            yield pixels
            if shown == count:
                return
        yield from [pixels] * (count - shown)


def _window(pixels: Pixels, progress: float | None) -> Pixels:
    """Crop to the reel's aspect ratio: the center of a clip, or the view of a photo at `progress`, 0 to 1."""
    high, wide, _ = pixels.shape
    shape = _plan()["width"] / _plan()["height"]
    zoom = 1.0 - ZOOM * (progress or 0.0)
    width = zoom * min(wide, high * shape)
    height = width / shape
    down = 0.5 if progress is None else PAN * progress
    left, top = round((wide - width) / 2), round((high - height) * down)
    return pixels[top : top + round(height), left : left + round(width)]


def _fitted(pixels: Pixels, reformatter: VideoReformatter) -> Pixels:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return reformatter.reformat(
        frame, width=_plan()["width"], height=_plan()["height"], interpolation="AREA"
    ).to_ndarray()


def _sound(scene: Scene) -> np.ndarray:
    """The scene's sound, float32 mono, padded with silence."""
    track = np.zeros(_count(scene, SOUND_HZ), np.float32)
    with av.open(_bytes(scene), "r") as container:
        if not container.streams.audio:
            return track
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_HZ)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])[: len(track)]
    track[: len(samples)] = samples
    return track


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    # JPEG's chroma subsampling needs even dimensions.
    pixels = np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
    with av.open(file, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", options={"q:v": "2"})
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()

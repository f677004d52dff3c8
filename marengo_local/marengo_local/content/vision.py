"""Visual features: ImageNet classes mapped to words, colors, light, motion, and raw network features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from marengo_local.content.cuts import MIN_CUT_DISTANCE, histogram
from marengo_local.content.media import Picture
from marengo_local.content.network import FEATURES, SIDE_PX, classify
from marengo_local.content.space import ATTRIBUTES, COLOURS, NAMED, Array, unit
from marengo_local.content.weights import weights

# Of a frame far longer than wide, more is squeezed.
MAX_SIDE_PX: Final = 2 * SIDE_PX
THUMBNAIL_PX: Final = (96, 54)
SAMPLE_SEC: Final = 0.2
# The network takes most of the time: it analyzes a keyframe every two seconds, and one soon after each cut.
KEYFRAME_SEC: Final = 2.0
AFTER_CUT_SEC: Final = 0.5
MIN_GAP_SEC: Final = 1.0
# The length of the weighted mean of the classes when the network is confident, and the share of an image when it isn't.
CONFIDENT_LENGTH: Final = 0.4
LEAST_SHARE: Final = 0.7
# (name, from, to) in degrees of hue. Brown is dark orange; the other colors have no hue.
HUES: Final = (
    ("red", 345, 375),
    ("orange", 15, 42),
    ("yellow", 42, 68),
    ("green", 68, 165),
    ("blue", 165, 262),
    ("purple", 262, 300),
    ("pink", 300, 345),
)


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The analysis of one frame, small enough to keep for hours of video."""

    sec: float
    probabilities: np.ndarray
    features: np.ndarray
    colours: Array
    luminance: float
    contrast: float
    saturation: float


@dataclass(frozen=True, slots=True)
class VisualFeatures:
    """The features of one or more keyframes. `confidence`, 0 to 1, is low for blank and lower for unclear images."""

    semantic: Array
    attributes: Array
    network: Array
    confidence: float


class VideoAnalyzer:
    """Receives frames as they are decoded; keeps keyframes, motion and histogram distances, but no frames."""

    def __init__(self, keyframe_sec: float = KEYFRAME_SEC) -> None:
        self.keyframes: list[Keyframe] = []
        self.jumps: list[tuple[float, float]] = []
        self._motion: list[tuple[float, float]] = []
        self._keyframe_sec = keyframe_sec
        self._next_sample_sec = self._next_keyframe_sec = -np.inf
        self._skipped: list[Picture] = []
        self._thumbnail: np.ndarray | None = None
        self._small, self._large = VideoReformatter(), VideoReformatter()

    def add(self, picture: Picture) -> None:
        """Add the next frame in time."""
        if picture.sec + 1e-6 < self._next_sample_sec:
            self._skipped.append(picture)
            return
        self._next_sample_sec = picture.sec + SAMPLE_SEC
        thumbnail = self._shrunk(picture)
        if self._thumbnail is not None:
            self._compare(self._thumbnail, thumbnail, picture)
        self._thumbnail = thumbnail
        self._skipped.clear()
        if picture.sec + 1e-6 >= self._next_keyframe_sec:
            self.keyframes.append(analyze(picture.frame, picture.sec, self._large))
            self._next_keyframe_sec = picture.sec + self._keyframe_sec

    def features(self, start_sec: float, end_sec: float) -> VisualFeatures:
        """The features of [start_sec, end_sec); raises ValueError if there are no keyframes at all."""
        motion = [amount for sec, amount in self._motion if start_sec < sec < end_sec]
        return combine(self.within(start_sec, end_sec), float(np.mean(motion)) if motion else None)

    def within(self, start_sec: float, end_sec: float) -> list[Keyframe]:
        """The keyframes of [start_sec, end_sec), or else the nearest one."""
        inside = [k for k in self.keyframes if start_sec <= k.sec < end_sec]
        middle_sec = (start_sec + end_sec) / 2
        return inside or [min(self.keyframes, key=lambda k: abs(k.sec - middle_sec))]

    def _compare(self, before: np.ndarray, after: np.ndarray, picture: Picture) -> None:
        motion = float(np.abs(after.mean(2) - before.mean(2)).mean())
        self._motion.append((picture.sec, motion))
        old, new = histogram(before), histogram(after)
        jump = float(np.abs(new - old).sum())
        sec = picture.sec
        if jump > MIN_CUT_DISTANCE:
            sec = self._cut_sec(old, new, picture)
            soon_sec = max(sec + AFTER_CUT_SEC, self.keyframes[-1].sec + MIN_GAP_SEC)
            self._next_keyframe_sec = min(self._next_keyframe_sec, soon_sec)
        self.jumps.append((sec, jump))

    def _cut_sec(self, old: Array, new: Array, picture: Picture) -> float:
        """The start of the new shot: the first frame between two samples that is closer to the later one."""
        for between in self._skipped:
            colours = histogram(self._shrunk(between))
            if np.abs(colours - new).sum() < np.abs(colours - old).sum():
                return between.sec
        return picture.sec

    def _shrunk(self, picture: Picture) -> np.ndarray:
        width, height = THUMBNAIL_PX
        return self._small.reformat(
            picture.frame, width=width, height=height, format="rgb24", interpolation="AREA"
        ).to_ndarray()


def analyze(frame: av.VideoFrame, sec: float = 0.0, reformatter: VideoReformatter | None = None) -> Keyframe:
    """Analyze the center of a frame: all of its short side, squeezed, so that less of the long side is cut off."""
    squeeze = math.sqrt(frame.width / frame.height)
    whole = (
        (reformatter or VideoReformatter())
        .reformat(
            frame,
            width=min(MAX_SIDE_PX, max(SIDE_PX, round(SIDE_PX * squeeze))),
            height=min(MAX_SIDE_PX, max(SIDE_PX, round(SIDE_PX / squeeze))),
            format="rgb24",
            interpolation="AREA",
        )
        .to_ndarray()
    )
    top, left = (whole.shape[0] - SIDE_PX) // 2, (whole.shape[1] - SIDE_PX) // 2
    square = whole[top : top + SIDE_PX, left : left + SIDE_PX]
    probabilities, features = classify(square.astype(np.float32))
    dots = whole[::4, ::4]
    return Keyframe(
        sec=sec,
        probabilities=probabilities.astype(np.float16),
        features=features.astype(np.float16),
        colours=_colours(dots),
        luminance=float(dots.mean()),
        contrast=float(dots.mean(2).std()),
        saturation=float(np.ptp(dots.astype(int), axis=2).mean()),
    )


def combine(keyframes: Sequence[Keyframe], motion: float | None = None) -> VisualFeatures:
    """The features of an image or a segment; `motion` is the mean change of luminance, None for an image."""
    probabilities = np.mean([k.probabilities.astype(np.float32) for k in keyframes], 0)
    luminance, contrast, saturation = np.mean([(k.luminance, k.contrast, k.saturation) for k in keyframes], 0)
    shares = {
        "dark": (70 - luminance) / 70,
        "bright": (luminance - 150) / 80,
        "monochrome": (8 - saturation) / 8,
        "colourful": (saturation - 60) / 80,
    }
    if motion is not None:
        shares |= {"still": (1.5 - motion) / 1.5, "moving": (motion - 2) / 15}
    attributes = np.zeros(ATTRIBUTES, np.float32)
    attributes[: len(COLOURS)] = np.clip(np.mean([k.colours for k in keyframes], 0) / 0.6, 0, 1)
    for name, share in shares.items():
        attributes[NAMED[name]] = np.clip(share, 0.0, 1.0)
    # ConSE: the meaning of an image is the weighted mean of the names of its likely classes.
    votes = probabilities**0.7
    semantic = votes @ _classes() / votes.sum()
    # Conflicting votes cancel out: the mean is short for things that the network doesn't know.
    agreement = float(np.linalg.norm(semantic)) / CONFIDENT_LENGTH
    return VisualFeatures(
        semantic=semantic,
        attributes=attributes,
        network=np.mean([k.features.astype(np.float32) for k in keyframes], 0),
        confidence=float(np.clip(contrast / 15, 0.05, 1.0) * np.clip(agreement, LEAST_SHARE, 1.0)),
    )


def appearance(features: Array, width: int) -> Array:
    """Reduce the network's features (1280,) to (width,) by a fixed random projection."""
    # 0.4 is about their mean. Without it, all images are similar.
    projected: Array = (features - np.float32(0.4)).astype(np.float32) @ _projection(width)
    return projected


@cache
def _classes() -> Array:
    return unit(weights()["img"].astype(np.float32))


@cache
def _projection(width: int) -> Array:
    return np.random.RandomState(7).standard_normal((FEATURES, width)).astype(np.float32)


def _colours(dots: np.ndarray) -> Array:
    """The fraction of an RGB uint8 image that each of COLOURS covers, (11,)."""
    rgb: Array = (dots.reshape(-1, 3) / 255).astype(np.float32)
    value: Array = rgb.max(1).astype(np.float32)
    spread: Array = np.ptp(rgb, axis=1).astype(np.float32)
    hue = _hue(rgb, value, spread)
    neutral = (spread / (value + 1e-6) < 0.18) | (spread < 0.08)
    black, pale = value < 0.18, value > 0.8
    brown = ~neutral & ~black & (value < 0.55) & (hue >= 10) & (hue < 50)
    hued = ~neutral & ~black & ~brown
    masks = {
        "black": black,
        "grey": neutral & ~black & ~pale,
        "white": neutral & pale,
        "brown": brown,
        **{name: hued & ((hue - low) % 360 < high - low) for name, low, high in HUES},
    }
    return np.array([masks[name].mean() for name in COLOURS], np.float32)


def _hue(rgb: Array, value: Array, spread: Array) -> Array:
    red, green, blue = rgb.T
    spread = spread + np.float32(1e-6)
    sixths = np.where(
        value == red,
        (green - blue) / spread % 6,
        np.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    degrees: Array = (sixths * 60).astype(np.float32)
    return degrees

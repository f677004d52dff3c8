"""What pictures show: ImageNet's things through words, colours, light and motion, and raw appearance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from marengo_local.content.cuts import JUMP, histogram
from marengo_local.content.media import Picture
from marengo_local.content.network import FEATURES, SIDE_PX, classify
from marengo_local.content.space import ATTRIBUTES, COLOURS, NAMED, Array, unit
from marengo_local.content.weights import weights

SHORT_SIDE_PX: Final = 256
THUMBNAIL_PX: Final = (96, 54)
SAMPLE_SEC: Final = 0.2
# The network is the dear part: a glimpse every two seconds, and one soon after each cut.
GLIMPSE_SEC: Final = 2.0
AFTER_CUT_SEC: Final = 0.5
LEAST_GAP_SEC: Final = 1.0
# The length of the mix of class names where the network is sure of what it sees.
SURE_LENGTH: Final = 0.3
# (name, from, to) in degrees of hue; brown is a dark orange, the rest have no hue.
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
class Glimpse:
    """One picture, seen by the network; small enough to keep for hours of video."""

    sec: float
    odds: np.ndarray
    features: np.ndarray
    colours: Array
    luminance: float
    contrast: float
    saturation: float


@dataclass(frozen=True, slots=True)
class Look:
    """The blocks of one or more glimpses, before packing; `sureness` 0 to 1 is low for the blank and the vague."""

    semantic: Array
    attributes: Array
    features: Array
    sureness: float


class Watcher:
    """Takes pictures as they are decoded; keeps glimpses, motion and colour jumps, never a frame for long."""

    def __init__(self, glimpse_sec: float = GLIMPSE_SEC) -> None:
        self.glimpses: list[Glimpse] = []
        self.jumps: list[tuple[float, float]] = []
        self._motion: list[tuple[float, float]] = []
        self._glimpse_sec = glimpse_sec
        self._next_sample_sec = self._next_glimpse_sec = -np.inf
        self._since: list[Picture] = []
        self._thumbnail: np.ndarray | None = None
        self._small, self._large = VideoReformatter(), VideoReformatter()

    def see(self, picture: Picture) -> None:
        """Look at the next picture in time."""
        if picture.sec + 1e-6 < self._next_sample_sec:
            self._since.append(picture)
            return
        self._next_sample_sec = picture.sec + SAMPLE_SEC
        thumbnail = self._shrunk(picture)
        if self._thumbnail is not None:
            self._compare(self._thumbnail, thumbnail, picture)
        self._thumbnail = thumbnail
        self._since.clear()
        if picture.sec + 1e-6 >= self._next_glimpse_sec:
            self.glimpses.append(glimpse(picture.frame, picture.sec, self._large))
            self._next_glimpse_sec = picture.sec + self._glimpse_sec

    def look(self, start_sec: float, end_sec: float) -> Look:
        """What [start_sec, end_sec) shows; raises ValueError where nothing was seen at all."""
        inside = [g for g in self.glimpses if start_sec <= g.sec < end_sec]
        middle_sec = (start_sec + end_sec) / 2
        seen = inside or [min(self.glimpses, key=lambda g: abs(g.sec - middle_sec))]
        motion = [amount for sec, amount in self._motion if start_sec < sec < end_sec]
        return look(seen, float(np.mean(motion)) if motion else None)

    def _compare(self, before: np.ndarray, after: np.ndarray, picture: Picture) -> None:
        motion = float(np.abs(after.mean(2) - before.mean(2)).mean())
        self._motion.append((picture.sec, motion))
        old, new = histogram(before), histogram(after)
        jump = float(np.abs(new - old).sum())
        sec = picture.sec
        if jump > JUMP:
            sec = self._first_like(old, new, picture)
            soon_sec = max(sec + AFTER_CUT_SEC, self.glimpses[-1].sec + LEAST_GAP_SEC)
            self._next_glimpse_sec = min(self._next_glimpse_sec, soon_sec)
        self.jumps.append((sec, jump))

    def _first_like(self, old: Array, new: Array, picture: Picture) -> float:
        """When the new shot began: the first picture between two samples that is nearer to the later one."""
        for between in self._since:
            colours = histogram(self._shrunk(between))
            if np.abs(colours - new).sum() < np.abs(colours - old).sum():
                return between.sec
        return picture.sec

    def _shrunk(self, picture: Picture) -> np.ndarray:
        width, height = THUMBNAIL_PX
        return self._small.reformat(
            picture.frame, width=width, height=height, format="rgb24", interpolation="AREA"
        ).to_ndarray()


def glimpse(frame: av.VideoFrame, sec: float = 0.0, reformatter: VideoReformatter | None = None) -> Glimpse:
    """Look at the middle square of a frame."""
    scale = SHORT_SIDE_PX / min(frame.width, frame.height)
    small = (reformatter or VideoReformatter()).reformat(
        frame,
        width=max(SIDE_PX, round(frame.width * scale)),
        height=max(SIDE_PX, round(frame.height * scale)),
        format="rgb24",
        interpolation="AREA",
    )
    whole = small.to_ndarray()
    top, left = (whole.shape[0] - SIDE_PX) // 2, (whole.shape[1] - SIDE_PX) // 2
    square = whole[top : top + SIDE_PX, left : left + SIDE_PX]
    odds, features = classify(square.astype(np.float32))
    dots = whole[::4, ::4]
    return Glimpse(
        sec=sec,
        odds=odds.astype(np.float16),
        features=features.astype(np.float16),
        colours=_colours(dots),
        luminance=float(dots.mean()),
        contrast=float(dots.mean(2).std()),
        saturation=float(np.ptp(dots.astype(int), axis=2).mean()),
    )


def look(glimpses: Sequence[Glimpse], motion: float | None = None) -> Look:
    """Blocks of a still or of a segment's glimpses; `motion` is the mean change of luminance, None for a still."""
    odds = np.mean([g.odds.astype(np.float32) for g in glimpses], 0)
    luminance, contrast, saturation = np.mean([(g.luminance, g.contrast, g.saturation) for g in glimpses], 0)
    shares = {
        "dark": (70 - luminance) / 70,
        "bright": (luminance - 150) / 80,
        "monochrome": (8 - saturation) / 8,
        "colourful": (saturation - 60) / 80,
    }
    if motion is not None:
        shares |= {"still": (1.5 - motion) / 1.5, "moving": (motion - 2) / 15}
    attributes = np.zeros(ATTRIBUTES, np.float32)
    attributes[: len(COLOURS)] = np.clip(np.mean([g.colours for g in glimpses], 0) / 0.6, 0, 1)
    for name, share in shares.items():
        attributes[NAMED[name]] = np.clip(share, 0.0, 1.0)
    # ConSE: a picture means the mix of its likely classes' names.
    votes = odds**0.7
    semantic = votes @ _classes() / votes.sum()
    # Votes that disagree cancel out: a thing the network does not know has a short mix.
    agreement = float(np.linalg.norm(semantic)) / SURE_LENGTH
    return Look(
        semantic=semantic,
        attributes=attributes,
        features=np.mean([g.features.astype(np.float32) for g in glimpses], 0),
        sureness=float(np.clip(contrast / 15, 0.05, 1.0) * np.clip(agreement, 0.15, 1.0)),
    )


def appearance(features: Array, width: int) -> Array:
    """The network's features (1280,) by a fixed random projection to (width,)."""
    # 0.4 is about their mean: without it all pictures look alike.
    projected: Array = (features - np.float32(0.4)).astype(np.float32) @ _projection(width)
    return projected


@cache
def _classes() -> Array:
    return unit(weights()["img"].astype(np.float32))


@cache
def _projection(width: int) -> Array:
    return np.random.RandomState(7).standard_normal((FEATURES, width)).astype(np.float32)


def _colours(dots: np.ndarray) -> Array:
    """The share of an RGB uint8 picture that each of COLOURS covers, (11,)."""
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

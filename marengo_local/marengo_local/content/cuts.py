"""Shot detection, and segmentation of a file. Times are float seconds."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from marengo_local.content.space import Array

GRID_SEC: Final = 0.25
SHOT_PIECE_SEC: Final = 6.0
AUDIO_PIECE_SEC: Final = 10.0
# A shorter remainder is a rounding error of the container, not a segment.
ROUNDING_SEC: Final = 0.05
# Lowest L1 distance between color histograms (at most 2) that counts as a cut.
MIN_CUT_DISTANCE: Final = 0.5

Edges = list[tuple[float, float]]
# (time, histogram distance) of each cut.
Cuts = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Segments of `fixed_sec`, or, if None, shots for video and equal parts for audio."""

    fixed_sec: float | None = None
    min_clip_sec: float = 4.0

    def segments(self, kind: str, start_sec: float, end_sec: float, cuts: Cuts = ()) -> Edges:
        """(start, end) of each segment of [start_sec, end_sec), in order; `cuts` are those of a video, in any order."""
        if self.fixed_sec is not None:
            return _fixed(start_sec, end_sec, self.fixed_sec)
        if kind == "audio":
            return _even(start_sec, end_sec)
        shots = _shots(start_sec, end_sec, cuts, self.min_clip_sec)
        return [piece for first, last in shots for piece in _pieces(first, last, self.min_clip_sec)]


def histogram(thumbnail: np.ndarray) -> Array:
    """The color histogram (64,) of an RGB uint8 image, two bits per channel, as fractions."""
    bits = (thumbnail >> 6).astype(np.intp)
    codes = bits[..., 0] * 16 + bits[..., 1] * 4 + bits[..., 2]
    return np.bincount(codes.ravel(), minlength=64).astype(np.float32) / np.float32(codes.size)


def cuts(jumps: Cuts) -> Cuts:
    """The (time, histogram distance) pairs of a video that are outliers: its cuts."""
    if not jumps:
        return []
    sizes = np.array([size for _, size in jumps])
    middle = float(np.median(sizes))
    threshold = max(MIN_CUT_DISTANCE, middle + 6 * float(np.median(np.abs(sizes - middle))))
    return [(sec, size) for sec, size in jumps if size > threshold]


def _fixed(start_sec: float, end_sec: float, piece_sec: float) -> Edges:
    count = max(1, math.ceil((end_sec - start_sec - ROUNDING_SEC) / piece_sec))
    starts = [start_sec + place * piece_sec for place in range(count)]
    return [(start, min(start + piece_sec, end_sec)) for start in starts]


def _even(start_sec: float, end_sec: float) -> Edges:
    count = max(1, round((end_sec - start_sec) / AUDIO_PIECE_SEC))
    edges = [start_sec + (end_sec - start_sec) * place / count for place in range(count)] + [end_sec]
    return list(pairwise(edges))


def _shots(start_sec: float, end_sec: float, cuts: Cuts, min_clip_sec: float) -> Edges:
    """Shots between cuts on the grid. A shot that is too short is merged across its weaker cut."""
    edges = [start_sec, end_sec]
    for cut, _ in sorted(cuts, key=lambda cut: -cut[1]):
        edge = _on_grid(cut)
        after = bisect(edges, edge)
        if 0 < after < len(edges) and min(edge - edges[after - 1], edges[after] - edge) >= min_clip_sec:
            edges.insert(after, edge)
    return list(pairwise(edges))


def _pieces(start_sec: float, end_sec: float, min_clip_sec: float) -> Edges:
    """Split a shot of T seconds into n = round(T / 6) parts of ceil(4T / n) / 4 seconds, as real responses do."""
    length_sec = end_sec - start_sec
    count = max(1, min(round(length_sec / SHOT_PIECE_SEC), int(length_sec / min_clip_sec)))
    piece_sec = math.ceil(length_sec / GRID_SEC / count) * GRID_SEC
    inner = [_on_grid(start_sec + place * piece_sec) for place in range(1, count)]
    # In a very long shot, rounding up can use the whole length before the last part.
    inner = [edge for edge in inner if end_sec - edge >= min(min_clip_sec, piece_sec / 2)]
    return list(zip([start_sec, *inner], [*inner, end_sec], strict=True))


def _on_grid(sec: float) -> float:
    return round(sec / GRID_SEC) * GRID_SEC

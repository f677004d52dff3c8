"""The vector space: the blocks of a vector, their weights, and how they are combined.

A vector is the concatenation of four blocks. Each block is normalized and weighted, and the result is normalized
again, so that the dot product of two vectors is the weighted sum of the similarities of their blocks.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

COLOURS: Final = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "white",
)
SEEN: Final = (*COLOURS, "dark", "bright", "monochrome", "colourful", "still", "moving")
HEARD: Final = ("silence", "quiet", "loud", "tone", "noise")
NAMED: Final = {name: place for place, name in enumerate((*SEEN, *HEARD))}
# A dimension for each track, which no query reaches.
TRACKS: Final = {name: len(NAMED) + place for place, name in enumerate(("sound", "speech"))}

SEMANTIC: Final = 128
ATTRIBUTES: Final = 48
# The remaining dimensions hold the shape of the audio spectrum.
BANDS: Final = slice(len(NAMED) + len(TRACKS), ATTRIBUTES)

WEIGHTS: Final = {"semantic": 1.0, "attributes": 0.5, "words": 0.35, "appearance": 0.6}
FULL: Final = float(np.linalg.norm(list(WEIGHTS.values())))


@dataclass(frozen=True, slots=True)
class Layout:
    """Widths of the two blocks that differ between Marengo versions."""

    words: int
    appearance: int
    is_turned: bool
    """Whether the space is turned, so that its vectors can't be compared with those of the other version."""


LAYOUTS: Final = {
    512: Layout(words=144, appearance=192, is_turned=False),
    1024: Layout(words=336, appearance=512, is_turned=True),
}


def pack(
    layout: Layout,
    *,
    semantic: Array | None = None,
    attributes: Array | None = None,
    words: Array | None = None,
    appearance: Array | None = None,
    share: float = 1.0,
    track: str | None = None,
) -> Array:
    """Combine blocks, each (width,), into one unit vector (dimension,). A missing block is zeros.

    `share` scales the semantic and the words block. With a `track`, the weight of missing blocks goes to that track's
    own dimension, so that normalization does not inflate the blocks of a track with few of them.
    """
    scale = {**WEIGHTS, "semantic": WEIGHTS["semantic"] * share, "words": WEIGHTS["words"] * share}
    blocks = {
        "semantic": _block(semantic, SEMANTIC, scale["semantic"]),
        "attributes": _block(attributes, ATTRIBUTES, scale["attributes"]),
        "words": _block(words, layout.words, scale["words"]),
        "appearance": _block(appearance, layout.appearance, scale["appearance"]),
    }
    if track is not None:
        used = sum(float(block @ block) for block in blocks.values())
        blocks["attributes"][TRACKS[track]] = np.sqrt(max(FULL**2 - used, 0.0))
    vector = unit(np.concatenate(list(blocks.values())))
    if not layout.is_turned:
        return vector
    turned: Array = vector @ _turn(len(vector))
    return turned


def unit(vectors: Array) -> Array:
    """Normalize (..., n) along the last axis; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled


@cache
def _turn(size: int) -> Array:
    """An orthogonal matrix, which leaves scores as they are: Hadamard's, for a power of 2, shuffled and signs drawn."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    drawn = np.random.default_rng(27)
    signs = drawn.choice(np.array([-1, 1], np.float32), size)
    turn: Array = matrix[drawn.permutation(size)] * signs / np.float32(np.sqrt(size))
    return turn


def _block(values: Array | None, width: int, weight: float) -> Array:
    return np.zeros(width, np.float32) if values is None else unit(values) * np.float32(weight)

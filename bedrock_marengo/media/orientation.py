"""Which way up a picture is: the orientation of an image's EXIF, and the display matrix of a video."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["UPRIGHT", "Turn", "turn_of_frame", "turn_of_image"]


class Turn(NamedTuple):
    """What makes a picture upright: first transpose it, then flip it."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    def apply(self, pixels: Any) -> Any:
        """``(height, width, 3)``, upright."""
        turned = np.swapaxes(pixels, 0, 1) if self.transposed else pixels
        return np.ascontiguousarray(turned[:: -1 if self.up_down else 1, :: -1 if self.left_right else 1])


UPRIGHT = Turn()
# EXIF 2.32, tag Orientation: where the first row and the first column of the stored picture are to be shown.
_ORIENTATIONS: Mapping[int, Turn] = {
    1: UPRIGHT,
    2: Turn(left_right=True),
    3: Turn(left_right=True, up_down=True),
    4: Turn(up_down=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, left_right=True),
    7: Turn(transposed=True, left_right=True, up_down=True),
    8: Turn(transposed=True, up_down=True),
}
_TAG = 0x0112
_SCAN = 0xDA
"""The JPEG marker after which there is no EXIF."""


def turn_of_image(data: bytes) -> Turn:
    """The turn that a JPEG's or PNG's EXIF asks for. FFmpeg's own leaves out that half of them are mirrored."""
    try:
        return next((_ORIENTATIONS.get(value, UPRIGHT) for value in _orientations(data)), UPRIGHT)
    except struct.error:
        return UPRIGHT


def turn_of_frame(frame: VideoFrame) -> Turn:
    """The turn that a video's display matrix asks for, to the nearest quarter."""
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 doesn't know all kinds of side data. FFmpeg's angle leaves out mirrors, and counts anticlockwise.
        return _ORIENTATIONS[{0: 1, 1: 8, 2: 3, 3: 6}[round(frame.rotation / 90) % 4]]
    if matrix is None:
        return UPRIGHT
    # x' = a x + c y, y' = b x + d y
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def _orientations(data: bytes) -> Iterator[int]:
    for tiff in _exif_in_png(data) if data.startswith(b"\x89PNG") else _exif_in_jpeg(data):
        order = "<" if tiff.startswith(b"II") else ">"
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == _TAG:
                yield from struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", tiff, entry + 8)


def _exif_in_jpeg(data: bytes) -> Iterator[bytes]:
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != bytes([_SCAN]):
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1 : at + 2] == b"\xe1" and data[at + 4 : at + 10] == b"Exif\0\0":
            yield data[at + 10 : at + 2 + length]
        at += 2 + length


def _exif_in_png(data: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"eXIf":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length

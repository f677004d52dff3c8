"""Media opened with PyAV, local or on S3: only what is read of an object is fetched."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.errors import ConfigurationError, InputError, MarengoError
from bedrock_marengo.s3.objects import S3Objects

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["DECODER", "has_av", "open_container"]

BLOCK_BYTES = 256 * 1024
_BLOCKS = 8
_ATTEMPTS = 3
DECODER = {"max_pixels": str(1 << 26)}
"""For decoders: a picture of a few kilobytes may decode to gigabytes. Twice 8K video; our own limit."""
# A playlist named match.mp4 must not make FFmpeg open other files or addresses: only formats that contain their own
# media, and no protocols.
_FORMATS = (
    "aac,asf,avi,flac,flv,jpeg_pipe,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,ogg,png_pipe,wav"
)
_SAFE = {"format_whitelist": _FORMATS, "protocol_whitelist": "none", **DECODER}


@contextmanager
def open_container(objects: S3Objects, media: Media) -> Iterator[InputContainer]:
    """A file's container, open for reading: from S3 by ranged GETs of 256 KiB.

    Raises:
        ConfigurationError: PyAV is not installed.
        InputError: The file can't be opened or decoded, here or at a later read.
        ServiceError: AWS refused to return the bytes, here or at a later read.
    """
    if not has_av():
        raise ConfigurationError(f"Reading {media.name} needs PyAV: pip install 'bedrock-marengo[media]'.")
    import av  # an extra, and 0.1 s

    try:
        # A title that is not UTF-8 must not matter: PyAV 19 ignores it and has no such setting.
        lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        with _as_file(objects, media) as file, av.open(file, "r", options=_SAFE, **lenient) as container:
            yield container
    except MarengoError:
        raise
    except (av.FFmpegError, ArithmeticError, LookupError, OSError, ValueError) as error:
        # What PyAV raised for thousands of damaged files.
        raise InputError(f"{media.name} can't be decoded: {error}. Check the file, or convert it.") from error


@cache
def has_av() -> bool:
    """Whether PyAV is installed (extra ``media``)."""
    return find_spec("av") is not None


def _as_file(objects: S3Objects, media: Media) -> Any:
    if media.path is not None and KINDS[media.kind].timed:
        return media.path.open("rb")
    # FFmpeg would open an image that has a name itself, as one of a numbered series.
    return io.BytesIO(media.read()) if media.uri is None else _Ranged(objects, media)


class _Ranged(io.RawIOBase):
    """An object on S3 as a file that is read in blocks, of which the latest few are kept."""

    def __init__(self, objects: S3Objects, media: Media) -> None:
        self._objects = objects
        # Of its own: a page of frames must not wait for the calls of a run.
        self._limiter = RetryLimiter(1, attempts=_ATTEMPTS)
        self._uri = media.uri or ""
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0
        self._size = self._ask_size() if media.size is None else media.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        pieces = []
        while self._at < end:
            number, skip = divmod(self._at, BLOCK_BYTES)
            piece = self._block(number)[skip : skip + end - self._at]
            if not piece:
                break
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number], _ = self._get(number)
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _ask_size(self) -> int:
        # From the first block, which is read anyway: a HEAD's errors have no message.
        self._blocks[0], size = self._get(0)
        return size

    def _get(self, number: int) -> tuple[bytes, int]:
        """A block, and the size of the object."""
        return self._objects.get_range(self._uri, number * BLOCK_BYTES, BLOCK_BYTES, limiter=self._limiter)

"""How long a medium is: as given, else read from its container by a few ranged reads."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws import Aws
from bedrock_marengo.errors import ServiceError
from bedrock_marengo.inputs import Media, split_s3_uri
from bedrock_marengo.requests import MediaRequest

__all__ = ["Durations", "duration_of", "requested_sec"]

Durations = Mapping[str, float] | Callable[[str], float | None]

BLOCK_BYTES = 256 * 1024
_BLOCKS = 8


def duration_of(aws: Aws, media: Media, durations: Durations | None = None, *, probe: bool = True) -> float | None:
    """A medium's length in seconds, None where nobody knows.

    Args:
        aws: the clients.
        media: on S3, in a file or in memory. An image has none.
        durations: source URI (or path) -> seconds; what it lacks is read.
        probe: whether to read the container where PyAV is installed (extra ``media``): a few GETs of 256 KiB.

    Raises:
        ServiceError: AWS would not give the bytes.
    """
    if media.kind == "image":
        return None
    given = (
        durations.get(media.name) if isinstance(durations, Mapping) else durations(media.name) if durations else None
    )
    if given is not None:
        return float(given)
    return _probe(aws, media) if probe and _has_av() else None


def requested_sec(request: MediaRequest, duration_sec: float | None) -> float | None:
    """How many seconds of a medium a request asks for; a range with an end needs no length, an image has none."""
    if request.kind == "image":
        return None
    start = request.start_sec or 0.0
    ends = [end for end in (request.end_sec, duration_sec) if end is not None]
    return max(0.0, min(ends) - start) if ends else None


@cache
def _has_av() -> bool:
    return find_spec("av") is not None


def _probe(aws: Aws, media: Media) -> float | None:
    import av  # an extra, and 0.1 s

    source: Any = str(media.path) if media.path else io.BytesIO(media.data) if media.data else _Ranged(aws, media)
    try:
        with av.open(source, metadata_errors="replace") as container:
            lengths = [container.duration / av.time_base] if container.duration else []
            lengths += [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
    except (av.FFmpegError, ValueError):
        # Bedrock may read what we can't: unknown, not wrong.
        return None
    return max(lengths, default=None)


class _Ranged(io.RawIOBase):
    """An object on S3 as a file: what is read comes in blocks, the latest few of which are kept."""

    def __init__(self, aws: Aws, media: Media) -> None:
        self._s3 = aws.s3
        self._name = media.name
        self._bucket, self._key = split_s3_uri(media.uri or "")
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0
        self._size = media.size if media.size is not None else self._ask_size()

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
            first = number * BLOCK_BYTES
            span = f"bytes={first}-{min(self._size, first + BLOCK_BYTES) - 1}"
            self._blocks[number] = self._asked(
                lambda: self._s3.get_object(Bucket=self._bucket, Key=self._key, Range=span)["Body"].read()
            )
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    def _ask_size(self) -> int:
        return int(self._asked(lambda: self._s3.head_object(Bucket=self._bucket, Key=self._key)["ContentLength"]))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "GetObject", self._name) from error

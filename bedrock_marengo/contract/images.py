"""Images as a framework's own image argument: ``MediaLike``, bytes, base64 and data URIs."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from bedrock_marengo.contract.formats import HEAD_BYTES, image_flaw, kind_of_bytes
from bedrock_marengo.contract.inputs import ImageLike, Media
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import short_repr

__all__ = ["open_image"]

_BEGINS = 128
"""Characters of base64 that show whether it is an image, twice as many as needed without white space."""
_BASE64_URI = re.compile(r"\s*data:.{,300}?;\s*base64\s*,", re.I | re.S)
"""A file's name among the parameters may have a comma."""


def open_image(image: ImageLike, *, local_files: bool = False, local_root: Path | None = None) -> Media:
    """An image for a framework's own image argument: ``MediaLike``, and also bytes, base64 and data URIs.

    Args:
        image: the image. A path as a string opens a file only if the other arguments allow it.
        local_files: any path may be opened.
        local_root: only paths below this folder may be opened, after links are resolved.

    Raises:
        InputError: Not an image, or a path that may not be opened.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return Media.from_bytes(bytes(image), "image")
    if not isinstance(image, str) or image.startswith("s3://"):
        return Media.of(image, "image")
    if (data := _decoded(image)) is not None:
        return Media.from_bytes(data, "image")
    path = Path(image)
    if local_root is not None:
        path = (local_root / path).resolve()
        if path.is_relative_to(local_root.resolve()):
            return Media.from_path(path, "image")
    elif local_files:
        return Media.from_path(path, "image")
    raise InputError(
        f"{short_repr(image)} is a string, and strings do not open files here: pass pathlib.Path(...), bytes or "
        "'s3://...', or allow paths with local_files=True or local_root=folder."
    )


def _decoded(image: str) -> bytes | None:
    """The bytes of a data URI, or of base64 that begins like an image; None if it is neither."""
    if not re.match(r"\s*data:", image, re.I):
        begins = _unbase64("".join(image[:_BEGINS].split())[: _BEGINS // 2]) or b""
        return _unbase64(image) if kind_of_bytes(begins) == "image" or image_flaw(begins) else None
    if encoded := _BASE64_URI.match(image):
        data = _unbase64(unquote(image[encoded.end() :]))
    else:
        data = unquote_to_bytes(image.partition(",")[2])
    if not data:
        raise InputError(
            f"{short_repr(image)} is not a data URI with an image: expected data:image/png;base64,..., or pass bytes "
            "or a pathlib.Path."
        )
    # What may be read as an image is refused by name, all else here.
    if kind_of_bytes(data[:HEAD_BYTES]) != "image" and not image_flaw(data):
        raise InputError(f"The data URI has {len(data):,} bytes that are not a JPEG or PNG image: pass one of these.")
    return data


def _unbase64(text: str) -> bytes | None:
    """Base64 in either alphabet, with white space anywhere and with or without padding; None if it isn't that."""
    plain = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return None

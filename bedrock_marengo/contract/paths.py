"""Path objects: local ones, and those of libraries that stand for objects on S3. Nothing is opened or downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import Any, TypeGuard
from urllib.parse import unquote

from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import short_repr

__all__ = ["is_path", "local_path_or_s3_uri", "reject_other_stores"]

_URI = re.compile(r"([A-Za-z][\w+.-]+):(//?)(.*)", re.S)
"""A scheme has two letters or more: ``C:/`` is a drive. ``Path("s3://b/k")`` keeps one slash of two."""
_S3 = ("s3", "s3a", "s3n")
_LOCAL = ("file", "local")


def is_path(value: object) -> TypeGuard[os.PathLike[str]]:
    """Whether a value is a path object: ``os.PathLike``, or a UPath, which is not."""
    return isinstance(value, os.PathLike) or (not isinstance(value, str | type) and callable(_get(value, "as_uri")))


def local_path_or_s3_uri(path: os.PathLike[str]) -> Path | str:
    """A path object as a local path, or as the S3 URI of the object or prefix that it stands for.

    Known are cloudpathlib, s3path and universal_pathlib, and ``Path("s3://bucket/key")``, unless that exists here.
    A pathlib path keeps neither a slash at its end nor one of two in a row.

    Raises:
        InputError: It stands for something in another store, or is not a path.
    """
    try:
        text = _text_of(path)
        match = _URI.match(text)
        scheme, slashes, rest = match.groups() if match else ("", "", "")
        is_url = len(slashes) > 1 or (isinstance(path, PurePath) and bool(slashes) and not os.path.lexists(path))
        if is_url and scheme.lower() in _S3:
            return f"s3://{rest}"
        if is_url and scheme.lower() not in _LOCAL:
            reject_other_stores(f"{scheme}://{rest}")
        return Path(os.fsdecode(path))
    except InputError:
        raise
    except Exception as error:
        # Another library's object may raise anything; the other files must not stop for it.
        raise InputError(f"{short_repr(path)} is not a usable path: {error}. Pass a pathlib.Path.") from error


def reject_other_stores(text: str) -> None:
    """Refuse a URI or URL of anything but S3: ``gs://``, ``az://``, ``https://``.

    Raises:
        InputError: It is one.
    """
    match = _URI.match(text)
    if match and len(match[2]) > 1 and match[1].lower() not in (*_S3, *_LOCAL):
        raise InputError(
            f"{short_repr(text)} is not on S3, and only S3 and local files are read: copy the file to S3 and pass "
            "'s3://bucket/key', or download it and pass a pathlib.Path."
        )


def _text_of(path: Any) -> str:
    text = path.as_posix() if isinstance(path, PurePath) else str(path)
    if "://" in text or type(path).__module__.partition(".")[0] == "pathlib":
        return str(text)
    as_uri = _get(path, "as_uri")
    if callable(as_uri):
        try:
            # s3path's str() has no scheme; its URI is percent-encoded.
            uri = unquote(as_uri())
        except (ValueError, NotImplementedError):
            uri = ""
        if uri.partition(":")[0].lower() not in ("", *_LOCAL):
            return uri
    return os.fsdecode(path)


def _get(value: object, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:
        return None

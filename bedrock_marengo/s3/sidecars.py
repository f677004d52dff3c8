"""Which captions belong to which media file, by name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["SUFFIXES", "by_rank", "captions_next_to"]

SUFFIXES = (".vtt", ".srt")


def captions_next_to(objects: S3Objects, media: Media) -> tuple[str, bytes] | None:
    """The captions next to a file, under its own name: ``match.vtt``, ``match.srt``, ``match.en.vtt``.

    A file that comes from a prefix's listing knows its captions; for any other the bucket is listed once.

    Returns:
        Path or S3 URI of the captions, and their bytes; None if there are none.

    Raises:
        InputError: The local captions can't be read.
        ServiceError: AWS refused.
    """
    if media.path is not None:
        return _local(media.path)
    if media.uri is None:
        return None
    uri = _uri_next_to(objects, media.uri) if media.captions is None else media.captions
    return (uri, objects.get(uri)[0]) if uri else None


def by_rank(name: str) -> tuple[int, bool, str]:
    """Which captions of one file to prefer: match.vtt before match.en.vtt, .vtt before .srt."""
    return len(name), not name.lower().endswith(".vtt"), name


def _local(path: Path) -> tuple[str, bytes] | None:
    stem = re.sub(r"([*?\[])", r"[\1]", path.stem)
    candidates = sorted(path.parent.glob(f"{stem}.*"), key=lambda path: by_rank(path.name))
    found = next((path for path in candidates if path.suffix.lower() in SUFFIXES), None)
    if found is None:
        return None
    try:
        return str(found), found.read_bytes()
    except OSError as error:
        raise InputError(f"Captions in {str(found)!r} can't be read: {error}") from None


def _uri_next_to(objects: S3Objects, uri: str) -> str | None:
    """The captions next to one object, by one listing."""
    folder, _, name = uri.rpartition("/")
    stem = f"{folder}/{PurePosixPath(name).stem}."
    names = (item.uri for item in objects.list(stem, limit=1000) if "/" not in item.uri[len(stem) :])
    return min((name for name in names if name.lower().endswith(SUFFIXES)), key=by_rank, default=None)

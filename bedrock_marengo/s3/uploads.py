"""Local files to S3, stored under the SHA-256 of their bytes."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from bedrock_marengo.contract.inputs import Media, check_content, unreadable
from bedrock_marengo.errors import InputError, ServiceError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["FOLDER", "find_upload", "upload", "upload_prefix"]

FOLDER = "uploads"
_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def upload(objects: S3Objects, media: Media, output_s3_uri: str) -> Media:
    """Put a local file under ``<output>/uploads/<sha256>/<name>``, in parts, unless its bytes are there already.

    Returns:
        The file on S3, with size and ETag. The same bytes are found under another name, too.

    Raises:
        InputError: The file can't be read, begins like something else than media, or changed during the upload.
        ServiceError: S3 refused.
    """
    check_content(media)
    before = _state(media)
    prefix = upload_prefix(media, output_s3_uri)
    try:
        # Equal bytes under two names take turns, so that they become one upload and one job.
        with _turn(prefix):
            found = _listed(objects, prefix, media)
            if found is None:
                _put_whole(objects, prefix + _name(media), media, before)
                found = _listed(objects, prefix, media)
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error
    if found is None:
        raise ServiceError(
            f"{media.name} was uploaded to {prefix}, but a listing does not show it.",
            code="NotListed",
            operation="PutObject",
        )
    return found


def upload_prefix(media: Media, output_s3_uri: str) -> str:
    """The prefix of a local file's upload: ``<output>/uploads/<sha256>/``."""
    return f"{output_s3_uri.rstrip('/')}/{FOLDER}/{_digest(media)}/"


def find_upload(objects: S3Objects, media: Media, output_s3_uri: str) -> Media | None:
    """The upload of a local file's bytes, if there is one. One listing.

    Raises:
        InputError: The file can't be read, or begins like something else than media.
        ServiceError: AWS refused to list.
    """
    check_content(media)
    return _listed(objects, upload_prefix(media, output_s3_uri), media)


def _digest(media: Media) -> str:
    if media.path is None:
        return hashlib.sha256(media.read()).hexdigest()
    try:
        with media.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error


def _put_whole(objects: S3Objects, uri: str, media: Media, before: tuple[int, int] | None) -> None:
    """Upload a file; refuse it if it is no longer as it was ``before`` its digest was computed."""
    file = io.BytesIO(media.read()) if media.path is None else str(media.path)
    objects.upload(uri, file, content_type=mimetypes.guess_type(_name(media))[0], name=media.name)
    if _state(media) != before:
        # Other bytes than the digest says. If they may not be deleted they stay.
        with suppress(ServiceError):
            objects.delete(uri)
        raise InputError(f"{media.name} changed during the upload: embed it when it is complete.")


def _state(media: Media) -> tuple[int, int] | None:
    """What changes when a file is written to: size and modification time; None for bytes."""
    if media.path is None:
        return None
    try:
        stat = media.path.stat()
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error
    return stat.st_size, stat.st_mtime_ns


@contextmanager
def _turn(prefix: str) -> Iterator[None]:
    with _any_turn:
        turn = _turns.setdefault(prefix, ForkSafeLock())
    with turn:
        yield


_any_turn = ForkSafeLock()
_turns: WeakValueDictionary[str, ForkSafeLock] = WeakValueDictionary()


def _listed(objects: S3Objects, prefix: str, media: Media) -> Media | None:
    found = next(objects.list(prefix, limit=1000), None)
    return None if found is None else Media(media.kind, uri=found.uri, size=found.size, etag=found.etag)


def _name(media: Media) -> str:
    # A file name may hold what a key can't, or what DeleteObjects can't name.
    return _UNSAFE.sub("_", media.path.name) if media.path else media.kind

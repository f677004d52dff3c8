"""Local files to S3, stored under the SHA-256 of their bytes.

An object under a digest may hold other bytes: those of a file that was overwritten during its upload, or someone
else's. It is used only if S3's checksum, its ETag or reading it proves that it holds the file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mimetypes
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from weakref import WeakValueDictionary

from bedrock_marengo.contract.inputs import Media, check_content, unreadable
from bedrock_marengo.errors import InputError, ServiceError, warn_once
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.s3.objects import CHUNK_BYTES, UPLOAD_PART_BYTES, Checksums, ListedObject, S3Objects

__all__ = ["FOLDER", "digest_of_upload", "find_upload", "upload", "upload_prefix", "upload_to", "upload_uri"]

FOLDER = "uploads"
_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_UPLOAD = re.compile(rf"/{FOLDER}/([0-9a-f]{{64}})/")
_OTHER_BYTES = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})
"""How S3 refuses bytes that don't have the announced checksum; the second without TLS."""
_GONE = frozenset({"404", "NoSuchKey", "412", "PreconditionFailed"})
"""What S3 answers if an object was deleted or replaced after a listing showed it."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What identifies the bytes of a file: size in bytes, SHA-256 and CRC-32, computed in one pass."""

    size: int
    sha256: bytes
    crc32: bytes

    def prefix(self, output_s3_uri: str) -> str:
        return f"{output_s3_uri.rstrip('/')}/{FOLDER}/{self.sha256.hex()}/"

    def checksums(self) -> Checksums:
        pairs = {"ChecksumSHA256": self.sha256, "ChecksumCRC32": self.crc32}
        return {name: base64.b64encode(value).decode() for name, value in pairs.items()}


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
    content = _content(media)
    prefix = content.prefix(output_s3_uri)
    # Equal bytes under two names take turns, so that they become one upload and one job.
    with _turn(prefix):
        found = _find(objects, prefix, media, content)
        return found or _put_whole(objects, prefix, media, content, before)


def upload_prefix(media: Media, output_s3_uri: str) -> str:
    """The prefix of a local file's upload: ``<output>/uploads/<sha256>/``."""
    return _content(media).prefix(output_s3_uri)


def upload_uri(media: Media, output_s3_uri: str, sha256: str) -> str:
    """Where a local file with these bytes is uploaded to, unless they are there under another name."""
    return f"{output_s3_uri.rstrip('/')}/{FOLDER}/{sha256}/{_name(media)}"


def digest_of_upload(uri: str) -> str | None:
    """The SHA-256, in hex, of the bytes of an upload; None if a URI is not one of an upload."""
    found = _UPLOAD.search(uri)
    return found and found[1]


def find_upload(objects: S3Objects, media: Media, output_s3_uri: str) -> Media | None:
    """The upload of a local file's bytes, if there is one. One listing, and one HeadObject if it shows an object.

    Raises:
        InputError: The file can't be read, or begins like something else than media.
        ServiceError: AWS refused to list, or to show the object.
    """
    check_content(media)
    content = _content(media)
    return _find(objects, content.prefix(output_s3_uri), media, content)


def upload_to(objects: S3Objects, path: Path, uri: str) -> None:
    """Put a file of ours at ``uri``, in parts if it is large.

    Raises:
        ServiceError: S3 refused.
    """
    media = Media("audio", path=path)
    content = _content(media)
    objects.upload(
        uri,
        str(path),
        size=content.size,
        checksums=content.checksums(),
        content_type=mimetypes.guess_type(path.name)[0],
        name=path.name,
    )


# Uploading.


def _put_whole(
    objects: S3Objects, prefix: str, media: Media, content: _Content, before: tuple[int, int] | None
) -> Media:
    """Upload a file; refuse it if it is no longer as it was ``before`` its digest was computed."""
    uri = prefix + _name(media)
    try:
        objects.upload(
            uri,
            media.read() if media.path is None else str(media.path),
            size=content.size,
            checksums=content.checksums(),
            content_type=mimetypes.guess_type(_name(media))[0],
            name=media.name,
        )
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error
    except ServiceError as error:
        if error.code in _OTHER_BYTES or _state(media) != before:
            raise _changed(media) from error
        raise
    # Another process may have uploaded the same bytes under another name: both use the first.
    found = _find(objects, prefix, media, content)
    if found is not None and _state(media) == before:
        return found
    stored = objects.find(uri)
    if stored is None:
        raise ServiceError(
            f"{media.name} was uploaded to {uri}, but a listing does not show it.",
            code="NotListed",
            operation="PutObject",
        )
    # If it may not be deleted, it stays: it is checked again before it is used.
    with suppress(ServiceError):
        objects.delete(uri, etag=stored.etag)
    raise _changed(media)


def _changed(media: Media) -> InputError:
    return InputError(f"{media.name} changed during the upload: embed it when it is complete.")


def _state(media: Media) -> tuple[int, int] | None:
    """What changes when a file is written to: size and modification time; None for bytes."""
    if media.path is None:
        return None
    try:
        stat = media.path.stat()
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error
    return stat.st_size, stat.st_mtime_ns


def _name(media: Media) -> str:
    # A file name may hold what a key can't, or what DeleteObjects can't name.
    return _UNSAFE.sub("_", media.path.name) if media.path else media.kind


@contextmanager
def _turn(prefix: str) -> Iterator[None]:
    with _any_turn:
        turn = _turns.setdefault(prefix, ForkSafeLock())
    with turn:
        yield


_any_turn = ForkSafeLock()
_turns: WeakValueDictionary[str, ForkSafeLock] = WeakValueDictionary()


# Finding.


def _find(objects: S3Objects, prefix: str, media: Media, content: _Content) -> Media | None:
    """The first object under a prefix that holds a file's bytes."""
    listed = (item for item in objects.list(prefix, limit=1000) if not item.key.endswith("/"))
    return next(filter(None, (_checked(objects, item, media, content) for item in listed)), None)


def _checked(objects: S3Objects, item: ListedObject, media: Media, content: _Content) -> Media | None:
    """A listed object, in the version that was checked; None if it holds other bytes than the file, or is gone."""
    try:
        if item.size == content.size:
            head = objects.head(item.uri)
            etag = (head.get("ETag") or item.etag).strip('"')
            if _same(objects, item.uri, etag, head, media, content):
                return Media(media.kind, uri=item.uri, size=content.size, etag=etag)
    except ServiceError as error:
        if error.code in _GONE:
            return None
        raise
    warn_once(
        f"other bytes in {item.uri}",
        f"{item.uri} does not hold the bytes that its key names, for example because the file was overwritten during "
        "its upload. It is not used. If a store has segments with this source, delete them: they may have the vectors "
        "of other bytes. (Shown once.)",
    )
    return None


def _same(objects: S3Objects, uri: str, etag: str, head: Mapping[str, Any], media: Media, content: _Content) -> bool:
    """Whether an object holds a file's bytes, by the cheapest proof that there is."""
    if head["ContentLength"] != content.size:
        return False
    for name, expected in content.checksums().items():
        stored = head.get(name) or ""
        # A checksum of the parts' checksums ends in their number: it can't be compared with the file's.
        if stored and "-" not in stored and head.get("ChecksumType") != "COMPOSITE":
            return bool(stored == expected)
    if etag == _etag(media, content):
        return True
    # No checksum of the whole, and encrypted with KMS or uploaded in other parts.
    return objects.stream(uri, _content_of, etag=etag) == content


# The bytes of a file.


def _content(media: Media) -> _Content:
    with _open(media) as file:
        return _content_of(_blocks(file, CHUNK_BYTES))


def _content_of(blocks: Iterable[bytes]) -> _Content:
    size, sha256, crc32 = 0, hashlib.sha256(), 0
    for block in blocks:
        size += len(block)
        sha256.update(block)
        crc32 = zlib.crc32(block, crc32)
    return _Content(size, sha256.digest(), crc32.to_bytes(4, "big"))


def _etag(media: Media, content: _Content) -> str | None:
    """The ETag that S3 gives a file without KMS: its MD5; of several parts, the MD5 of their MD5s and their number.

    None if the file no longer has this content: it is read once more.
    """
    md5s: list[bytes] = []

    def parts(file: IO[bytes]) -> Iterator[bytes]:
        for part in _blocks(file, UPLOAD_PART_BYTES):
            md5s.append(hashlib.md5(part, usedforsecurity=False).digest())
            yield part

    with _open(media) as file:
        if _content_of(parts(file)) != content:
            return None
    if content.size < UPLOAD_PART_BYTES:
        return "".join(md5.hex() for md5 in md5s)
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def _blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


@contextmanager
def _open(media: Media) -> Iterator[IO[bytes]]:
    try:
        with io.BytesIO(media.read()) if media.path is None else media.path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(unreadable(media.name, error)) from error

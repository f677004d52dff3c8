"""Local media to S3."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.fork_safety import Lock
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.errors import InputError, ServiceError

__all__ = ["FOLDER", "find_upload", "upload", "upload_prefix"]

FOLDER = "uploads"
_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def upload(aws: Aws, media: Media, output_s3_uri: str) -> Media:
    """Put a local medium under ``<output>/uploads/<sha256>/<name>``, in parts, unless its bytes are there already.

    Returns:
        The medium on S3, with size and ETag. The same bytes under another name are found again, too.

    Raises:
        InputError: The file can't be read, or was written to meanwhile.
        ServiceError: S3 refused.
    """
    from boto3.exceptions import S3UploadFailedError  # boto3 costs 0.1 s that an import must not

    before = _state(media)
    bucket, prefix = split_s3_uri(upload_prefix(media, output_s3_uri))
    try:
        # Equal bytes under two names take turns, so that they become one upload and one job.
        with _turn(prefix):
            found = _listed(aws, bucket, prefix, media)
            if found is None:
                _put_whole(aws, bucket, prefix + _name(media), media, before)
                found = _listed(aws, bucket, prefix, media)
    except (ClientError, BotoCoreError, S3UploadFailedError) as error:
        # boto3's own says nothing of why: what it wraps does.
        refused = error.__context__ if isinstance(error.__context__, ClientError) else error
        raise ServiceError.of(refused, "PutObject", f"{media.name} -> s3://{bucket}/{prefix}") from error
    except OSError as error:
        raise _unreadable(media, error) from error
    if found is None:
        raise ServiceError(
            f"{media.name} was put under s3://{bucket}/{prefix}, but a listing does not show it.",
            code="NotListed",
            operation="PutObject",
        )
    return found


def upload_prefix(media: Media, output_s3_uri: str) -> str:
    """Where a local medium's upload lies: ``<output>/uploads/<sha256>/``."""
    return f"{output_s3_uri.rstrip('/')}/{FOLDER}/{_digest(media)}/"


def find_upload(aws: Aws, media: Media, output_s3_uri: str) -> Media | None:
    """The upload of a local medium's bytes, if there is one. One listing.

    Raises:
        ServiceError: AWS would not list.
    """
    prefix = upload_prefix(media, output_s3_uri)
    try:
        return _listed(aws, *split_s3_uri(prefix), media)
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "ListObjectsV2", prefix) from error


def _digest(media: Media) -> str:
    if media.path is None:
        return hashlib.sha256(media.read()).hexdigest()
    try:
        with media.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(media, error) from error


def _put_whole(aws: Aws, bucket: str, key: str, media: Media, before: tuple[int, int] | None) -> None:
    """Put a medium unless its file is no longer as it was ``before`` its digest was taken."""
    _put(aws, bucket, key, media)
    if _state(media) != before:
        # Other bytes than its place says. Where they may not be deleted they stay, and are no one's.
        with suppress(ClientError, BotoCoreError):
            aws.s3.delete_object(Bucket=bucket, Key=key)
        raise InputError(f"{media.name} was written to while it was uploaded: embed it when it is whole.")


def _state(media: Media) -> tuple[int, int] | None:
    """What changes when a file is written to; None for bytes."""
    if media.path is None:
        return None
    try:
        stat = media.path.stat()
    except OSError as error:
        raise _unreadable(media, error) from error
    return stat.st_size, stat.st_mtime_ns


def _unreadable(media: Media, error: OSError) -> InputError:
    return InputError(f"{media.name} can't be read: {error.strerror or error}. Is it still there, and yours to read?")


@contextmanager
def _turn(prefix: str) -> Iterator[None]:
    with _any_turn:
        turn = _turns.setdefault(prefix, Lock())
    with turn:
        yield


_any_turn = Lock()
_turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()


def _listed(aws: Aws, bucket: str, prefix: str, media: Media) -> Media | None:
    items = aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    for item in items:
        return Media(media.kind, uri=f"s3://{bucket}/{item['Key']}", size=item["Size"], etag=item["ETag"].strip('"'))
    return None


def _put(aws: Aws, bucket: str, key: str, media: Media) -> None:
    kind = mimetypes.guess_type(key)[0]
    extra: dict[str, Any] = {"ContentType": kind} if kind else {}
    if media.path is not None:
        aws.s3.upload_file(str(media.path), bucket, key, ExtraArgs=extra)
    else:
        aws.s3.upload_fileobj(io.BytesIO(media.read()), bucket, key, ExtraArgs=extra)


def _name(media: Media) -> str:
    # A file's name may hold what no key can, or what no deletion of several keys can name.
    return _UNSAFE.sub("_", media.path.name) if media.path else media.kind

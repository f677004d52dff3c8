"""Local media to S3."""

from __future__ import annotations

import hashlib
import io
import mimetypes
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws import Aws
from bedrock_marengo.errors import ServiceError
from bedrock_marengo.inputs import Media, split_s3_uri

__all__ = ["FOLDER", "find_upload", "upload", "upload_prefix"]

FOLDER = "uploads"


def upload(aws: Aws, media: Media, output_s3_uri: str) -> Media:
    """Put a local medium under ``<output>/uploads/<sha256>/<name>``, in parts, unless its bytes are there already.

    Returns:
        The medium on S3, with size and ETag. The same bytes under another name are found again, too.

    Raises:
        ServiceError: S3 refused.
    """
    from boto3.exceptions import S3UploadFailedError  # boto3 costs 0.1 s that an import must not

    bucket, prefix = split_s3_uri(upload_prefix(media, output_s3_uri))
    try:
        found = _listed(aws, bucket, prefix, media)
        if found is None:
            _put(aws, bucket, prefix + _name(media), media)
            found = _listed(aws, bucket, prefix, media)
    except (ClientError, BotoCoreError, S3UploadFailedError) as error:
        raise ServiceError.of(error, "PutObject", f"{media.name} -> s3://{bucket}/{prefix}") from error
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
    with media.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    return media.path.name if media.path else media.kind

"""The service's access to S3: checks buckets, reads sources, writes outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from marengo_local.access_keys import UnrecordedCaller, new_secret, register
from marengo_local.contract import refused
from marengo_local.moto_state import moto_s3

__all__ = ["Storage", "spooled"]

_IN_MEMORY_BYTES: Final = 64 * 1024 * 1024
_REGION_CACHE_SEC: Final = 1.0
_ACCESS_KEY_ID: Final = "AKIAMARENGOSERVICE00"
_CALLER: Final = UnrecordedCaller(new_secret())
register(_ACCESS_KEY_ID, _CALLER)


class Storage:
    """S3 as Bedrock reads and writes it. Every failure is a ServiceError."""

    def __init__(self, endpoint_url: str, region: str, owner_of: Callable[[str], str]) -> None:
        # Not of the user's profile, which may be missing, expired or point elsewhere.
        own = Session({"profile": (None, None, None, None), "config_file": (None, None, "", None)})
        self.client: Any = boto3.Session(botocore_session=own).client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            config=Config(max_pool_connections=32, s3={"addressing_style": "path"}, proxies={}),
            aws_access_key_id=_ACCESS_KEY_ID,
            aws_secret_access_key=_CALLER.secret_access_key,
        )
        self._region = region
        self._owner_of = owner_of
        self._regions: dict[str, tuple[float, str | None]] = {}

    def check_bucket(self, uri: str, owner: str | None) -> None:
        """Raise ServiceError if the bucket is missing, in another region, or not owned by `owner`."""
        bucket, _ = split(uri)
        region = self._region_of(bucket)
        if region is None:
            raise refused(f"The S3 bucket {bucket} does not exist.")
        if region != self._region:
            raise refused(f"The S3 bucket {bucket} is in {region}; it must be in {self._region}, with the model.")
        if owner is not None and owner != self._owner_of(bucket):
            raise refused(f"The S3 bucket {bucket} is not owned by the account {owner} that bucketOwner names.")

    def describe(self, uri: str) -> tuple[str, int]:
        """A source's ETag and size."""
        bucket, key = split(uri)
        # Not by HTTP, which would take most of a job's time; but errors come from there.
        buckets = moto_s3().buckets
        stored = buckets[bucket].keys.get(key) if bucket in buckets else None
        if stored is not None:
            return stored.etag, stored.size
        head = self._read(self.client.head_object, uri, Bucket=bucket, Key=key)
        return head["ETag"], head["ContentLength"]

    def open(self, uri: str) -> BinaryIO:
        """The content of a source. If large, it is in a temporary file that is deleted with the returned object."""
        bucket, key = split(uri)
        body = self._read(self.client.get_object, uri, Bucket=bucket, Key=key)["Body"]
        return spooled(body.iter_chunks(1024 * 1024))

    def write(self, uri: str, body: bytes, kms_key_id: str | None, content_type: str = "application/json") -> None:
        """Write one output."""
        bucket, key = split(uri)
        if not kms_key_id and bucket in moto_s3().buckets:
            moto_s3().put_object(bucket, key, body).set_metadata({"Content-Type": content_type})
            return
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
        try:
            self.client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, **encryption)
        except ClientError as error:
            raise refused(f"Could not write {uri}: {error.response['Error']['Message']}") from error

    def _read(self, call: Callable[..., Any], uri: str, **where: str) -> Any:
        try:
            return call(**where)
        except ClientError as error:
            raise refused(f"Could not read {uri}: {error.response['Error']['Message']}") from error

    def _region_of(self, bucket: str) -> str | None:
        # Cached for a second, so that a burst of starts does not repeat the same call thousands of times.
        cached = self._regions.get(bucket)
        if cached is None or cached[1] is None or time.monotonic() - cached[0] > _REGION_CACHE_SEC:
            cached = self._regions[bucket] = (time.monotonic(), self._fetch_region(bucket))
        return cached[1]

    def _fetch_region(self, bucket: str) -> str | None:
        try:
            location = self.client.get_bucket_location(Bucket=bucket)["LocationConstraint"]
        except ClientError:
            return None
        return location or "us-east-1"


def spooled(pieces: Iterable[bytes]) -> BinaryIO:
    """A file of these bytes; if large, it is a temporary file that is deleted with the returned object."""
    spool = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
    for piece in pieces:
        spool.write(piece)
    spool.seek(0)
    return cast(BinaryIO, spool)


def split(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` to bucket and key; the key is not decoded."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key

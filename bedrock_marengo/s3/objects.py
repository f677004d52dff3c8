"""Objects on S3: the only place that calls the S3 client. Each failure becomes a ``ServiceError``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.executor import no_thread
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, require_member
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import (
    ConfigurationError,
    MediaNotFoundError,
    ServiceError,
    error_code,
    http_status,
    warn_once,
)

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig
    from mypy_boto3_s3 import S3Client

__all__ = ["ListedObject", "S3Objects"]

T = TypeVar("T")

COPY_BYTES = 5 * 1024**3
"""The most that one CopyObject copies, from S3's user guide; larger objects are copied in parts."""
PART_BYTES = 512 * 1024**2
DELETE_BATCH = 1000
"""Keys that one DeleteObjects takes, from S3's API reference."""
CHUNK_BYTES = 1 << 20
_LOST_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNSUPPORTED = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})
"""How S3-compatible stores refuse If-None-Match and If-Match."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """What a listing says of one object. ``size`` in bytes, ``etag`` without quotes."""

    uri: str
    size: int
    etag: str
    modified: datetime | None = None
    storage_class: str | None = None

    @property
    def key(self) -> str:
        """The object's key."""
        return split_s3_uri(self.uri)[1]


class S3Objects:
    """Reads and writes objects by their S3 URI.

    Args:
        aws: makes the client.
        limiter: retries reads whose body breaks off, which botocore does not.
    """

    def __init__(self, aws: Aws, limiter: RetryLimiter) -> None:
        self._aws = aws
        self._limiter = limiter
        self._conditional = True
        self._regions: dict[str, str | None] = {}
        self._asking = threading.Lock()

    # Reading.

    def get(self, uri: str) -> tuple[bytes, str]:
        """An object's bytes and its ETag.

        Raises:
            ServiceError: AWS refused; the code is NoSuchKey if it isn't there.
        """

        def read() -> tuple[bytes, str]:
            reply = self._open(uri)
            return reply["Body"].read(), reply["ETag"]

        return self._limiter.call(read, "GetObject", uri)

    def get_range(self, uri: str, first: int, length: int, *, limiter: RetryLimiter | None = None) -> tuple[bytes, int]:
        """Bytes from ``first`` on, and the size of the whole object.

        Raises:
            ServiceError: AWS refused.
        """

        def read() -> tuple[bytes, int]:
            reply = self._open(uri, Range=f"bytes={first}-{first + length - 1}")
            # "bytes 0-262143/104857600"
            return reply["Body"].read(), int(reply["ContentRange"].rpartition("/")[2])

        return (limiter or self._limiter).call(read, "GetObject", uri)

    def stream(self, uri: str, read: Callable[[Iterator[bytes]], T], *, listed: bool = False) -> T:
        """What ``read`` makes of an object's bytes, in chunks of 1 MiB; read again from the start if they break off.

        Args:
            uri: the object.
            read: consumes the chunks.
            listed: a listing showed it, so that NoSuchKey is transient.

        Raises:
            ServiceError: AWS refused.
        """

        def consume() -> T:
            body = self._open(uri)["Body"]
            try:
                return read(self._until_cancelled(body.iter_chunks(CHUNK_BYTES), uri))
            finally:
                body.close()

        also = frozenset({"NoSuchKey"}) if listed else frozenset[str]()
        return self._limiter.call(consume, "GetObject", uri, also_transient=also)

    def download(self, uri: str, file: IO[bytes]) -> None:
        """Write an object's bytes to an open file."""
        bucket, key = split_s3_uri(uri)
        with _translated("GetObject", uri):
            self._client.download_fileobj(bucket, key, file)

    def head(self, uri: str) -> dict[str, Any]:
        """An object's headers, with S3's checksum if it has one."""
        bucket, key = split_s3_uri(uri)
        with _translated("HeadObject", uri):
            return dict(self._client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"))

    def tags(self, uri: str) -> dict[str, str]:
        """An object's tags."""
        bucket, key = split_s3_uri(uri)
        with _translated("GetObjectTagging", uri):
            reply = self._client.get_object_tagging(Bucket=bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in reply["TagSet"]}

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ListedObject]:
        """The objects whose URI begins with ``prefix``, 1,000 a call; with ``limit`` (1 to 1,000) one call.

        Raises:
            ServiceError: AWS refused to list, which does not show that anything is absent.
        """
        bucket, key = split_s3_uri(prefix)
        with _translated("ListObjectsV2", prefix):
            if limit is None:
                pages: Any = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
            else:
                pages = [self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=limit)]
            for page in pages:
                for item in page.get("Contents", []):
                    yield ListedObject(
                        f"s3://{bucket}/{item['Key']}",
                        item["Size"],
                        item["ETag"].strip('"'),
                        item.get("LastModified"),
                        item.get("StorageClass"),
                    )

    def find(self, uri: str) -> ListedObject | None:
        """An object as a listing shows it; None only if the listing proves that it isn't there."""
        # The key itself sorts before all keys that begin with it.
        return next((item for item in self.list(uri, limit=1) if item.uri == uri), None)

    def presign(self, uri: str, expires_sec: int) -> str:
        """A URL that anyone can read an object with. No request is made."""
        bucket, key = split_s3_uri(uri)
        with _translated("presigning GetObject", uri):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=expires_sec
            )

    # Writing.

    def put(self, uri: str, body: bytes) -> str:
        """Write an object; its ETag."""
        with _translated("PutObject", uri):
            return self._put(uri, body)

    def put_if_absent(self, uri: str, body: bytes) -> str | None:
        """Write an object unless there is one; its ETag, None if another writer was first."""
        return self._put_if(uri, body, None)

    def put_if_match(self, uri: str, body: bytes, etag: str) -> str | None:
        """Write an object if its ETag is still ``etag``; the new ETag, None if another writer was first.

        An object that was deleted meanwhile is written again.
        """
        return self._put_if(uri, body, etag)

    def upload(self, uri: str, file: str | IO[bytes], *, content_type: str | None, name: str) -> None:
        """Upload a file, by its path or open, in parts if it is large.

        Args:
            uri: where to.
            file: the local path, or an open file.
            content_type: of the object.
            name: what errors call the file.
        """
        from boto3.exceptions import S3UploadFailedError  # boto3 costs 0.1 s that an import must not

        bucket, key = split_s3_uri(uri)
        extra = {"ContentType": content_type} if content_type else {}
        with _translated("PutObject", f"{name} -> {uri}"):
            try:
                if isinstance(file, str):
                    self._client.upload_file(file, bucket, key, ExtraArgs=extra, Config=_transfer())
                else:
                    self._client.upload_fileobj(file, bucket, key, ExtraArgs=extra, Config=_transfer())
            except S3UploadFailedError as error:
                # It doesn't contain the reason: the error that it wraps does.
                if isinstance(error.__context__, ClientError):
                    raise error.__context__ from error
                raise ServiceError.of(error, "PutObject", f"{name} -> {uri}") from error

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy an object within S3, also between regions, if its ETag is still ``etag``. Tags are left behind.

        Raises:
            ServiceError: AWS refused; the code is 412 if the source has changed.
        """
        from_bucket, from_key = split_s3_uri(source)
        bucket, key = split_s3_uri(target)
        # Copying tags would need permissions of its own.
        extra: dict[str, Any] = {"CopySourceIfMatch": f'"{etag}"', "TaggingDirective": "REPLACE"}
        parts = _transfer(multipart_threshold=COPY_BYTES, multipart_chunksize=PART_BYTES)
        with _translated("CopyObject", f"{source} -> {target}"):
            self._client.copy({"Bucket": from_bucket, "Key": from_key}, bucket, key, ExtraArgs=extra, Config=parts)

    def delete(self, uri: str, *, etag: str | None = None) -> None:
        """Delete an object, with ``etag`` only if it is still that one; one that is gone already is fine."""
        bucket, key = split_s3_uri(uri)
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
        with _translated("DeleteObject", uri):
            self._client.delete_object(Bucket=bucket, Key=key, **condition)

    def delete_many(self, uris: Sequence[str]) -> None:
        """Delete objects, 1,000 a call."""
        buckets: dict[str, list[str]] = {}
        for uri in uris:
            bucket, key = split_s3_uri(uri)
            buckets.setdefault(bucket, []).append(key)
        for bucket, keys in buckets.items():
            for first in range(0, len(keys), DELETE_BATCH):
                self._delete_batch(bucket, keys[first : first + DELETE_BATCH])

    # Buckets.

    def is_elsewhere(self, bucket: str) -> bool:
        """Whether a bucket is in another region than the model. One HeadBucket for each bucket.

        Raises:
            MediaNotFoundError: No such bucket.
        """
        return self._region_of(bucket) not in (None, self._aws.region)

    def check_bucket(self, bucket: str) -> None:
        """Refuse a bucket that doesn't exist or is in another region than the model. One HeadBucket for each bucket.

        Raises:
            MediaNotFoundError: No such bucket.
            ConfigurationError: Another region.
        """
        if self.is_elsewhere(bucket):
            region, here = self._region_of(bucket), self._aws.region
            raise ConfigurationError(
                f"Bucket {bucket!r} is in {region}, the model in {here}. Bedrock reads and writes only buckets in its "
                "own region: use {region_name} if Marengo is available there, or have files copied with "
                "{staging_s3_uri}.",
                remedy={"region_name": region, "staging_s3_uri": f"s3://a-bucket-in-{here}/stage/"},
            )

    def _region_of(self, bucket: str) -> str | None:
        if bucket not in self._regions:
            # One thread asks for all: a run starts on 64 threads at once.
            with self._asking:
                if bucket not in self._regions:
                    self._regions[bucket] = self._head_bucket(bucket)
        return self._regions[bucket]

    def _head_bucket(self, bucket: str) -> str | None:
        """The region of a bucket, as far as S3 says it."""
        try:
            reply: Any = self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            # A refusal names the region all the same.
            reply = error.response
            if http_status(error) == 404 or error_code(error) == "NoSuchBucket":
                raise MediaNotFoundError(f"There is no bucket {bucket!r}.") from error
        except BotoCoreError as error:
            raise ServiceError.of(error, "HeadBucket", f"bucket {bucket!r}") from error
        headers = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region: str | None = reply.get("BucketRegion") or headers.get("x-amz-bucket-region")
        return region

    # How.

    @property
    def _client(self) -> S3Client:
        return self._aws.s3

    def _open(self, uri: str, **extra: Any) -> Any:
        bucket, key = split_s3_uri(uri)
        return require_member(self._client.get_object(Bucket=bucket, Key=key, **extra), "ETag")

    def _until_cancelled(self, chunks: Iterator[bytes], uri: str) -> Iterator[bytes]:
        token = self._limiter.token()
        for chunk in chunks:
            token.check(f"Reading {uri}")
            yield chunk

    def _put(self, uri: str, body: bytes, **condition: Any) -> str:
        bucket, key = split_s3_uri(uri)
        return str(self._client.put_object(Bucket=bucket, Key=key, Body=body, **condition)["ETag"])

    def _put_if(self, uri: str, body: bytes, etag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with _translated("PutObject", uri):
            if not self._conditional:
                return None if etag is None and self.find(uri) else self._put(uri, body)
            try:
                return self._put(uri, body, **condition)
            except (ClientError, BotoCoreError) as error:
                if error_code(error) in _LOST_RACE:
                    return None
                if error_code(error) == "NoSuchKey" and etag is not None:
                    # Its writer withdrew it, or someone deleted it meanwhile.
                    return self._put_if(uri, body, None)
                if error_code(error) not in _UNSUPPORTED:
                    raise
        warn_once(
            "conditional writes",
            f"The S3 store of {uri} does not support conditional writes: two processes that start the same file at "
            "the same time are kept apart by clientRequestToken only. (Shown once.)",
            stacklevel=3,
        )
        self._conditional = False
        return self._put_if(uri, body, etag)

    def _delete_batch(self, bucket: str, keys: Sequence[str]) -> None:
        what = f"{len(keys)} objects in s3://{bucket}"
        with _translated("DeleteObjects", what):
            reply = self._client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        for failed in reply.get("Errors", []):
            code, message = failed.get("Code", "Unknown"), failed.get("Message", "")
            raise ServiceError(
                f"DeleteObjects for s3://{bucket}/{failed.get('Key')}: {code}: {message}",
                code=code,
                operation="DeleteObjects",
            )


def _transfer(**sizes: Any) -> TransferConfig:
    from boto3.s3.transfer import TransferConfig

    # Once the main thread has ended, Python refuses the threads that boto3 would transfer parts on.
    return TransferConfig(use_threads=threading.main_thread().is_alive(), **sizes)


@contextmanager
def _translated(operation: str, what: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, operation, what) from error
    except RuntimeError as error:
        if threading.main_thread().is_alive():
            raise
        # It ended during a transfer on threads.
        raise no_thread(error) from error

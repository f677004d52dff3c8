"""Objects on S3: the only place that calls the S3 client. Each failure becomes a ``ServiceError``."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.executor import no_thread
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws, require_member
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import (
    ServiceError,
    error_code,
    warn_once,
)
from bedrock_marengo.s3.buckets import Buckets

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig
    from mypy_boto3_s3 import S3Client

__all__ = ["ARCHIVED", "TIERED", "UPLOAD_PART_BYTES", "Archive", "Checksums", "ListedObject", "S3Objects"]

T = TypeVar("T")
Archive = Literal["archived", "restoring"]
"""Why S3 doesn't give out an object: it is archived, or still being restored. A restored one is read like any other."""

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""The storage classes of archived objects, which they keep when they are restored."""
TIERED = "INTELLIGENT_TIERING"
"""The storage class whose objects may be in an archive tier, which only HeadObject says."""

COPY_BYTES = 5 * 1024**3
"""The most that one CopyObject copies, from S3's user guide; larger objects are copied in parts."""
PART_BYTES = 512 * 1024**2
UPLOAD_PART_BYTES = 8 * 1024**2
"""The parts of an upload, and the size from which there are several: boto3's own."""
DELETE_BATCH = 1000
"""Keys that one DeleteObjects takes, from S3's API reference."""
CHUNK_BYTES = 1 << 20
_COPIED_ETAG = "source-etag"
"""The metadata of a copy that names the version it was made from: its own ETag differs for parts and with KMS."""
_LOST_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNSUPPORTED = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})
"""How S3-compatible stores refuse If-None-Match and If-Match."""
_NO_CHECKSUMS = _UNSUPPORTED | {"InvalidRequest", "InvalidArgument"}
"""How S3-compatible stores refuse checksums."""
_NO_CHECKSUM_MODE = _NO_CHECKSUMS | {"400"}
"""The same for HeadObject, whose errors have no code but the status."""

Checksums = Mapping[str, str]
"""S3's checksums of whole files, in Base64, by their parameter: ``ChecksumSHA256``, ``ChecksumCRC32``."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """What a listing says of one object. ``size`` in bytes, ``etag`` without quotes, ``archive`` if asked for.

    ``listed_at`` is when its page came, by ``time.monotonic``.
    """

    uri: str
    size: int
    etag: str
    modified: datetime | None = None
    storage_class: str | None = None
    archive: Archive | None = None
    listed_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def key(self) -> str:
        """The object's key."""
        return split_s3_uri(self.uri)[1]


class S3Objects(Buckets):
    """Reads and writes objects by their S3 URI.

    Args:
        aws: makes the client.
        limiter: retries reads whose body breaks off, which botocore does not.
    """

    def __init__(self, aws: Aws, limiter: RetryLimiter) -> None:
        super().__init__(aws)
        self._limiter = limiter
        self._conditional = True
        self._says_restored = True
        self._checksums = True

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

    def stream(
        self, uri: str, read: Callable[[Iterator[bytes]], T], *, listed: bool = False, etag: str | None = None
    ) -> T:
        """What ``read`` makes of an object's bytes, in chunks of 1 MiB; read again from the start if they break off.

        Args:
            uri: the object.
            read: consumes the chunks.
            listed: a listing showed it, so that NoSuchKey is transient.
            etag: read only this version.

        Raises:
            ServiceError: AWS refused; the code is PreconditionFailed if it has another ETag.
        """
        condition = {"IfMatch": f'"{etag}"'} if etag else {}

        def consume() -> T:
            body = self._open(uri, **condition)["Body"]
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
            try:
                return dict(self._client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"))
            except ClientError as error:
                if error_code(error) not in _NO_CHECKSUM_MODE:
                    raise
            # Only stores without checksums answer otherwise without the header.
            return dict(self._client.head_object(Bucket=bucket, Key=key))

    def copied_etag(self, uri: str) -> str | None:
        """The ETag of the source that ``copy`` made this object from; None for any other object."""
        etag: str | None = self.head(uri)["Metadata"].get(_COPIED_ETAG)
        return etag

    def tags(self, uri: str) -> dict[str, str]:
        """An object's tags."""
        bucket, key = split_s3_uri(uri)
        with _translated("GetObjectTagging", uri):
            reply = self._client.get_object_tagging(Bucket=bucket, Key=key)
        return {tag["Key"]: tag["Value"] for tag in reply["TagSet"]}

    def archive_of(self, uri: str) -> Archive | None:
        """Whether an object is archived or still being restored, by one HEAD; None if S3 gives it out.

        Raises:
            ServiceError: AWS refused.
        """
        head = self.head(uri)
        # 'ongoing-request="false", expiry-date="Fri, 21 Dec 2026 00:00:00 GMT"'
        restore = str(head.get("Restore", ""))
        if restore:
            return "restoring" if 'ongoing-request="true"' in restore else None
        return "archived" if head.get("StorageClass") in ARCHIVED or head.get("ArchiveStatus") else None

    def list(self, prefix: str, *, limit: int | None = None, archives: bool = False) -> Iterator[ListedObject]:
        """The objects whose URI begins with ``prefix``, 1,000 a call; with ``limit`` (1 to 1,000) one call.

        Args:
            prefix: how the URIs begin.
            limit: how many objects at most.
            archives: also say which are archived or being restored.

        Raises:
            ServiceError: AWS refused to list, which does not show that anything is absent.
        """
        bucket, key = split_s3_uri(prefix)
        with _translated("ListObjectsV2", prefix):
            for page in self._pages(bucket, key, limit, archives):
                now = time.monotonic()
                for item in page.get("Contents", []):
                    uri, storage = f"s3://{bucket}/{item['Key']}", item.get("StorageClass")
                    yield ListedObject(
                        uri,
                        item["Size"],
                        item["ETag"].strip('"'),
                        item.get("LastModified"),
                        storage,
                        self._listed_archive(uri, item) if archives and storage in ARCHIVED else None,
                        now,
                    )

    def _pages(self, bucket: str, key: str, limit: int | None, archives: bool) -> Iterator[Any]:
        extra: dict[str, Any] = {}
        if archives and self._says_restored:
            extra["OptionalObjectAttributes"] = ["RestoreStatus"]
        if limit is not None:
            yield self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=limit, **extra)
            return
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, **extra))
        try:
            first = next(pages)
        except ClientError as error:
            if not extra or error_code(error) not in _UNSUPPORTED:
                raise
            # A store that is like S3, without Glacier's status in its listings.
            self._says_restored = False
            yield from self._pages(bucket, key, limit, archives)
            return
        yield first
        yield from pages

    def _listed_archive(self, uri: str, item: Any) -> Archive | None:
        if not self._says_restored:
            return self.archive_of(uri)
        status = item.get("RestoreStatus")
        if status is None:
            return "archived"
        return "restoring" if status.get("IsRestoreInProgress") else None

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

    def upload(
        self, uri: str, file: str | bytes, *, size: int, checksums: Checksums, content_type: str | None, name: str
    ) -> None:
        """Upload a file, by its path or bytes, in parts if it is large. S3 refuses bytes that have another checksum.

        Args:
            uri: where to.
            file: the local path, or the bytes.
            size: of the file, in bytes. From 8 MiB on it goes in parts, each of 8 MiB.
            checksums: of the whole file.
            content_type: of the object.
            name: what errors call the file.

        Raises:
            ServiceError: S3 refused; the code is BadDigest if it received other bytes than the checksums say.
        """
        in_parts = size >= UPLOAD_PART_BYTES
        # Of an upload in parts, S3 has no SHA-256 of the whole.
        wanted = "ChecksumCRC32" if in_parts else "ChecksumSHA256"
        config = _transfer(multipart_threshold=1 if in_parts else COPY_BYTES, multipart_chunksize=UPLOAD_PART_BYTES)
        extra = {"ContentType": content_type} if content_type else {}
        checked = {**extra, wanted: checksums[wanted]} if self._checksums else extra
        with _translated("PutObject", f"{name} -> {uri}"):
            try:
                self._send(uri, file, checked, config)
                return
            except ClientError as error:
                if checked is extra or error_code(error) not in _NO_CHECKSUMS:
                    raise
            self._send(uri, file, extra, config)
        warn_once(
            "upload checksums",
            f"The S3 store of {uri} does not support checksums: uploads are compared with the MD5 of the file, or read "
            "again if their ETag is not an MD5. (Shown once.)",
            stacklevel=3,
        )
        self._checksums = False

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy an object within S3, also between regions, if its ETag is still ``etag``. Tags are left behind.

        Raises:
            ServiceError: AWS refused; the code is 412 if the source has changed.
        """
        from_bucket, from_key = split_s3_uri(source)
        bucket, key = split_s3_uri(target)
        # Copying tags would need permissions of its own.
        extra: dict[str, Any] = {"CopySourceIfMatch": f'"{etag}"', "TaggingDirective": "REPLACE"}
        # With metadata of its own, a copy has none of the source's headers.
        extra |= {"MetadataDirective": "REPLACE", "Metadata": {_COPIED_ETAG: etag}}
        if content_type := self.head(source).get("ContentType"):
            extra["ContentType"] = content_type
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

    def _send(self, uri: str, file: str | bytes, extra: dict[str, Any], config: TransferConfig) -> None:
        from boto3.exceptions import S3UploadFailedError  # boto3 costs 0.1 s that an import must not

        bucket, key = split_s3_uri(uri)
        try:
            if isinstance(file, str):
                self._client.upload_file(file, bucket, key, ExtraArgs=extra, Config=config)
            else:
                self._client.upload_fileobj(io.BytesIO(file), bucket, key, ExtraArgs=extra, Config=config)
        except S3UploadFailedError as error:
            # It doesn't contain the reason: the error that it wraps does.
            if isinstance(error.__context__, ClientError):
                raise error.__context__ from error
            raise ServiceError.of(error, "PutObject", uri) from error

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

    # Once the main thread has ended, Python refuses the threads that boto3 would transfer parts on. The other client,
    # which awscrt brings, splits files by its own rules.
    use_threads = threading.main_thread().is_alive()
    return TransferConfig(preferred_transfer_client="classic", use_threads=use_threads, **sizes)


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

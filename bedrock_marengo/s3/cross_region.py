"""Media from other regions, copied to where the model is for as long as a job needs them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import ConfigurationError, ServiceError
from bedrock_marengo.s3.object_version import SourceIdentity

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig

__all__ = ["CrossRegionCopies"]

COPY_BYTES = 5 * 1024**3
"""The most that one CopyObject copies, from S3's user guide; over that boto3 copies in parts."""
PART_BYTES = 512 * 1024**2


class CrossRegionCopies:
    """A prefix in the model's region that holds copies of media while Bedrock reads them.

    A copy's place follows from the job's fingerprint: whoever joins a job finds, and removes, the same one, and no two
    jobs share one. Segments keep the original's URI. What a killed run leaves is found by the next; a lifecycle rule of
    a few days on the prefix is a second belt.

    Args:
        aws: the clients.
        stage_s3_uri: ``s3://bucket/prefix/`` in the model's region.
    """

    def __init__(self, aws: Aws, stage_s3_uri: str) -> None:
        self._aws = aws
        self._prefix = f"{stage_s3_uri.rstrip('/')}/"

    def needed(self, uri: str) -> bool:
        """Whether a medium lies in another region than the model."""
        return self._aws.is_elsewhere(split_s3_uri(uri)[0])

    def prefix_of(self, source_uri: str) -> str:
        """Where all copies of a source lie."""
        return f"{self._prefix}{hashlib.sha256(source_uri.encode()).hexdigest()[:16]}/"

    def uri_of(self, source_uri: str, fingerprint: str) -> str:
        """Where the copy for one job lies, whether it is there or not."""
        suffix = source_uri.rsplit("/", 1)[-1].rpartition(".")[2]
        return f"{self.prefix_of(source_uri)}{fingerprint[:16]}.{suffix}"

    def put(self, source: SourceIdentity, fingerprint: str) -> str:
        """Copy a medium here for a job, on S3's side, unless its copy is here already.

        Returns:
            S3 URI of the copy.

        Raises:
            ConfigurationError: The stage is not in the model's region.
            ServiceError: AWS refused, or the medium is no longer the one that was listed (code 412).
        """
        uri = self.uri_of(source.uri, fingerprint)
        bucket, key = split_s3_uri(uri)
        self._aws.check_bucket(bucket)
        origin, name = split_s3_uri(source.uri)
        # Only the bytes that the identity names; and tags stay behind, which need permissions of their own.
        extra: dict[str, Any] = {"CopySourceIfMatch": f'"{source.etag}"', "TaggingDirective": "REPLACE"}
        try:
            if not self._holds(bucket, key, source.size):
                self._aws.s3.copy({"Bucket": origin, "Key": name}, bucket, key, ExtraArgs=extra, Config=_in_parts())
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "CopyObject", f"{source.uri} -> {uri}") from error
        return uri

    def remove(self, uri: str) -> None:
        """Delete a copy; one that is gone already is fine.

        Raises:
            ConfigurationError: Not below the stage's prefix: nothing else is ever deleted.
            ServiceError: AWS refused.
        """
        if not uri.startswith(self._prefix):
            raise ConfigurationError(f"{uri!r} is no copy of ours: copies lie below {self._prefix!r}.")
        bucket, key = split_s3_uri(uri)
        try:
            self._aws.s3.delete_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "DeleteObject", uri) from error

    def _holds(self, bucket: str, key: str, size: int) -> bool:
        listed = self._aws.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        return any(item["Key"] == key and item["Size"] == size for item in listed)


def _in_parts() -> TransferConfig:
    from boto3.s3.transfer import TransferConfig  # boto3 costs 0.1 s that an import must not

    return TransferConfig(multipart_threshold=COPY_BYTES, multipart_chunksize=PART_BYTES)

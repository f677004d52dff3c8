"""Which region a bucket is in: asked of S3 once for each bucket."""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.errors import ConfigurationError, MediaNotFoundError, ServiceError, error_code, http_status

__all__ = ["Buckets"]


class Buckets:
    """The buckets of an account and others.

    Args:
        aws: makes the client.
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._regions: dict[str, str | None] = {}
        self._asking = threading.Lock()

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
            reply: Any = self._aws.s3.head_bucket(Bucket=bucket)
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

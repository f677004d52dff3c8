"""What tells one version of an object from another, where its ETag does not serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import InputError, ServiceError

__all__ = ["Identity", "SourceIdentity", "object_version"]


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What tells one version of a medium from another: what one listing gives."""

    uri: str
    size: int
    etag: str
    version: str | None = None
    """What stands in the ETag's place, where the client has ``identity=``."""

    def canonical(self) -> dict[str, Any]:
        """Bucket, key, size in bytes, ETag without quotes."""
        bucket, key = split_s3_uri(self.uri)
        return {"bucket": bucket, "key": key, "size": self.size, "etag": (self.version or self.etag).strip('"')}


Identity = Literal["etag", "checksum"] | Callable[[SourceIdentity], str]

# S3's checksums, those that do not depend on how an object was cut into parts first.
_ALGORITHMS = ("CRC64NVME", "SHA256", "SHA1", "CRC32C", "CRC32")


def object_version(aws: Aws, source: SourceIdentity, identity: Identity) -> SourceIdentity:
    """A source with what stands in its ETag's place: nothing, S3's checksum (one HEAD), or a callable's string.

    Raises:
        InputError: The object has no checksum, or the callable gives no string.
        ServiceError: AWS would not say.
    """
    if identity == "etag":
        return source
    version = _checksum(aws, source) if identity == "checksum" else identity(source)
    if not isinstance(version, str) or not version:
        raise InputError(f"identity= gave {version!r} for {source.uri!r}: it must give a string that is not empty.")
    return replace(source, version=version)


def _checksum(aws: Aws, source: SourceIdentity) -> str:
    bucket, key = split_s3_uri(source.uri)
    try:
        head = aws.s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "HeadObject", source.uri) from error
    for name in _ALGORITHMS:
        if found := head.get(f"Checksum{name}"):
            return f"{name}:{found}"
    raise InputError(
        f"{source.uri!r} has no checksum on S3, which older objects lack: copy it in place once, or give "
        "identity='etag' or a callable."
    )

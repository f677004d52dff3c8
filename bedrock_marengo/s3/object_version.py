"""Which version of an object a job is for: size and ETag, or what ``identity=`` puts in the ETag's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["Identity", "SourceIdentity", "object_version"]


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """One version of a file on S3, as a listing shows it: ``size`` in bytes, ``etag`` without quotes."""

    uri: str
    size: int
    etag: str
    version: str | None = None
    """Used instead of the ETag, if the client has ``identity=``."""

    def canonical(self) -> dict[str, Any]:
        """Bucket, key, size in bytes, ETag without quotes."""
        bucket, key = split_s3_uri(self.uri)
        return {"bucket": bucket, "key": key, "size": self.size, "etag": (self.version or self.etag).strip('"')}


Identity = Literal["etag", "checksum"] | Callable[[SourceIdentity], str]

# S3's checksums; first those that do not depend on how an object was split into parts.
_ALGORITHMS = ("CRC64NVME", "SHA256", "SHA1", "CRC32C", "CRC32")


def object_version(objects: S3Objects, source: SourceIdentity, identity: Identity) -> SourceIdentity:
    """A source with its version: nothing, S3's checksum (one HeadObject), or a callable's string.

    Raises:
        InputError: The object has no checksum, or the callable returned no string.
        ServiceError: AWS refused.
    """
    if identity == "etag":
        return source
    version = _checksum(objects, source) if identity == "checksum" else identity(source)
    if not isinstance(version, str) or not version:
        raise InputError(f"identity= returned {version!r} for {source.uri!r}: it must return a non-empty string.")
    return replace(source, version=version)


def _checksum(objects: S3Objects, source: SourceIdentity) -> str:
    head = objects.head(source.uri)
    for name in _ALGORITHMS:
        if found := head.get(f"Checksum{name}"):
            return f"{name}:{found}"
    raise InputError(
        f"{source.uri!r} has no checksum on S3, like most older objects. Copy it in place once, or set identity='etag' "
        "or a callable."
    )

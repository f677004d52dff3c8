"""Fingerprints and request.json: how a job is found again.

Frozen by golden files from the first release: a change here makes every finished job unfindable and is a major version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.errors import OutputError
from bedrock_marengo.s3.object_version import SourceIdentity

__all__ = ["FORMAT", "JobKey", "RequestFile", "fingerprint", "source_prefix", "token", "work_prefix"]

FORMAT = 1


class RequestFile(msgspec.Struct, kw_only=True, omit_defaults=False):
    """request.json: written before a start, so that a second process or a later run finds the job."""

    format: int
    fingerprint: str
    source: dict[str, Any]
    uri: str
    model_id: str
    request: dict[str, Any]
    model_input: dict[str, Any]
    attempt: int = 1
    arn: str | None = None
    output: str | None = None
    """S3 URI of the output once it was read: if it is missing later, it expired."""

    @classmethod
    def of(cls, key: JobKey, model_input: dict[str, Any]) -> RequestFile:
        """The file before the first attempt of a job."""
        return cls(
            format=FORMAT,
            fingerprint=key.fingerprint,
            source=key.source.canonical(),
            uri=key.source.uri,
            model_id=key.request.model.model_id,
            request=key.request.canonical(),
            model_input=model_input,
        )

    def encode(self) -> bytes:
        """The file's bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def decode(cls, data: bytes, where: str) -> RequestFile:
        """Read the file.

        Raises:
            OutputError: Not written by this package, or by a later version of it.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise OutputError(f"{where} is not a request.json of this package: {error}") from None
        if found.format != FORMAT:
            raise OutputError(f"{where} has format {found.format}; this version reads {FORMAT}. Upgrade the package.")
        return found


@dataclass(frozen=True, slots=True)
class JobKey:
    """What identifies one job: what is requested, for which version of which file, and where its work is kept.

    Attributes:
        request: what is requested.
        source: the version of the file.
        fingerprint: 64 hex digits over both; the first 16 are the job's id.
        prefix: the S3 folder of request.json and the output.
    """

    request: MediaRequest
    source: SourceIdentity
    fingerprint: str
    prefix: str

    @classmethod
    def of(cls, request: MediaRequest, source: SourceIdentity, output_s3_uri: str) -> JobKey:
        """Compute a job's key: once, when its file is listed."""
        digest = fingerprint(request, source)
        return cls(request, source, digest, work_prefix(output_s3_uri, source.uri, digest))


def fingerprint(request: MediaRequest, source: SourceIdentity) -> str:
    """SHA-256, in hex, over format, model, every option after defaults, and the source's identity.

    Owner, keys, tags, region and credentials are not part of it: they change who pays and where, not the vectors.
    """
    return _digest(
        {
            "format": FORMAT,
            "model": request.model.model_id,
            "request": request.canonical(),
            "source": source.canonical(),
        }
    )


def work_prefix(output_s3_uri: str, source_uri: str, job: str) -> str:
    """The folder of a job's request.json and output: ``<output>/<sha256(source)[:16]>/<job>/``."""
    return f"{source_prefix(output_s3_uri, source_uri)}{job[:16]}/"


def source_prefix(output_s3_uri: str, source_uri: str) -> str:
    """The folder of all jobs of a source: ``<output>/<sha256(source)[:16]>/``."""
    return f"{output_s3_uri.rstrip('/')}/{hashlib.sha256(source_uri.encode()).hexdigest()[:16]}/"


def token(fingerprint: str, attempt: int) -> str:
    """The clientRequestToken of an attempt: a second guard against paying twice."""
    return f"{fingerprint}-{attempt}"


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

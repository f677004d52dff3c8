"""Fingerprints and request.json: how work is known again.

Frozen by golden files from the first release: a change here makes every finished job unknown and is a major version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.errors import OutputError
from bedrock_marengo.s3.object_version import SourceIdentity

__all__ = ["FORMAT", "RequestFile", "fingerprint", "source_prefix", "token", "work_prefix"]

FORMAT = 1


class RequestFile(msgspec.Struct, kw_only=True, omit_defaults=False):
    """request.json: written before a start, so that a crash, a second process or a later day finds the work."""

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
    """Where the output was when it was read: if it is gone later, it expired."""

    def encode(self) -> bytes:
        """The file's bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def decode(cls, data: bytes, where: str) -> RequestFile:
        """Read the file.

        Raises:
            OutputError: Not ours, or written by a later version.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise OutputError(f"{where} is not a request.json of ours: {error}") from None
        if found.format != FORMAT:
            raise OutputError(f"{where} has format {found.format}; this version reads {FORMAT}: upgrade the package.")
        return found


def fingerprint(request: MediaRequest, source: SourceIdentity) -> str:
    """SHA-256, in hex, over what the work is: format, model, every option after defaults, the source's identity.

    Owner, keys, tags, region and credentials are not in it: they change who pays and where, not the vectors.
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
    """Where a job's request.json and output lie: ``<output>/<sha256(source)[:16]>/<job>/``."""
    return f"{source_prefix(output_s3_uri, source_uri)}{job[:16]}/"


def source_prefix(output_s3_uri: str, source_uri: str) -> str:
    """Where all jobs of a source lie: ``<output>/<sha256(source)[:16]>/``."""
    return f"{output_s3_uri.rstrip('/')}/{hashlib.sha256(source_uri.encode()).hexdigest()[:16]}/"


def token(fingerprint: str, attempt: int) -> str:
    """The clientRequestToken of an attempt: a second belt against paying twice."""
    return f"{fingerprint}-{attempt}"


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

"""words.json: our own record of the words of one file by one service, written before it is asked and when it is done.

It is in a folder like a job's, so that a listing of the output prefix shows it, and ``forget`` deletes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bedrock_marengo.errors import OutputError, ServiceError
from bedrock_marengo.jobs.fingerprint import source_prefix, work_prefix
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.words.sources import Service

__all__ = ["RecordFolder", "WordsRecord", "iter_records", "words_fingerprint"]

FORMAT = 1
_NAME = "words.json"


class WordsRecord(msgspec.Struct, kw_only=True):
    """The record: ``attempt`` is the number of the current one; ``done`` or ``failed`` ends it."""

    format: int = FORMAT
    service: Service
    fingerprint: str
    uri: str
    source: dict[str, Any]
    settings: dict[str, Any]
    attempt: int = 1
    sound: bool = False
    """Whether the service is given the file's sound alone, which was extracted."""
    done: dict[str, Any] | None = None
    failed: str | None = None


def words_fingerprint(service: Service, settings: Mapping[str, Any], source: SourceIdentity) -> str:
    """SHA-256, in hex, over format, service, every setting that changes the words, and the file's version."""
    content = {"format": FORMAT, "service": service, "settings": settings, "source": source.canonical()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class RecordFolder:
    """The folder of one file's words by one service and settings.

    Args:
        objects: S3.
        output_s3_uri: the prefix of jobs.
        source: the file.
        fingerprint: of ``words_fingerprint``.
    """

    def __init__(self, objects: S3Objects, output_s3_uri: str, source: SourceIdentity, fingerprint: str) -> None:
        self._objects = objects
        self.prefix = work_prefix(output_s3_uri, source.uri, fingerprint)
        """``<output>/<sha256(source)[:16]>/<fingerprint[:16]>/``."""

    def read(self) -> tuple[WordsRecord, str] | None:
        """The record and its ETag; None if there is none.

        Raises:
            OutputError: Not written by this package, or by a later version of it.
            ServiceError: AWS refused.
        """
        uri = self.prefix + _NAME
        try:
            data, etag = self._objects.get(uri)
        except ServiceError as error:
            if error.code != "NoSuchKey":
                raise
            return None
        return _decoded(data, uri), etag

    def write(self, record: WordsRecord, etag: str | None) -> str | None:
        """Write the record if its ETag is ``etag``, or if there is none (None): the new ETag, None if another process
        was first.
        """
        body = msgspec.json.format(msgspec.json.encode(record), indent=1)
        if etag is None:
            return self._objects.put_if_absent(self.prefix + _NAME, body)
        return self._objects.put_if_match(self.prefix + _NAME, body, etag)

    def withdraw(self, etag: str) -> None:
        """Delete a record under which nothing was started, so that a plan does not count it."""
        # If it may not be deleted, it stays: the next run starts it.
        with contextlib.suppress(ServiceError):
            self._objects.delete(self.prefix + _NAME, etag=etag)


def iter_records(objects: S3Objects, output_s3_uri: str, source_uri: str) -> Iterator[WordsRecord]:
    """The records of a source, by any service, with any settings, of any version of it.

    Raises:
        OutputError: As ``RecordFolder.read``.
        ServiceError: AWS refused.
    """
    for item in objects.list(source_prefix(output_s3_uri, source_uri)):
        if item.uri.endswith(f"/{_NAME}"):
            yield _decoded(objects.get(item.uri)[0], item.uri)


def _decoded(data: bytes, uri: str) -> WordsRecord:
    try:
        found = msgspec.json.decode(data, type=WordsRecord)
    except msgspec.DecodeError as error:
        raise OutputError(f"{uri} is not a words.json of this package: {error}") from None
    if found.format != FORMAT:
        raise OutputError(f"{uri} has format {found.format}; this version reads {FORMAT}. Upgrade the package.")
    return found

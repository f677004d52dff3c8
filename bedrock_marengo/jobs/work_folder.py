"""A job's folder on S3: request.json, the outputs of its attempts, and void.json next to an unusable one."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from bedrock_marengo.contract.models import Kind, Model
from bedrock_marengo.contract.responses import read_output
from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.errors import OutputError, ServiceError
from bedrock_marengo.jobs.fingerprint import RequestFile
from bedrock_marengo.jobs.job import OUTPUT_NAME, invocation_id
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["REPLY", "Contents", "WorkFolder", "mark_unusable", "read_segments"]

_REQUEST = "request.json"
_VOID = "/void.json"
_MANIFEST = "/manifest.json"
REPLY = "invoke"
"""The name of a synchronous reply's folder, where a job's has the invocation's id."""
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Contents(NamedTuple):
    """What one listing shows of a job.

    Attributes:
        outputs: URIs of the usable outputs, newest first.
        unusable: the ids of the invocations whose output is unusable.
        request_bytes: the size of request.json; None if there is none.
        is_empty: whether there is nothing in the folder.
    """

    outputs: list[str]
    unusable: frozenset[str]
    request_bytes: int | None
    is_empty: bool


class WorkFolder:
    """The folder of one job.

    Args:
        objects: S3.
        prefix: ``<output>/<sha256(source)[:16]>/<job>/``.
    """

    def __init__(self, objects: S3Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    def contents(self) -> Contents:
        """What is there, by one listing."""
        items = {item.uri: item for item in self._objects.list(self._prefix, limit=1000)}
        unusable = frozenset(invocation_id(uri.removesuffix(_VOID)) for uri in items if uri.endswith(_VOID))
        found = [
            (item.modified or _EARLIEST, uri)
            for uri, item in items.items()
            if uri.endswith(OUTPUT_NAME) and invocation_id(uri) not in unusable
        ]
        usable = [uri for _, uri in sorted(found, reverse=True)]
        request = items.get(self._prefix + _REQUEST)
        return Contents(usable, unusable, request.size if request else None, not items)

    def outputs(self) -> list[str]:
        """The usable outputs, oldest first: when ``force`` started another, that one was used already.

        Before these is the one that request.json names as used.
        """
        outputs = self.contents().outputs[::-1]
        record = self.find_request() if len(outputs) > 1 else None
        return sorted(outputs, key=lambda uri: record is None or uri != record[0].output)

    def output_of(self, arn: str | None, folder: str, source: str) -> str | None:
        """An invocation's output below ``folder``; None if S3 shows none.

        Raises:
            OutputError: Another run has marked it unusable.
        """
        found = self.contents()
        if invocation_id(arn) in found.unusable:
            raise OutputError(f"Another run marked the output of {source} as unusable ({arn}).")
        return next((uri for uri in found.outputs if uri.startswith(folder)), None)

    def read_request(self) -> tuple[RequestFile, str]:
        """request.json and its ETag.

        Raises:
            OutputError: Not written by this package.
            ServiceError: AWS refused, or it doesn't exist (code NoSuchKey).
        """
        uri = self._prefix + _REQUEST
        data, etag = self._objects.get(uri)
        return RequestFile.decode(data, uri), etag

    def find_request(self) -> tuple[RequestFile, str] | None:
        """The same; None if it doesn't exist, or is not one that this version reads."""
        try:
            return self.read_request()
        except OutputError:
            return None
        except ServiceError as error:
            if error.code != "NoSuchKey":
                raise
            return None

    def write_request(self, record: RequestFile, etag: str | None) -> str | None:
        """Write request.json if its ETag is ``etag``, or if there is none (None).

        Returns:
            The new ETag; None if another process was first.
        """
        uri = self._prefix + _REQUEST
        if etag is None:
            return self._objects.put_if_absent(uri, record.encode())
        return self._objects.put_if_match(uri, record.encode(), etag)

    def withdraw_request(self, etag: str) -> None:
        """Delete a request.json under which nothing was started, so that a plan does not count it as started."""
        # If it may not be deleted, or another process has taken it over, it stays: the next run starts it.
        with contextlib.suppress(ServiceError):
            self._objects.delete(self._prefix + _REQUEST, etag=etag)

    def write_reply_manifest(self, source: str) -> None:
        """Write a manifest next to where a synchronous reply will be stored."""
        self._objects.put(f"{self._prefix}{REPLY}{_MANIFEST}", msgspec.json.encode({"source": source}))

    def write_reply(self, body: bytes) -> None:
        """Store a synchronous reply like a job's output, so that it is found again."""
        self._objects.put(f"{self._prefix}{REPLY}{OUTPUT_NAME}", body)


def mark_unusable(objects: S3Objects, output_uri: str, why: str) -> None:
    """Mark an output as unusable, so that no run takes it for this job's: truncated, or of other bytes."""
    objects.put(output_uri.removesuffix(OUTPUT_NAME) + _VOID, msgspec.json.encode({"why": why}))


def read_segments(
    objects: S3Objects, output_uri: str, model: Model, *, source: str, job: str, kind: Kind, listed: bool = True
) -> SegmentEmbeddings:
    """Stream an output.json into columns; with ``listed`` a listing has shown it.

    Raises:
        OutputError: It is unusable; the message names it.
        ServiceError: AWS refused.
    """
    try:
        return objects.stream(
            output_uri,
            lambda chunks: read_output(
                chunks, dimension=model.dimension, source=source, job=job, model_id=model.model_id, media_type=kind
            ),
            # If it was listed, it exists: S3 may show it to one request sooner than to another.
            listed=listed,
        )
    except OutputError as error:
        raise OutputError(f"{output_uri}: {error}", is_kept=error.is_kept) from error

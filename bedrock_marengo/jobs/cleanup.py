"""Give back: all that was made of a source, and what it took."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.inputs import Media, MediaLike, split_s3_uri
from bedrock_marengo.errors import ConfigurationError, InputError, ServiceError
from bedrock_marengo.jobs.fingerprint import source_prefix
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.uploads import FOLDER, upload_prefix
from bedrock_marengo.validation import short_repr

__all__ = ["Cleanup", "DeletionReport"]

_BATCH = 1000
"""Keys that one DeleteObjects takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReport:
    """What ``forget`` removed, or with ``dry_run`` would remove.

    Attributes:
        sources: raw S3 URIs that were forgotten: the source's own, or its uploads'.
        dry_run: whether nothing was removed.
        outputs: how many output.json.
        requests: how many request.json.
        uploads: how many uploads of ours.
        copies: how many copies in the stage.
        others: how many other files of the jobs, such as Bedrock's manifest.json.
        bytes: of all of these.
        unfinished: jobs without an output: one that still runs writes its output later. Forget again then.
        uris: what was removed.
        segments: what the store's callable gave back for each source; empty without one.
    """

    sources: tuple[str, ...]
    dry_run: bool
    outputs: int = 0
    requests: int = 0
    uploads: int = 0
    copies: int = 0
    others: int = 0
    bytes: int = 0
    unfinished: int = 0
    uris: tuple[str, ...] = ()
    segments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        counts = {name: getattr(self, name) for name in ("outputs", "requests", "uploads", "copies", "others")}
        listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"
        late = f"; {self.unfinished} jobs have no output yet" if self.unfinished else ""
        verb = "would remove" if self.dry_run else "removed"
        return f"{verb} {listed} ({self.bytes:,} bytes) of {', '.join(self.sources) or 'no source'}{late}"


class Cleanup:
    """Removes what was made of a source under one output prefix. A source that is not ours is never touched.

    In a bucket with versioning the deletions are markers: a lifecycle rule ends the old versions.
    """

    def __init__(self, aws: Aws, output_s3_uri: str, stage: CrossRegionCopies | None = None) -> None:
        self._aws = aws
        self._output_s3_uri = output_s3_uri
        self._stage = stage

    def forget(
        self, source: MediaLike, *, dry_run: bool = False, store: Callable[[str], Any] | None = None
    ) -> DeletionReport:
        """Remove a source's outputs, request files, uploads and staged copies; see ``MarengoClient.forget``."""
        if store is not None and not callable(store):
            raise ConfigurationError(f"store={short_repr(store)}: give a callable that takes a source's URI.")
        sources = self._sources(source)
        # The store first: segments without vectors are worse than vectors without segments.
        segments = tuple(store(uri) for uri in sources) if store is not None and not dry_run else ()
        found = {uri: size for prefix in self._prefixes(sources) for uri, size in self._listed(prefix)}
        if not dry_run:
            self._remove(list(found))
        kinds = Counter(self._kind(uri) for uri in found)
        return DeletionReport(
            sources=sources,
            dry_run=dry_run,
            **kinds,
            bytes=sum(found.values()),
            unfinished=len(_works(found, "/request.json") - _works(found, "/output.json")),
            uris=tuple(found),
            segments=segments,
        )

    def _sources(self, source: MediaLike) -> tuple[str, ...]:
        """The URIs that segments of a source name: a local medium has those of its uploads."""
        if isinstance(source, str) and source.startswith("s3://"):
            if split_s3_uri(source)[1].rpartition("/")[2] == "":
                raise InputError(f"{source!r} names no object: of a prefix forget each that list_media() gives.")
            return (source,)
        media = Media.of(source)
        if media.uri is not None:
            return (media.uri,)
        return tuple(uri for uri, _ in self._listed(upload_prefix(media, self._output_s3_uri)))

    def _prefixes(self, sources: tuple[str, ...]) -> Iterator[str]:
        uploads = re.compile(re.escape(self._uploads) + r"[0-9a-f]{64}/")
        for uri in sources:
            yield source_prefix(self._output_s3_uri, uri)
            if ours := uploads.match(uri):
                yield ours[0]
            if self._stage is not None:
                yield self._stage.prefix_of(uri)

    def _listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        bucket, key = split_s3_uri(prefix)
        try:
            for page in self._aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                yield from ((f"s3://{bucket}/{item['Key']}", item["Size"]) for item in page.get("Contents", []))
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "ListObjectsV2", prefix) from error

    def _remove(self, uris: list[str]) -> None:
        buckets: dict[str, list[str]] = {}
        for uri in uris:
            bucket, key = split_s3_uri(uri)
            buckets.setdefault(bucket, []).append(key)
        for bucket, keys in buckets.items():
            for first in range(0, len(keys), _BATCH):
                self._delete(bucket, keys[first : first + _BATCH])

    def _delete(self, bucket: str, keys: list[str]) -> None:
        try:
            reply = self._aws.s3.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        except (ClientError, BotoCoreError) as error:
            raise ServiceError.of(error, "DeleteObjects", f"{len(keys)} objects in s3://{bucket}") from error
        for failed in reply.get("Errors", []):
            code, said = failed.get("Code", "Unknown"), failed.get("Message", "")
            raise ServiceError(
                f"DeleteObjects for s3://{bucket}/{failed.get('Key')}: {code}: {said}",
                code=code,
                operation="DeleteObjects",
            )

    def _kind(self, uri: str) -> str:
        kinds = (
            ("uploads", uri.startswith(self._uploads)),
            ("copies", not uri.startswith(f"{self._output_s3_uri.rstrip('/')}/")),
            ("outputs", uri.endswith("/output.json")),
            ("requests", uri.endswith("/request.json")),
        )
        return next((name for name, holds in kinds if holds), "others")

    @property
    def _uploads(self) -> str:
        return f"{self._output_s3_uri.rstrip('/')}/{FOLDER}/"


def _works(uris: dict[str, int], name: str) -> set[str]:
    """The folders of the jobs that have a file of this name."""
    depth = 2 if name == "/output.json" else 1
    return {uri.rsplit("/", depth)[0] for uri in uris if uri.endswith(name)}

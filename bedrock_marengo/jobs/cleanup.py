"""Deletes everything made from a source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bedrock_marengo.contract.inputs import Media, MediaLike, split_s3_uri
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.jobs.fingerprint import source_prefix
from bedrock_marengo.s3.cross_region import CrossRegionCopies
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import FOLDER, upload_prefix

__all__ = ["Cleanup", "DeletionReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReport:
    """What ``forget`` deleted, or with ``dry_run`` would delete.

    Attributes:
        sources: raw S3 URIs that were forgotten: the source's own, or those of its uploads.
        dry_run: whether nothing was deleted.
        outputs: how many output.json.
        requests: how many request.json.
        uploads: how many uploads of local files.
        copies: how many copies from other regions.
        others: how many other files of the jobs, such as Bedrock's manifest.json.
        bytes: the size of all of these.
        unfinished: jobs without an output: one that is still running writes its output later. Forget the source again
            then.
        uris: what was deleted.
        segments: what the ``store`` callable returned for each source; empty without one.
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
        verb = "would delete" if self.dry_run else "deleted"
        return f"{verb} {listed} ({self.bytes:,} bytes) of {', '.join(self.sources) or 'no source'}{late}"


class Cleanup:
    """Deletes everything made from a source under one output prefix, never the source itself.

    In a versioned bucket the deletions are markers: a lifecycle rule removes the old versions.
    """

    def __init__(self, objects: S3Objects, output_s3_uri: str, copies: CrossRegionCopies | None = None) -> None:
        self._objects = objects
        self._output_s3_uri = output_s3_uri
        self._copies = copies

    def forget(
        self, source: MediaLike, *, dry_run: bool = False, store: Callable[[str], Any] | None = None
    ) -> DeletionReport:
        """Delete a source's outputs, request files, uploads and copies; see ``MarengoClient.forget``."""
        if store is not None and not callable(store):
            raise ConfigurationError("expected a callable that takes a source's URI.", setting="store", value=store)
        sources = self._sources(source)
        # The store first: segments without vectors are worse than vectors without segments.
        segments = tuple(store(uri) for uri in sources) if store is not None and not dry_run else ()
        found = {item.uri: item.size for prefix in self._prefixes(sources) for item in self._objects.list(prefix)}
        if not dry_run:
            self._objects.delete_many(list(found))
        kinds = Counter(self._kind(uri) for uri in found)
        return DeletionReport(
            sources=sources,
            dry_run=dry_run,
            **kinds,
            bytes=sum(found.values()),
            unfinished=len(_job_folders(found, "/request.json") - _job_folders(found, "/output.json")),
            uris=tuple(found),
            segments=segments,
        )

    def _sources(self, source: MediaLike) -> tuple[str, ...]:
        """The URIs by which segments name a source: for a local file, those of its uploads."""
        if isinstance(source, str) and source.startswith("s3://"):
            if split_s3_uri(source)[1].rpartition("/")[2] == "":
                raise InputError(
                    f"{source!r} is not an object: for a prefix, call forget() for each file of list_media()."
                )
            return (source,)
        media = Media.of(source)
        if media.uri is not None:
            return (media.uri,)
        return tuple(item.uri for item in self._objects.list(upload_prefix(media, self._output_s3_uri)))

    def _prefixes(self, sources: tuple[str, ...]) -> Iterator[str]:
        uploads = re.compile(re.escape(self._uploads) + r"[0-9a-f]{64}/")
        for uri in sources:
            folder = source_prefix(self._output_s3_uri, uri)
            yield folder
            if ours := uploads.match(uri):
                yield ours[0]
            if self._copies is not None:
                yield self._copies.prefix_of(folder)

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


def _job_folders(uris: dict[str, int], name: str) -> set[str]:
    """The folders of the jobs that have a file with this name."""
    depth = 2 if name == "/output.json" else 1
    return {uri.rsplit("/", depth)[0] for uri in uris if uri.endswith(name)}

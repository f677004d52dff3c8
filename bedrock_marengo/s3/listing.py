"""Listing a bucket's media; filters."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.inputs import Manifest, Media, MediaLike, SourceLike, Sources, kind_of_name, split_s3_uri
from bedrock_marengo.errors import InputError, MarengoError, MediaNotFoundError
from bedrock_marengo.s3.manifests import Entry, read_manifest
from bedrock_marengo.s3.object_version import Identity, SourceIdentity, object_version
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.sidecars import SUFFIXES as _CAPTIONS
from bedrock_marengo.s3.sidecars import Named, has_one_form, with_captions
from bedrock_marengo.s3.uploads import FOLDER
from bedrock_marengo.validation import is_int, require_many

__all__ = ["MediaListing", "locate", "object_tags"]

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class MediaListing(Iterable[Media]):
    """The media files that a user names, listed lazily; iterate again to list again.

    Args:
        objects: S3 in the current process; a listing may be read again in a forked one.
        sources: ``s3://bucket/prefix/`` (ends in a slash, or is a bucket), ``s3://bucket/key``, a local file or
            folder as ``pathlib.Path``, ``Media``, a ``Manifest``, or an iterable of these.
        suffixes: only files with these suffixes, such as ``[".mp4"]``. Default: all that Marengo reads.
        exclude: glob patterns of keys or paths to leave out.
        modified_after: only files last modified after this time, which needs a time zone; files whose time is unknown
            (a single object, a manifest without that column) are kept.
        limit: at most this many.
        output_s3_uri: our own output; files there are not listed as media.
        staged: files of a prefix may be in another region than the model.

    Attributes:
        skipped: reason -> how many files under prefixes and folders were skipped, counted while listing: "not media",
            "empty", "suffix", "excluded", "older", "archived". Captions are not counted.

    Raises:
        InputError: A source or filter of a wrong type; ``modified_after`` without a time zone.
    """

    def __init__(
        self,
        objects: Callable[[], S3Objects],
        sources: Sources,
        *,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        modified_after: datetime | None = None,
        limit: int | None = None,
        output_s3_uri: str | None = None,
        staged: bool = False,
    ) -> None:
        if not isinstance(sources, str | os.PathLike | Media | Manifest):
            require_many(sources, "A listing", "sources")
        if limit is not None and not is_int(limit, least=0):
            raise InputError("expected a whole number of files; leave it out for all.", setting="limit", value=limit)
        if modified_after is not None and not isinstance(modified_after, datetime):
            raise InputError("expected a datetime with a time zone.", setting="modified_after", value=modified_after)
        if modified_after is not None and modified_after.tzinfo is None:
            raise InputError(
                "expected a time zone: set tzinfo=, such as datetime.UTC.",
                setting="modified_after",
                value=modified_after.isoformat(),
            )
        self._objects = objects
        self._sources = sources
        self._suffixes = tuple(suffix.lower() for suffix in _strings(suffixes, "suffixes", "['.mp4']"))
        self._exclude = _strings(exclude, "exclude", "['*/drafts/*']")
        self._modified_after = modified_after
        self._limit = limit
        self._output = _work(output_s3_uri) if output_s3_uri else None
        self._staged = staged
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Media]:
        for _, media in self.items():
            if isinstance(media, MarengoError):
                raise media
            yield media

    @property
    def known_total(self) -> int | None:
        """How many files there are, if that is known without listing: a single file, or a list of files."""
        one = isinstance(self._sources, str | Media | os.PathLike)
        sources: Any = [self._sources] if one else self._sources
        if not isinstance(sources, Sized) or isinstance(sources, Manifest) or any(map(_is_many, sources)):  # type: ignore[call-overload]
            return None
        return len(sources) if self._limit is None else min(len(sources), self._limit)

    def items(self) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        """Each file with the source that it comes from; an item that is not a media file has an error instead."""
        self.skipped.clear()
        one = isinstance(self._sources, str | Media | os.PathLike | Manifest)
        sources: Iterable[Any] = [self._sources] if one else self._sources  # type: ignore[assignment]
        yield from islice((pair for source in sources for pair in self._expand(source)), self._limit)
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            instrumentation.emit("files skipped", count=self.skipped.total(), reasons=reasons)

    def _expand(self, source: SourceLike) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        if isinstance(source, Manifest):
            yield from self._named(str(source.where), self._manifest(source))
        elif isinstance(source, str) and _is_prefix(source):
            yield from self._named(source, self._prefix(source))
        elif isinstance(source, os.PathLike) and Path(source).is_dir():
            yield from ((media, media) for media in self._folder(Path(source)))
        else:
            try:
                yield source, Media.of(source)
            except InputError as error:
                yield source, error

    def _named(
        self, source: str, found: Iterator[Media | InputError]
    ) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        try:
            yield from ((media.uri if isinstance(media, Media) and media.uri else source, media) for media in found)
        except MarengoError as error:
            # A prefix that can't be listed doesn't stop the other sources.
            yield source, error

    def _prefix(self, uri: str) -> Iterator[Media]:
        bucket, prefix = split_s3_uri(uri)
        if not self._staged:
            self._objects().check_bucket(bucket)
        listed = (
            Entry(bucket, item.key, item.size, item.etag, item.modified, item.storage_class)
            for item in self._objects().list(f"s3://{bucket}/{prefix}")
        )
        ours = self._output
        theirs = (entry for entry in listed if not (ours and ours.match(f"s3://{bucket}/{entry.key}")))
        yield from _with_captions((entry, self._kept(entry)) for entry in theirs)

    def _manifest(self, manifest: Manifest) -> Iterator[Media | InputError]:
        for entry in read_manifest(self._objects(), manifest):
            found = entry if isinstance(entry, InputError) else self._kept(entry)
            if found is not None:
                yield found

    def _folder(self, folder: Path) -> Iterator[Media]:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                stat = path.stat()
                modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                if self._keep(Entry("", path.relative_to(folder).as_posix(), stat.st_size, None, modified)):
                    yield Media.from_path(path)

    def _kept(self, entry: Entry) -> Media | None:
        kind = kind_of_name(entry.key)
        if not self._keep(entry) or kind is None:
            return None
        return Media(kind, uri=f"s3://{entry.bucket}/{entry.key}", size=entry.size, etag=entry.etag)

    def _keep(self, entry: Entry) -> bool:
        name, after = entry.key, self._modified_after
        reasons = (
            ("not media", kind_of_name(name) is None),
            ("empty", entry.size == 0),
            ("suffix", bool(self._suffixes) and not name.lower().endswith(self._suffixes)),
            ("excluded", any(fnmatchcase(name, pattern) for pattern in self._exclude)),
            ("older", after is not None and entry.modified is not None and entry.modified <= after),
            ("archived", entry.storage in ARCHIVED),
        )
        reason = next((reason for reason, holds in reasons if holds), None)
        if reason and not name.lower().endswith(_CAPTIONS) and not name.endswith("/"):
            self.skipped[reason] += 1
            instrumentation.emit("file skipped", source=name, reason=reason)
        return reason is None


def locate(objects: S3Objects, media: Media, identity: Identity = "etag", *, to_read: bool = True) -> SourceIdentity:
    """The version of a file on S3, by one listing: a file counts as absent only if a listing shows it.

    A file that comes from a listing needs no call, unless ``identity`` is "checksum".

    Args:
        objects: S3.
        media: on S3.
        identity: what distinguishes its versions.
        to_read: refuse what Bedrock can't read.

    Raises:
        MediaNotFoundError: The listing does not have the key.
        InputError: It is empty, or in an archive.
        ServiceError: AWS refused to list.
    """
    if media.uri is None:
        raise InputError(f"{media.name} is not on S3.")
    if media.size is not None and media.etag is not None:
        return object_version(objects, SourceIdentity(media.uri, media.size, media.etag), identity)
    found = objects.find(media.uri)
    if found is None:
        raise MediaNotFoundError(
            f"There is no object {media.uri!r}. To embed all files under a prefix, end it with a slash."
        )
    if to_read and not found.size:
        raise InputError(f"{media.uri!r} is empty (0 bytes).")
    if to_read and found.storage_class in ARCHIVED:
        raise InputError(
            f"{media.uri!r} is archived in {found.storage_class}: restore it first, Bedrock can't read it."
        )
    return object_version(objects, SourceIdentity(media.uri, found.size, found.etag), identity)


def object_tags(objects: S3Objects, uri: str) -> dict[str, str]:
    """The tags of an object.

    Raises:
        InputError: The URI is a bucket's or a prefix's.
        ServiceError: AWS refused.
    """
    if not split_s3_uri(uri)[1]:
        raise InputError(f"{uri!r} is not an object: only objects have tags. Expected s3://bucket/key.")
    return objects.tags(uri)


def _strings(values: Iterable[str] | None, name: str, such_as: str) -> tuple[str, ...]:
    if values is None or isinstance(values, str):
        return (values,) if values is not None else ()
    found = tuple(values) if isinstance(values, Iterable) else (values,)
    if not all(isinstance(value, str) for value in found):
        raise InputError(f"expected a list of strings, such as {such_as}.", setting=name, value=values)
    return found


def _work(output_s3_uri: str) -> re.Pattern[str]:
    """The files that we write under the output prefix, where a user's own media may be, too."""
    ours = rf"/(?:{FOLDER}/[0-9a-f]{{64}}|[0-9a-f]{{16}}/[0-9a-f]{{16}})/"
    return re.compile(re.escape(output_s3_uri.rstrip("/")) + ours)


def _is_many(source: Any) -> bool:
    if isinstance(source, os.PathLike):
        return Path(source).is_dir()
    return isinstance(source, Manifest) or (isinstance(source, str) and _is_prefix(source))


def _is_prefix(source: str) -> bool:
    _, _, key = source.removeprefix("s3://").partition("/")
    return source.startswith("s3://") and (not key or key.endswith("/"))


def _with_captions(listed: Iterable[tuple[Entry, Media | None]]) -> Iterator[Media]:
    """Media, each with the captions that the same listing shows next to it."""
    named = (Named(entry.key, f"s3://{entry.bucket}/{entry.key}", media) for entry, media in listed)
    for media, captions in with_captions(named):
        # What belongs to a name with several Unicode forms is in several places: it is looked up.
        known = has_one_form(f"{media.uri}{captions}")
        yield replace(media, captions=captions or "" if known else None)

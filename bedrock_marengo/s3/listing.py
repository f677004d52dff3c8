"""Listing a bucket's media; filters."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.formats import (
    HEAD_BYTES,
    flaw,
    image_flaw,
    image_flaw_by_name,
    is_ambiguous,
    is_hidden,
    kind_of_name,
)
from bedrock_marengo.contract.inputs import (
    Manifest,
    Media,
    MediaLike,
    SourceLike,
    Sources,
    read_head,
    split_s3_uri,
    unreadable,
)
from bedrock_marengo.contract.paths import is_path, local_path_or_s3_uri
from bedrock_marengo.errors import InputError, MarengoError, MediaNotFoundError, ServiceError
from bedrock_marengo.s3.manifests import Entry, read_manifest
from bedrock_marengo.s3.nothing_found import warn_of_nothing
from bedrock_marengo.s3.object_version import Identity, SourceIdentity, object_version
from bedrock_marengo.s3.objects import ARCHIVED, TIERED, ListedObject, S3Objects
from bedrock_marengo.s3.sidecars import SUFFIXES as _CAPTIONS
from bedrock_marengo.s3.sidecars import Named, has_one_form, with_captions
from bedrock_marengo.s3.uploads import FOLDER
from bedrock_marengo.validation import is_int, require_many

__all__ = ["MediaListing", "locate", "object_tags"]

_EXAMPLES = 20
"""Names of skipped files that are kept for each reason."""


class MediaListing(Iterable[Media]):
    """The media files that a user names, listed lazily; iterate again to list again.

    Args:
        objects: S3 in the current process; a listing may be read again in a forked one.
        sources: ``s3://bucket/prefix/`` (ends in a slash, or is a bucket), ``s3://bucket/key``, a local file or
            folder as ``pathlib.Path``, a path object of cloudpathlib, s3path or universal_pathlib for S3, ``Media``, a
            ``Manifest``, or an iterable of these.
        suffixes: only files with these suffixes, such as ``[".mp4"]``. Default: all that Marengo reads.
        exclude: glob patterns of keys or paths to leave out.
        modified_after: only files last modified after this time, which needs a time zone; files whose time is unknown
            (a single object, a manifest without that column) are kept.
        limit: at most this many.
        output_s3_uri: our own output; files there are not listed as media.
        staged: files of a prefix may be in another region than the model.

    Attributes:
        skipped: reason -> how many files under prefixes and folders were skipped, counted while listing: "hidden" (by
            a dot, or a system's own), "not media" (by suffix or content), "unsupported image", "empty", "suffix",
            "excluded", "older", "archived", "restoring". Captions are not counted.
        skipped_examples: reason -> the names of the first of them.

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
        if not _is_one(sources):
            require_many(sources, "A listing", "sources")  # type: ignore[arg-type]
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
        self.skipped_examples: defaultdict[str, list[str]] = defaultdict(list)

    def __iter__(self) -> Iterator[Media]:
        for _, media in self.items():
            if isinstance(media, MarengoError):
                raise media
            yield media

    @property
    def known_total(self) -> int | None:
        """How many files there are, if that is known without listing: a single file, or a list of files."""
        sources: Any = [self._sources] if _is_one(self._sources) else self._sources
        if not isinstance(sources, Sized) or any(map(_is_many, sources)):  # type: ignore[call-overload]
            return None
        return len(sources) if self._limit is None else min(len(sources), self._limit)

    def items(self) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        """Each file with the source that it comes from; an item that is not a media file has an error instead."""
        self.skipped.clear()
        self.skipped_examples.clear()
        sources: Iterable[Any] = [self._sources] if _is_one(self._sources) else self._sources  # type: ignore[assignment]
        yield from islice((pair for source in sources for pair in self._expand(source)), self._limit)
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            instrumentation.emit("files skipped", count=self.skipped.total(), reasons=reasons)

    def _expand(self, source: SourceLike) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        try:
            place = self._object_or_prefix(local_path_or_s3_uri(source)) if is_path(source) else source
            if isinstance(place, Manifest):
                yield from self._some(str(place.where), self._named(str(place.where), self._manifest(place)))
            elif isinstance(place, str) and _is_prefix(place):
                yield from self._some(place, self._named(place, self._prefix(place)))
            elif isinstance(place, Path) and os.path.isdir(place):  # noqa: PTH112  Path.is_dir raises for long names
                yield from self._some(str(place), self._folder(place))
            else:
                yield source, Media.of(place)  # type: ignore[misc]
        except MarengoError as error:
            # One source that can't be used or listed doesn't stop the others.
            yield source, error  # type: ignore[misc]

    def _some(
        self, place: str, found: Iterator[tuple[MediaLike, Media | MarengoError]]
    ) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        """The files of a place; a warning if there are none."""
        before, is_empty = Counter(self.skipped), True
        for pair in found:
            is_empty = False
            yield pair
        if is_empty:
            warn_of_nothing(place, self._suffixes, self.skipped - before, self.skipped_examples)

    def _object_or_prefix(self, place: Path | str) -> Path | str:
        """Path objects lose the slash that ends a prefix: what is neither media nor an object is a prefix."""
        if isinstance(place, Path) or _is_prefix(place) or not _may_be_prefix(place):
            return place
        return place if self._objects().find(place) else f"{place}/"

    def _named(
        self, source: str, found: Iterator[Media | InputError]
    ) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        try:
            yield from ((media.uri if isinstance(media, Media) and media.uri else source, media) for media in found)
        except MarengoError as error:
            yield source, error

    def _prefix(self, uri: str) -> Iterator[Media]:
        bucket, prefix = split_s3_uri(uri)
        if not self._staged:
            self._objects().check_bucket(bucket)
        listed = (
            Entry(bucket, item.key, item.size, item.etag, item.modified, archive=item.archive, listed_at=item.listed_at)
            for item in self._objects().list(f"s3://{bucket}/{prefix}", archives=True)
        )
        ours = self._output
        theirs = (entry for entry in listed if not (ours and ours.match(f"s3://{bucket}/{entry.key}")))
        yield from _with_captions((entry, self._kept(entry, entry.key[len(prefix) :])) for entry in theirs)

    def _manifest(self, manifest: Manifest) -> Iterator[Media | InputError]:
        for entry in read_manifest(self._objects(), manifest):
            try:
                # Who writes a hidden key into a list asks for it; an inventory lists all there is.
                name = "" if isinstance(entry, InputError) or not manifest.is_inventory else entry.key
                found = entry if isinstance(entry, InputError) else self._kept(entry, name)
            except InputError as error:
                found = error
            if found is not None:
                yield found

    def _folder(self, folder: Path) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        closed: dict[Path, OSError] = {}
        walk = os.walk(folder, onerror=lambda error: closed.setdefault(Path(error.filename), error))
        found = [Path(parent, name) for parent, _, names in walk for name in names]
        for path in sorted((*found, *closed)):
            name = path.relative_to(folder).as_posix()
            if path in closed:
                if name == "." or not is_hidden(name):
                    yield path, InputError(unreadable(str(path), closed[path]))
                continue
            try:
                media = self._kept_file(path, name)
            except OSError as error:
                if kind_of_name(name) and not is_hidden(name):
                    yield path, InputError(unreadable(str(path), error))
            except InputError as error:
                yield path, error
            else:
                if media is not None:
                    yield media, media

    def _kept_file(self, path: Path, name: str) -> Media | None:
        try:
            found = path.stat()
        except FileNotFoundError:
            # A link to nothing, or deleted meanwhile.
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        entry = Entry("", name, found.st_size, None, datetime.fromtimestamp(found.st_mtime, UTC))
        reason = self._reason(entry, name) or _content_reason(read_head(path), name)
        return None if self._is_skipped(name, reason) else Media.from_path(path)

    def _kept(self, entry: Entry, name: str) -> Media | None:
        """An object as media, None if it is skipped. ``name``: below the prefix, "" if it may be hidden."""
        uri = f"s3://{entry.bucket}/{entry.key}"
        kind, reason = kind_of_name(entry.key), self._reason(entry, name)
        if reason is None and (head := _head_if_ambiguous(self._objects(), uri)):
            reason = _content_reason(head, entry.key)
        if self._is_skipped(entry.key, reason) or kind is None:
            return None
        return Media(kind, uri=uri, size=entry.size, etag=entry.etag, listed_at=entry.listed_at)

    def _reason(self, entry: Entry, name: str) -> str | None:
        """Why a file is skipped, by what a listing says of it."""
        key, after = entry.key, self._modified_after
        reasons = (
            ("hidden", is_hidden(name)),
            ("unsupported image", image_flaw_by_name(key) is not None),
            ("not media", kind_of_name(key) is None),
            ("empty", entry.size == 0),
            ("suffix", bool(self._suffixes) and not key.lower().endswith(self._suffixes)),
            ("excluded", any(fnmatchcase(key, pattern) for pattern in self._exclude)),
            ("older", after is not None and entry.modified is not None and entry.modified <= after),
        )
        reason = next((reason for reason, holds in reasons if holds), None)
        return reason or entry.archive or (self._archive(entry) if entry.storage in ARCHIVED else None)

    def _archive(self, entry: Entry) -> str | None:
        """What an inventory doesn't say: whether an archived object was restored."""
        try:
            return self._objects().archive_of(f"s3://{entry.bucket}/{entry.key}")
        except ServiceError:
            return "archived"

    def _is_skipped(self, name: str, reason: str | None) -> bool:
        if reason and not name.lower().endswith(_CAPTIONS) and not name.endswith("/"):
            self.skipped[reason] += 1
            if len(self.skipped_examples[reason]) < _EXAMPLES:
                self.skipped_examples[reason].append(name)
            instrumentation.emit("file skipped", source=name, reason=reason)
        return reason is not None


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
        InputError: It is empty, archived, being restored, or not media by its content.
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
    if to_read:
        _check_readable(objects, media, found)
    return object_version(objects, SourceIdentity(media.uri, found.size, found.etag), identity)


def _check_readable(objects: S3Objects, media: Media, found: ListedObject) -> None:
    uri, storage = found.uri, found.storage_class
    if not found.size:
        raise InputError(f"{uri!r} is empty (0 bytes).")
    if storage in (*ARCHIVED, TIERED):
        try:
            archive = objects.archive_of(uri)
        except ServiceError:
            archive = "archived" if storage in ARCHIVED else None
        if archive == "restoring":
            raise InputError(f"{uri!r} is still being restored from {storage}: embed it when S3 has restored it.")
        if archive:
            raise InputError(f"{uri!r} is archived in {storage}: restore it first, Bedrock can't read it.")
    head = _head_if_ambiguous(objects, uri)
    if head and (why := flaw(head, uri)) is not None:
        raise InputError(f"{uri!r} {why}")


def _head_if_ambiguous(objects: S3Objects, uri: str) -> bytes:
    """The first bytes of an object whose suffix may be that of other files, by one GET; b"" if it isn't or S3 refuses.

    Other objects are judged by their names: a GET for each would cost 80 times the listing.
    """
    if not is_ambiguous(uri):
        return b""
    try:
        return objects.get_range(uri, 0, HEAD_BYTES)[0]
    except ServiceError:
        return b""


def _content_reason(head: bytes, name: str) -> str | None:
    if image_flaw(head):
        return "unsupported image"
    return "not media" if flaw(head, name) else None


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


def _is_one(sources: Any) -> bool:
    return isinstance(sources, str | Media | Manifest) or is_path(sources)


def _is_many(source: Any) -> bool:
    try:
        place = local_path_or_s3_uri(source) if is_path(source) else source
    except InputError:
        return False
    if isinstance(place, Path):
        return os.path.isdir(place)  # noqa: PTH112  Path.is_dir raises for long names
    if isinstance(place, str):
        return _is_prefix(place) or (place is not source and _may_be_prefix(place))
    return isinstance(place, Manifest)


def _may_be_prefix(place: str) -> bool:
    return kind_of_name(place) is None and image_flaw_by_name(place) is None


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

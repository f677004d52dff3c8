"""Listing a bucket's media; filters."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.aws import Aws
from bedrock_marengo.errors import InputError, MarengoError, MediaNotFoundError, ServiceError
from bedrock_marengo.identity import SourceIdentity
from bedrock_marengo.inputs import Media, MediaLike, kind_of_name, split_s3_uri
from bedrock_marengo.uploads import FOLDER

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectTypeDef

__all__ = ["MediaListing", "locate"]

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_CAPTIONS = (".srt", ".vtt")


class MediaListing(Iterable[Media]):
    """The media that a user points at, listed lazily; read it again to list again.

    Args:
        aws: the clients.
        sources: ``s3://bucket/prefix/`` (ends in a slash, or is a bucket), ``s3://bucket/key``, a local file or
            folder as ``pathlib.Path``, ``Media``, or an iterable of these.
        suffixes: only files that end so, such as ``[".mp4"]``. Default: all that Marengo reads.
        exclude: glob patterns of keys or paths to leave out.
        limit: at most this many.
        output_s3_uri: our own output, never taken as a source of a prefix.

    Attributes:
        skipped: why how many files under prefixes and folders were left out, counted while listing:
            "not media", "empty", "suffix", "excluded", "archived". Captions are not counted.
    """

    def __init__(
        self,
        aws: Aws,
        sources: MediaLike | Iterable[MediaLike],
        *,
        suffixes: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        limit: int | None = None,
        output_s3_uri: str | None = None,
    ) -> None:
        self._aws = aws
        self._sources = sources
        self._suffixes = tuple(s.lower() for s in ([suffixes] if isinstance(suffixes, str) else suffixes or ()))
        self._exclude = tuple([exclude] if isinstance(exclude, str) else exclude)
        self._limit = limit
        self._output = _work(output_s3_uri) if output_s3_uri else None
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Media]:
        for _, media in self.items():
            if isinstance(media, MarengoError):
                raise media
            yield media

    def items(self) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        """Each medium with what was handed in for it; an item that is no medium comes with its error."""
        self.skipped.clear()
        one = isinstance(self._sources, str | Media | os.PathLike)
        sources: Iterable[Any] = [self._sources] if one else self._sources  # type: ignore[assignment]
        yield from islice((pair for source in sources for pair in self._expand(source)), self._limit)

    def _expand(self, source: MediaLike) -> Iterator[tuple[MediaLike, Media | MarengoError]]:
        if isinstance(source, str) and source.startswith("s3://"):
            bucket, _, key = source.removeprefix("s3://").partition("/")
            if not key or key.endswith("/"):
                try:
                    yield from ((str(media.uri), media) for media in self._prefix(bucket, key))
                except MarengoError as error:
                    # A prefix that can't be listed doesn't stop the other sources.
                    yield source, error
                return
        if isinstance(source, os.PathLike) and Path(source).is_dir():
            yield from ((media, media) for media in self._folder(Path(source)))
            return
        try:
            yield source, Media.of(source)
        except InputError as error:
            yield source, error

    def _prefix(self, bucket: str, prefix: str) -> Iterator[Media]:
        self._aws.check_bucket(bucket)
        pages = self._aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in _asked(lambda: iter(pages), f"s3://{bucket}/{prefix}"):
            for item in page.get("Contents", []):
                uri = f"s3://{bucket}/{item['Key']}"
                if self._output and self._output.match(uri):
                    continue
                if self._keep(item["Key"], item["Size"], item.get("StorageClass")):
                    yield _media(uri, item)

    def _folder(self, folder: Path) -> Iterator[Media]:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and self._keep(path.relative_to(folder).as_posix(), path.stat().st_size, None):
                yield Media.from_path(path)

    def _keep(self, name: str, size: int, storage: str | None) -> bool:
        reasons = (
            ("not media", kind_of_name(name) is None),
            ("empty", size == 0),
            ("suffix", bool(self._suffixes) and not name.lower().endswith(self._suffixes)),
            ("excluded", any(fnmatchcase(name, pattern) for pattern in self._exclude)),
            ("archived", storage in ARCHIVED),
        )
        reason = next((reason for reason, holds in reasons if holds), None)
        if reason and not name.lower().endswith(_CAPTIONS) and not name.endswith("/"):
            self.skipped[reason] += 1
        return reason is None


def locate(aws: Aws, media: Media) -> SourceIdentity:
    """The identity of a medium on S3, by one listing: absent is proven, never guessed from a refusal.

    Raises:
        MediaNotFoundError: The listing does not have the key.
        InputError: It is empty, or in an archive.
        ServiceError: AWS would not list.
    """
    if media.uri is None:
        raise InputError(f"{media.name} is not on S3.")
    if media.size is not None and media.etag is not None:
        return SourceIdentity(media.uri, media.size, media.etag)
    bucket, key = split_s3_uri(media.uri)
    # The key itself sorts before all keys that it begins.
    ask = lambda: [aws.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)]  # noqa: E731
    reply = next(iter(_asked(ask, media.uri)))
    item = next((item for item in reply.get("Contents", []) if item["Key"] == key), None)
    if item is None:
        raise MediaNotFoundError(f"There is no object {media.uri!r}. For all media under a prefix end it with '/'.")
    if not item["Size"]:
        raise InputError(f"{media.uri!r} is empty: 0 bytes.")
    if item.get("StorageClass") in ARCHIVED:
        raise InputError(
            f"{media.uri!r} is in {item.get('StorageClass')}: restore it first; Bedrock can't read it there."
        )
    return SourceIdentity(media.uri, item["Size"], item["ETag"].strip('"'))


def _work(output_s3_uri: str) -> re.Pattern[str]:
    """What lies under the output prefix by our doing; a user's own media may lie there, too."""
    ours = rf"/(?:{FOLDER}/[0-9a-f]{{64}}|[0-9a-f]{{16}}/[0-9a-f]{{16}})/"
    return re.compile(re.escape(output_s3_uri.rstrip("/")) + ours)


def _media(uri: str, item: ObjectTypeDef) -> Media:
    kind = kind_of_name(uri)
    if kind is None:
        raise InputError(f"{uri!r} is no medium.")
    return Media(kind, uri=uri, size=item["Size"], etag=item["ETag"].strip('"'))


def _asked(ask: Callable[[], Iterable[Any]], what: str) -> Iterator[Any]:
    try:
        yield from ask()
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "ListObjectsV2", what) from error

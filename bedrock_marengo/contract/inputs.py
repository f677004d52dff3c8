"""Media, Query, Segmentation: what users pass in."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bedrock_marengo.contract.formats import (
    HEAD_BYTES,
    SUFFIXES,
    flaw,
    image_flaw,
    image_flaw_by_name,
    kind_of_bytes,
    kind_of_name,
)
from bedrock_marengo.contract.models import KINDS, MODELS, Kind, kinds_in_words
from bedrock_marengo.contract.paths import is_path, local_path_or_s3_uri, reject_other_stores
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_int, is_number, short_repr

__all__ = [
    "ImageLike",
    "Manifest",
    "Media",
    "MediaLike",
    "Query",
    "Segmentation",
    "SourceLike",
    "Sources",
    "check_content",
    "kind_of_name",
    "read_head",
    "split_s3_uri",
    "unreadable",
]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
"""Buckets that a segment's URI can name; from before 2018 they may be long and have capitals and underscores."""


@dataclass(frozen=True, slots=True)
class Media:
    """One video, audio file or image, by S3 URI, local path or bytes.

    Create it with ``from_s3``, ``from_path`` or ``from_bytes``. Wherever ``Media`` is accepted, you can also pass an
    ``"s3://..."`` string or a ``pathlib.Path``. No other string opens a file.

    Examples:
        >>> Media.from_s3("s3://bucket/match.mp4").kind
        'video'
    """

    kind: Kind
    uri: str | None = None
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    size: int | None = None
    """In bytes, if known from a listing or the file system."""
    etag: str | None = None
    captions: str | None = None
    """S3 URI of the captions that a listing found next to the file; "" if it found none, None without a listing."""
    listed_at: float | None = field(default=None, repr=False, compare=False)
    """When a listing of this process showed size and ETag, by ``time.monotonic``; None if they may be of any age."""

    def __getstate__(self) -> list[Any]:
        # Another process has another monotonic clock.
        return [None if f.name == "listed_at" else getattr(self, f.name) for f in fields(self)]

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise InputError(f"expected {kinds_in_words()}.", setting="kind", value=self.kind)
        if sum(x is not None for x in (self.uri, self.path, self.data)) != 1:
            raise InputError(
                "Media needs exactly one of uri, path and data: use Media.from_s3(...), from_path(...) or "
                "from_bytes(...)."
            )
        place = self.uri if self.uri is not None else self.path
        if is_path(place):
            place = local_path_or_s3_uri(place)
            self._set(uri=place if isinstance(place, str) else None, path=None if isinstance(place, str) else place)
        for name, value, wanted in (("uri", self.uri, str), ("path", self.path, Path), ("data", self.data, bytes)):
            if value is not None and not isinstance(value, wanted):
                raise InputError(
                    f"Media({name}={short_repr(value)}): use Media.from_s3(...), from_path(...) or from_bytes(...)."
                )
        if self.size is not None and not is_int(self.size, least=0):
            raise InputError("expected a whole number of bytes, or None.", setting="size", value=self.size)
        for name in ("etag", "captions"):
            if not isinstance(value := getattr(self, name), str | None):
                raise InputError("expected a string, or None.", setting=name, value=value)
        # numpy's strings and numbers can't be sent.
        texts = {name: getattr(self, name) for name in ("kind", "uri", "etag", "captions")}
        self._set(**{name: str.__str__(text) for name, text in texts.items() if text is not None})
        self._set(size=None if self.size is None else int(self.size))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_s3(cls, uri: str | os.PathLike[str], kind: Kind | None = None) -> Media:
        """Media at ``s3://bucket/key``, with the key as it is on S3 (not percent-encoded).

        Raises:
            InputError: It is not the S3 URI of an object, its suffix doesn't identify a media type and there is no
                ``kind``, or it is that of an image that Marengo can't read.
        """
        place: Any = str(local_path_or_s3_uri(uri)) if is_path(uri) else uri
        _, key = split_s3_uri(place)
        if not key or key.endswith("/"):
            raise InputError(f"{place!r} is a prefix, not an object: list it with client.list_media() or a loader.")
        return cls(_kind_by_suffix(key, place, kind), uri=place)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], kind: Kind | None = None) -> Media:
        """Media in a local file.

        Raises:
            InputError: The file does not exist or is empty, its suffix doesn't identify a media type and there is no
                ``kind``, or it is that of an image that Marengo can't read.
        """
        if isinstance(path, str):
            path = Path(path)
        elif not is_path(path):
            raise InputError(f"Media.from_path takes a path, not {short_repr(path)}.")
        else:
            place = local_path_or_s3_uri(path)
            if isinstance(place, str):
                return cls.from_s3(place, kind)
            path = place
        size = _size_of(path)
        return cls(_kind_by_suffix(path.name, str(path), kind), path=path, size=size)

    @classmethod
    def from_bytes(cls, data: bytes, kind: Kind | None = None) -> Media:
        """Media in memory. Unless you pass ``kind``, the first bytes identify it.

        Raises:
            InputError: There are no bytes, they are those of an image that Marengo can't read, or they don't identify
                a media type and there is no ``kind``.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(
                f"Media.from_bytes takes bytes, not {type(data).__name__}: use Media.from_path or Media.from_s3."
            )
        data = bytes(data)
        if not data:
            raise InputError("The media file is empty (0 bytes): check whether the file object was already read.")
        head = data[:HEAD_BYTES]
        if (why := image_flaw(head) if kind else flaw(head)) is not None:
            raise InputError(f"The file of {len(data):,} bytes {why}")
        found = kind or kind_of_bytes(head)
        if found is None:
            raise InputError(f"The first bytes don't identify a media type: pass kind={kinds_in_words()}.")
        return cls(found, data=data, size=len(data))

    @classmethod
    def of(cls, value: MediaLike, kind: Kind | None = None) -> Media:
        """``Media`` from any value that is accepted as media.

        Raises:
            InputError: It is a string but not an S3 URI, a value of another type, or media of another kind.
        """
        if isinstance(value, Media):
            if kind and value.kind != kind:
                raise InputError(f"{value.name} is of kind {value.kind!r}: expected {kind!r} here.")
            return value
        if isinstance(value, str) and value.startswith("s3://"):
            _check_kind(value, kind)
            return cls.from_s3(value, kind)
        if is_path(value):
            place = local_path_or_s3_uri(value)
            _check_kind(str(place), kind)
            return cls.from_s3(place, kind) if isinstance(place, str) else cls.from_path(place, kind)
        if isinstance(value, str):
            reject_other_stores(value)
        raise InputError(
            f"{short_repr(value)} is not a media file. Pass 's3://bucket/key', a pathlib.Path, Media.from_path(...) or "
            "Media.from_bytes(...): a plain string never opens a file."
        )

    @property
    def name(self) -> str:
        """The name of this file in messages: its URI or path, never its bytes."""
        return self.uri or (str(self.path) if self.path else f"{self.size} bytes of {self.kind}")

    def read(self) -> bytes:
        """The bytes of a local file.

        Raises:
            InputError: It is on S3, or can't be read.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise InputError(f"{self.name} is on S3: only local files can be read here.")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(unreadable(self.name, error)) from error


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file that lists media. You can use it as a source, like a prefix.

    Args:
        where: ``"s3://bucket/list.csv"`` or a ``pathlib.Path``: a ``.csv``, a ``.csv.gz``, or the ``manifest.json`` of
            an S3 inventory in CSV format (the inventory's data files are on S3). A ``.csv`` has the columns bucket, key
            and optionally size and etag, named in a header or in this order, with keys as they are on S3. An
            inventory's URL-encoded keys are decoded.

    If both size and ETag are present, the objects need not be listed.

    Examples:
        >>> Manifest("s3://logs/inventory/2026-11-22T01-00Z/manifest.json").is_inventory
        True
    """

    where: str | os.PathLike[str]

    def __post_init__(self) -> None:
        place: Any = local_path_or_s3_uri(self.where) if is_path(self.where) else self.where
        object.__setattr__(self, "where", place)
        if not isinstance(place, Path):
            split_s3_uri(place)
        if not str(self.where).endswith((".csv", ".csv.gz", ".json")):
            raise InputError(
                f"{str(self.where)!r} is not a manifest: expected a .csv, a .csv.gz or an inventory's manifest.json."
            )

    @property
    def is_inventory(self) -> bool:
        """Whether this is an S3 inventory's manifest.json."""
        return str(self.where).endswith(".json")


MediaLike = Media | str | os.PathLike[str]
ImageLike = MediaLike | bytes
SourceLike = MediaLike | Manifest
Sources = SourceLike | Iterable[SourceLike]


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for: a text, image, audio or video, or a combination that Marengo supports.

    Text with one ``image`` uses Marengo's ``text_image``. ``images`` uses ``multi_input``: a mapping of name to image,
    with each name as ``<@name>`` in the text, or a plain list. Audio and video can't be combined with anything.

    Examples:
        >>> Query(text="at night", image=Media.from_s3("s3://bucket/goal.jpg"))  # doctest: +SKIP
    """

    text: str | None = None
    image: MediaLike | None = None
    images: Mapping[str, MediaLike] | Sequence[MediaLike] | None = None
    audio: MediaLike | None = None
    video: MediaLike | None = None

    def __post_init__(self) -> None:
        media = [name for name in ("image", "images", "audio", "video") if getattr(self, name) is not None]
        if self.text is None and not media:
            raise InputError("The query is empty: pass text, image, images, audio or video.")
        if self.text is not None and not isinstance(self.text, str):
            raise InputError(
                f"Query(text={short_repr(self.text)}): a text must be a string; use image=, audio= or video= for media."
            )
        if self.images is not None:
            check_images(self.images)
        images = self.images.values() if isinstance(self.images, Mapping) else self.images or ()
        for value in (self.image, self.audio, self.video, *images):
            # Bare bytes would be in every trace of the query.
            if isinstance(value, bytes | bytearray | memoryview):
                raise InputError(f"Query({media[0]}={short_repr(value)}): wrap the bytes with Media.from_bytes(...).")
        if len(media) > 1:
            raise InputError(f"Marengo can't combine {' with '.join(media)} in a query: pass only one of them.")
        if self.text is not None and self.job_kind is not None:
            raise InputError(
                f"Marengo can't combine text with {media[0]} in a query: search with each and fuse the results."
            )

    @property
    def job_kind(self) -> Kind | None:
        """The kind of media that a job embeds for this query; None if InvokeModel does."""
        asked = (kind for kind, rules in KINDS.items() if not rules.synchronous)
        return next((kind for kind in asked if getattr(self, kind) is not None), None)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How a file is split into segments. By default the service decides: video by shots, audio about every 10 s."""

    method: Literal["fixed", "dynamic"]
    seconds: float

    def __post_init__(self) -> None:
        if self.method not in ("fixed", "dynamic"):
            raise InputError(
                f"Segmentation(method={short_repr(self.method)}): use Segmentation.fixed(6) or Segmentation.dynamic(4)."
            )
        object.__setattr__(self, "seconds", _checked_sec(self.method, self.seconds, "seconds"))

    @classmethod
    def fixed(cls, duration_sec: float) -> Segmentation:
        """Segments of equal length: 1 to 10 whole seconds (2.7: 2 to 10)."""
        return cls("fixed", _checked_sec("fixed", duration_sec, "duration_sec"))

    @classmethod
    def dynamic(cls, min_duration_sec: float = 4) -> Segmentation:
        """Shots of at least this length: 1 to 5 whole seconds. Video only."""
        return cls("dynamic", _checked_sec("dynamic", min_duration_sec, "min_duration_sec"))


def split_s3_uri(uri: str) -> tuple[str, str]:
    """``s3://bucket/key`` -> (bucket, key), the key raw, possibly empty.

    Raises:
        InputError: Not an S3 URI.
    """
    if not isinstance(uri, str) or not uri.startswith("s3://"):
        raise InputError(f"{short_repr(uri)} is not an S3 URI: expected s3://bucket/key.")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(
            f"{short_repr(uri)} is not an S3 URI: expected s3://bucket/key, with only letters, digits and . - _ in the "
            "bucket."
        )
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InputError(f"{uri!r} contains a lone surrogate: S3 keys are UTF-8. Correct the key.") from None
    return bucket, key


def check_images(images: object) -> None:
    """Refuse what is neither a mapping nor a list: a string would be read letter by letter.

    Raises:
        InputError: Neither a mapping of name to image nor a list of images.
    """
    if not isinstance(images, Mapping | Sequence) or isinstance(images, str | bytes | bytearray):
        raise InputError(
            f"multi_input takes a mapping of name to image, or a list of images, not {short_repr(images)}."
        )


def check_content(media: Media) -> None:
    """Refuse a local file that begins like something that Marengo can't read: a web page, a HEIC image.

    Raises:
        InputError: It does, or it can't be read.
    """
    if media.data is not None:
        head = media.data[:HEAD_BYTES]
    elif media.path is not None:
        head = read_head(media.path)
    else:
        return
    if (why := flaw(head, media.path.name if media.path else "")) is not None:
        raise InputError(f"{media.name} {why}")


def read_head(path: Path) -> bytes:
    """The first bytes of a local file.

    Raises:
        InputError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(unreadable(str(path), error)) from error


def unreadable(name: str, error: OSError) -> str:
    """The message for a local file that can't be read."""
    return f"{name} can't be read: {error.strerror or error}. Check that it exists and that you can read it."


def _size_of(path: Path) -> int:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # ValueError: a NUL in it.
        raise InputError(f"There is no file at {str(path)!r}: check the path.") from None
    except OSError as error:
        raise InputError(unreadable(short_repr(str(path)), error)) from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{str(path)!r} is a folder, not a file: list it with client.list_media().")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{str(path)!r} is a device, socket or pipe, not a file: save the media to a file first.")
    if not found.st_size:
        raise InputError(f"{str(path)!r} is empty (0 bytes): use a file that contains media.")
    return found.st_size


def _check_kind(name: str, kind: Kind | None) -> None:
    said = kind_of_name(name)
    if kind and said not in (None, kind):
        raise InputError(
            f"{name!r} is of kind {said!r} by its suffix: expected {kind!r} here. If it really is of kind {kind!r}, "
            "pass "
            f"Media.from_s3(..., kind={kind!r}) or Media.from_path(..., kind={kind!r})."
        )


def _kind_by_suffix(name: str, shown: str, kind: Kind | None) -> Kind:
    if (why := image_flaw_by_name(name)) is not None:
        raise InputError(f"{shown!r} {why}")
    found = kind or kind_of_name(name)
    if found is None:
        prefix = "For all files under a prefix, end it with a slash. " if shown.startswith("s3://") else ""
        raise InputError(
            f"The suffix of {shown!r} doesn't identify a media type: pass kind={kinds_in_words()}. {prefix}"
            f"Known suffixes: {', '.join(SUFFIXES)}."
        )
    return found


def _checked_sec(method: str, value: float, name: str) -> float:
    """A length that some model may take: the limits of one model are checked with its request."""
    if not (is_number(value) and 0 < value < 1e6):
        rules = [model.segmentation[method] for model in MODELS.values()]
        least, most = min(rule.min_sec for rule in rules), max(rule.max_sec for rule in rules)
        whole = " (whole number)" if any(rule.whole for rule in rules) else ""
        raise InputError(f"expected {least:g} to {most:g} seconds{whole}.", setting=name, value=value)
    return float(value)

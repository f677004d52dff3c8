"""Media, Query, Segmentation: what users pass in."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from bedrock_marengo.contract.models import KINDS, MODELS, Kind, kinds_in_words
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_number, short_repr

__all__ = [
    "ImageLike",
    "Manifest",
    "Media",
    "MediaLike",
    "Query",
    "Segmentation",
    "SourceLike",
    "Sources",
    "open_image",
    "split_s3_uri",
]

_SUFFIXES: Mapping[str, Kind] = {suffix: kind for kind, rules in KINDS.items() for suffix in rules.suffixes}
_MAGIC: Sequence[tuple[int, bytes, Kind]] = sorted(
    ((at, magic, kind) for kind, rules in KINDS.items() for at, magic in rules.magic),
    key=lambda row: -len(row[1]),
)
"""The longest first: an M4A begins like an MP4."""

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

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"expected {kinds_in_words()}.", setting="kind", value=self.kind)
        if sum(x is not None for x in (self.uri, self.path, self.data)) != 1:
            raise InputError(
                "Media needs exactly one of uri, path and data: use Media.from_s3(...), from_path(...) or "
                "from_bytes(...)."
            )
        for name, value, wanted in (("uri", self.uri, str), ("path", self.path, Path), ("data", self.data, bytes)):
            if value is not None and not isinstance(value, wanted):
                raise InputError(
                    f"Media({name}={short_repr(value)}): use Media.from_s3(...), from_path(...) or from_bytes(...)."
                )
        if self.uri is not None:
            # numpy's strings can't be sent.
            object.__setattr__(self, "uri", str.__str__(self.uri))

    @classmethod
    def from_s3(cls, uri: str, kind: Kind | None = None) -> Media:
        """Media at ``s3://bucket/key``, with the key as it is on S3 (not percent-encoded).

        Raises:
            InputError: It is not the S3 URI of an object, or its suffix doesn't identify a media type and there is no
                ``kind``.
        """
        _, key = split_s3_uri(uri)
        if not key or key.endswith("/"):
            raise InputError(f"{uri!r} is a prefix, not an object: list it with client.list_media() or a loader.")
        return cls(kind or _kind_of_name(key, uri), uri=uri)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], kind: Kind | None = None) -> Media:
        """Media in a local file.

        Raises:
            InputError: The file does not exist or is empty, or its suffix doesn't identify a media type and there is
                no ``kind``.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"Media.from_path takes a path, not {short_repr(path)}.")
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder, not a file: list it with client.list_media().")
        if not path.is_file():
            raise InputError(f"There is no file at {str(path)!r}: check the path.")
        size = path.stat().st_size
        if not size:
            raise InputError(f"{str(path)!r} is empty (0 bytes): use a file that contains media.")
        return cls(kind or _kind_of_name(path.name, str(path)), path=path, size=size)

    @classmethod
    def from_bytes(cls, data: bytes, kind: Kind | None = None) -> Media:
        """Media in memory. Unless you pass ``kind``, the first bytes identify it.

        Raises:
            InputError: There are no bytes, or they don't identify a media type and there is no ``kind``.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(
                f"Media.from_bytes takes bytes, not {type(data).__name__}: use Media.from_path or Media.from_s3."
            )
        data = bytes(data)
        if not data:
            raise InputError("The media file is empty (0 bytes): check whether the file object was already read.")
        found = kind or next((k for at, magic, k in _MAGIC if data[at : at + len(magic)] == magic), None)
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
        if isinstance(value, os.PathLike):
            _check_kind(str(value), kind)
            return cls.from_path(value, kind)
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
            InputError: It is on S3.
        """
        if self.data is not None:
            return self.data
        if self.path is None:
            raise InputError(f"{self.name} is on S3: only local files can be read here.")
        return self.path.read_bytes()


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
        if isinstance(self.where, str):
            split_s3_uri(self.where)
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


def open_image(image: ImageLike, *, local_files: bool = False, local_root: Path | None = None) -> Media:
    """An image for a framework's own image argument: ``MediaLike``, and also bytes, base64 and data URIs.

    Args:
        image: the image. A path as a string opens a file only if the other arguments allow it.
        local_files: any path may be opened.
        local_root: only paths below this folder may be opened, after links are resolved.

    Raises:
        InputError: Not an image, or a path that may not be opened.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return Media.from_bytes(bytes(image), "image")
    if not isinstance(image, str) or image.startswith("s3://"):
        return Media.of(image, "image")
    if (data := _decoded(image)) is not None:
        return Media.from_bytes(data, "image")
    path = Path(image)
    if local_root is not None:
        path = (local_root / path).resolve()
        if path.is_relative_to(local_root.resolve()):
            return Media.from_path(path, "image")
    elif local_files:
        return Media.from_path(path, "image")
    raise InputError(
        f"{short_repr(image)} is a string, and strings do not open files here: pass pathlib.Path(...), bytes or "
        "'s3://...', or allow paths with local_files=True or local_root=folder."
    )


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


def kind_of_name(name: str) -> Kind | None:
    """The kind that a file's suffix identifies, or None."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


def _check_kind(name: str, kind: Kind | None) -> None:
    said = kind_of_name(name)
    if kind and said not in (None, kind):
        raise InputError(
            f"{name!r} is of kind {said!r} by its suffix: expected {kind!r} here. If it really is of kind {kind!r}, "
            "pass "
            f"Media.from_s3(..., kind={kind!r}) or Media.from_path(..., kind={kind!r})."
        )


def _kind_of_name(name: str, shown: str) -> Kind:
    kind = kind_of_name(name)
    if kind is None:
        raise InputError(
            f"The suffix of {shown!r} doesn't identify a media type: pass kind={kinds_in_words()}. "
            f"Known suffixes: {', '.join(_SUFFIXES)}."
        )
    return kind


def _decoded(image: str) -> bytes | None:
    """The bytes of an image's data URI or of base64 that begins like an image; None if it is neither."""
    if image.startswith("data:image/"):
        image = image.partition(",")[2]
    elif not image.startswith(("/9j/", "iVBORw0KGgo")):
        return None
    try:
        return base64.b64decode(image, validate=True)
    except binascii.Error:
        return None


def _checked_sec(method: str, value: float, name: str) -> float:
    """A length that some model may take: the limits of one model are checked with its request."""
    if not (is_number(value) and 0 < value < 1e6):
        rules = [model.segmentation[method] for model in MODELS.values()]
        least, most = min(rule.min_sec for rule in rules), max(rule.max_sec for rule in rules)
        whole = " (whole number)" if any(rule.whole for rule in rules) else ""
        raise InputError(f"expected {least:g} to {most:g} seconds{whole}.", setting=name, value=value)
    return float(value)

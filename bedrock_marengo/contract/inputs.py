"""Media, Query, Segmentation: what a user hands in."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from bedrock_marengo.contract.models import Kind
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

_SUFFIXES: Mapping[str, Kind] = {
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"), "video"),
    **dict.fromkeys((".mp3", ".wav", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma"), "audio"),
    **dict.fromkeys((".jpg", ".jpeg", ".png"), "image"),
}
_KINDS = ("video", "audio", "image")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
"""Buckets that a segment's URI can name; from before 2018 they may be long and have capitals and underscores."""

# (offset, bytes there, kind): the first bytes of the containers that Marengo's pages name.
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\xff\xd8\xff", "image"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (4, b"ftypM4A", "audio"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (8, b"WAVE", "audio"),
    (0, b"ID3", "audio"),
    (0, b"\xff\xfb", "audio"),
    (0, b"fLaC", "audio"),
    (0, b"OggS", "audio"),
)


@dataclass(frozen=True, slots=True)
class Media:
    """One video, audio file or image, by S3 URI, local path or bytes.

    Make one with ``from_s3``, ``from_path`` or ``from_bytes``. Where media are taken, ``"s3://..."`` strings and
    ``pathlib.Path`` work too; no other string opens anything.

    Examples:
        >>> Media.from_s3("s3://bucket/match.mp4").kind
        'video'
    """

    kind: Kind
    uri: str | None = None
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    size: int | None = None
    """Bytes, where a listing or the file system said so."""
    etag: str | None = None
    captions: str | None = None
    """S3 URI of the captions that a listing showed beside it; "" where it showed none, None where nobody looked."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"{self.kind!r} is no kind of media: give kind='video', 'audio' or 'image'.")
        if sum(x is not None for x in (self.uri, self.path, self.data)) != 1:
            raise InputError("Media holds exactly one of uri, path and data.")
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
        """Media at ``s3://bucket/key``, the key as it is on S3 (not percent-encoded).

        Raises:
            InputError: Not an S3 URI of an object, or a suffix that says no kind and no ``kind`` given.
        """
        _, key = split_s3_uri(uri)
        if not key or key.endswith("/"):
            raise InputError(f"{uri!r} names no object. Prefixes are for loaders and for client.list_media().")
        return cls(kind or _kind_of_name(key, uri), uri=uri)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], kind: Kind | None = None) -> Media:
        """Media in a local file.

        Raises:
            InputError: No such file, an empty one, or a suffix that says no kind and no ``kind`` given.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"Media.from_path takes a path, not {short_repr(path)}.")
        path = Path(path)
        if path.is_dir():
            raise InputError(f"No file at {str(path)!r}, but a folder: list its files by client.list_media().")
        if not path.is_file():
            raise InputError(f"No file at {str(path)!r}: check the path.")
        size = path.stat().st_size
        if not size:
            raise InputError(f"{str(path)!r} is empty: 0 bytes.")
        return cls(kind or _kind_of_name(path.name, str(path)), path=path, size=size)

    @classmethod
    def from_bytes(cls, data: bytes, kind: Kind | None = None) -> Media:
        """Media in memory; the kind comes from the first bytes unless given.

        Raises:
            InputError: No bytes, or bytes that say no kind and no ``kind`` given.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"Media.from_bytes takes bytes, not {type(data).__name__}: see Media.from_path, from_s3.")
        data = bytes(data)
        if not data:
            raise InputError("These media are empty: 0 bytes. Was the file read before?")
        found = kind or next((k for at, magic, k in _MAGIC if data[at : at + len(magic)] == magic), None)
        if found is None:
            raise InputError("The first bytes say no kind of media we know: give kind='video', 'audio' or 'image'.")
        return cls(found, data=data, size=len(data))

    @classmethod
    def of(cls, value: MediaLike, kind: Kind | None = None) -> Media:
        """Whatever a user may hand in where media are taken.

        Raises:
            InputError: A string that is no S3 URI, another type, or media of another kind.
        """
        if isinstance(value, Media):
            if kind and value.kind != kind:
                raise InputError(f"{value.name} is {value.kind}; here goes {kind}.")
            return value
        if isinstance(value, str) and value.startswith("s3://"):
            _check_kind(value, kind)
            return cls.from_s3(value, kind)
        if isinstance(value, os.PathLike):
            _check_kind(str(value), kind)
            return cls.from_path(value, kind)
        raise InputError(
            f"{short_repr(value)} is no medium. Give 's3://bucket/key', a pathlib.Path, or Media.from_path(...), "
            "Media.from_bytes(...): a plain string never opens a file."
        )

    @property
    def name(self) -> str:
        """What to call this medium in a message: its URI or path, never its bytes."""
        return self.uri or (str(self.path) if self.path else f"{self.size} bytes of {self.kind}")

    def read(self) -> bytes:
        """The bytes of a local medium."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise InputError(f"{self.name} is on S3, not local.")
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A list of media in a file: a source like a prefix, wherever sources are taken.

    Args:
        where: ``"s3://bucket/list.csv"``, a ``pathlib.Path``, or an S3 inventory's ``manifest.json`` on either (CSV
            format; the inventory's own files lie on S3). A ``.csv`` (or ``.csv.gz``) has the columns bucket, key and
            perhaps size and etag: by a header, else in this order; keys as they are on S3. An inventory's keys are
            URL-encoded, and read so.

    Size and ETag, where both are there, save a listing of each object.

    Examples:
        >>> Manifest("s3://logs/inventory/2026-11-22T01-00Z/manifest.json").is_inventory
        True
    """

    where: str | os.PathLike[str]

    def __post_init__(self) -> None:
        if isinstance(self.where, str):
            split_s3_uri(self.where)
        if not str(self.where).endswith((".csv", ".csv.gz", ".json")):
            raise InputError(f"{str(self.where)!r} is no manifest: give a .csv, a .csv.gz or an inventory's .json.")

    @property
    def is_inventory(self) -> bool:
        """Whether this is an S3 inventory's manifest.json."""
        return str(self.where).endswith(".json")


MediaLike = Media | str | os.PathLike[str]
ImageLike = MediaLike | bytes
SourceLike = MediaLike | Manifest
Sources = SourceLike | Iterable[SourceLike]


def open_image(image: ImageLike, *, local_files: bool = False, local_root: Path | None = None) -> Media:
    """An image where a framework's own argument takes one: besides ``MediaLike`` bytes, base64 and data URIs.

    Args:
        image: the image. A path as a string opens a file only if the other arguments say so.
        local_files: any path may be opened.
        local_root: only paths below this folder may, wherever links lead.

    Raises:
        InputError: No image, or a path that may not be opened.
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
        f"{short_repr(image)} is a string, and a string opens no file here: give pathlib.Path(...), bytes or "
        "'s3://...', or allow paths by local_files=True or local_root=folder."
    )


@dataclass(frozen=True, slots=True)
class Query:
    """What to search with: text, image, images, audio or video, and the combinations Marengo has.

    Text with one image is Marengo's ``text_image``; ``images`` (a name for each, with ``<@name>`` in the text, or a
    plain list) is ``multi_input``. Audio and video stand alone.

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
            raise InputError("This query is empty: give text, image, images, audio or video.")
        if self.text is not None and not isinstance(self.text, str):
            raise InputError(f"Query(text={short_repr(self.text)}): a text must be a string; media go in image= or so.")
        if self.images is not None:
            check_images(self.images)
        images = self.images.values() if isinstance(self.images, Mapping) else self.images or ()
        for value in (self.image, self.audio, self.video, *images):
            # Bare bytes would stand in every trace of the query.
            if isinstance(value, bytes | bytearray | memoryview):
                raise InputError(f"Query({media[0]}={short_repr(value)}): wrap them by Media.from_bytes(...).")
        if len(media) > 1:
            raise InputError(f"Marengo has no query of {' with '.join(media)}: give one of them.")
        if self.text is not None and media and media[0] in ("audio", "video"):
            raise InputError(f"Marengo has no query of text with {media[0]}: ask for each and fuse the results.")


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How media are cut into segments. Left out, the service decides: video by shots, audio near 10 s."""

    method: Literal["fixed", "dynamic"]
    seconds: float

    def __post_init__(self) -> None:
        if self.method not in ("fixed", "dynamic"):
            raise InputError(
                f"{self.method!r} is no way to cut media: Segmentation.fixed(6) or Segmentation.dynamic(4)."
            )
        object.__setattr__(self, "seconds", _seconds(self.seconds, "seconds"))

    @classmethod
    def fixed(cls, duration_sec: float) -> Segmentation:
        """Pieces of equal length: 1 to 10 whole seconds (2.7: 2 to 10)."""
        return cls("fixed", _seconds(duration_sec, "duration_sec"))

    @classmethod
    def dynamic(cls, min_duration_sec: float = 4) -> Segmentation:
        """Shots of at least this length: 1 to 5 whole seconds. Video only."""
        return cls("dynamic", _seconds(min_duration_sec, "min_duration_sec"))


def split_s3_uri(uri: str) -> tuple[str, str]:
    """``s3://bucket/key`` -> (bucket, key), the key raw and perhaps empty.

    Raises:
        InputError: Not an S3 URI.
    """
    if not isinstance(uri, str) or not uri.startswith("s3://"):
        raise InputError(f"{short_repr(uri)} is not an S3 URI: expected s3://bucket/key.")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(
            f"{short_repr(uri)} is not an S3 URI: expected s3://bucket/key, the bucket of letters, digits, . - _"
        )
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InputError(f"{uri!r} holds a lone surrogate; S3's keys are UTF-8.") from None
    return bucket, key


def check_images(images: object) -> None:
    """Refuse what holds no images by name or in a list: a string would be taken letter by letter.

    Raises:
        InputError: As said.
    """
    if not isinstance(images, Mapping | Sequence) or isinstance(images, str | bytes | bytearray):
        raise InputError(
            f"multi_input takes a mapping of name to image, or a list of images, not {short_repr(images)}."
        )


def kind_of_name(name: str) -> Kind | None:
    """The kind that a file's suffix says, or None."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


def _check_kind(name: str, kind: Kind | None) -> None:
    said = kind_of_name(name)
    if kind and said not in (None, kind):
        raise InputError(
            f"{name!r} is {said} by its suffix; here goes {kind}. If it is {kind} all the same, say so by "
            f"Media.from_s3(..., kind={kind!r}) or from_path."
        )


def _kind_of_name(name: str, shown: str) -> Kind:
    kind = kind_of_name(name)
    if kind is None:
        raise InputError(
            f"The suffix of {shown!r} says no kind of media: give kind='video', 'audio' or 'image'. "
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


def _seconds(value: float, name: str) -> float:
    if not (is_number(value) and 0 < value < 1e6):
        raise InputError(f"{name}={short_repr(value)}: give a length in seconds.")
    return float(value)

"""Which captions belong to which media file, by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from bedrock_marengo.contract.inputs import Media, kind_of_name
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects

__all__ = [
    "LARGEST_BYTES",
    "SUFFIXES",
    "Named",
    "captions_next_to",
    "find_captions",
    "has_one_form",
    "read_captions",
    "with_captions",
]

T = TypeVar("T")

SUFFIXES = (".vtt", ".srt", ".ass", ".ssa", ".ttml", ".dfxp", ".sbv")
"""Of caption files, the preferred first."""
LARGEST_BYTES = 64 * 1024**2
"""Ten hours with a time for each word are about 5 MB. A larger file would fill the memory with its words."""


class Named(NamedTuple, Generic[T]):
    """A file in a listing: its name, where it is, and what the listing gives for it; None if nothing."""

    name: str
    where: str
    item: T | None = None


def captions_next_to(objects: S3Objects, media: Media) -> tuple[str, bytes] | None:
    """The captions next to a file, under its own name: ``match.vtt``, ``match.srt``, ``match.en.vtt``.

    A file that comes from a prefix's listing knows its captions; for any other the bucket is listed.

    Returns:
        Path or S3 URI of the captions, and their bytes; None if there are none.

    Raises:
        InputError: The captions are too large, or local ones can't be read.
        ServiceError: AWS refused.
    """
    place = find_captions(objects, media)
    if place is None:
        return None
    if media.path is not None:
        return place, read_captions(Path(place))
    return place, objects.stream(place, lambda chunks: _joined(place, chunks))


def find_captions(objects: S3Objects, media: Media) -> str | None:
    """The place of these captions, unread: a path or an S3 URI.

    Raises:
        InputError: The folder of a local file can't be listed.
        ServiceError: AWS refused.
    """
    if media.path is not None:
        return _path_next_to(media.path)
    if media.uri is None:
        return None
    return (_uri_next_to(objects, media.uri) if media.captions is None else media.captions) or None


def read_captions(path: Path) -> bytes:
    """The bytes of a local caption file.

    Raises:
        InputError: It can't be read, or it is too large.
    """
    try:
        with path.open("rb") as file:
            return _joined(str(path), iter(lambda: file.read(1 << 20), b""))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The captions in {str(path)!r} can't be read: {error}") from None


def has_one_form(name: str) -> bool:
    """Whether a name is the same in each Unicode form, so that a listing has all that belongs to it in one place."""
    return name.isascii() or len(_forms(name)) == 1


def with_captions(listed: Iterable[Named[T]]) -> Iterator[tuple[T, str | None]]:
    """Each item of a listing, with the place of its captions.

    Captions belong to the file whose name they continue longest, with or without its suffix: ``part.2.srt`` to
    ``part.2.mp4``, not to ``part.mp4``. Names that continue the same one come together in the listing: a file waits
    until the listing leaves its own.

    Args:
        listed: in the order of their names. Files that are not asked for can be the ones that captions belong to.
    """
    stems: list[_Stem[T]] = []
    for file in listed:
        while stems and not file.name.startswith(stems[-1].prefix):
            yield from _closed(stems)
        deepest = stems[-1].prefix if stems else ""
        stems += [_Stem(prefix) for prefix in _prefixes(file.name) if len(prefix) > len(deepest)]
        if file.name.lower().endswith(SUFFIXES):
            stems[-1].captions.append(file)
        elif file.item is not None or _takes_captions(file):
            stems[-1].files.append(file)
    while stems:
        yield from _closed(stems)


@dataclass(slots=True)
class _Stem(Generic[T]):
    """``a/match.``: the files of this stem, and the captions that continue it and no longer name."""

    prefix: str
    files: list[Named[T]] = field(default_factory=list)
    captions: list[Named[T]] = field(default_factory=list)
    own: dict[str, Named[T]] = field(default_factory=dict)
    """The name of a file with its suffix -> its captions."""


def _closed(stems: list[_Stem[T]]) -> Iterator[tuple[T, str | None]]:
    """Give the files of the last stem their captions; those that have no file there belong to a shorter name."""
    stem = stems.pop()
    best = min(stem.captions, key=_rank, default=None)
    for file in stem.files:
        found = [captions for captions in (best, stem.own.get(file.name)) if captions and _takes_captions(file)]
        if file.item is not None:
            yield file.item, min(found, key=_rank).where if found else None
    above = stems[-1] if stems else None
    if not best or not above or "/" in stem.prefix[len(above.prefix) :]:
        return
    name = stem.prefix[:-1]
    if any(file.name == name and _takes_captions(file) for file in above.files):
        above.own[name] = best
    elif not any(map(_takes_captions, stem.files)):
        above.captions.append(best)


def _takes_captions(file: Named[T]) -> bool:
    kind = kind_of_name(file.name)
    return KINDS[kind].captions if kind else file.item is not None


def _prefixes(name: str) -> list[str]:
    """``a/match.en.vtt`` -> ``a/match.``, ``a/match.en.``; ``a/match`` -> ``a/match.``."""
    return [name[: i + 1] for i in range(name.rfind("/") + 1, len(name)) if name[i] == "."] or [f"{name}."]


def _rank(file: Named[T]) -> tuple[int, int, str]:
    """Which captions of one file to prefer: match.vtt before match.en.vtt, .vtt before .srt."""
    stem, _, suffix = file.name.rpartition(".")
    return len(stem), SUFFIXES.index(f".{suffix.lower()}"), file.name


def _path_next_to(path: Path) -> str | None:
    """The captions next to a local file, by the names in its folder."""
    names: list[Named[str]] = []
    try:
        folders = [Path(folder) for folder in _forms(str(path.absolute().parent))]
        for folder in folders:
            if folder.is_dir():
                names += [Named(_composed(at.name), str(at), None) for at in folder.iterdir() if _may_belong(at, path)]
    except OSError as error:
        raise InputError(f"The captions of {str(path)!r} can't be listed: {error}") from None
    return _captions_among(_composed(path.name), names)


def _may_belong(found: Path, path: Path) -> bool:
    stem = path.name.rpartition(".")[0] or path.name
    return _composed(found.name).startswith(f"{_composed(stem)}.") and found.is_file()


def _uri_next_to(objects: S3Objects, uri: str) -> str | None:
    """The captions next to one object, by one listing for each form of its name."""
    folder, _, name = uri.rpartition("/")
    stem = name.rpartition(".")[0] or name
    names = {
        found.uri: Named[str](_composed(found.uri[len(start) :]), found.uri)
        for start in (f"{form}/" for form in _forms(folder))
        for form in _forms(stem)
        for found in objects.list(f"{start}{form}.")
        if "/" not in found.uri[len(start) :]
    }
    return _captions_among(_composed(name), names.values())


def _captions_among(name: str, files: Iterable[Named[str]]) -> str | None:
    """The captions of one file, among the files with its stem."""
    others = [file for file in files if file.name != name]
    listed = sorted([*others, Named(name, "", name)], key=lambda file: file.name)
    return next(captions for _, captions in with_captions(listed))


def _forms(name: str) -> list[str]:
    """A name as it is, composed (NFC) as most systems write it, and decomposed (NFD) as macOS may."""
    return list(dict.fromkeys([name, _composed(name), unicodedata.normalize("NFD", name)]))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _joined(name: str, chunks: Iterable[bytes]) -> bytes:
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > LARGEST_BYTES:
            raise InputError(
                f"{name} has more than {LARGEST_BYTES // 1024**2} MB, the most that is read as captions: split it, or "
                "give the captions with transcripts=."
            )
    return bytes(found)

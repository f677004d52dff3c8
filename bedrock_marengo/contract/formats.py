"""What a file is by its name and its first bytes: its kind, or why Marengo can't read it. Tables, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from bedrock_marengo.contract.models import KINDS, Kind

__all__ = [
    "HEAD_BYTES",
    "SUFFIXES",
    "flaw",
    "image_flaw",
    "image_flaw_by_name",
    "is_ambiguous",
    "is_hidden",
    "kind_of_bytes",
    "kind_of_name",
]

HEAD_BYTES = 4096
"""How many of a file's first bytes are looked at: several packets of MPEG-TS."""

SUFFIXES: Mapping[str, Kind] = {suffix: kind for kind, rules in KINDS.items() for suffix in rules.suffixes}
_MAGIC: Sequence[tuple[int, bytes, Kind]] = sorted(
    ((at, magic, kind) for kind, rules in KINDS.items() for at, magic in rules.magic), key=lambda row: -len(row[1])
)
"""The longest first: an M4A begins like an MP4."""

_AMBIGUOUS = (".ts",)
"""Suffixes that other files have, too: TypeScript, Qt's translations. The content decides."""

# Images that Marengo, which reads JPEG and PNG, can't read. By suffix:
_IMAGE_SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"), "camera raw"),
    ".jxl": "JPEG XL",
    ".webp": "WebP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".psd": "Photoshop",
    ".svg": "SVG",
}
# By (offset, first bytes):
_IMAGES: Sequence[tuple[int, bytes, str]] = (
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF or camera raw"),
    (0, b"MM\0*", "TIFF or camera raw"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"IIU\0", "camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIRS", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
)
# By the brands of ISO/IEC 23008-12 (HEIF), of AVIF 1.1, and Canon's.
_IMAGE_BRANDS: Mapping[bytes, str] = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis", b"avio"), "AVIF"),
    **dict.fromkeys((b"mif1", b"mif2", b"mif3", b"msf1", b"1pic", b"jpeg", b"avci", b"avcs"), "HEIF"),
    b"crx ": "camera raw",
}
_VIDEO_BRAND = re.compile(rb"iso\w|mp4\d|qt  |avc1|M4[VAB] |3g..|dash|cmf\w|mmp4|hvc1|MSNV")

_OTHERS: Sequence[tuple[int, bytes, str]] = (
    (0, b"\0\x05\x16\x07", "a Mac's metadata (AppleDouble)"),
    (0, b"\0\x05\x16\0", "a Mac's metadata (AppleSingle)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"%PDF", "a PDF"),
)
# After a byte order mark and white space. A download that failed leaves a page; git leaves pointers.
_TEXTS: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"(?i)<!doctype html|<html|<head|<body"), "an HTML page"),
    (re.compile(r"<[!?a-zA-Z]"), "XML or HTML"),
    (re.compile(r"[{\[]\s*[\"{\[]"), "JSON"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS"),
    (re.compile(r"#EXTM3U"), "a playlist"),
)

_HIDDEN = frozenset(
    {
        # macOS, Synology, QNAP, NetApp, Windows, ext4
        *("__macosx", "network trash folder", "temporary items", "icon\r"),
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot"),
        *("$recycle.bin", "recycler", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
        "lost+found",
    }
)
"""Names, in lower case, of what systems and network storage keep for themselves."""

_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""MPEG-TS: the length of a packet, and where in it the sync byte is: plain, with a time code (M2TS), with parity."""
_SYNCS = 5
"""Sync bytes in a row that are no coincidence."""
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_VIDEO = b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"
"""A WMA or WMV file's first bytes, and the stream type that only WMV has."""


def kind_of_name(name: str) -> Kind | None:
    """The kind that the suffix of a file or key identifies, or None; a key that ends in a slash is a folder."""
    last = name.rpartition("/")[2]
    return SUFFIXES.get(PurePosixPath(last).suffix.lower()) if last else None


def image_flaw_by_name(name: str) -> str | None:
    """What to do about an image that Marengo can't read, by its suffix; see ``flaw``."""
    return _unreadable(_IMAGE_SUFFIXES.get(PurePosixPath(name).suffix.lower()))


def is_ambiguous(name: str) -> bool:
    """Whether files that are not media often have this suffix."""
    return name.lower().endswith(_AMBIGUOUS)


def is_hidden(key: str) -> bool:
    """Whether a file is hidden, in a hidden folder, or a system's own: ``.trash/a.mp4``, ``__MACOSX/a.mp4``."""
    parts = [part for part in key.split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") or part.lower() in _HIDDEN for part in parts)


def kind_of_bytes(head: bytes) -> Kind | None:
    """The kind that a file's first bytes identify, or None."""
    if _text_in(head) or _image_in(head):
        return None
    if head.startswith(_ASF):
        return "video" if _ASF_VIDEO in head else "audio"
    if head.startswith(b"OggS") and b"\x80theora" in head[:128]:
        return "video"
    found = next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), None)
    if found is not None:
        return found
    if _is_mpeg_audio(head):
        return "audio"
    return "video" if _is_mpeg_ts(head) else None


def flaw(head: bytes, name: str = "") -> str | None:
    """Why Marengo can't read a file, to follow its name: "is a HEIC image ..."; None if nothing shows it.

    Args:
        head: the file's first bytes. What is unknown here may be media, except with an ambiguous suffix.
        name: its name or key.
    """
    if (why := image_flaw(head)) is not None:
        return why
    other = _text_in(head) or next((what for at, magic, what in _OTHERS if head[at : at + len(magic)] == magic), None)
    if other is None and is_ambiguous(name) and kind_of_bytes(head) is None:
        other = "not an MPEG transport stream"
    return None if other is None else f"is {other}, going by its first bytes: expected video, audio or an image."


def image_flaw(head: bytes) -> str | None:
    """``flaw`` for images alone."""
    return _unreadable(_image_in(head))


def _unreadable(image: str | None) -> str | None:
    return image and f"is an image ({image}) that Marengo can't read: convert it to JPEG or PNG."


def _image_in(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return _image_of_brands(head)
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "BMP"
    return next((what for at, magic, what in _IMAGES if head[at : at + len(magic)] == magic), None)


def _image_of_brands(head: bytes) -> str | None:
    """The format of a HEIF file: by its major brand, or by the others if that is neither an image's nor a video's."""
    size = min(max(int.from_bytes(head[:4]), 16), 512)
    major, *others = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    if major not in _IMAGE_BRANDS and _VIDEO_BRAND.match(major):
        return None
    found = [_IMAGE_BRANDS[brand] for brand in (major, *others) if brand in _IMAGE_BRANDS]
    # "mif1" says only that it is an image; another brand may say which.
    return next((image for image in found if image != "HEIF"), found[0] if found else None)


def _text_in(head: bytes) -> str | None:
    code = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" in head[2:4] else "utf-8-sig"
    text = head[:512].decode(code, "replace").lstrip()
    return next((what for pattern, what in _TEXTS if pattern.match(text)), None)


def _is_mpeg_audio(head: bytes) -> bool:
    """Whether it begins with the header of an MPEG audio frame (MPEG-1, 2 or 2.5, layers I to III) or of ADTS."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rates = head[2] if len(head) > 2 else 0
    if layer == 0:
        # ADTS: 12 sync bits, and one of 13 sampling rates.
        return head[1] & 0xF0 == 0xF0 and rates >> 2 & 15 < 13
    return version != 1 and rates >> 4 != 15 and rates >> 2 & 3 != 3


def _is_mpeg_ts(head: bytes) -> bool:
    """Whether sync bytes follow one another as far apart as packets are long, from anywhere in the first one."""
    for length, offset in _TS_PACKETS:
        for start in range(length):
            syncs = head[start::length]
            if set(syncs) == {0x47} and len(syncs) >= (2 if start == offset else _SYNCS):
                return True
    return False

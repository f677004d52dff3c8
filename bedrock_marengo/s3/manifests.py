"""Lists of media in files: plain CSV, and S3 inventories."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote_plus

import msgspec

from bedrock_marengo.contract.inputs import Manifest
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import Archive, S3Objects

__all__ = ["Entry", "read_manifest"]

MAX_ROW_CHARS = 256 * 1024
"""Our own limit: a few compressed kilobytes may be one row of gigabytes. S3's keys have at most 1,024 bytes."""
MAX_INVENTORY_BYTES = 4 * 1024**2
"""Our own limit for manifest.json, which has about 150 bytes for each file of an inventory."""

_COLUMNS = ("bucket", "key", "size", "etag")
_IN_MEMORY = 16 * 1024**2

# A column's names in a header or an inventory's schema -> the field of Entry.
_FIELDS = {
    "bucket": "bucket",
    "key": "key",
    "size": "size",
    "etag": "etag",
    "lastmodifieddate": "modified",
    "storageclass": "storage",
    "islatest": "latest",
    "isdeletemarker": "deleted",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a manifest; None for what the file doesn't contain."""

    bucket: str
    key: str
    size: int | None = None
    etag: str | None = None
    modified: datetime | None = None
    storage: str | None = None
    """The storage class, if it may mean that the object is archived."""
    archive: Archive | None = None
    """What a listing said of an archived object."""
    listed_at: float | None = None
    """When a listing showed it, by ``time.monotonic``; None if a manifest did."""


class _InventoryFile(msgspec.Struct):
    key: str


class _Inventory(msgspec.Struct, rename="camel"):
    destination_bucket: str
    file_format: str
    file_schema: str
    files: list[_InventoryFile]


def read_manifest(objects: S3Objects, manifest: Manifest) -> Iterator[Entry | InputError]:
    """The objects of a manifest, one by one; a row without an object is an error.

    However large the file is, no more than one row of it is in memory.

    Raises:
        InputError: The file is not a supported manifest, or larger than our limits.
        ServiceError: AWS refused to return it.
    """
    if not manifest.is_inventory:
        yield from _rows(objects, manifest.where, columns=None)
        return
    inventory = _inventory(objects, manifest)
    columns = [name.strip() for name in inventory.file_schema.split(",")]
    bucket = inventory.destination_bucket.removeprefix("arn:aws:s3:::")
    for file in inventory.files:
        yield from _rows(objects, f"s3://{bucket}/{file.key}", columns)


def _inventory(objects: S3Objects, manifest: Manifest) -> _Inventory:
    with _open(objects, manifest.where) as file:
        data = file.read(MAX_INVENTORY_BYTES + 1)
    if len(data) > MAX_INVENTORY_BYTES:
        raise InputError(
            f"{str(manifest.where)!r} has more than {MAX_INVENTORY_BYTES:,} bytes: an S3 inventory's manifest.json is "
            "smaller. Check the file."
        )
    try:
        inventory = msgspec.json.decode(data, type=_Inventory)
    except msgspec.DecodeError as error:
        raise InputError(f"{str(manifest.where)!r} is not an S3 inventory's manifest.json: {error}") from None
    if inventory.file_format != "CSV":
        raise InputError(f"{str(manifest.where)!r} is an inventory in {inventory.file_format}: configure it as CSV.")
    return inventory


def _rows(
    objects: S3Objects, where: str | os.PathLike[str], columns: Sequence[str] | None
) -> Iterator[Entry | InputError]:
    """A CSV's rows. ``columns`` are an inventory's, whose keys are URL-encoded."""
    encoded = columns is not None
    with _open(objects, where) as file, _as_text(file, where) as text:
        lines = _Lines(text, where)
        for row in lines.rows():
            if columns is None:
                columns = row if {"bucket", "key"} <= {name.strip().lower() for name in row} else _COLUMNS
                if columns is row:
                    continue
            if row:
                found = _entry(dict(zip(columns, row, strict=False)), encoded, lines.place)
                if found is not None:
                    yield found


class _Lines:
    """The lines of a CSV, for csv.reader; a row, which may span lines, is refused as soon as it is too long."""

    def __init__(self, text: io.TextIOWrapper, where: str | os.PathLike[str]) -> None:
        self._text = text
        self._where = where
        self._number = 0
        self._first = 1
        self._room = MAX_ROW_CHARS

    @property
    def place(self) -> str:
        """Where the current row begins."""
        return f"{self._where}, line {self._first}"

    def rows(self) -> Iterator[list[str]]:
        rows = csv.reader(self)
        while True:
            self._first, self._room = self._number + 1, MAX_ROW_CHARS
            try:
                yield next(rows)
            except StopIteration:
                return
            except (OSError, EOFError, zlib.error, csv.Error) as error:
                raise InputError(f"{self.place} can't be read as CSV: {error}. Check the file.") from None

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._room + 1):
            self._number += 1
            self._room -= len(line)
            if self._room < 0:
                raise InputError(f"{self.place}: the row is longer than {MAX_ROW_CHARS:,} characters. Check the file.")
            yield _utf8(line, self.place)


def _utf8(line: str, place: str) -> str:
    """A line without the bytes that decoding has kept as lone surrogates."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: not UTF-8. Save the file as UTF-8.") from None
    return line


def _entry(row: dict[str, str], encoded: bool, place: str) -> Entry | InputError | None:
    """One row as an object; None for what is not a bucket's current state."""
    known = {field: value for name, value in row.items() if (field := _FIELDS.get(name.strip().lower()))}
    if known.get("latest", "true").lower() == "false" or known.get("deleted", "false").lower() == "true":
        return None
    bucket, key = known.get("bucket", "").strip(), known.get("key", "")
    if not bucket or not key:
        return InputError(f"{place} does not have both a bucket and a key: {','.join(row.values())[:200]!r}")
    try:
        size = int(known["size"]) if known.get("size") else None
        modified = _time(known["modified"]) if known.get("modified") else None
    except ValueError as error:
        return InputError(f"{place}: {error}")
    etag = known.get("etag", "").strip('"') or None
    # Encoded like a form's fields: "+" is a space, and a plus is "%2B".
    return Entry(bucket, unquote_plus(key) if encoded else key, size, etag, modified, known.get("storage"))


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def _open(objects: S3Objects, where: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    if not isinstance(where, str):
        try:
            file = Path(where).open("rb")  # noqa: SIM115  closed below
        except OSError as error:
            raise InputError(f"{str(where)!r} can't be read: {error}") from None
        with file:
            yield file
        return
    # A copy: a run may read a file for weeks, and S3 keeps no connection open that long.
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        objects.download(where, copy)
        copy.seek(0)
        yield copy


@contextmanager
def _as_text(file: IO[bytes], where: str | os.PathLike[str]) -> Iterator[io.TextIOWrapper]:
    plain = gzip.GzipFile(fileobj=file, mode="rb") if str(where).endswith(".gz") else file
    # Decoded ahead of the lines that are read: what is not UTF-8 is kept until its own line is read.
    text = io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()

"""Lists of media in files: plain CSV, and S3 inventories."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tempfile
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

    Raises:
        InputError: The file is not a supported manifest.
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
        data = file.read()
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
        for number, row in enumerate(csv.reader(text), 1):
            if columns is None:
                columns = row if {"bucket", "key"} <= {name.strip().lower() for name in row} else _COLUMNS
                if columns is row:
                    continue
            if row:
                found = _entry(dict(zip(columns, row, strict=False)), encoded, f"{where}, line {number}")
                if found is not None:
                    yield found


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
    text = io.TextIOWrapper(plain, "utf-8-sig", newline="")
    try:
        yield text
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(where)!r} can't be read as CSV: {error}") from None
    finally:
        text.detach()

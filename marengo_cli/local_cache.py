"""Vectors of local files, kept between searches with the stand-in: in a folder, by the files' content. That a file
can't be decoded is kept, too.

Entries are read as typed data with a checksum, never executed: what is damaged counts as missing and is written again.
Each is one file that is replaced as a whole, so that any number of processes can share the folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache as once
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from bedrock_marengo import InputError, MarengoClient, MarengoError, Media, MediaResult, SegmentEmbeddings
from bedrock_marengo.contract.models import Kind
from bedrock_marengo.errors import visible, warn_once
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.s3.uploads import digest_of_upload, upload_uri
from marengo_cli.embed import Outcome, embedded
from marengo_cli.undecodable import is_lasting, plainly

__all__ = ["LocalCache", "cache_of", "default_folder", "embedded_once"]

MAX_BYTES = 512 * 1024**2
"""Of a folder. Ours: about 70 hours of video, whose segments take 2 KB for each of three tracks."""
SETTLED_NS = 2 * 10**9
"""A file that was written this recently may be written again without a change of its times. FAT's are 2 s apart."""
_ABANDONED_SEC = 3600.0


class _Vectors(msgspec.Struct, array_like=True):
    """The segments of one file, as columns; the vectors are little-endian float32."""

    start_sec: list[float]
    end_sec: list[float]
    option: list[str]
    scope: list[str]
    vectors: bytes
    job: str
    model_id: str
    media_type: Kind


class _Undecodable(msgspec.Struct, array_like=True):
    """Why a file can't be embedded."""

    reason: str


class _State(msgspec.Struct, array_like=True):
    """A file as it was when it was hashed: size, times, number; and its SHA-256."""

    state: tuple[int, int, int, int, int]
    sha256: str


_Kept = TypeVar("_Kept", _Vectors, _Undecodable)


@dataclass(kw_only=True)
class LocalCache:
    """A folder with the vectors of files.

    Args:
        folder: made if it doesn't exist.
        max_bytes: what was used least recently is deleted above this.

    Raises:
        InputError: The folder can't be written to.
    """

    folder: Path
    max_bytes: int = MAX_BYTES
    _sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            for name in ("files", "vectors", "undecodable"):
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--cache {visible(str(self.folder))}: {error.strerror}. Expected a folder that you can write to, or "
                "use --no-cache."
            ) from error

    def find(
        self, client: MarengoClient, media: Media, embedding: Mapping[str, Any]
    ) -> SegmentEmbeddings | InputError | None:
        """The segments of a local file, if its content was embedded with these options before, or why it can't be."""
        if media.path is None or (sha256 := self._sha256(media.path)) is None:
            return None
        path = self._entry("vectors", client, sha256, media.kind, embedding)
        found = _read(path, _Vectors)
        if found is None or not _is_whole(found):
            failure = _read(self._entry("undecodable", client, sha256, media.kind, embedding), _Undecodable)
            return InputError(failure.reason) if failure else None
        # Equal bytes under two names are one upload.
        source = self._sources.setdefault(sha256, upload_uri(media, str(client.output_s3_uri), sha256))
        return SegmentEmbeddings(
            vectors=np.frombuffer(found.vectors, "<f4").reshape(len(found.option), -1).astype(np.float32),
            start_sec=np.array(found.start_sec, np.float64),
            end_sec=np.array(found.end_sec, np.float64),
            option=found.option,
            scope=found.scope,
            source=source,
            job=found.job,
            model_id=found.model_id,
            media_type=found.media_type,
        )

    def keep(self, client: MarengoClient, segments: SegmentEmbeddings, embedding: Mapping[str, Any]) -> None:
        """Keep the segments of a file that was uploaded, under the hash of the bytes that were embedded."""
        sha256 = digest_of_upload(segments.source)
        if sha256 is None:
            return
        kept = _Vectors(
            segments.start_sec.tolist(),
            segments.end_sec.tolist(),
            list(segments.option),
            list(segments.scope),
            segments.vectors.astype("<f4").tobytes(),
            segments.job,
            segments.model_id,
            segments.media_type,
        )
        _keep(self._entry("vectors", client, sha256, segments.media_type, embedding), kept)

    def keep_failure(
        self, client: MarengoClient, kind: Kind, error: MarengoError, embedding: Mapping[str, Any]
    ) -> None:
        """Keep why a file that was uploaded can't be decoded: ``error`` is from ``plainly``."""
        sha256 = digest_of_upload(str(error.__cause__))
        if sha256 is not None and is_lasting(error):
            _keep(self._entry("undecodable", client, sha256, kind, embedding), _Undecodable(str(error)))

    def trim(self) -> None:
        """Delete what was used least recently, until the rest fits, and what a killed process left."""
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                state = path.stat()
                if path.name.startswith(".") and time.time() - state.st_mtime > _ABANDONED_SEC:
                    path.unlink()
                else:
                    found.append((state.st_mtime, state.st_size, path))
        size = sum(entry[1] for entry in found)
        for _, bytes_freed, path in sorted(found):
            if size <= self.max_bytes:
                return
            with suppress(OSError):
                path.unlink()
                size -= bytes_freed

    def _entry(self, what: str, client: MarengoClient, sha256: str, kind: str, embedding: Mapping[str, Any]) -> Path:
        decides = (sha256, kind, client.model_id, sorted(embedding.items()), _content_model())
        return self.folder / what / hashlib.sha256(repr(decides).encode()).hexdigest()

    def _sha256(self, path: Path) -> str | None:
        """The hash of a file's bytes: as noted, if neither size, times nor number changed since, else read again."""
        entry = self.folder / "files" / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
        try:
            before = _state(path)
            with suppress(OSError, msgspec.MsgspecError):
                noted = msgspec.json.decode(entry.read_bytes(), type=_State)
                if noted.state == before:
                    os.utime(entry)
                    return noted.sha256
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if _state(path) == before and time.time_ns() - max(before[1:3]) > SETTLED_NS:
                _write(entry, msgspec.json.encode(_State(before, sha256)))
        except OSError:
            # Embedding says why it can't be read.
            return None
        return sha256


def default_folder() -> Path:
    """The platform's folder for caches."""
    home = Path("~").expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = named if named.is_absolute() else home / ".cache"
    return base / "bedrock-marengo" / "local-search"


def cache_of(folder: Path | None, *, is_off: bool) -> LocalCache | None:
    """The cache in a folder, or in the platform's; None if it is off, or there is none that can be written to.

    Raises:
        InputError: The folder that was given can't be written to.
    """
    if is_off:
        return None
    try:
        return LocalCache(folder=folder or default_folder())
    except InputError as error:
        if folder is not None:
            raise
        warn_once("no cache", f"Nothing is kept for the next search: {error}")
        return None


def embedded_once(
    client: MarengoClient, listing: MediaListing, embedding: Mapping[str, Any], cache: LocalCache
) -> Generator[MediaResult, None, None]:
    """The results of local files: kept ones first, then those that are new or changed, which are embedded and kept."""
    new: list[Media] = []
    for given, media in listing.items():
        if isinstance(media, MarengoError):
            yield MediaResult(given, None, error=media)
        elif (found := cache.find(client, media, embedding)) is None:
            new.append(media)
        elif isinstance(found, InputError):
            yield MediaResult(given, None, error=found, media=media)
        else:
            yield MediaResult(given, found.source, media=media, _found=found)
    if not new:
        return
    try:
        for done in embedded(client, new, Outcome(), total=len(new), **embedding):
            if done.error is not None and done.media is not None:
                error = plainly(done.error)
                cache.keep_failure(client, done.media.kind, error, embedding)
                yield replace(done, error=error)
                continue
            with suppress(MarengoError):
                if done.segments is not None:
                    cache.keep(client, done.segments, embedding)
            yield done
    finally:
        cache.trim()


@once
def _content_model() -> str:
    """What the stand-in's vectors depend on: its code and its weights."""
    found = hashlib.sha256()
    folder = Path(str(files("marengo_local")))
    for path in sorted([*folder.glob("*.py"), *folder.glob("content/*")]):
        if path.is_file():
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _state(path: Path) -> tuple[int, int, int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    """An entry, marked as used; None if there is none, or a damaged one."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        found = msgspec.msgpack.decode(data[32:], type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def _is_whole(found: _Vectors) -> bool:
    rows = len(found.option)
    columns = {len(found.start_sec), len(found.end_sec), len(found.scope)}
    return rows > 0 and columns == {rows} and len(found.vectors) % (4 * rows) == 0


def _keep(path: Path, entry: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(entry)
    _write(path, hashlib.sha256(data).digest() + data)


def _write(path: Path, data: bytes) -> None:
    """Replace an entry as a whole. One that can't be written is embedded again by the next search."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with suppress(OSError):
            temporary.write_bytes(data)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

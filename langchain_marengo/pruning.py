"""Delete the segments of files that no longer exist from any of the stores of docs/stores.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bedrock_marengo import InputError
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.validation import is_int, require_many
from langchain_marengo.stores import CHUNK, Stores, delete_ids, embeddings_of, known_stores_of

__all__ = ["MAX_SEGMENTS", "Pruned", "aprune", "prune"]

MAX_SEGMENTS = 10_000
"""What one call may delete, unless it is told otherwise: about five hours of video on three tracks. Ours."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What ``prune`` deleted, or would delete with ``dry_run=True``.

    Attributes:
        sources: source -> how many segments of it.
        kept: how many segments of other sources the store holds.
    """

    sources: Mapping[str, int]
    kept: int

    @property
    def segments(self) -> int:
        """The number of segments."""
        return sum(self.sources.values())


def prune(
    store: Stores,
    sources: str | Path | list[str | Path],
    *,
    dry_run: bool = False,
    max_segments: int = MAX_SEGMENTS,
    chunk_size: int = CHUNK,
) -> Pruned:
    """Delete the segments of files that no longer exist in a bucket or folder. Nothing on S3 is deleted.

    Lists all rows of the store, then the places. Segments of sources in other places are kept. A file that is archived
    still exists, and so does one that was replaced: use ``add_segments(replace=True)`` for its old segments.

    Args:
        store: one of the stores of docs/stores.md, or a store for each track: track -> store. Its embeddings are
            ``MarengoEmbeddings``, whose credentials list the places.
        sources: ``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a folder or file, or a list of
            these. **Of local files, pass all folders that the store was filled from**: the upload of a file doesn't
            say which folder it was in.
        dry_run: only say what would be deleted.
        max_segments: the most to delete. If there are more, nothing is deleted: the places may be wrong.
        chunk_size: rows in one call.

    Raises:
        InputError: More than ``max_segments``, or a place that is invalid or can't be read. Nothing was deleted.
        ConfigurationError: This store isn't supported, or has other embeddings.
        ServiceError: AWS refused to list. Nothing was deleted.
    """
    if not is_int(max_segments, 0):
        raise InputError("expected a whole number of segments, 0 or more.", setting="max_segments", value=max_segments)
    places = [sources] if isinstance(sources, str | Path) else require_many(sources, "prune", "places")
    stores = known_stores_of(store, "prune", chunk_size)
    client = embeddings_of(store, "prune").core
    rows = [[(row.id, row.metadata.get("source")) for row in known.rows(each, None)] for each, known in stores]
    counts = Counter(source for found in rows for _, source in found if isinstance(source, str))
    gone = {source: counts[source] for source in client.missing_sources(counts, places)}
    pruned = Pruned(MappingProxyType(gone), sum(counts.values()) - sum(gone.values()))
    if dry_run:
        return pruned
    if pruned.segments > max_segments:
        raise InputError(
            f"{pruned.segments:,} segments of {len(gone):,} sources, such as {next(iter(gone))!r}, would be deleted, "
            f"which is more than {{max_segments}}; {pruned.kept:,} would be kept. Nothing was deleted. If the places "
            "are right, set it higher.",
            remedy={"max_segments": max_segments},
        )
    try:
        for (each, known), found in zip(stores, rows, strict=True):
            delete_ids(each, known, [key for key, source in found if source in gone], chunk_size)
    finally:
        forget_contents()
    return pruned


async def aprune(
    store: Stores,
    sources: str | Path | list[str | Path],
    *,
    dry_run: bool = False,
    max_segments: int = MAX_SEGMENTS,
    chunk_size: int = CHUNK,
) -> Pruned:
    """``prune`` for asyncio, on the threads of the store's MarengoEmbeddings."""
    core = embeddings_of(store, "prune").core
    return await core.run_async(
        prune, store, sources, dry_run=dry_run, max_segments=max_segments, chunk_size=chunk_size
    )

"""The vectors of segments: a bounded cache of the jobs that were read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings, milliseconds
from bedrock_marengo.errors import SegmentNotFoundError

__all__ = ["VectorCache"]

CACHE_BYTES = 256 * 1024**2
_JOB_BYTES = 600
_ROW_BYTES = 370
"""What a job, and a row's key next to its vector, take; measured with tracemalloc."""

_Row = tuple[int, int, str, str]


@dataclass(frozen=True, slots=True)
class _Table:
    rows: dict[_Row, int]
    vectors: npt.NDArray[np.float32]

    @property
    def size(self) -> int:
        return self.vectors.nbytes + _JOB_BYTES + _ROW_BYTES * len(self.rows)


class VectorCache:
    """Vectors by segment, kept a whole job at a time: each output.json is read once, however many segments it has.

    Args:
        cache_bytes: how much to keep; the newest job always stays.
    """

    def __init__(self, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._tables: OrderedDict[tuple[str, str], _Table] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._reading: dict[tuple[str, str], threading.Lock] = {}

    def remember(self, embeddings: SegmentEmbeddings) -> None:
        """Keep a job's vectors, dropping those unused for longest."""
        self._keep(embeddings)

    def forget(self, source: str) -> None:
        """Drop the vectors of one source."""
        with self._lock:
            for key in [key for key in self._tables if key[0] == source]:
                self._drop(key)

    def vectors(
        self, segments: Sequence[Segment], read: Callable[[Segment], SegmentEmbeddings]
    ) -> list[npt.NDArray[np.float32]]:
        """One vector for each segment, in order.

        Args:
            segments: the segments.
            read: reads the embeddings of the job that a segment names, if they are not in the cache.

        Raises:
            SegmentNotFoundError: A job doesn't have that segment. ``read`` may raise other errors.
        """
        # Job by job: with more jobs than the cache holds, each is still read once.
        places: dict[tuple[str, str], list[int]] = {}
        for i, segment in enumerate(segments):
            places.setdefault((segment.source, segment.job), []).append(i)
        found: dict[int, npt.NDArray[np.float32]] = {}
        for numbers in places.values():
            table = self._table(segments[numbers[0]], read)
            found |= {i: _row(table, segments[i]) for i in numbers}
        return [found[i] for i in range(len(segments))]

    def _table(self, segment: Segment, read: Callable[[Segment], SegmentEmbeddings]) -> _Table:
        key = (segment.source, segment.job)
        if (table := self._cached(key)) is not None:
            return table
        with self._lock:
            reading = self._reading.setdefault(key, threading.Lock())
        try:
            with reading:
                # Another thread may have read it while this one waited.
                if (table := self._cached(key)) is None:
                    table = self._keep(read(segment))
        finally:
            with self._lock:
                self._reading.pop(key, None)
        return table

    def _cached(self, key: tuple[str, str]) -> _Table | None:
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
            return table

    def _keep(self, embeddings: SegmentEmbeddings) -> _Table:
        table = _Table({_row_key(segment): i for i, segment in enumerate(embeddings)}, embeddings.vectors)
        with self._lock:
            self._drop((embeddings.source, embeddings.job))
            self._tables[(embeddings.source, embeddings.job)] = table
            # A running total: many small jobs are kept.
            self._size += table.size
            while len(self._tables) > 1 and self._size > self._cache_bytes:
                self._drop(next(iter(self._tables)))
        return table

    def _drop(self, key: tuple[str, str]) -> None:
        if (table := self._tables.pop(key, None)) is not None:
            self._size -= table.size


def _row(table: _Table, segment: Segment) -> npt.NDArray[np.float32]:
    row = table.rows.get(_row_key(segment))
    if row is None:
        raise SegmentNotFoundError(
            f"The job {segment.job} of {segment.source!r} has no segment {segment.uri!r}: "
            f"it has {len(table.rows)} other segments. Check that the stored text was not changed."
        )
    # A view would keep the whole job's vectors in memory.
    vector: npt.NDArray[np.float32] = table.vectors[row].copy()
    return vector


def _row_key(segment: Segment) -> _Row:
    # Milliseconds as integers: float times are never joined by equality.
    return milliseconds(segment.start_sec), milliseconds(segment.end_sec), segment.option, segment.scope

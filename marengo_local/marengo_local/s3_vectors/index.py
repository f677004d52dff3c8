"""One vector index: its rows, and exact search over them."""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from marengo_local.s3_vectors.checks import Vector
from marengo_local.s3_vectors.text_search import TextIndex

__all__ = ["Row", "TextField", "VectorIndex"]

_PAGE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One vector with its metadata."""

    vector: Vector
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextField:
    """A metadata key whose text can be searched, from a time on."""

    language: str | None
    active_at: float

    @property
    def status(self) -> str:
        """BUILDING or ACTIVE."""
        return "ACTIVE" if time.time() >= self.active_at else "BUILDING"


@dataclass(eq=False)
class VectorIndex:
    """An index and its rows. Not thread-safe."""

    bucket: str
    name: str
    arn: str
    dimension: int
    metric: str
    mode: str
    encryption: Mapping[str, Any]
    non_filterable: tuple[str, ...] = ()
    texts: dict[str, TextField] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.rows: dict[str, Row] = {}
        # Made again after each write.
        self._matrix: tuple[list[str], Vector] | None = None
        self._listing: list[tuple[str, str]] | None = None
        self._text_indexes: dict[str, TextIndex] = {}

    def put(self, rows: Mapping[str, Row]) -> None:
        """Add rows, and replace those with the same keys."""
        self.rows.update(rows)
        self._changed()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete rows; unknown keys are skipped."""
        for key in keys:
            self.rows.pop(key, None)
        self._changed()

    def _changed(self) -> None:
        self._matrix = self._listing = None
        self._text_indexes.clear()

    def page(self, after: str, most: int, segment: int, segments: int) -> tuple[list[str], str]:
        """The next keys in no order that a client knows, at most 1 MB of rows, and where to go on ("" at the end)."""
        if self._listing is None:
            self._listing = sorted((_digest(key), key) for key in self.rows)
        start = bisect_right(self._listing, (after, "\U0010ffff"))
        keys: list[str] = []
        size = 0
        for digest, key in self._listing[start:]:
            if int(digest[-4:], 16) % segments != segment:
                continue
            if len(keys) == most or size >= _PAGE_BYTES:
                return keys, _digest(keys[-1])
            keys.append(key)
            size += len(key) + len(json.dumps(self.rows[key].metadata)) + 4 * self.dimension
        return keys, ""

    def nearest(
        self, vector: Vector, k: int, matches: Callable[[Mapping[str, Any]], bool], examined: int | None
    ) -> list[tuple[str, float]]:
        """Keys and distances of the nearest k that match; of the nearest `examined` only, if that is given."""
        if self._matrix is None:
            vectors = [row.vector for row in self.rows.values()]
            self._matrix = list(self.rows), np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)
        keys, matrix = self._matrix
        if self.metric == "cosine":
            norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
            distances = 1 - (matrix @ vector) / norms
        else:
            distances = np.linalg.norm(matrix - vector, axis=1)
        found: list[tuple[str, float]] = []
        for place in np.argsort(distances, kind="stable")[:examined]:
            if len(found) == k:
                break
            if matches(self.rows[keys[place]].metadata):
                found.append((keys[place], float(distances[place])))
        return found

    def text_scores(self, key: str, query: str) -> dict[str, float]:
        """BM25 of the vectors whose text under a metadata key has words of the query."""
        if key not in self._text_indexes:
            texts = {name: row.metadata[key] for name, row in self.rows.items() if key in row.metadata}
            self._text_indexes[key] = TextIndex(texts)
        return self._text_indexes[key].scores(query)

    def summary(self) -> dict[str, Any]:
        """As ListIndexes returns it."""
        return {
            "vectorBucketName": self.bucket,
            "indexName": self.name,
            "indexArn": self.arn,
            "creationTime": self.created,
        }

    def description(self) -> dict[str, Any]:
        """As GetIndex returns it."""
        configuration: dict[str, Any] = {}
        if self.non_filterable:
            configuration["nonFilterableMetadataKeys"] = list(self.non_filterable)
        if self.texts:
            configuration["textSearchConfigurations"] = [
                {"metadataKey": key, "status": text.status, **({"language": text.language} if text.language else {})}
                for key, text in self.texts.items()
            ]
        return {
            **self.summary(),
            "dataType": "float32",
            "dimension": self.dimension,
            "distanceMetric": self.metric,
            "encryptionConfiguration": self.encryption,
            "indexMode": self.mode,
            **({"metadataConfiguration": configuration} if configuration else {}),
        }


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()

"""A map of segments: their vectors projected to two dimensions, colored by source, track or time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo import InputError, Segment, SegmentEmbeddings
from bedrock_marengo.contract.words import span
from bedrock_marengo.search.results import names_of
from marengo_view.rendering import View, embeddings_list, render

__all__ = ["segment_map"]

Points = npt.NDArray[np.float64]
Project = Callable[[npt.NDArray[np.float32]], Points]

MAX_POINTS = 3_000
"""Above this, clips are sampled evenly, so that a browser can draw them."""
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8d6e63", "#7e57c2")
"""Okabe and Ito's color-blind safe palette without yellow and black, which vanish on light or dark, plus two more."""
_OTHER_COLOR = "#8a8f98"
_START_RGB, _END_RGB = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)
_NEIGHBOURS = 30


def segment_map(
    segments: SegmentEmbeddings | Iterable[SegmentEmbeddings],
    *,
    color: Literal["source", "track", "time"] = "source",
    option: str | None = None,
    method: Literal["umap", "tsne", "pca"] | Project | None = None,
) -> View:
    """Draw clips as points in a plane, similar clips close together. A point's tooltip has its file, time and track.

    Args:
        segments: segments of one or more files, all from one model: the result of ``embed_media``, or ``.segments``
            of the results of ``embed_many``.
        color: what the colors show. "source" gives the eight most frequent files their own color; "time" runs from
            the start to the end of each file.
        option: show only this track. Different tracks form separate clusters, whatever their content.
        method: "umap" (needs umap-learn), "tsne" or "pca" (scikit-learn), or a callable from float32
            ``(n, dimension)`` to ``(n, 2)``. The default is PCA for up to 30 points, otherwise UMAP if it is
            installed, else t-SNE. The same segments always give the same map.

    Raises:
        bedrock_marengo.InputError: There are fewer than two clips, vectors of two models, or a setting is invalid.
    """
    given = embeddings_list(segments)
    clips = [some.select(option=option, scope="clip") for some in given]
    named = [segment for some in clips for segment in some]
    if len({some.model_id for some in given}) > 1:
        models = sorted({some.model_id for some in given})
        raise InputError(
            f"The segments come from models {models}, whose vectors can't be compared. Draw one map per model."
        )
    if len(named) < 2:
        tracks = sorted({track for some in given for track in some.option})
        raise InputError(
            f"A map needs at least 2 clips, got {len(named)}"
            f"{f' with option={option!r}; available tracks: {tracks}' if option else ''}."
        )
    if color not in _COLORINGS:
        raise InputError(f"color={color!r} is not supported. Use {', '.join(map(repr, _COLORINGS))}.")
    kept = np.linspace(0, len(named) - 1, min(len(named), MAX_POINTS)).round().astype(int)
    vectors = np.concatenate([some.vectors for some in clips])[kept]
    chosen = [named[i] for i in kept]
    # Identical vectors, such as those of silence, have no variance to divide by.
    with np.errstate(invalid="ignore"):
        coordinates = _scaled(_projection(method, len(kept))(vectors), len(kept))
    colors, legend = _COLORINGS[color](chosen)
    names = names_of(segment.source for segment in chosen)
    points = [
        Point(x, y, fill, _label(segment, names[segment.source]))
        for (x, y), fill, segment in zip(coordinates.tolist(), colors, chosen, strict=True)
    ]
    note = f"{len(kept):,} of {len(named):,} clips" if len(kept) < len(named) else f"{len(named):,} clips"
    return View(render("map.html", points=points, legend=legend, note=note))


@dataclass(frozen=True, slots=True)
class Point:
    """A clip's coordinates, 0 to 1, with its color and tooltip."""

    x: float
    y: float
    color: str
    label: str


Coloring = tuple[list[str], list[tuple[str, str]]]


def _by_source(segments: Sequence[Segment]) -> Coloring:
    names = names_of(segment.source for segment in segments)
    return _by_label([names[segment.source] for segment in segments])


def _by_track(segments: Sequence[Segment]) -> Coloring:
    return _by_label([segment.option for segment in segments])


def _by_label(labels: Sequence[str]) -> Coloring:
    counts = Counter(labels)
    colors = {label: color for (label, _), color in zip(counts.most_common(), PALETTE, strict=False)}
    legend = [(color, label) for label, color in colors.items()]
    if others := len(counts) - len(colors):
        legend.append((_OTHER_COLOR, f"{others:,} more"))
    return [colors.get(label, _OTHER_COLOR) for label in labels], legend


def _by_time(segments: Sequence[Segment]) -> Coloring:
    ends: dict[str, float] = {}
    for segment in segments:
        ends[segment.source] = max(ends.get(segment.source, 0.0), segment.end_sec)
    shares = [segment.start_sec / (ends[segment.source] or 1.0) for segment in segments]
    return [_time_color(share) for share in shares], [
        (_time_color(0.0), "start"),
        (_time_color(0.5), ""),
        (_time_color(1.0), "end"),
    ]


def _time_color(share: float) -> str:
    return "#" + "".join(
        f"{round(start + (end - start) * share):02x}" for start, end in zip(_START_RGB, _END_RGB, strict=True)
    )


_COLORINGS: dict[str, Callable[[Sequence[Segment]], Coloring]] = {
    "source": _by_source,
    "track": _by_track,
    "time": _by_time,
}


def _projection(method: str | Project | None, count: int) -> Project:
    if callable(method):
        return method
    if method is None:
        method = "pca" if count <= _NEIGHBOURS else "umap" if find_spec("umap") else "tsne"
    if method not in _METHODS:
        raise InputError(f"method={method!r} is not supported. Use {', '.join(map(repr, _METHODS))} or a callable.")
    return _METHODS[method]


def _umap(vectors: npt.NDArray[np.float32]) -> Points:
    if find_spec("umap") is None:
        raise InputError(
            "method='umap' needs the package umap-learn. Run pip install umap-learn, or use method='tsne'."
        )
    import umap

    neighbours = min(15, len(vectors) - 1)
    reducer = umap.UMAP(metric="cosine", n_neighbors=neighbours, random_state=0)
    return np.asarray(reducer.fit_transform(vectors), np.float64)


def _tsne(vectors: npt.NDArray[np.float32]) -> Points:
    from sklearn.manifold import TSNE

    perplexity = max(1.0, min(_NEIGHBOURS, (len(vectors) - 1) / 3))
    reducer = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0)
    return np.asarray(reducer.fit_transform(vectors), np.float64)


def _pca(vectors: npt.NDArray[np.float32]) -> Points:
    from sklearn.decomposition import PCA

    return np.asarray(PCA(2, random_state=0).fit_transform(vectors), np.float64)


_METHODS: dict[str, Project] = {"umap": _umap, "tsne": _tsne, "pca": _pca}


def _scaled(coordinates: Any, count: int) -> Points:
    """Scale both axes by the same factor into 0 to 1."""
    points = np.asarray(coordinates, np.float64)
    if points.shape != (count, 2) or not np.isfinite(points).all():
        raise InputError(
            f"method returned an array of shape {points.shape}. Expected ({count}, 2) with finite numbers."
        )
    low, high = points.min(axis=0), points.max(axis=0)
    middle, span = (low + high) / 2, float((high - low).max()) or 1.0
    return np.asarray((points - middle) / span + 0.5, np.float64)


def _label(segment: Segment, name: str) -> str:
    return ", ".join(filter(None, (name, span(segment.start_sec, segment.end_sec), segment.option)))

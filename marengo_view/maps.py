"""A map of segments: their vectors in two dimensions, coloured by source, track or time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo import InputError, Segment, SegmentEmbeddings
from bedrock_marengo.search.citations import span
from bedrock_marengo.search.results import names_of
from marengo_view.drawing import View, all_of, draw

__all__ = ["segment_map"]

Points = npt.NDArray[np.float64]
Project = Callable[[npt.NDArray[np.float32]], Points]

MOST_POINTS = 3_000
"""More are thinned out evenly: a browser must draw them."""
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8d6e63", "#7e57c2")
"""Okabe and Ito's colours, told apart by most eyes, without the two that vanish on light or dark; and two more."""
_OTHER = "#8a8f98"
_EARLY, _LATE = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)
_NEIGHBOURS = 30


def segment_map(
    segments: SegmentEmbeddings | Iterable[SegmentEmbeddings],
    *,
    color: Literal["source", "track", "time"] = "source",
    option: str | None = None,
    method: Literal["umap", "tsne", "pca"] | Project | None = None,
) -> View:
    """Clips as points in a plane: what is alike lies close together. A point tells its file, time and track.

    Args:
        segments: of one or more media, of one model: what ``embed_media`` gives, or ``.segments`` of ``embed_many``'s.
        color: what the colours mean. "time" runs from each medium's start to its end; the eight most frequent sources
            have colours of their own.
        option: only this track. Tracks tend to lie apart, whatever is in them.
        method: "umap" (if umap-learn is installed), "tsne" or "pca" (scikit-learn), or a callable from float32
            ``(n, dimension)`` to ``(n, 2)``. Left out, umap if it is installed, else t-SNE; few points by PCA. The
            same segments give the same map.

    Raises:
        bedrock_marengo.InputError: Fewer than two clips, vectors of two models, or a setting that makes no sense.
    """
    given = all_of(segments)
    clips = [some.select(option=option, scope="clip") for some in given]
    named = [segment for some in clips for segment in some]
    if len({some.model_id for some in given}) > 1:
        raise InputError("These segments are of two models, whose vectors never compare: draw a map of each.")
    if len(named) < 2:
        tracks = sorted({track for some in given for track in some.option})
        raise InputError(
            f"A map needs two clips, and there {'is one' if named else 'are none'}"
            f"{f' of track {option!r}; tracks here are {tracks}' if option else ''}."
        )
    if color not in _COLORINGS:
        raise InputError(f"color={color!r}: give {', '.join(map(repr, _COLORINGS))}.")
    kept = np.linspace(0, len(named) - 1, min(len(named), MOST_POINTS)).round().astype(int)
    vectors = np.concatenate([some.vectors for some in clips])[kept]
    chosen = [named[i] for i in kept]
    # Vectors that are all alike, such as of silence, have no spread to divide by.
    with np.errstate(invalid="ignore"):
        places = _scaled(_projection(method, len(kept))(vectors), len(kept))
    colors, legend = _COLORINGS[color](chosen)
    names = names_of(segment.source for segment in chosen)
    points = [
        Point(x, y, paint, _label(segment, names[segment.source]))
        for (x, y), paint, segment in zip(places.tolist(), colors, chosen, strict=True)
    ]
    note = f"{len(kept):,} of {len(named):,} clips" if len(kept) < len(named) else f"{len(named):,} clips"
    return View(draw("map.html", points=points, legend=legend, note=note))


@dataclass(frozen=True, slots=True)
class Point:
    """Where a clip lies, from 0 to 1, and what it tells."""

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
        legend.append((_OTHER, f"{others:,} more"))
    return [colors.get(label, _OTHER) for label in labels], legend


def _by_time(segments: Sequence[Segment]) -> Coloring:
    ends: dict[str, float] = {}
    for segment in segments:
        ends[segment.source] = max(ends.get(segment.source, 0.0), segment.end_sec)
    shares = [segment.start_sec / (ends[segment.source] or 1.0) for segment in segments]
    return [_between(share) for share in shares], [
        (_between(0.0), "start"),
        (_between(0.5), ""),
        (_between(1.0), "end"),
    ]


def _between(share: float) -> str:
    return "#" + "".join(
        f"{round(early + (late - early) * share):02x}" for early, late in zip(_EARLY, _LATE, strict=True)
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
        raise InputError(f"method={method!r}: give {', '.join(map(repr, _METHODS))} or a callable.")
    return _METHODS[method]


def _umap(vectors: npt.NDArray[np.float32]) -> Points:
    if find_spec("umap") is None:
        raise InputError("method='umap' needs umap-learn: pip install umap-learn, or give 'tsne'.")
    import umap

    near = min(15, len(vectors) - 1)
    return np.asarray(umap.UMAP(metric="cosine", n_neighbors=near, random_state=0).fit_transform(vectors), np.float64)


def _tsne(vectors: npt.NDArray[np.float32]) -> Points:
    from sklearn.manifold import TSNE

    near = min(_NEIGHBOURS, (len(vectors) - 1) / 3)
    found = TSNE(metric="cosine", init="pca", perplexity=max(1.0, near), random_state=0).fit_transform(vectors)
    return np.asarray(found, np.float64)


def _pca(vectors: npt.NDArray[np.float32]) -> Points:
    from sklearn.decomposition import PCA

    return np.asarray(PCA(2, random_state=0).fit_transform(vectors), np.float64)


_METHODS: dict[str, Project] = {"umap": _umap, "tsne": _tsne, "pca": _pca}


def _scaled(places: Any, count: int) -> Points:
    """Both axes by one scale, into 0 to 1."""
    found = np.asarray(places, np.float64)
    if found.shape != (count, 2) or not np.isfinite(found).all():
        raise InputError(f"method gave an array of shape {found.shape}: it must be ({count}, 2), of finite numbers.")
    low, high = found.min(axis=0), found.max(axis=0)
    middle, span = (low + high) / 2, float((high - low).max()) or 1.0
    return np.asarray((found - middle) / span + 0.5, np.float64)


def _label(segment: Segment, name: str) -> str:
    return ", ".join(filter(None, (name, span(segment.start_sec, segment.end_sec), segment.option)))

"""How much a moment's cosine says, in three bands: a hint, not a proof.

For a text and a video, there are documented cosines. For all else, a moment is compared with the other hits of its
track: those bounds are ours, and not measured with Marengo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np

from bedrock_marengo.contract.inputs import Query
from bedrock_marengo.search.fusion import TIE, Hit, Moment
from bedrock_marengo.search.targets import WORDS

__all__ = ["Bands", "Confidence", "at_least", "is_text"]

Confidence = Literal["low", "medium", "high"]

TEXT_COSINES: Mapping[str, tuple[float, float]] = {"3.0": (0.05, 0.07)}
"""Version -> cosines of a text with a video: wrong ones are below the first, right ones from the second on."""

_VIDEO = ("visual", "fused")
"""The tracks that these cosines are about."""

SPREADS = (2.0, 4.0)
"""How many spreads above the median of its track's hits a cosine is medium, and high. Ours."""
LEAST_HITS = 10
"""Of fewer hits, a median says nothing. Ours."""


class Bands:
    """The bands of one search's moments.

    Args:
        hits: what the search found.
        version: of the model.
        is_text: whether the query is a text alone.
    """

    def __init__(self, hits: Iterable[Hit], version: str, is_text: bool) -> None:
        self._cosines = TEXT_COSINES.get(version) if is_text else None
        scores: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for hit in hits:
            if hit.track != WORDS:
                scores[hit.track, hit.segment.scope].append(hit.score)
        self._bounds = {track: bounds for track, found in scores.items() if (bounds := _bounds(found)) is not None}

    def of(self, moment: Moment) -> Confidence | None:
        """By the track that contributed most, words apart.

        None if nothing is documented for it and there are too few hits, or if only its words were found.
        """
        best = next((hit for track, hit in moment.tracks.items() if track != WORDS), None)
        if best is None:
            return None
        if self._cosines is not None and best.track in _VIDEO:
            bounds: tuple[float, float] | None = self._cosines
        else:
            bounds = self._bounds.get((best.track, best.segment.scope))
        if bounds is None:
            return None
        return get_args(Confidence)[sum(best.score >= bound for bound in bounds)]  # type: ignore[no-any-return]


def is_text(query: Query) -> bool:
    """Whether a query is a text alone."""
    return query.text is not None and query.image is None and not query.images


def at_least(band: Confidence | None, least: Confidence | None) -> bool:
    """Whether a band is this or better. What has no band can't be ruled out."""
    bands = get_args(Confidence)
    return band is None or least is None or bands.index(band) >= bands.index(least)


def _bounds(scores: list[float]) -> tuple[float, float] | None:
    if len(scores) < LEAST_HITS:
        return None
    median = float(np.median(scores))
    # For a normal distribution, 1.4826 times the median deviation is the standard deviation.
    spread = 1.4826 * float(np.median(np.abs(np.array(scores) - median)))
    # Of equal cosines, none stands out.
    low, high = (median + max(n * spread, TIE) for n in SPREADS)
    return low, high

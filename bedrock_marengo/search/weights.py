"""How much each track counts: a preset, the user's own weights, or the query's intent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bedrock_marengo.contract.models import UNTIMED_TRACKS
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.validation import is_number, require_many, short_repr

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient
    from bedrock_marengo.contract.models import Model

__all__ = [
    "ALPHA",
    "ANCHORS",
    "PRESETS",
    "check_lengths",
    "check_tracks",
    "check_weights",
    "cosines",
    "intent_weights",
    "query_weights",
    "route",
    "tracks_of",
    "weights_of",
]

INTENT = "intent"
"""Instead of a preset: the query decides."""

Vector = npt.NDArray[np.float32]

ALPHA = 10.0
"""Sharpness of intent routing, TwelveLabs' guidance; larger is sharper."""


PRESETS: Mapping[str, Mapping[str, float]] = {
    "visual": {
        "visual": 0.8,
        "audio": 0.1,
        "transcription": 0.05,
        "fused": 0.95,
        "image": 0.95,
        "visual-text": 0.4,
        "visual-image": 0.4,
        "words": 0.3,
    },
    "dialogue": {
        "visual": 0.2,
        "audio": 0.1,
        "transcription": 0.7,
        "fused": 1.0,
        "image": 0.2,
        "visual-text": 0.1,
        "visual-image": 0.1,
        "words": 0.7,
    },
    "sound": {
        "visual": 0.3,
        "audio": 0.6,
        "transcription": 0.1,
        "fused": 1.0,
        "image": 0.3,
        "visual-text": 0.15,
        "visual-image": 0.15,
        "words": 0.1,
    },
    "balanced": {
        "visual": 0.4,
        "audio": 0.3,
        "transcription": 0.3,
        "fused": 1.0,
        "image": 1.0,
        "visual-text": 0.2,
        "visual-image": 0.2,
        "words": 0.3,
    },
}
"""Weights by track. visual, audio and transcription are TwelveLabs' guidance; "visual" is its default. The rest is
ours: "words" counts if a retriever has words=; a fused vector counts for all three, and 2.7's two visual tracks
share the weight of "visual". An image has one vector, and a clip has several that add up: where the picture counts
most, an image weighs as much as they do together, or all photographs would rank behind all clips. It still never
precedes a clip whose picture is a better match: see ``fusion``."""


ANCHORS: Mapping[str, str] = {
    "visual": "What can be seen: people, objects, places, colours and actions in the picture.",
    "audio": "What can be heard that is not speech: music, noises, engines, applause, animals, silence.",
    "transcription": "What somebody says: spoken words, a quote, a conversation, a topic that is talked about.",
    "visual-text": "Words and scenes in the picture as text describes them: titles, signs, captions, what is shown.",
    "visual-image": "What the picture looks like: objects, faces, colours, composition and actions.",
    "fused": "A whole moment of a video: what is seen, heard and said in it together.",
    "image": "A photograph or a drawing: what a single still picture shows.",
    WORDS: "Exact words: a name, a number, a quotation, a term, a code, the name of a file.",
}
"""What each track contains, in one sentence: intent routing compares queries with these. Ours."""


def tracks_of(model: Model) -> tuple[str, ...]:
    """The tracks that segments of a model can have, those of images included."""
    options = dict.fromkeys(option for kind in model.options.values() for option in kind)
    return (*options, *(["fused"] if model.fused else []), *UNTIMED_TRACKS)


def weights_of(weights: str | Mapping[str, float], tracks: Sequence[str]) -> dict[str, float]:
    """The weights of these tracks, from a preset's name or from the user's own mapping.

    Raises:
        InputError: An unknown preset, a track that the model doesn't have, a negative weight, or no weight above 0.
    """
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise InputError(
                f"not a preset. Expected {', '.join(PRESETS)}, or a mapping of track to weight.",
                setting="weights",
                value=weights,
            )
        return {track: PRESETS[weights][track] for track in tracks if track in PRESETS[weights]}
    if not isinstance(weights, Mapping):
        raise InputError(
            f"expected {', '.join(PRESETS)}, or a mapping of track to weight.", setting="weights", value=weights
        )
    for track, weight in weights.items():
        if track == WORDS and WORDS not in tracks:
            raise InputError(
                "weights has 'words', and words are not a track unless you pass {words}.",
                setting="weights",
                remedy={"words": "bm25"},
            )
        if track not in tracks:
            raise InputError(
                f"weights has {short_repr(track)}, which is not a track of this model: expected {', '.join(tracks)}.",
                setting="weights",
            )
        if not (is_number(weight) and 0 <= weight < float("inf")):
            raise InputError(
                f"weights has {track!r}: {short_repr(weight)}; expected a number, 0 or more.", setting="weights"
            )
    if not sum(weights.values()):
        raise InputError(
            "weights has no track above 0, so nothing would be searched: set at least one weight above 0.",
            setting="weights",
        )
    return dict(weights)


def query_weights(
    client: MarengoClient, query: Vector, weights: str | Mapping[str, float], tracks: Sequence[str], alpha: float
) -> dict[str, float]:
    """The weights of one query: ``intent_weights`` if the query decides, else ``weights_of``."""
    return intent_weights(client, query, tracks, alpha) if weights == INTENT else weights_of(weights, tracks)


def check_weights(weights: str | Mapping[str, float], tracks: Sequence[str], alpha: float = ALPHA) -> dict[str, float]:
    """Refuse wrong weights before there is a query.

    Returns:
        The weights; if the query decides, equal ones.

    Raises:
        InputError: As ``weights_of``, or ``alpha`` is negative or not a number.
    """
    _check_alpha(alpha)
    return dict.fromkeys(tracks, 1.0) if weights == INTENT else weights_of(weights, tracks)


def route(query: Vector, anchors: Mapping[str, Vector], alpha: float = ALPHA) -> dict[str, float]:
    """Intent routing: weights that sum to 1, softmax(alpha * cosine of the query with each track's anchor).

    Args:
        query: ``(dimension,)``.
        anchors: track -> ``(dimension,)``.
        alpha: 0 gives all tracks the same weight; larger is sharper.
    """
    scaled = alpha * cosines(query, np.stack(list(anchors.values()))).astype(np.float64)
    powers = np.exp(scaled - scaled.max())
    return dict(zip(anchors, (powers / powers.sum()).tolist(), strict=True))


def intent_weights(
    client: MarengoClient, query: Vector, tracks: Sequence[str], alpha: float = ALPHA
) -> dict[str, float]:
    """``route`` by ``ANCHORS``. The client embeds them at their first use and keeps their vectors.

    Args:
        client: the client that embedded the query.
        query: ``(dimension,)``.
        tracks: the tracks to weigh.
        alpha: 0 gives all tracks the same weight; larger is sharper.

    Raises:
        InputError: ``alpha`` is negative or not a number.
        ServiceError: AWS refused to embed the anchors.
    """
    _check_alpha(alpha)
    known = client._anchors
    # No lock during the call: two threads may embed the same anchors once each, which costs less than one waiting.
    if missing := [track for track in tracks if track not in known]:
        known.update(zip(missing, client.embed_texts([ANCHORS[track] for track in missing]), strict=True))
    return route(query, {track: known[track] for track in tracks}, alpha)


def collection_names(name: str, tracks: Iterable[str] | None, model: Model) -> dict[str, str]:
    """Track -> the name of its collection or table, ``{name}_{track}``; None for the tracks of a video.

    Raises:
        InputError: A track that the model doesn't have.
    """
    wanted = list(model.options["video"] if tracks is None else require_many(tracks, "tracks", "tracks"))
    check_tracks(wanted, model)
    # Not every store takes a hyphen, as in visual-text.
    return {track: f"{name}_{re.sub('[^0-9a-z]', '_', track)}" for track in wanted}


def check_tracks(tracks: Iterable[str], model: Model) -> None:
    """Refuse tracks that a model doesn't have.

    Raises:
        InputError: The first such track.
    """
    known = tracks_of(model)
    for track in tracks:
        if track not in known:
            raise InputError(
                f"{short_repr(track)} is not a track of Marengo {model.version}: expected {', '.join(known)}."
            )


def check_lengths(query: int, segments: int) -> None:
    """Refuse to compare vectors of two lengths.

    Args:
        query: dimensions of the query's vector.
        segments: dimensions of the segments' vectors.

    Raises:
        InputError: They differ.
    """
    if query != segments:
        raise InputError(
            f"The query's vector has {query} dimensions and the segments' vectors have {segments}: vectors of two "
            "models or two lengths can't be compared. Embed both with the same model and dimension."
        )


def cosines(query: Vector, vectors: Vector) -> Vector:
    """Cosine similarity of one query ``(dimension,)`` with each row of ``(n, dimension)``: float32 ``(n,)``.

    Raises:
        InputError: Their dimensions differ.
    """
    check_lengths(query.shape[-1], vectors.shape[-1])
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)) * np.linalg.norm(query)
    # Not vectors @ query: with BLAS, the last bits of equal rows depend on their places.
    products = np.einsum("ij,j->i", vectors, query)
    return np.asarray(products / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def _check_alpha(alpha: float) -> None:
    if not (is_number(alpha) and 0 <= alpha < float("inf")):
        raise InputError(
            f"expected a number, 0 or more, such as {ALPHA:g}. Larger values favor the best track more.",
            setting="alpha",
            value=alpha,
        )

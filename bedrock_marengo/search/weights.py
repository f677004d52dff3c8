"""What each track counts for: presets, a user's weights, or the query's intent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from bedrock_marengo.aws.fork_safety import ForkSafeLock
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_number, short_repr

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient
    from bedrock_marengo.contract.models import Model
from bedrock_marengo.search.fusion import Vector

__all__ = [
    "ALPHA",
    "ANCHORS",
    "PRESETS",
    "check_alpha",
    "check_tracks",
    "cosines",
    "intent_weights",
    "route",
    "tracks_of",
    "weights_of",
]


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
    },
    "dialogue": {
        "visual": 0.2,
        "audio": 0.1,
        "transcription": 0.7,
        "fused": 1.0,
        "image": 0.2,
        "visual-text": 0.1,
        "visual-image": 0.1,
    },
    "sound": {
        "visual": 0.3,
        "audio": 0.6,
        "transcription": 0.1,
        "fused": 1.0,
        "image": 0.3,
        "visual-text": 0.15,
        "visual-image": 0.15,
    },
    "balanced": {
        "visual": 0.4,
        "audio": 0.3,
        "transcription": 0.3,
        "fused": 1.0,
        "image": 1.0,
        "visual-text": 0.2,
        "visual-image": 0.2,
    },
}
"""Weights by track. visual, audio and transcription are TwelveLabs' guidance; "visual" is its default. The rest is
ours: a fused vector stands for all three, and 2.7's two visual tracks share the weight of sight. An image has one
vector where a clip has several to add up: where sight counts most it weighs what they weigh together, or photographs
would come after all clips."""


ANCHORS: Mapping[str, str] = {
    "visual": "What can be seen: people, objects, places, colours and actions in the picture.",
    "audio": "What can be heard that is not speech: music, noises, engines, applause, animals, silence.",
    "transcription": "What somebody says: spoken words, a quote, a conversation, a topic that is talked about.",
    "visual-text": "Words and scenes in the picture as text describes them: titles, signs, captions, what is shown.",
    "visual-image": "What the picture looks like: objects, faces, colours, composition and actions.",
    "fused": "A whole moment of a video: what is seen, heard and said in it together.",
    "image": "A photograph or a drawing: what a single still picture shows.",
}
"""One sentence a track, ours, that says what it holds: intent routing compares a query with these."""


def tracks_of(model: Model) -> tuple[str, ...]:
    """The tracks that a model's segments may have, images too."""
    options = dict.fromkeys(option for kind in model.options.values() for option in kind)
    return (*options, *(["fused"] if model.fused else []), "image")


def weights_of(weights: str | Mapping[str, float], tracks: Sequence[str]) -> dict[str, float]:
    """The weights that a preset's name or a user's mapping means for these tracks.

    Raises:
        InputError: No such preset, a track that the model has not, a weight that is negative, or none above 0.
    """
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise InputError(
                f"{short_repr(weights)} is no preset: {', '.join(PRESETS)}, or a mapping of track to weight."
            )
        return {track: PRESETS[weights][track] for track in tracks if track in PRESETS[weights]}
    if not isinstance(weights, Mapping):
        raise InputError(f"weights={short_repr(weights)}: give {', '.join(PRESETS)}, or a mapping of track to weight.")
    for track, weight in weights.items():
        if track not in tracks:
            raise InputError(f"weights has {short_repr(track)}, which is no track of this model: {', '.join(tracks)}.")
        if not (is_number(weight) and 0 <= weight < float("inf")):
            raise InputError(f"weights has {track!r}: {short_repr(weight)}; give a number from 0.")
    if not sum(weights.values()):
        raise InputError("weights has no track above 0: nothing would be searched.")
    return dict(weights)


def route(query: Vector, anchors: Mapping[str, Vector], alpha: float = ALPHA) -> dict[str, float]:
    """Intent routing: weights that sum to 1, softmax(alpha * cosine of the query with each track's anchor).

    Args:
        query: ``(dimension,)``.
        anchors: track -> ``(dimension,)``.
        alpha: 0 weighs all alike, larger is sharper.
    """
    scaled = alpha * cosines(query, np.stack(list(anchors.values()))).astype(np.float64)
    powers = np.exp(scaled - scaled.max())
    return dict(zip(anchors, (powers / powers.sum()).tolist(), strict=True))


def intent_weights(
    client: MarengoClient, query: Vector, tracks: Sequence[str], alpha: float = ALPHA
) -> dict[str, float]:
    """``route`` by ``ANCHORS``, which are embedded once for each client, in one batch of texts.

    Raises:
        InputError: ``alpha`` is no number.
    """
    check_alpha(alpha)
    with _anchors_lock:
        known = _anchors.setdefault(client, {})
        if missing := [track for track in tracks if track not in known]:
            known.update(zip(missing, client.embed_texts([ANCHORS[track] for track in missing]), strict=True))
    return route(query, {track: known[track] for track in tracks}, alpha)


def check_alpha(alpha: float) -> None:
    """Refuse a sharpness that makes no sense.

    Raises:
        InputError: As said.
    """
    if not (is_number(alpha) and 0 <= alpha < float("inf")):
        raise InputError(f"alpha={short_repr(alpha)}: give a number from 0, such as {ALPHA:g}; larger is sharper.")


def check_tracks(tracks: Iterable[str], model: Model) -> None:
    """Refuse stores of tracks that a model does not have.

    Raises:
        InputError: The first such track.
    """
    known = tracks_of(model)
    for track in tracks:
        if track not in known:
            raise InputError(f"{short_repr(track)} is no track of Marengo {model.version}: {', '.join(known)}.")


def cosines(query: Vector, vectors: Vector) -> Vector:
    """Cosine similarity of one query ``(dimension,)`` with each row of ``(n, dimension)``: float32 ``(n,)``.

    Raises:
        InputError: Dimensions that differ: vectors of two models.
    """
    if query.shape[-1] != vectors.shape[-1]:
        raise InputError(
            f"The query has {query.shape[-1]} dimensions and the segments {vectors.shape[-1]}: vectors of two models "
            "never compare. Embed both with the same model."
        )
    norms = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(query)
    return np.asarray(vectors @ query / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


_anchors: WeakKeyDictionary[MarengoClient, dict[str, Vector]] = WeakKeyDictionary()


_anchors_lock = ForkSafeLock()

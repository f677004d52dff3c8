"""Playable hits: a card for each, with a thumbnail, its time, its tracks and what is said."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bedrock_marengo import InputError, MarengoClient, ServiceError
from bedrock_marengo.aws.cancellation import CancellableExecutor, CancelToken
from bedrock_marengo.s3.presign import check_lifetime
from bedrock_marengo.search.citations import span
from bedrock_marengo.search.results import SearchResult, check_allowed_prefixes, is_allowed, names_of, results_from
from bedrock_marengo.validation import check_width
from marengo_view.drawing import HasMarengo, View, client_of, draw

__all__ = ["Card", "cards_of", "show"]

CLIP_SEC = 20.0
"""An inline clip shows at most so much of its moment: about a megabyte."""
_AT_ONCE = 4


def show(
    hits: Iterable[Any],
    client: MarengoClient | HasMarengo,
    *,
    inline: bool = False,
    expires_sec: int = 3600,
    width: int = 320,
    allowed_prefixes: Sequence[str] | None = None,
) -> View:
    """Hits as cards in a notebook: a player that starts at the moment, a thumbnail, the tracks that found it.

    By default a player streams the whole medium from S3 by a presigned URL with ``#t=start,end``, which works until it
    expires, for everyone who gets to see the notebook's output. With ``inline=True`` a small copy of just the moment
    is put into the output, which then plays anywhere, for ever, and holds no link.

    Args:
        hits: what a search gave, best first: LangChain Documents, LlamaIndex nodes, or the core's moments.
        client: whose credentials read and sign: a ``MarengoClient``, or a framework's embeddings.
        inline: whether to put clips of at most 20 seconds into the output.
        expires_sec: how long presigned URLs work, at most 7 days and the credentials' own life.
        width: pixels of a player, 16 to 4096.
        allowed_prefixes: S3 prefixes and objects; only these are read and signed. Set it if others can write to
            your store, for a segment that they make up could name any object your credentials can read.

    Raises:
        bedrock_marengo.ConfigurationError: ``expires_sec`` is not 1 second to 7 days, or PyAV is not installed.
        bedrock_marengo.InputError: No list of hits, no client, or a width or a prefix that makes no sense. A medium
            that can't be read leaves a card that says so.

    Examples:
        ```python
        show(retriever.invoke("a goal from a corner"), embeddings)
        ```
    """
    core, found = client_of(client), results_from(hits)
    check_width(width)
    check_lifetime(expires_sec)
    cards = cards_of(
        found, core, width=width, allowed_prefixes=allowed_prefixes, expires_sec=None if inline else expires_sec
    )
    return View(draw("cards.html", cards=cards, width=width, is_page=False))


@dataclass(frozen=True, slots=True)
class Card:
    """What the template needs of one hit: what to play, what to see, and a note on what of these is missing."""

    number: int
    name: str
    found: SearchResult
    url: str = ""
    poster: str = ""
    note: str = ""

    @property
    def times(self) -> str:
        """From when to when, as a person reads it; nothing for an image."""
        return span(self.found.start_sec, self.found.end_sec)

    @property
    def label(self) -> str:
        """The file and the time."""
        return f"{self.name}, {self.times}" if self.times else self.name

    @property
    def score(self) -> float | None:
        """The search's own, where no track has a cosine to show."""
        return None if any(cosine is not None for cosine in self.found.tracks.values()) else self.found.score


def cards_of(
    found: Sequence[SearchResult],
    client: MarengoClient,
    *,
    width: int,
    allowed_prefixes: Sequence[str] | None,
    expires_sec: int | None = None,
) -> list[Card]:
    """The cards, with clips in them, or with links that work for so many seconds.

    What can't be read leaves a card with a note.
    """
    check_allowed_prefixes(allowed_prefixes)
    names = names_of(hit.source for hit in found)

    def fill(card: Card) -> Card:
        if not is_allowed(card.found.source, allowed_prefixes):
            return replace(card, note="Not shown: it does not lie below the prefixes given.")
        try:
            card = replace(card, url=_playable(client, card.found, width, expires_sec))
            card = replace(card, poster=_poster(client, card.found, width))
        except ServiceError as error:
            return replace(card, url="", note=f"Nothing to show: {error}")
        except InputError as error:
            # A browser may play what can't be decoded here.
            return replace(card, note=f"{'No thumbnail' if card.url else 'Nothing to show'}: {error}")
        is_cut = expires_sec is None and card.found.end_sec - card.found.start_sec > CLIP_SEC
        return replace(card, note=f"Its first {CLIP_SEC:g} seconds.") if is_cut and card.url else card

    # Many calls to S3, or as many clips as there are cores to make them.
    with CancellableExecutor(_AT_ONCE, "marengo-view", CancelToken()) as pool:
        return list(pool.map(fill, (Card(i, names[hit.source], hit) for i, hit in enumerate(found, start=1))))


def _playable(client: MarengoClient, hit: SearchResult, width: int, expires_sec: int | None) -> str:
    if hit.media_type == "image":
        return ""
    if expires_sec is None:
        end = min(hit.end_sec, hit.start_sec + CLIP_SEC)
        return _data(f"{hit.media_type}/mp4", client.clip(hit.media, hit.start_sec, end, width=width))
    # The moment's times, which may reach over several segments.
    moment = replace(hit.segment, start_sec=hit.start_sec, end_sec=hit.end_sec)
    return client.playable_url(moment, expires_sec=expires_sec)


def _poster(client: MarengoClient, hit: SearchResult, width: int) -> str:
    if hit.media_type == "audio":
        return ""
    # Twice the pixels, for screens that have them.
    [jpeg] = client.frames(hit.media, [(hit.start_sec + hit.end_sec) / 2], width=min(2 * width, 4096))
    return _data("image/jpeg", jpeg)


def _data(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"

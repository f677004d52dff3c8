"""Search results as playable cards: thumbnail, time range, tracks and words."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bedrock_marengo import InputError, MarengoClient, ServiceError
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.contract.words import span
from bedrock_marengo.s3.presign import check_lifetime
from bedrock_marengo.search import SearchResult, results_from
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, names_of
from bedrock_marengo.validation import check_width
from marengo_view.rendering import HasCore, View, client_of, render

__all__ = ["Card", "cards_of", "show"]

CLIP_SEC = 20.0
"""Longest inline clip, about 1 MB. A longer moment is cut to this."""
_MAX_THREADS = 4


def show(
    hits: Iterable[Any],
    client: MarengoClient | HasCore,
    *,
    inline: bool = False,
    expires_sec: int = 3600,
    width: int = 320,
    allowed_prefixes: Sequence[str] | None = None,
) -> View:
    """Show search results in a notebook: a player that starts at the moment, a thumbnail, and the matching tracks.

    By default, each player streams the whole file from S3 through a presigned URL with ``#t=start,end``. The URL works
    until it expires, for anyone who can see the notebook's output. With ``inline=True``, a small copy of the moment is
    embedded in the output instead; it contains no links, plays anywhere and does not expire.

    Args:
        hits: search results, best first: LangChain Documents, LlamaIndex nodes, or the core's moments.
        client: a ``MarengoClient`` or a framework's embeddings, whose credentials read the files and sign the URLs.
        inline: embed clips of at most 20 seconds in the output.
        expires_sec: how long presigned URLs are valid, in seconds: at most 7 days, and no longer than the credentials.
        width: player width in pixels, 16 to 4096.
        allowed_prefixes: S3 prefixes and objects; nothing else is read or signed. Set this if others can write to
            your store: a forged segment could otherwise name any object that your credentials can read.

    Raises:
        bedrock_marengo.ConfigurationError: ``expires_sec`` is not 1 second to 7 days, or PyAV is not installed.
        bedrock_marengo.InputError: ``hits`` is not a list, ``client`` is not a client, or ``width`` or
            ``allowed_prefixes`` is invalid. A file that can't be read raises nothing; its card shows the reason.

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
    return View(render("cards.html", cards=cards, width=width, is_page=False))


@dataclass(frozen=True, slots=True)
class Card:
    """One search result as the template renders it; ``note`` explains what is missing."""

    number: int
    name: str
    result: SearchResult
    url: str = ""
    poster: str = ""
    note: str = ""

    @property
    def times(self) -> str:
        """The time range as text; empty for an image."""
        return span(self.result.start_sec, self.result.end_sec)

    @property
    def label(self) -> str:
        """The file name and the time range."""
        return f"{self.name}, {self.times}" if self.times else self.name

    @property
    def score(self) -> float | None:
        """The search's own score, shown only if no track has a cosine."""
        return None if any(cosine is not None for cosine in self.result.tracks.values()) else self.result.score


def cards_of(
    found: Sequence[SearchResult],
    client: MarengoClient,
    *,
    width: int,
    allowed_prefixes: Sequence[str] | None,
    expires_sec: int | None = None,
) -> list[Card]:
    """A card for each result, with inline clips, or with presigned URLs if ``expires_sec`` is given.

    The card of a file that can't be read has a note with the reason.
    """
    check_allowed_prefixes(allowed_prefixes)
    names = names_of(hit.source for hit in found)

    def load(card: Card) -> Card:
        if not is_allowed(card.result.source, allowed_prefixes):
            return replace(card, note="Not shown: this file is outside the allowed prefixes.")
        try:
            card = replace(card, url=_player_url(client, card.result, width, expires_sec))
            card = replace(card, poster=_thumbnail_url(client, card.result, width))
        except ServiceError as error:
            return replace(card, url="", note=f"No preview: {error}")
        except InputError as error:
            # A browser may play a format that PyAV can't decode.
            return replace(card, note=f"{'No thumbnail' if card.url else 'No preview'}: {error}")
        is_cut = expires_sec is None and card.result.end_sec - card.result.start_sec > CLIP_SEC
        return replace(card, note=f"Only the first {CLIP_SEC:g} seconds are shown.") if is_cut and card.url else card

    # Reading from S3 and encoding clips dominate the time.
    with CancellableExecutor(_MAX_THREADS, "marengo-view", CancelToken()) as pool:
        return list(pool.map(load, (Card(i, names[hit.source], hit) for i, hit in enumerate(found, start=1))))


def _player_url(client: MarengoClient, hit: SearchResult, width: int, expires_sec: int | None) -> str:
    if hit.media_type == "image":
        return ""
    if expires_sec is None:
        end = min(hit.end_sec, hit.start_sec + CLIP_SEC)
        return _data_url(f"{hit.media_type}/mp4", client.clip(hit.media, hit.start_sec, end, width=width))
    # A moment may span several segments.
    moment = replace(hit.segment, start_sec=hit.start_sec, end_sec=hit.end_sec)
    return client.playable_url(moment, expires_sec=expires_sec)


def _thumbnail_url(client: MarengoClient, hit: SearchResult, width: int) -> str:
    if hit.media_type == "audio":
        return ""
    # Twice the pixels, for high-density screens.
    [jpeg] = client.frames(hit.media, [(hit.start_sec + hit.end_sec) / 2], width=min(2 * width, 4096))
    return _data_url("image/jpeg", jpeg)


def _data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"

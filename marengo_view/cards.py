"""Search results as playable cards, grouped by file: thumbnail, time range, relevance and words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import isfinite
from typing import Any

from bedrock_marengo import InputError, MarengoClient, Query, ServiceError
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.contract.words import Words, clock, span
from bedrock_marengo.s3.presign import check_lifetime
from bedrock_marengo.search import SearchResult, results_from
from bedrock_marengo.search.results import check_allowed_prefixes, is_allowed, names_of
from bedrock_marengo.validation import check_width
from marengo_view.highlights import query_words
from marengo_view.rendering import LEAST_COSINE, HasCore, View, client_of, render

__all__ = ["Card", "File", "cards_of", "files_of", "show"]

CLIP_SEC = 20.0
"""Longest inline clip, about 1 MB. A longer moment is cut to this."""
_PHOTO_WIDTH = 1280
"""Of a photo that can be opened large."""
_TALL = 1.1
"""Pictures that are not this much wider than high are shown next to their words. Photos are cropped, up to squares."""
_MAX_THREADS = 4


def show(
    hits: Iterable[Any],
    client: MarengoClient | HasCore,
    *,
    inline: bool = False,
    expires_sec: int = 3600,
    width: int = 320,
    query: Query | str | None = None,
    allowed_prefixes: Sequence[str] | None = None,
) -> View:
    """Show search results in a notebook, grouped by file: a player that starts at the moment, and the words there.

    By default, each player streams the whole file from S3 through a presigned URL with ``#t=start,end``. The URL works
    until it expires, for anyone who can see the notebook's output. With ``inline=True``, a small copy of the moment is
    embedded in the output instead; it contains no links, plays anywhere and does not expire.

    Args:
        hits: search results, best first: LangChain Documents, LlamaIndex nodes, or the core's moments.
        client: a ``MarengoClient`` or a framework's embeddings, whose credentials read the files and sign the URLs.
        inline: embed clips of at most 20 seconds in the output.
        expires_sec: how long presigned URLs are valid, in seconds: at most 7 days, and no longer than the credentials.
        width: player width in pixels, 16 to 4096.
        query: the query that was searched for; its words are highlighted.
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
    return View(render("cards.html", files=files_of(cards), width=width, is_page=False, wanted=wanted_words(query)))


def wanted_words(query: Query | str | None) -> frozenset[str]:
    """The words of a query's text."""
    return query_words((query.text if isinstance(query, Query) else query) or "")


@dataclass(frozen=True, slots=True)
class Card:
    """One search result as the template renders it.

    Attributes:
        number: its rank.
        name: its file's name.
        result: what was found.
        relevance: 0 to 1, relative to the best result; None if the search's numbers don't show it.
        url: plays it; empty for an image.
        poster: a picture of it.
        ratio: the picture's width over its height; 0 without a picture.
        length_sec: how long the file is, if that is known.
        note: what is missing.
    """

    number: int
    name: str
    result: SearchResult
    relevance: float | None = None
    url: str = ""
    poster: str = ""
    ratio: float = 0.0
    length_sec: float | None = None
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
    def is_tall(self) -> bool:
        """Whether the picture stands upright."""
        return 0 < self.ratio < (1.0 if self.result.media_type == "image" else _TALL)

    @property
    def part(self) -> tuple[float, float] | None:
        """Where in its file it begins, and how much of it it is, as fractions; None if the file's length is unknown."""
        if not self.length_sec or not self.times:
            return None
        length, start = max(self.length_sec, self.result.end_sec), self.result.start_sec
        return start / length, (self.result.end_sec - start) / length

    @property
    def words(self) -> list[tuple[str, str]]:
        """What is said and what is seen, each with its label; or the words, without one."""
        both = Words.find(self.result.words)
        return [("Said", both.said), ("Seen", both.seen)] if both else [("", self.result.words)]

    @property
    def tracks(self) -> Mapping[str, float | None]:
        """The tracks that found it."""
        tracks = self.result.tracks
        return {t: cosine for t, cosine in tracks.items() if cosine is None or abs(cosine) >= LEAST_COSINE}

    @property
    def score(self) -> float | None:
        """The search's own score, shown only if no track has a cosine."""
        return None if any(cosine is not None for cosine in self.result.tracks.values()) else self.result.score


@dataclass(slots=True)
class File:
    """The cards of one file, best first."""

    source: str
    name: str
    cards: list[Card] = field(default_factory=list)

    @property
    def about(self) -> str:
        """How many results it has, if several, and how long it is."""
        count, length = len(self.cards), max(card.length_sec or 0.0 for card in self.cards)
        return ", ".join(filter(None, [f"{count} results" if count > 1 else "", clock(length) if length else ""]))


def files_of(cards: Iterable[Card]) -> list[File]:
    """Cards by file, the files in the order of their best results."""
    files: dict[str, File] = {}
    for card in cards:
        files.setdefault(card.result.source, File(card.result.source, card.name)).cards.append(card)
    return list(files.values())


def relevances(found: Sequence[SearchResult]) -> list[float | None]:
    """How close each result comes to the best, 0 to 1: by the cosine of the track that contributed most to it.

    A track's cosines are compared with its own highest, since the tracks' scales differ, and no result has more than
    the one before it. Without cosines, scores are compared if higher ones come first; distances say nothing here.
    """
    leading = [next(iter(hit.tracks.items()), ("", None)) for hit in found]
    if any(cosine is None for _, cosine in leading):
        scores = [hit.score for hit in found]
        known = [score for score in scores if score is not None]
        is_falling = len(known) == len(scores) and known == sorted(known, reverse=True)
        leading = [("", score if is_falling else None) for score in scores]
    if any(number is None or not isfinite(number) for _, number in leading):
        return [None] * len(found)
    highest: dict[str, float] = {}
    for track, number in leading:
        highest[track] = max(highest.get(track, 0.0), number or 0.0)
    shares: list[float | None] = []
    least = 1.0
    for track, number in leading:
        least = min(least, max(0.0, (number or 0.0) / (highest[track] or 1.0)))
        shares.append(least)
    return shares if any(highest.values()) else [None] * len(found)


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
    photo_width = max(width, _PHOTO_WIDTH) if expires_sec is None else 2 * width
    length_of = cache(client.duration)

    def load(card: Card) -> Card:
        if not is_allowed(card.result.source, allowed_prefixes):
            return replace(card, note="Not shown: this file is outside the allowed prefixes.")
        try:
            card = replace(card, url=_player_url(client, card.result, width, expires_sec))
            card = replace(card, length_sec=length_of(card.result.media))
            is_photo = card.result.media_type == "image"
            card = _with_picture(card, client, photo_width if is_photo else 2 * width)
        except ServiceError as error:
            return replace(card, url="", note=f"No preview: {error}")
        except InputError as error:
            # A browser may play a format that PyAV can't decode.
            return replace(card, note=f"{'No thumbnail' if card.url else 'No preview'}: {error}")
        is_cut = expires_sec is None and card.result.end_sec - card.result.start_sec > CLIP_SEC
        return replace(card, note=f"Only the first {CLIP_SEC:g} seconds are shown.") if is_cut and card.url else card

    # Reading from S3 and encoding clips dominate the time.
    with CancellableExecutor(_MAX_THREADS, "marengo-view", CancelToken()) as pool:
        ranked = enumerate(zip(found, relevances(found), strict=True), start=1)
        return list(pool.map(load, (Card(i, names[hit.source], hit, share) for i, (hit, share) in ranked)))


def _player_url(client: MarengoClient, hit: SearchResult, width: int, expires_sec: int | None) -> str:
    if hit.media_type == "image":
        return ""
    if expires_sec is None:
        end = min(hit.end_sec, hit.start_sec + CLIP_SEC)
        return _data_url(f"{hit.media_type}/mp4", client.clip(hit.media, hit.start_sec, end, width=width))
    # A moment may span several segments.
    moment = replace(hit.segment, start_sec=hit.start_sec, end_sec=hit.end_sec)
    return client.playable_url(moment, expires_sec=expires_sec)


def _with_picture(card: Card, client: MarengoClient, width: int) -> Card:
    hit = card.result
    if hit.media_type == "audio":
        return card
    # Twice a card's pixels, for high-density screens.
    [jpeg] = client.frames(hit.media, [(hit.start_sec + hit.end_sec) / 2], width=min(width, 4096))
    return replace(card, poster=_data_url("image/jpeg", jpeg), ratio=_ratio(jpeg))


def _ratio(jpeg: bytes) -> float:
    import av

    with av.open(io.BytesIO(jpeg)) as picture:
        stream = picture.streams.video[0]
        return stream.width / stream.height


def _data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"

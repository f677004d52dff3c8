"""``marengo search``: the moments of embedded files that answer a query, with the core only and without a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Column

from bedrock_marengo import (
    InputError,
    Manifest,
    MarengoClient,
    MarengoError,
    Media,
    MediaResult,
    NotEmbeddedError,
    Query,
    SegmentEmbeddings,
)
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import SourceLike
from bedrock_marengo.contract.words import span
from bedrock_marengo.errors import visible
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.s3.uploads import upload
from bedrock_marengo.search.citations import describe_query
from bedrock_marengo.search.confidence import is_text
from bedrock_marengo.search.fusion import Moment, SearchSettings, SearchTarget
from bedrock_marengo.search.queries import tracks_and_weights
from bedrock_marengo.search.results import results_from
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, retrieve
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.weights import INTENT, check_weights, cosines, intent_weights, tracks_of
from marengo_cli.embed import Outcome, check_failed, embedded, show_failed
from marengo_cli.local_cache import LocalCache, embedded_once
from marengo_cli.options import names_in, numbers_in, sources_of
from marengo_cli.page_file import Page
from marengo_cli.skipped import show_skipped
from marengo_cli.terminal import apart, console, dollars, print_json, print_table, say, waiting
from marengo_cli.undecodable import plainly
from marengo_cli.word_track import WordTrack, read_captions

__all__ = ["Page", "Search", "finished", "query_of", "run", "show_found"]

Vector = npt.NDArray[np.float32]

STAND_IN = (
    "These vectors come from the stand-in, not from Marengo: they show how search works. Ranking, scores and "
    "confidence say nothing about Marengo's."
)
NARROW = 90
"""Columns of a terminal below which each result has lines of its own instead of a row."""


@dataclass(slots=True, kw_only=True)
class Search:
    """A query over files, and the results so far.

    Attributes:
        client: embeds the query.
        query: embedded when the first segments are read.
        settings: how to rank.
        intent: whether the query decides the weights.
        keep: whether to keep all segments, for a page's timelines.
        hits: the best hits of each track so far.
        media: S3 URI -> the file as the user gave it.
        segments: how many were searched.
        kept: all segments, with ``keep``.
        missing: files that are not embedded.
        failed: files with other errors.
        vector: the query's, once it is embedded.
        words: the files' captions, if they are a track, too.
    """

    client: MarengoClient
    query: Query
    settings: SearchSettings
    intent: bool = False
    keep: bool = False
    hits: dict[str, list[StoreHit[None]]] = field(default_factory=lambda: defaultdict(list))
    media: dict[str, Media] = field(default_factory=dict)
    segments: int = 0
    kept: list[SegmentEmbeddings] = field(default_factory=list)
    missing: list[MediaResult] = field(default_factory=list)
    failed: list[MediaResult] = field(default_factory=list)
    vector: Vector | None = None
    words: WordTrack | None = None

    @classmethod
    def of(
        cls,
        client: MarengoClient,
        query: Query,
        weights: str,
        *,
        keep: bool,
        words: WordTrack | None = None,
        **settings: Any,
    ) -> Search:
        """Check everything that can be checked before a file is read.

        Raises:
            InputError: An empty text, unknown weights, or a setting with a wrong value.
        """
        if query.text is not None:
            payloads.text(client.model, query.text)
        all_tracks = (*tracks_of(client.model), *([WORDS] if words else []))
        check_weights(_weights(weights), all_tracks)
        tracks, given = tracks_and_weights(all_tracks, _weights(weights), bool(query.text))
        ranking = SearchSettings(weights=check_weights(given, tracks), **settings)
        words = words if WORDS in tracks else None
        return cls(client=client, query=query, settings=ranking, intent=weights == INTENT, keep=keep, words=words)

    def add(self, done: MediaResult) -> None:
        """Search one file."""
        try:
            found = done.segments
        except MarengoError as error:
            done, found = replace(done, error=error, read=None), None
        if found is None:
            (self.missing if isinstance(done.error, NotEmbeddedError) else self.failed).append(done)
            return
        scores = cosines(self.embedded_query(), found.vectors)
        rows: dict[str, list[int]] = defaultdict(list)
        for i, (track, scope) in enumerate(zip(found.option, found.scope, strict=True)):
            if scope == self.settings.scope:
                rows[track].append(i)
        for track, indices in rows.items():
            # One more than counts, as from any store.
            best = nlargest(self.settings.depth + 1, indices, key=lambda i: scores[i])
            self.hits[track] += [StoreHit(found[i], None, float(scores[i]), found.model_id) for i in best]
            self.hits[track] = nlargest(self.settings.depth + 1, self.hits[track], key=lambda hit: hit.score or 0.0)
        self.segments += len(found)
        self.media[found.source] = done.media or Media.of(done.source)
        if self.words and found.source not in self.words.captions:
            self.words.add(found, self.media[found.source], self.name(found.source))
        if self.keep:
            self.kept.append(found)

    def moments(self) -> list[Moment]:
        """The best moments, best first."""
        if not self.hits:
            return []
        query, settings = self.embedded_query(), self.settings
        if self.intent:
            settings = replace(settings, weights=intent_weights(self.client, query, self.tracks))
        searches = [StoreSearch((target,), partial(self._search, target), "The search") for target in settings.targets]
        return retrieve(self.client, query, settings, searches, is_text=is_text(self.query))[0]

    @property
    def tracks(self) -> list[str]:
        """The tracks of the files."""
        return [*self.hits, *([WORDS] if self.words else [])]

    def by_words(self, limit: int) -> list[StoreHit[None]]:
        """The clips that have words of the query, best first."""
        target = SearchTarget(WORDS, self.settings.scope)
        return self.words.search(self.query.text or "", target, limit) if self.words else []

    def _search(self, target: SearchTarget, limit: int) -> list[StoreHit[None]]:
        return self.by_words(limit) if target.track == WORDS else self.hits.get(target.track, [])[:limit]

    def embedded_query(self) -> Vector:
        """The query's vector; it is embedded once, and only if there is a segment to compare it with."""
        if self.vector is None:
            self.vector = self.client.embed_query(self.query)
        return self.vector

    def name(self, source: str) -> str:
        """A file as the user gave it: a local one by its path, not by its upload."""
        media = self.media[source]
        return str(media.path) if media.path else source


def query_of(
    words: Sequence[str], *, text: str | None, image: str | None, audio: str | None, video: str | None
) -> tuple[Query, list[str]]:
    """The query and the sources, as typed: the first word is the query, unless a file is.

    Raises:
        InputError: No query, no sources, or no such file.
    """
    media = {"image": image, "audio": audio, "video": video}
    given: dict[str, Any] = {kind: _media_of(word, kind) for kind, word in media.items() if word is not None}
    if text is not None and not image:
        raise InputError(
            "--text needs --image. To search by text alone, pass it first: marengo search 'a dog' SOURCES."
        )
    rest = list(words)
    if not given:
        given["text"] = rest.pop(0)
    elif text is not None:
        given["text"] = text
    if not rest:
        raise InputError(
            "There are no sources to search. Pass sources after the query: s3://bucket/videos/, s3://bucket/match.mp4, "
            "files or folders."
        )
    return Query(**given), rest


def run(
    search: Search,
    sources: Sequence[SourceLike],
    embedding: Mapping[str, Any],
    *,
    cache: LocalCache | None = None,
    **shown: Any,
) -> int:
    """Read finished jobs, with ``local`` embed first; rank and show. 1 if nothing is found or files weren't searched.

    Args:
        search: the query.
        sources: the files to search.
        embedding: how they were embedded.
        cache: where the vectors of local files are kept.
        shown: for ``show_found``.

    Raises:
        bedrock_marengo.MarengoError: The query can't be embedded, or the page can't be written.
    """
    listing = search.client.list_media(sources)
    with closing(finished(search.client, listing, embedding, local=shown["local"], cache=cache)) as results:
        for done in results:
            search.add(done)
    return show_found(search, listing, **shown)


def show_found(
    search: Search,
    listing: MediaListing,
    *,
    local: bool,
    page: Page | None,
    advice: str,
    as_json: bool,
    with_notes: bool = True,
) -> int:
    """Rank what was read, and show it. 1 if nothing is found, or not all files were searched.

    Args:
        search: with the results of the files.
        listing: where the files come from.
        local: whether the client uses the stand-in.
        page: where to write a page.
        advice: the command that embeds the files.
        as_json: whether to print JSON.
        with_notes: whether to say which files were not searched, and why.

    Raises:
        bedrock_marengo.MarengoError: The query can't be embedded, or the page can't be written.
    """
    check_failed(search.failed, len(search.media) + len(search.missing) + len(search.failed))
    moments = search.moments()
    words = _words(search, moments)
    if not moments:
        page = None
    if page:
        with waiting("Writing the page"):
            if local:
                _upload(search, moments)
            page.write(_html(search, moments, words, STAND_IN if local else ""))
    if as_json:
        print_json({**_report(search, moments, words, local, page), "skipped": dict(listing.skipped)})
    else:
        _show(search, moments, words)
        if not moments:
            band = search.settings.min_confidence
            say(f"Nothing found{f' of {band} confidence or more' if band else ''}.", err=True)
        _show_summary(search, page)
        if with_notes:
            _show_notes(search, listing, local, advice)
    return 1 if search.missing or search.failed or not moments else 0


def _upload(search: Search, moments: Iterable[Moment]) -> None:
    """Files whose vectors were kept are not in the stand-in's S3 yet, where the page reads its clips."""
    for source in {moment.source for moment in moments}:
        upload(search.client._runtime.objects, search.media[source], str(search.client.output_s3_uri))


def finished(
    client: MarengoClient,
    sources: Sequence[SourceLike] | MediaListing,
    embedding: Mapping[str, Any],
    *,
    local: bool,
    cache: LocalCache | None = None,
) -> Generator[MediaResult, None, None]:
    """The results of finished jobs; with ``local``, the files are embedded first, unless a cache has their vectors."""
    if cache is not None and isinstance(sources, MediaListing):
        yield from embedded_once(client, sources, embedding, cache)
        return
    if local:
        for done in embedded(client, sources, Outcome(), **embedding):
            yield replace(done, error=plainly(done.error)) if done.error else done
        return
    results = client.embed_many(sources, only_done=True, read_ahead=True, **embedding)
    with waiting("Searching"), closing(results):
        yield from results


def _media_of(word: str, kind: str) -> Media:
    [source] = sources_of([word], any_key=True)
    if isinstance(source, Manifest):
        raise InputError(f"--{kind} {word}: expected one {kind} file, not a list.")
    return Media.of(source, kind)  # type: ignore[arg-type]


def _weights(word: str) -> str | dict[str, float]:
    return numbers_in(names_in(word), "--weights") if "=" in word else word


def _words(search: Search, moments: Iterable[Moment]) -> list[str]:
    """The words of each moment, if there are captions next to its file."""
    known = dict(search.words.captions) if search.words else {}
    for source in {moment.source for moment in moments} - known.keys():
        known[source] = read_captions(search.client, search.media[source], search.name(source), "shown")
    pairs = ((moment, known.get(moment.source)) for moment in moments)
    return [captions.words(moment.start_sec, moment.end_sec) if captions else "" for moment, captions in pairs]


def _html(search: Search, moments: Iterable[Moment], words: Iterable[str], note: str) -> str:
    from marengo_view import page  # an extra

    hits = [replace(hit, words=said) for hit, said in zip(results_from(moments), words, strict=True)]
    return page(
        hits,
        client=search.client,
        query=search.query,
        segments=search.kept,
        query_vector=search.vector,
        note=note,
    )


def _show(search: Search, moments: Sequence[Moment], words: Iterable[str]) -> None:
    names = apart([search.name(moment.source) for moment in moments])
    is_narrow, rows = console().width < NARROW, list[list[str]]()
    for rank, (name, moment, said) in enumerate(zip(names, moments, words, strict=True), start=1):
        tracks = ", ".join(f"{track} {hit.score:.3f}" for track, hit in moment.tracks.items())
        cells = [name, _times(moment), tracks, f"{moment.score:.4f}", moment.confidence or ""]
        if is_narrow:
            lines = [name, f"{cells[1]}   {' '.join(cells[3:])}", tracks, said]
            rows += [[f"{rank}" if i == 0 else "", line] for i, line in enumerate(lines) if line]
            continue
        rows.append([f"{rank}", *cells])
        rows += [["", "", "", said, "", ""]] if said else []
    if rows:
        number, score = Column("", justify="right", no_wrap=True), Column("score", justify="right", no_wrap=True)
        columns = [Column("file", overflow="fold"), Column("time", no_wrap=True)]
        columns += [Column("cosines, and words spoken", ratio=1), score, Column("confidence", no_wrap=True)]
        print_table([number, *([Column("", overflow="fold")] if is_narrow else columns)], rows)


def _show_summary(search: Search, page: Page | None) -> None:
    """What belongs to the results: on stderr, except for the path of the page."""
    if page:
        say(f"A page with players: {visible(str(page.path))}")
    usd = search.client.usage.usd
    cost = f" The query cost {dollars(usd)} USD." if usd else ""
    say(f"Files searched: {len(search.media):,}, segments: {search.segments:,}.{cost}", err=True)


def _show_notes(search: Search, listing: MediaListing, local: bool, advice: str) -> None:
    """What belongs to the files, whatever is searched for."""
    show_skipped(listing)
    if search.missing:
        say(f"Files not embedded yet: {len(search.missing):,}. To embed them: {visible(advice)}", err=True)
    show_failed(search.failed)
    if local:
        say(STAND_IN, err=True)


def _score_of(track: str) -> str:
    return "score" if track == WORDS else "cosine"


def _times(moment: Moment) -> str:
    return span(moment.start_sec, moment.end_sec) or "image"


def _report(
    search: Search, moments: Iterable[Moment], words: Iterable[str], local: bool, page: Page | None
) -> dict[str, Any]:
    return {
        "query": describe_query(search.query),
        "model_id": search.client.model_id,
        "stand_in": local,
        "moments": [
            {
                "source": moment.source,
                "name": search.name(moment.source),
                "start_sec": moment.start_sec,
                "end_sec": moment.end_sec,
                "score": moment.score,
                "confidence": moment.confidence,
                "segment": moment.best.segment.uri,
                "tracks": {
                    track: {"rank": hit.rank, _score_of(track): hit.score, "segment": hit.segment.uri}
                    for track, hit in moment.tracks.items()
                },
                "words": said,
            }
            for moment, said in zip(moments, words, strict=True)
        ],
        "media": len(search.media),
        "segments": search.segments,
        "not_embedded": [done.name for done in search.missing],
        "failed": {done.name: str(done.error) for done in search.failed},
        "usd": search.client.usage.usd,
        "html": str(page.path) if page else None,
    }

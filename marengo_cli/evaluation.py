"""``marengo eval``: how well each track, fusion and preset finds the right moments of some questions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bedrock_marengo import MarengoClient, MarengoError, MediaResult, NotEmbeddedError, Query
from bedrock_marengo.contract.inputs import SourceLike
from bedrock_marengo.errors import visible
from bedrock_marengo.search import Evaluation, Question, WeightSuggestion, evaluate, read_questions, suggest_weights
from bedrock_marengo.search.evaluation import check_evaluation
from bedrock_marengo.search.fusion import Hit, cut_off
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.track_hits import TrackHits
from bedrock_marengo.search.weights import intent_weights
from marengo_cli.embed import check_failed, show_failed
from marengo_cli.search import STAND_IN, Page, Search, finished
from marengo_cli.terminal import dollars, print_json, say

__all__ = ["Archive", "run"]

ROW = "as given"
"""The row of the ranking that the options ask for."""


@dataclass(slots=True, kw_only=True)
class Archive:
    """Embedded files, searched for many questions in one pass. A retriever that ``evaluate`` can take apart.

    Attributes:
        client: embeds the questions.
        questions: what to search for.
        searches: text of a question -> its search.
        names: a file as the user gave it -> its S3 URI.
    """

    client: MarengoClient
    questions: list[Question]
    searches: dict[str, Search]
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, client: MarengoClient, path: Path, weights: str, *, k: int, min_iou: float | None, **settings: Any
    ) -> Archive:
        """Check everything that can be checked before a file is read.

        Raises:
            InputError: Wrong questions, unknown weights, or a setting with a wrong value.
        """
        check_evaluation(k, min_iou, seed=0)
        questions = read_questions(path, any_source=True)
        texts = [question.query for question in questions if isinstance(question.query, str)]
        searches = {text: Search.of(client, Query(text=text), weights, keep=False, k=k, **settings) for text in texts}
        return cls(client=client, questions=questions, searches=searches)

    @property
    def any_search(self) -> Search:
        """One of the searches: all of them see the same files."""
        return next(iter(self.searches.values()))

    def add(self, done: MediaResult) -> None:
        """Search one file for every question. All of them are embedded once there is something to search."""
        try:
            found = done.segments
        except MarengoError as error:
            done, found = replace(done, error=error, read=None), None
        if found is not None and self.any_search.vector is None:
            for search, vector in zip(
                self.searches.values(), self.client.embed_texts(list(self.searches)), strict=True
            ):
                search.vector = vector
        for search in self.searches.values():
            search.add(done)
        if found is not None:
            self.names[self.any_search.name(found.source)] = found.source

    def search_tracks(self, query: str | Query, k: int | None = None) -> TrackHits:
        """What each track found for a question; ``k`` is that of the options."""
        search = self.searches[str(query)]
        hits = [Hit(hit.segment, hit.score or 0.0) for found in search.hits.values() for hit in found if hit.segment]
        by_words = search.by_words(search.settings.depth + 1)
        hits += [Hit(hit.segment, hit.score or 0.0, track=WORDS) for hit in by_words if hit.segment]
        intent = intent_weights(self.client, search.embedded_query(), search.tracks) if search.hits else {}
        settings = replace(search.settings, weights=intent) if search.intent else search.settings
        return TrackHits(self.client, cut_off(hits, settings.depth), settings, intent, is_text=True)

    def missing_sources(self, sources: Iterable[str]) -> list[str]:
        """Those of some sources that were not searched."""
        return [source for source in sources if source not in self.any_search.media]

    def asked(self) -> list[Question]:
        """The questions with the S3 URIs of their files, where they name these as the command line does."""
        return [
            replace(
                question, right=tuple(replace(m, source=self.names.get(m.source, m.source)) for m in question.right)
            )
            for question in self.questions
        ]


def run(
    archive: Archive,
    sources: Sequence[SourceLike],
    embedding: Mapping[str, Any],
    *,
    k: int,
    min_iou: float | None,
    local: bool,
    suggest: bool,
    page: Page | None,
    advice: str,
    as_json: bool,
) -> int:
    """Read finished jobs, with ``local`` embed first; measure and show. 1 if files couldn't be searched.

    Args:
        archive: the questions.
        sources: the files to search.
        embedding: how they were embedded.
        k: how many hits count.
        min_iou: see ``evaluate``.
        local: whether the client uses the stand-in.
        suggest: whether to look for better weights, too.
        page: where to write the table.
        advice: the command that embeds the files.
        as_json: whether to print JSON.

    Raises:
        bedrock_marengo.MarengoError: The questions can't be embedded, or the page can't be written.
    """
    with closing(finished(archive.client, sources, embedding, local=local)) as results:
        for done in results:
            archive.add(done)
    search = archive.any_search
    check_failed(search.failed, len(search.media) + len(search.missing) + len(search.failed))
    if not search.segments:
        raise NotEmbeddedError(
            f"There are no segments to search: none of the files is embedded. To embed them: {advice}"
        )
    asked = archive.asked()
    found = evaluate({ROW: archive}, asked, k=k, min_iou=min_iou, variants=True)
    suggestion = suggest_weights(archive, asked, k=k, min_iou=min_iou) if suggest else None
    if page:
        page.write(_html(found, STAND_IN if local else ""))
    if as_json:
        print_json(_report(archive, found, suggestion, local, page))
    else:
        _show(archive, found, suggestion, local, page, advice)
    return 1 if search.missing or search.failed or found.missing_sources else 0


def _html(found: Evaluation, note: str) -> str:
    title = "How well the right moments are found"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<body style="font-family:sans-serif"><h1>{title}</h1><p>{note}</p>{found._repr_html_()}</body></html>'
    )


def _show(
    archive: Archive,
    found: Evaluation,
    suggestion: WeightSuggestion | None,
    local: bool,
    page: Page | None,
    advice: str,
) -> None:
    say(str(found))
    if suggestion:
        say(f"\n{suggestion}")
    if page:
        say(f"The table as a page: {visible(str(page.path))}")
    search, usd = archive.any_search, archive.client.usage.usd
    cost = f" The questions cost {dollars(usd)} USD." if usd else ""
    say(f"Files searched: {len(search.media):,}, segments: {search.segments:,}.{cost}", err=True)
    if search.missing:
        say(f"Files not embedded yet: {len(search.missing):,}. To embed them: {visible(advice)}", err=True)
    show_failed(search.failed)
    if local:
        say(STAND_IN, err=True)


def _report(
    archive: Archive, found: Evaluation, suggestion: WeightSuggestion | None, local: bool, page: Page | None
) -> dict[str, Any]:
    search = archive.any_search
    return {
        "model_id": archive.client.model_id,
        "stand_in": local,
        "k": found.k,
        "baseline": found.baseline,
        "rows": [_plain(row) for row in found.records()],
        "questions": [_plain(row) for row in found.records(per_question=True)],
        "suggestion": asdict(suggestion) if suggestion else None,
        "missing_sources": [source for sources in found.missing_sources.values() for source in sources],
        "media": len(search.media),
        "segments": search.segments,
        "not_embedded": [done.name for done in search.missing],
        "failed": {done.name: str(done.error) for done in search.failed},
        "usd": archive.client.usage.usd,
        "html": str(page.path) if page else None,
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without NaN, which is not JSON."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}

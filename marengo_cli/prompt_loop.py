"""Searches one after another over the same segments, typed at a prompt: ``marengo search`` without a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from bedrock_marengo import MarengoClient, MarengoError, Query
from bedrock_marengo.contract.inputs import SourceLike
from marengo_cli.local_cache import LocalCache
from marengo_cli.search import Search, finished, show_found
from marengo_cli.spelling import rendered
from marengo_cli.terminal import say

__all__ = ["run_prompt"]

PROMPT = "search> "


def run_prompt(
    client: MarengoClient,
    sources: Sequence[SourceLike],
    embedding: Mapping[str, Any],
    weights: str,
    *,
    cache: LocalCache | None,
    ranking: Mapping[str, Any],
    **shown: Any,
) -> int:
    """Read the segments once, then search them for each line that is typed. 1 if there is nothing to search."""
    # Wrong weights and settings are refused before anything is embedded.
    Search.of(client, Query(text=PROMPT), weights, keep=False, **ranking)
    listing = client.list_media(sources)
    with closing(finished(client, listing, embedding, local=shown["local"], cache=cache)) as results:
        done = list(results)
    if not any(each.error is None for each in done):
        empty = Search.of(client, Query(text=PROMPT), weights, keep=False, **ranking)
        for each in done:
            empty.add(each)
        return show_found(empty, listing, **{**shown, "as_json": False})
    say("Type what to look for. An empty line ends.", err=True)
    with_notes = True
    for text in _typed_queries():
        try:
            search = Search.of(client, Query(text=text), weights, keep=shown["page"] is not None, **ranking)
            for each in done:
                search.add(each)
            show_found(search, listing, with_notes=with_notes, **shown)
            with_notes = False
        except MarengoError as error:
            say(rendered(error), err=True)
    return 0


def _typed_queries() -> Iterator[str]:
    """Each line that is typed; an empty one or Ctrl-D ends."""
    with suppress(ImportError):
        # Editing and history, where the platform has it.
        import readline  # noqa: F401
    while True:
        try:
            text = input(PROMPT).strip()
        except EOFError:
            print()
            return
        if not text:
            return
        yield text

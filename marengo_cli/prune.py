"""``marengo prune``: deletes the segments of files that no longer exist from a Chroma collection on disk."""

from __future__ import annotations

from pathlib import Path

from langchain_chroma import Chroma

from bedrock_marengo.errors import visible
from langchain_marengo import Pruned, prune
from marengo_cli.migrate import embeddings_of, open_chroma
from marengo_cli.options import Connection
from marengo_cli.terminal import agreed, print_json, say

__all__ = ["opened", "run"]


def opened(folder: Path, collection: str, connection: Connection) -> Chroma:
    """The collection.

    Raises:
        bedrock_marengo.MarengoError: There is no such store or collection, or a setting is invalid.
    """
    client, _ = open_chroma(folder, collection)
    return Chroma(collection, embeddings_of(connection), client=client, create_collection_if_not_exists=False)


def run(store: Chroma, places: list[str | Path], *, max_segments: int, dry_run: bool, yes: bool, as_json: bool) -> int:
    """List, show, ask, delete: 2 if the answer was no.

    Raises:
        bedrock_marengo.MarengoError: Nothing was deleted.
    """
    pruned = prune(store, places, dry_run=True)
    if not as_json:
        _show(pruned)
    if pruned.sources and not dry_run:
        if not yes and not agreed(
            f"Delete {pruned.segments:,} segments?", "pass --yes, or --dry-run to only list them."
        ):
            say("Nothing was deleted.", err=True)
            return 2
        pruned = prune(store, places, max_segments=max_segments)
    if as_json:
        print_json({"sources": dict(pruned.sources), "segments": pruned.segments, "kept": pruned.kept})
    elif not dry_run:
        say(f"Deleted {pruned.segments:,} segments; {pruned.kept:,} are left.")
    return 0


def _show(pruned: Pruned) -> None:
    for source, count in pruned.sources.items():
        say(f"{visible(source)}: gone, {count:,} segments")
    say(f"Files gone: {len(pruned.sources):,}. Segments to delete: {pruned.segments:,}; to keep: {pruned.kept:,}.")

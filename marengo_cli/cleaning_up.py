"""The commands that delete what was made, and that move stores: forget, migrate, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marengo_cli.options import (
    AsJson,
    Connection,
    DryRun,
    Verbose,
    Yes,
    bundled,
    connect,
    sources_of,
)
from marengo_cli.running import CONTINUES, errors_shown, needed

__all__ = ["forget", "migrate", "prune"]


@bundled
def forget(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCES", help="Media, as for embed; may already be deleted from S3.")
    ],
    connection: Connection,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Delete what was created for media: outputs, request files, uploads. Never deletes the media files themselves.

    If you embed the media again, you pay again. Vector stores keep their segments: delete those with delete_segments.

    Exit code: 0 done, 1 something could not be deleted, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, "The next run deletes the rest."):
        module = needed("marengo_cli.forget")
        media = sources_of(sources, any_key=True)
        with connect(connection) as client:
            raise typer.Exit(module.run(client, media, dry_run=dry_run, yes=yes, as_json=as_json))


@bundled
def migrate(
    chroma: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a Chroma store on disk.")],
    collection: Annotated[str, typer.Option(metavar="OLD", help="Collection to move from. It is only read.")],
    into: Annotated[str, typer.Option(metavar="NEW", help="Collection to fill. Created if it doesn't exist.")],
    connection: Connection,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, plan and show the cost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Move a collection from Marengo 2.7 to 3.0, without calling 2.7.

    Counts the collection's segments by model, shows the plan and its cost with 3.0, asks, fills a new collection and
    compares the counts. If a run is interrupted, run it again: it resumes where it stopped, and you don't pay twice.

    For Chroma on disk, filled through LangChain. For other stores, call langchain_marengo.migrate.migrate in Python.

    Exit code: 0 done, 1 files failed or counts differ, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, CONTINUES):
        module = needed("marengo_cli.migrate", "pip install 'bedrock-marengo[cli,langchain]' langchain-chroma")
        move = module.Move.open(chroma, collection, into, module.embeddings_of(connection))
        raise typer.Exit(module.run(move, dry_run=dry_run, yes=yes, as_json=as_json))


@bundled
def prune(
    sources: Annotated[list[str], typer.Argument(metavar="PLACES", help="s3://bucket/prefix/, or all local folders.")],
    chroma: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a Chroma store on disk.")],
    collection: Annotated[str, typer.Option(metavar="NAME", help="Its collection.")],
    connection: Connection,
    max_segments: Annotated[int, typer.Option(min=0, help="Delete nothing if there are more.")] = 10_000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Delete the segments of files that no longer exist from a Chroma collection on disk.

    Segments of files in other places stay. Nothing on S3 is deleted. For other stores, call langchain_marengo.prune.

    Exit code: 0 done, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, "Nothing was deleted."):
        module = needed("marengo_cli.prune", "pip install 'bedrock-marengo[cli,langchain]' langchain-chroma")
        store = module.opened(chroma, collection, connection)
        places = [place if place.startswith("s3://") else Path(place) for place in sources]
        raise typer.Exit(
            module.run(store, places, max_segments=max_segments, dry_run=dry_run, yes=yes, as_json=as_json)
        )

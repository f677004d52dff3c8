"""``marengo migrate``: move a Chroma collection on disk to Marengo 3.0: list, plan, ask, fill, count."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import chromadb
import typer
from chromadb.api import ClientAPI
from chromadb.errors import InvalidArgumentError
from langchain_chroma import Chroma
from rich.table import Table

from bedrock_marengo import ConfigurationError
from bedrock_marengo.embedding.plan import Plan
from bedrock_marengo.errors import visible
from bedrock_marengo.search.migration import Inventory, plan_migration
from bedrock_marengo.search.migration import Plan as Todo
from langchain_marengo import MarengoEmbeddings
from langchain_marengo.migrate import Migration, inventory
from langchain_marengo.migrate import migrate as move_store
from marengo_cli.options import Connection, connect
from marengo_cli.spelling import rendered
from marengo_cli.terminal import console, print_json, say

__all__ = ["Move", "embeddings_of", "open_chroma", "run"]

SCOPES = ("clip",)
"""What the plan prices and the move embeds: all tracks of each clip, the loader's default."""


@dataclass(frozen=True, slots=True)
class Move:
    """From where to where. ``new`` exists only once something is written.

    Attributes:
        client: of the Chroma store with both collections.
        old: the collection to move from, only read.
        into: the name of the one that is filled.
        embeddings: of the model to move to.
    """

    client: ClientAPI
    old: Chroma
    into: str
    embeddings: MarengoEmbeddings

    @classmethod
    def open(cls, folder: Path, collection: str, into: str, embeddings: MarengoEmbeddings) -> Move:
        """Open the old collection.

        Raises:
            ConfigurationError: No Chroma store, no such collection, or both are the same.
        """
        if collection == into:
            raise ConfigurationError(
                f"--into {into}: expected a different collection from --collection: vectors of two models can't be "
                "mixed."
            )
        client, _ = open_chroma(folder, collection)
        old = Chroma(collection, client=client, create_collection_if_not_exists=False)
        return cls(client, old, into, embeddings)

    def held(self) -> Inventory:
        """What is in the new collection; nothing if it doesn't exist yet."""
        if self.into not in _names(self.client):
            return Inventory({})
        return inventory(Chroma(self.into, client=self.client, create_collection_if_not_exists=False))

    def new(self) -> Chroma:
        """The new collection, created if it doesn't exist.

        Raises:
            ConfigurationError: Chroma does not accept its name.
        """
        try:
            if self.into not in _names(self.client):
                self.client.create_collection(
                    self.into, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
                )
        except InvalidArgumentError as error:
            raise ConfigurationError(f"--into {self.into}: {error}") from error
        return Chroma(self.into, self.embeddings, client=self.client, create_collection_if_not_exists=False)

    @property
    def is_of_llama_index(self) -> bool:
        """Whether LlamaIndex filled the old collection: its rows are not what LangChain writes."""
        rows = self.old.get(limit=1, include=["metadatas"])["metadatas"]
        return any("_node_content" in (row or {}) for row in rows)


def open_chroma(folder: Path, *collections: str) -> tuple[ClientAPI, list[str]]:
    """A client of the Chroma store in a folder, and those of some collections that it has: at least one.

    Raises:
        ConfigurationError: No Chroma store, or no such collection.
    """
    # Chroma would create an empty store in any folder.
    if not (folder / "chroma.sqlite3").is_file():
        raise ConfigurationError(
            f"--chroma {folder}: there is no Chroma store here (no chroma.sqlite3): check the path."
        )
    client = chromadb.PersistentClient(str(folder))
    names = _names(client)
    if found := [name for name in collections if name in names]:
        return client, found
    raise ConfigurationError(f"--collection {collections[0]}: not in {folder}. Expected one of {', '.join(names)}.")


def embeddings_of(connection: Connection) -> MarengoEmbeddings:
    """Embeddings of Marengo 3.0.

    Raises:
        InputError: A prefix that is not an S3 URI.
        ConfigurationError: A setting that is not valid.
    """
    # pydantic would wrap what the core refuses, so the core is asked first.
    connect(connection).close()
    settings = {f.name: getattr(connection, f.name) for f in fields(connection)}
    settings["region_name"], settings["credentials_profile_name"] = settings.pop("region"), settings.pop("profile")
    return MarengoEmbeddings(model_id="3.0", **settings)


def run(move: Move, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """List, plan, ask, fill and count; returns the exit code.

    Raises:
        bedrock_marengo.MarengoError: The move can't begin.
    """
    held = inventory(move.old)
    if not as_json:
        show_held(held, move.old._collection_name)
    todo = plan_migration(held, move.held(), move.embeddings.core.model_id)
    plan, as_held = price(move, todo)
    left = sorted(held.of(todo.model_id).keys() - todo.todo.keys())
    if left:
        say(f"{len(left):,} sources of the old collection already use {todo.model_id}. They stay there.", err=True)
    if not as_json:
        show_plan(todo, plan, as_held)
    if move.is_of_llama_index and not dry_run:
        raise ConfigurationError(
            "LlamaIndex filled this collection: run its pipeline again, with MarengoSegmenter for 3.0 and a new "
            "collection. --dry-run lists and prices it here."
        )
    moved = None
    if todo.todo and not dry_run:
        if not yes and (plan.total_usd > 0 or plan.unknown) and not agreed(plan, as_held):
            say("Nothing was started.", err=True)
            return 2
        moved = move_store(
            move.old, move.new(), embeddings=move.embeddings, on_error="skip", scopes=SCOPES, show_progress=not as_json
        )
    if as_json:
        print_json(report(move, held, plan, as_held, moved))
    elif moved:
        show_moved(moved, move)
    return 1 if moved and (moved.failed or moved.wrong) else 0


def price(move: Move, todo: Todo) -> tuple[Plan, Plan]:
    """What 3.0 would start, reuse and cost: with the media's own lengths, and with the old collection's.

    They differ only if a length could not be read: the second uses the ends of the last old segments for all.
    """
    client = move.embeddings.core
    plan = client.plan(list(todo.todo), scopes=SCOPES)
    if not plan.unknown:
        return plan, plan
    held = {source: holding.seconds for source, holding in todo.todo.items()}
    return plan, client.plan(list(todo.todo), scopes=SCOPES, durations=held)


def agreed(plan: Plan, as_held: Plan) -> bool:
    """Ask, on stderr; no answer is no."""
    usd = max(plan.total_usd, as_held.total_usd)
    try:
        question = f"Files to embed: {sum(plan.started.values()):,}, for about {usd:,.4f} USD. Continue?"
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def show_held(held: Inventory, name: str) -> None:
    """What is in the old collection, by model."""
    table = Table("model", title=f"The collection {name}", title_justify="left")
    for heading in ("sources", "segments", "hours"):
        table.add_column(heading, justify="right")
    for model_id, sources in sorted(held.models.items()):
        segments, hours = _segments(held, model_id), sum(holding.seconds for holding in sources.values()) / 3600
        table.add_row(model_id, f"{len(sources):,}", f"{segments:,}", f"{hours:,.2f}")
    if held.other:
        table.add_row("(no segments)", "", f"{held.other:,}", "")
    console().print(table)


def show_plan(todo: Todo, plan: Plan, as_held: Plan) -> None:
    """What is to be done, and what it costs."""
    if not todo.todo:
        say(f"Nothing to move: all segments already use {todo.model_id}.")
        return
    say(f"\nTo embed {len(todo.todo):,} sources with {todo.model_id}, at this package's default prices:\n{plan}")
    say("These prices come from litellm's test data, not from the AWS price page: check them.")
    if plan.unknown:
        say(
            f"With durations from the old segments: {as_held.media_sec / 3600:,.2f} hours, "
            f"{as_held.total_usd:,.4f} USD in total."
        )


def show_moved(moved: Migration, move: Move) -> None:
    """What was moved, and how to switch."""
    for source, error in moved.failed.items():
        say(f"failed: {visible(source)}: {rendered(error)}", err=True)
    for source, (wanted, held) in moved.wrong.items():
        say(f"count differs: {visible(source)}: its job has {wanted} segments, the collection {held}", err=True)
    say(f"\n{sum(moved.added.values()):,} segments of {len(moved.added):,} sources are in {move.into}.")
    if moved.failed or moved.wrong:
        say("Not all segments arrived. Run again to continue; you don't pay for anything twice.")
        return
    say(
        "All counts match. To switch, open the new collection instead of the old one:\n"
        f"  Chroma({move.into!r}, MarengoEmbeddings(model_id='3.0', ...), persist_directory=...)\n"
        f"The old collection, {move.old._collection_name}, is unchanged."
    )


def report(move: Move, held: Inventory, plan: Plan, as_held: Plan, moved: Migration | None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "collection": move.old._collection_name,
        "into": move.into,
        "held": {
            model_id: {"sources": len(sources), "segments": _segments(held, model_id)}
            for model_id, sources in held.models.items()
        },
        "other_rows": held.other,
        "plan": {
            "model_id": move.embeddings.core.model_id,
            "started": dict(plan.started),
            "joined": plan.joined,
            "reused": plan.reused,
            "refused": plan.refused,
            "refusals": list(plan.refusals),
            "media_hours": plan.media_sec / 3600,
            "usd": plan.total_usd,
            "unknown": plan.unknown,
            "media_hours_as_held": as_held.media_sec / 3600,
            "usd_as_held": as_held.total_usd,
        },
        "moved": moved
        and {
            "added": dict(moved.added),
            "failed": {source: str(error) for source, error in moved.failed.items()},
            "wrong": {source: {"wanted": wanted, "held": found} for source, (wanted, found) in moved.wrong.items()},
        },
    }


def _segments(held: Inventory, model_id: str) -> int:
    return sum(holding.segments for holding in held.of(model_id).values())


def _names(client: ClientAPI) -> list[str]:
    return sorted(collection.name for collection in client.list_collections())

"""What users type: the commands and their options. What a command does is in a module of its own."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from bedrock_marengo import ConfigurationError, InputError, MarengoError

__all__ = ["app"]

app = typer.Typer(
    help="TwelveLabs Marengo on Amazon Bedrock, from the command line. Unofficial.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Framework(StrEnum):
    """What the demo's store is made with."""

    LANGCHAIN = "langchain"
    LLAMA_INDEX = "llama-index"


@app.command()
def demo(
    store: Annotated[Path, typer.Option(help="Folder that the store is kept in.")] = Path("demo-store"),
    framework: Annotated[Framework, typer.Option(help="What the store is made with.")] = Framework.LANGCHAIN,
) -> None:
    """Index real photographs and clips and search them, without AWS."""
    module = _needed("marengo_cli.demo", "pip install 'bedrock-marengo[demo]'")
    raise typer.Exit(module.main(["--store", str(store), "--framework", framework.value]))


@app.command()
def migrate(
    chroma: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a Chroma store on disk.")],
    collection: Annotated[str, typer.Option(metavar="OLD", help="Collection to move from; it is only read.")],
    into: Annotated[str, typer.Option(metavar="NEW", help="Collection to fill with 3.0; made if it isn't there.")],
    output_s3_uri: Annotated[str, typer.Option(metavar="S3_URI", help="S3 prefix for jobs' outputs.")],
    region: Annotated[str | None, typer.Option(help="Left out: boto3's own settings.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Bedrock's endpoint.")] = None,
    s3_endpoint_url: Annotated[str | None, typer.Option(help="S3's endpoint.")] = None,
    bucket_owner: Annotated[str | None, typer.Option(help="Account that owns the buckets.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list, plan and price.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pay without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Errors with their traceback.")] = False,
) -> None:
    """Move a collection from Marengo 2.7 to 3.0, without a call to 2.7.

    Lists what the collection holds by model, plans and prices embedding its sources with 3.0, asks, fills a new
    collection, and counts. Run again, it goes on where it stopped, and what was paid is not paid again.

    For Chroma on disk, filled through LangChain. For other stores call the function langchain_marengo.migrate.migrate.

    Exit code: 0 done, 1 media failed or counts differ, 2 a setting is wrong or you said no.
    """
    module = _needed("marengo_cli.migrate", "pip install 'bedrock-marengo[cli,langchain]' langchain-chroma")
    with _errors_told(verbose):
        embeddings = module.embeddings_of(
            region_name=region,
            endpoint_url=endpoint_url,
            s3_endpoint_url=s3_endpoint_url,
            bucket_owner=bucket_owner,
            output_s3_uri=output_s3_uri,
        )
        move = module.Move.open(chroma, collection, into, embeddings)
        raise typer.Exit(module.run(move, dry_run=dry_run, yes=yes, as_json=as_json))


def _needed(module: str, install: str) -> ModuleType:
    """A command's module; exit 2 with what to install where a package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        typer.echo(f"This needs {error.name}: {install}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def _errors_told(verbose: bool) -> Iterator[None]:
    """Our own errors as a line on stderr; anything else is a bug and keeps its traceback."""
    try:
        yield
    except MarengoError as error:
        if verbose:
            traceback.print_exc(file=sys.stderr)
        else:
            typer.echo(f"{error} (-v shows where)", err=True)
        raise typer.Exit(2 if isinstance(error, ConfigurationError | InputError) else 1) from error

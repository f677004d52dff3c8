"""What users type: the commands and their options. What a command does is in a module of its own."""

from __future__ import annotations

import importlib
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bedrock_marengo import ConfigurationError, InputError, MarengoError, MarengoWarning, Prices
from marengo_cli.options import (
    AsJson,
    AssumeDurationSec,
    Connection,
    DryRun,
    Embedding,
    Local,
    Model,
    Price,
    Verbose,
    Yes,
    bundled,
    connect,
    prices_of,
    sources_of,
    spelled,
)

if TYPE_CHECKING:
    from bedrock_marengo import MarengoClient

__all__ = ["app"]

app = typer.Typer(
    help="TwelveLabs Marengo on Amazon Bedrock, from the command line. Unofficial.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

GOES_ON = "Jobs that were started go on. Run the same again: it finds them, and pays nothing twice."


class Framework(StrEnum):
    """What the demo's store is made with."""

    LANGCHAIN = "langchain"
    LLAMA_INDEX = "llama-index"


class Fusion(StrEnum):
    """How tracks become one ranking."""

    RRF = "rrf"
    SCORES = "scores"


@app.command()
def demo(
    store: Annotated[Path, typer.Option(file_okay=False, help="Folder of the store.")] = Path("demo-store"),
    framework: Annotated[Framework, typer.Option(help="What the store is made with.")] = Framework.LANGCHAIN,
) -> None:
    """Index real photographs and clips and search them, without AWS."""
    module = _needed("marengo_cli.demo", "pip install 'bedrock-marengo[demo]'")
    raise typer.Exit(module.main(["--store", str(store), "--framework", framework.value]))


@app.command()
def local(
    media: Annotated[
        list[Path] | None, typer.Argument(metavar="MEDIA", help="Files and folders to put into its bucket.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="Bedrock's port. Left out: a free one.")] = 0,
    s3_port: Annotated[int, typer.Option(metavar="PORT", help="Port of S3 and STS. Left out: a free one.")] = 0,
    region: Annotated[str, typer.Option(metavar="REGION", help="Which of Marengo's regions it is.")] = "us-east-1",
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="Its bucket. Left out: a fresh name.")] = None,
    latency_sec: Annotated[float, typer.Option(metavar="SECONDS", help="Waited before each reply.")] = 0.0,
    synthetic_sec: Annotated[float | None, typer.Option(metavar="SECONDS", help="Look at no media.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a stand-in for Bedrock, S3 and STS on this machine till Ctrl-C.

    Prints lines to paste in another shell: there all other commands, and any program that uses an AWS SDK, work
    with it.
    """
    with _errors_told(verbose):
        module = _stand_in()
        knobs = {"latency_sec": latency_sec, "synthetic_sec": synthetic_sec}
        where = {"port": port, "s3_port": s3_port, "region": region, "bucket": bucket}
        raise typer.Exit(module.run(media or [], as_json=as_json, **where, **knobs))


@app.command()
@bundled
def doctor(
    connection: Connection,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCES", help="s3://bucket/prefix/ or s3://bucket/key.")
    ] = None,
    model: Model = "3.0",
    kms_key_id: Annotated[str | None, typer.Option(metavar="ARN", help="Key that outputs are encrypted with.")] = None,
    invoke: Annotated[bool, typer.Option("--invoke", help="Also embed one text, which costs.")] = False,
    policy: Annotated[bool, typer.Option("--policy", help="Only print the least IAM policy; no call.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find out why it would not work on AWS, step by step, each with its fix.

    Starts no job and, without --invoke, pays for no embedding. Lists and reads a little, and writes and deletes one
    object below the output prefix.

    Exit code: 0 nothing failed, 1 something did, 2 a mistake or you said no, 130 Ctrl-C.
    """
    with _errors_told(verbose):
        module = _needed("marengo_cli.doctor")
        context = module.context_of(connection, model, sources or [], kms_key_id=kms_key_id, invoke=invoke)
        if policy:
            module.print_policy(context)
            return
        raise typer.Exit(module.run(context, yes=yes, as_json=as_json, verbose=verbose))


@app.command()
@bundled
def embed(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES", help="s3://bucket/prefix/, s3://bucket/key, files, folders, lists of media (.csv)."
        ),
    ],
    embedding: Embedding,
    connection: Connection,
    model: Model = "3.0",
    local: Local = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    ask_above_usd: Annotated[float, typer.Option(metavar="USD", help="Ask before more than this is spent.")] = 100.0,
    max_cost_usd: Annotated[float | None, typer.Option(metavar="USD", help="Stop before this is passed.")] = None,
    assume_duration_sec: AssumeDurationSec = None,
    price: Price = None,
    force: Annotated[bool, typer.Option("--force", help="Pay again for what is done.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Embed media: show the plan, ask above 100 USD, run.

    Work is known by its medium and all options: what was done before is found, what runs is joined, by this command,
    by the loaders of LangChain and LlamaIndex, on any machine. Whatever ends it, run it again and it goes on.

    Exit code: 0 done, 1 media failed or were left, 2 a mistake or you said no, 130 Ctrl-C.
    """
    with _errors_told(verbose, GOES_ON):
        module = _needed("marengo_cli.embed")
        limits = module.Limits(
            ask_above_usd=ask_above_usd,
            max_cost_usd=max_cost_usd,
            assume_duration_sec=assume_duration_sec,
            yes=yes or local,
        )
        settings, media = {**embedding.settings, "force": force}, sources_of(sources)
        prices = prices_of(price) if dry_run or not local else None
        with _client(connection, model, media if local else None, prices) as client:
            if local and not dry_run:
                typer.echo("Embedding with a stand-in: nothing leaves this machine, and nothing stays.", err=True)
            raise typer.Exit(module.run(client, media, settings, limits, dry_run=dry_run, as_json=as_json))


@app.command()
@bundled
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="What to look for. Left out with --image, --audio or --video.")
    ],
    embedding: Embedding,
    connection: Connection,
    sources: Annotated[list[str] | None, typer.Argument(metavar="SOURCES", help="Where: as for embed.")] = None,
    model: Model = "3.0",
    local: Local = False,
    image: Annotated[str | None, typer.Option(metavar="MEDIUM", help="Look for an image, in place of QUERY.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="MEDIUM", help="Look for a sound, by a job.")] = None,
    video: Annotated[str | None, typer.Option(metavar="MEDIUM", help="Look for a video, by a job.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="A text beside the image.")] = None,
    weights: Annotated[
        str, typer.Option(metavar="WEIGHTS", help="visual, dialogue, sound, balanced, intent; or visual=0.8,audio=0.1.")
    ] = "visual",
    fusion: Annotated[Fusion, typer.Option(help="Fuse cosines, or ranks.")] = Fusion.SCORES,
    k: Annotated[int, typer.Option("--k", "-k", metavar="COUNT", help="Moments wanted.")] = 10,
    merge_gap_sec: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Clips at most so far apart are one moment.")
    ] = None,
    max_per_source: Annotated[int | None, typer.Option(metavar="COUNT", help="At most so many of one medium.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with players.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is at --html.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find moments in embedded media by text, image, sound or video, without a store.

    Reads what marengo embed, or a loader, has finished with the same options. Never pays for media, only for the
    query.

    Exit code: 0 done, 1 not all media were searched, 2 a mistake, 130 Ctrl-C.
    """
    with _errors_told(verbose):
        if html:
            _needed("marengo_view", "pip install 'bedrock-marengo[cli,view]'")
        module = _needed("marengo_cli.search")
        words = [query, *(sources or [])]
        asked, typed = module.query_of(words, text=text, image=image, audio=audio, video=video)
        media, page = sources_of(typed), module.Page(path=html, force=force) if html else None
        settings = embedding.settings
        ranking = {"k": k, "fusion": fusion.value, "merge_gap_sec": merge_gap_sec, "max_per_source": max_per_source}
        ranking["scope"] = "clip" if "clip" in settings["scopes"] else "asset"
        own = [*media, asked.image, asked.audio, asked.video]
        with _client(connection, model, own if local else None) as client:
            found = module.Search.of(client, asked, weights, keep=page is not None, **ranking)
            advice = shlex.join(["marengo", "embed", *embedding.typed, *typed])
            shown = {"page": page, "advice": advice, "as_json": as_json}
            raise typer.Exit(module.run(found, media, settings, local=local, **shown))


@app.command()
@bundled
def cost(
    embedding: Embedding,
    connection: Connection,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCES", help="Media that are there, as for embed.")
    ] = None,
    model: Model = "3.0",
    local: Local = False,
    video_hours: Annotated[float, typer.Option(metavar="HOURS", min=0, help="Of video.")] = 0.0,
    audio_hours: Annotated[float, typer.Option(metavar="HOURS", min=0, help="Of audio.")] = 0.0,
    images: Annotated[int, typer.Option(metavar="COUNT", min=0, help="Images.")] = 0,
    texts: Annotated[int, typer.Option(metavar="COUNT", min=0, help="Texts, such as queries.")] = 0,
    assume_duration_sec: AssumeDurationSec = None,
    price: Price = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Tell what embedding costs: of media, or of so many hours, without AWS. Starts nothing.

    Exit code: 0 done, 1 the sum lacks media (of unknown length, or that would be refused), 2 a mistake, 130 Ctrl-C.
    """
    with _errors_told(verbose):
        module = _needed("marengo_cli.cost")
        prices, plan = prices_of(price), None
        asked = module.amounts(prices, video_hours=video_hours, audio_hours=audio_hours, images=images, texts=texts)
        if sources:
            settings, media = embedding.settings, sources_of(sources)
            with _client(connection, model, media if local else None, prices) as client:
                plan = module.planned(client, media, assume_duration_sec=assume_duration_sec, **settings)
        raise typer.Exit(module.run(plan, asked, prices, assume_duration_sec=assume_duration_sec, as_json=as_json))


@app.command()
@bundled
def forget(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCES", help="Media as for embed; they may be gone from S3 already.")
    ],
    connection: Connection,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Remove what was made of media: outputs, request files, uploads. Never the media themselves.

    Embedding them again costs again. Stores keep their segments: take them out with delete_segments.

    Exit code: 0 done, 1 something could not be removed, 2 a mistake or you said no, 130 Ctrl-C.
    """
    with _errors_told(verbose, "What was not removed yet goes with the next run."):
        module = _needed("marengo_cli.forget")
        media = sources_of(sources, any_key=True)
        with connect(connection) as client:
            raise typer.Exit(module.run(client, media, dry_run=dry_run, yes=yes, as_json=as_json))


@app.command()
@bundled
def migrate(
    chroma: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a Chroma store on disk.")],
    collection: Annotated[str, typer.Option(metavar="OLD", help="Collection to move from; it is only read.")],
    into: Annotated[str, typer.Option(metavar="NEW", help="Collection to fill with 3.0; made if it isn't there.")],
    connection: Connection,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list, plan and price.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pay without asking.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Move a collection from Marengo 2.7 to 3.0, without a call to 2.7.

    Lists what the collection holds by model, plans and prices embedding its sources with 3.0, asks, fills a new
    collection, and counts. Run again, it goes on where it stopped, and what was paid is not paid again.

    For Chroma on disk, filled through LangChain. For other stores call the function langchain_marengo.migrate.migrate.

    Exit code: 0 done, 1 media failed or counts differ, 2 a setting is wrong or you said no, 130 Ctrl-C.
    """
    with _errors_told(verbose, GOES_ON):
        module = _needed("marengo_cli.migrate", "pip install 'bedrock-marengo[cli,langchain]' langchain-chroma")
        embeddings = module.embeddings_of(
            region_name=connection.region,
            credentials_profile_name=connection.profile,
            endpoint_url=connection.endpoint_url,
            s3_endpoint_url=connection.s3_endpoint_url,
            bucket_owner=connection.bucket_owner,
            output_s3_uri=connection.output_s3_uri,
            invoke_model_id=connection.invoke_model_id,
            staging_s3_uri=connection.staging_s3_uri,
        )
        move = module.Move.open(chroma, collection, into, embeddings)
        raise typer.Exit(module.run(move, dry_run=dry_run, yes=yes, as_json=as_json))


def _needed(module: str, install: str = "pip install 'bedrock-marengo[cli]'") -> ModuleType:
    """A command's module; exit 2 with what to install where a package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        typer.echo(f"This needs {error.name}: {install}", err=True)
        raise typer.Exit(2) from error


def _stand_in() -> ModuleType:
    return _needed("marengo_cli.local", "pip install 'bedrock-marengo[cli,local]'")


@contextmanager
def _client(
    connection: Connection, model: str, local_media: Sequence[object] | None, prices: Prices | None = None
) -> Iterator[MarengoClient]:
    """A client of AWS, or of a stand-in if there are media for one."""
    if local_media is None:
        with connect(connection, model=model, prices=prices) as client:
            yield client
    else:
        with _stand_in().stand_in(model, connection.region, local_media, prices) as client:
            yield client


@contextmanager
def _errors_told(verbose: bool, stopped: str = "Nothing was left half done.") -> Iterator[None]:
    """Our own errors, warnings and Ctrl-C as a line on stderr; anything else is a bug and keeps its traceback."""
    with warnings.catch_warnings():
        warnings.showwarning = _warned(warnings.showwarning)
        try:
            yield
        except MarengoError as error:
            if verbose:
                traceback.print_exc(file=sys.stderr)
            else:
                typer.echo(f"{spelled(str(error))} (-v shows where)", err=True)
            raise typer.Exit(2 if isinstance(error, ConfigurationError | InputError) else 1) from error
        except KeyboardInterrupt as error:
            typer.echo(f"Stopped. {stopped}", err=True)
            raise typer.Exit(130) from error


def _warned(otherwise: Callable[..., None]) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, MarengoWarning):
            typer.echo(spelled(str(message)), err=True)
        else:
            otherwise(message, category, *where, **more)

    return show

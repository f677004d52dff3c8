"""What users type: the commands and their options. What a command does is in a module of its own."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marengo_cli.assistants import mcp
from marengo_cli.cleaning_up import forget, migrate, prune
from marengo_cli.describing import Describe, descriptions_of
from marengo_cli.languages import TranscribeLanguage, transcribe_of
from marengo_cli.options import (
    AsJson,
    AssumeDurationSec,
    CacheFolder,
    Connection,
    DryRun,
    Embedding,
    Interactive,
    Local,
    MmrLambda,
    Model,
    NoCache,
    Price,
    Verbose,
    Yes,
    bundled,
    connect,
    prices_of,
    sources_of,
)
from marengo_cli.prompt import is_wanted
from marengo_cli.running import CONTINUES, client_of, errors_shown, needed, show_version
from marengo_cli.terminal import say
from marengo_cli.trying_out import demo, local

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class WordSearch(StrEnum):
    """How captions are searched."""

    BM25 = "bm25"


Words = Annotated[
    WordSearch | None, typer.Option("--words", help="Also search the captions next to the files, by their words.")
]


class Fusion(StrEnum):
    """How tracks become one ranking."""

    RRF = "rrf"
    SCORES = "scores"


@app.callback()
def marengo(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """TwelveLabs Marengo on Amazon Bedrock, from the command line. Unofficial."""


for command in (demo, local):
    app.command()(command)


@app.command()
@bundled
def doctor(
    connection: Connection,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCES", help="s3://bucket/prefix/ or s3://bucket/key.")
    ] = None,
    model: Model = "3.0",
    kms_key_id: Annotated[str | None, typer.Option(metavar="ARN", help="Key to encrypt outputs with.")] = None,
    invoke: Annotated[bool, typer.Option("--invoke", help="Also embed one text, which is billed.")] = False,
    pegasus: Annotated[str | None, typer.Option(metavar="VERSION", help='Also check Pegasus "1.5" or "1.2".')] = None,
    transcribe: Annotated[bool, typer.Option("--transcribe", help="Also check Amazon Transcribe.")] = False,
    policy: Annotated[
        bool, typer.Option("--policy", help="Only print the minimal IAM policy. Makes no calls.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Check your AWS setup step by step, and suggest a fix for each problem.

    Starts no job and, without --invoke, embeds nothing. Lists and reads a few objects, and writes and deletes one
    object under the output prefix.

    Exit code: 0 no check failed, 1 a check failed, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose):
        module = needed("marengo_cli.doctor")
        chosen = {"kms_key_id": kms_key_id, "invoke": invoke, "pegasus": pegasus, "transcribe": transcribe}
        context = module.context_of(connection, model, sources or [], **chosen)
        if policy:
            module.print_policy(context)
            return
        raise typer.Exit(module.run(context, yes=yes, as_json=as_json, verbose=verbose > 0))


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
    ask_above_usd: Annotated[float, typer.Option(metavar="USD", help="Ask before spending more than this.")] = 100.0,
    max_cost_usd: Annotated[
        float | None, typer.Option(metavar="USD", help="Stop before the cost exceeds this.")
    ] = None,
    assume_duration_sec: AssumeDurationSec = None,
    price: Price = None,
    transcribe: TranscribeLanguage = None,
    describe: Describe = None,
    force: Annotated[bool, typer.Option("--force", help="Embed finished files again, and pay again.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Embed media: show the plan, ask if it costs more than 100 USD, and run it.

    Each job is identified by its file and all options. This command and the loaders of LangChain and LlamaIndex, on
    any machine, reuse finished jobs and join running ones. If a run is interrupted, run the command again to continue.

    Exit code: 0 done, 1 files failed, were not started or lack words, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, CONTINUES):
        module = needed("marengo_cli.embed")
        limits = module.Limits(
            ask_above_usd=ask_above_usd,
            max_cost_usd=max_cost_usd,
            assume_duration_sec=assume_duration_sec,
            yes=yes or local,
        )
        settings, media = {**embedding.settings, "force": force}, sources_of(sources)
        settings |= {"transcripts": transcribe_of(transcribe), "descriptions": descriptions_of(describe)}
        prices = prices_of(price) if dry_run or not local else None
        with client_of(connection, model, media if local else None, prices) as client:
            if local and not dry_run:
                say("Embedding with the stand-in: nothing leaves this machine, and nothing is kept.", err=True)
            raise typer.Exit(module.run(client, media, settings, limits, dry_run=dry_run, as_json=as_json))


@app.command()
@bundled
def search(
    embedding: Embedding,
    connection: Connection,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY", help="Text to search for. Leave it out to be asked, or with --image, --audio or --video."
        ),
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCES", help="Media to search, as for embed.")
    ] = None,
    model: Model = "3.0",
    local: Local = False,
    image: Annotated[str | None, typer.Option(metavar="FILE", help="Search by image instead of QUERY.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="FILE", help="Search by sound. This starts a job.")] = None,
    video: Annotated[str | None, typer.Option(metavar="FILE", help="Search by video. This starts a job.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Text to combine with --image.")] = None,
    weights: Annotated[
        str, typer.Option(metavar="WEIGHTS", help="visual, dialogue, sound, balanced, intent; or visual=0.8,audio=0.1.")
    ] = "visual",
    fusion: Annotated[
        Fusion, typer.Option(help="Fuse by ranks (rrf) or by cosine similarities (scores).")
    ] = Fusion.SCORES,
    words: Words = None,
    k: Annotated[int, typer.Option("--k", "-k", metavar="COUNT", help="Number of results.")] = 10,
    merge_gap_sec: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Merge clips that are at most this far apart.")
    ] = None,
    max_per_source: Annotated[int | None, typer.Option(metavar="COUNT", help="Maximum results per file.")] = None,
    distinct: Annotated[float | None, typer.Option(metavar="0.98", help="Leave out near-duplicates.")] = None,
    mmr_lambda: MmrLambda = None,
    min_confidence: Annotated[
        str | None, typer.Option(metavar="low|medium|high", help="Leave out results below this.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a web page with players.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file at --html.")] = False,
    interactive: Interactive = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Find moments in embedded media by text, image, sound or video, without a vector store.

    Reads the finished outputs of marengo embed, or of a loader, with the same options. Only the query is embedded and
    billed.

    Exit code: 0 found, 1 nothing found or not all files were searched, 2 invalid input, 130 Ctrl-C.
    """
    with errors_shown(verbose):
        if html:
            needed("marengo_view", "pip install 'bedrock-marengo[cli,view]'")
        module = needed("marengo_cli.search")
        entered = [*([] if query is None else [query]), *(sources or [])]
        by_media = {"image": image, "audio": audio, "video": video}
        is_prompt = is_wanted(entered, by_media=any(by_media.values()), interactive=interactive)
        asked, typed = (None, entered) if is_prompt else module.query_of(entered, text=text, **by_media)
        media, page = sources_of(typed), module.Page(path=html, force=force) if html else None
        settings = embedding.settings
        ranking = {"k": k, "fusion": fusion.value, "merge_gap_sec": merge_gap_sec, "max_per_source": max_per_source}
        ranking |= {"distinct": distinct, "mmr_lambda": mmr_lambda, "min_confidence": min_confidence}
        ranking |= {"scope": "clip" if "clip" in settings["scopes"] else "asset"}
        own = [*media, *([asked.image, asked.audio, asked.video] if asked else [])]
        advice = shlex.join(["marengo", "embed", *embedding.typed, *typed])
        shown = {"local": local, "page": page, "advice": advice, "as_json": as_json}
        shown["cache"] = needed("marengo_cli.local_cache").cache_of(cache, is_off=no_cache) if local else None
        with client_of(connection, model, own if local else None) as client:
            ranking["words"] = needed("marengo_cli.word_track").WordTrack(client) if words else None
            if asked is None:
                loop = needed("marengo_cli.prompt_loop")
                raise typer.Exit(loop.run_prompt(client, media, settings, weights, ranking=ranking, **shown))
            found = module.Search.of(client, asked, weights, keep=page is not None, **ranking)
            raise typer.Exit(module.run(found, media, settings, **shown))


@app.command("eval")
@bundled
def evaluate(
    questions: Annotated[
        Path, typer.Argument(metavar="QUESTIONS", help="JSON Lines: query, source, start_sec and end_sec.")
    ],
    sources: Annotated[list[str], typer.Argument(metavar="SOURCES", help="Media to search, as for embed.")],
    embedding: Embedding,
    connection: Connection,
    model: Model = "3.0",
    local: Local = False,
    weights: Annotated[str, typer.Option(metavar="WEIGHTS", help="As for search: the row to compare with.")] = "visual",
    fusion: Annotated[Fusion, typer.Option(help="As for search: the row to compare with.")] = Fusion.SCORES,
    words: Words = None,
    k: Annotated[int, typer.Option("--k", "-k", metavar="COUNT", help="Number of results that count.")] = 10,
    min_iou: Annotated[
        float | None, typer.Option(metavar="0.3", help="Overlap of a right result, instead of by its middle.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest-weights", help="Also look for better weights, by cross-validation.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as a web page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file at --html.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Measure how well your questions find their right moments, with every track, fusion and preset.

    Reads the finished outputs of marengo embed, or of a loader, with the same options. Only the questions are embedded
    and billed, each once.

    Exit code: 0 done, 1 not all files were searched or some of the questions' were not, 2 invalid input, 130 Ctrl-C.
    """
    with errors_shown(verbose):
        module = needed("marengo_cli.evaluation")
        media, page = sources_of(sources), needed("marengo_cli.search").Page(path=html, force=force) if html else None
        settings = embedding.settings
        ranking = {"k": k, "fusion": fusion.value, "scope": "clip" if "clip" in settings["scopes"] else "asset"}
        with client_of(connection, model, media if local else None) as client:
            ranking |= {"words": needed("marengo_cli.word_track").WordTrack(client)} if words else {}
            archive = module.Archive.of(client, questions, weights, min_iou=min_iou, **ranking)
            advice = shlex.join(["marengo", "embed", *embedding.typed, *sources])
            shown = {"suggest": suggest, "page": page, "advice": advice, "as_json": as_json}
            raise typer.Exit(module.run(archive, media, settings, k=k, min_iou=min_iou, local=local, **shown))


@app.command()
@bundled
def ask(
    file: Annotated[str, typer.Argument(metavar="FILE", help="s3://bucket/key, a file, FILE#t=START,END, a segment.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about the video.")],
    connection: Connection,
    local: Local = False,
    start_sec: Annotated[float | None, typer.Option("--start-sec", "--start", help="Where to begin.")] = None,
    end_sec: Annotated[float | None, typer.Option("--end-sec", "--end", help="Where to end.")] = None,
    json_schema: Annotated[
        str | None, typer.Option(metavar="FILE", help="Answer in JSON that fits this schema.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help='"1.5", "1.2", a profile ID or an ARN.')] = "1.5",
    max_tokens: Annotated[int | None, typer.Option(metavar="COUNT", help="Maximum length of the answer.")] = None,
    max_cost_usd: Annotated[
        float | None,
        typer.Option("--max-cost-usd", "--max-cost", metavar="USD", help="Refuse to spend more than this."),
    ] = None,
    duration_sec: Annotated[float | None, typer.Option(help="Length of the file, if it can't be read.")] = None,
    price: Price = None,
    yes: Yes = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Ask TwelveLabs Pegasus about a video, or a part of it. Shows the price, and asks if it is more than 0.25 USD.

    Each question is billed. A part is cut and sent inside the request, which needs the extra "media".

    Exit code: 0 done, 1 the question failed or is too expensive, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, "If Pegasus was asked already, the question may be billed."):
        module = needed("marengo_cli.ask")
        source, times = module.file_of(file)
        given = {"start_sec": start_sec, "end_sec": end_sec, "duration_sec": duration_sec, "max_tokens": max_tokens}
        settings = {**times, **{name: value for name, value in given.items() if value is not None}, "model": model}
        if (schema := module.schema_of(json_schema)) is not None:
            settings["json_schema"] = schema
        with client_of(connection, "3.0", [source] if local else None, prices_of(price)) as client:
            spending = {"max_cost_usd": max_cost_usd, "yes": yes or local, "as_json": as_json}
            raise typer.Exit(module.run(client, source, question, settings, **spending))


@app.command()
@bundled
def cost(
    embedding: Embedding,
    connection: Connection,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCES", help="Existing media, as for embed.")
    ] = None,
    model: Model = "3.0",
    local: Local = False,
    video_hours: Annotated[float, typer.Option(metavar="HOURS", min=0, help="Hours of video.")] = 0.0,
    audio_hours: Annotated[float, typer.Option(metavar="HOURS", min=0, help="Hours of audio.")] = 0.0,
    images: Annotated[int, typer.Option(metavar="COUNT", min=0, help="Number of images.")] = 0,
    texts: Annotated[int, typer.Option(metavar="COUNT", min=0, help="Number of texts, such as queries.")] = 0,
    assume_duration_sec: AssumeDurationSec = None,
    price: Price = None,
    transcribe: TranscribeLanguage = None,
    describe: Describe = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Estimate the cost of embedding: for existing media, or for a number of hours without AWS. Starts nothing.

    Exit code: 0 done, 1 some files are not in the total (unknown length, or refused), 2 invalid input, 130 Ctrl-C.
    """
    with errors_shown(verbose):
        module = needed("marengo_cli.cost")
        prices, plan = prices_of(price), None
        asked = module.amounts(prices, video_hours=video_hours, audio_hours=audio_hours, images=images, texts=texts)
        if sources:
            settings, media = embedding.settings, sources_of(sources)
            settings |= {"transcripts": transcribe_of(transcribe), "descriptions": descriptions_of(describe)}
            with client_of(connection, model, media if local else None, prices) as client:
                plan = module.planned(client, media, assume_duration_sec=assume_duration_sec, **settings)
        raise typer.Exit(module.run(plan, asked, prices, assume_duration_sec=assume_duration_sec, as_json=as_json))


@app.command()
@bundled
def captions(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES", help="s3://bucket/prefix/, s3://bucket/key, files, folders, lists of media (.csv)."
        ),
    ],
    connection: Connection,
    language: Annotated[
        str,
        typer.Option(metavar="LANG", help="auto, multiple, a code (en-US), or codes to choose from (en-US,de-DE)."),
    ] = "auto",
    output: Annotated[
        str | None, typer.Option(metavar="DIR|S3_URI", help="Where to write. Default: next to each file.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    ask_above_usd: Annotated[float, typer.Option(metavar="USD", help="Ask before spending more than this.")] = 100.0,
    max_cost_usd: Annotated[
        float | None, typer.Option(metavar="USD", help="Stop before the cost exceeds this.")
    ] = None,
    assume_duration_sec: AssumeDurationSec = None,
    price: Price = None,
    force: Annotated[bool, typer.Option("--force", help="Transcribe finished files again, and pay again.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Make captions (.vtt) with Amazon Transcribe for media that have none: show the plan, ask if it costs more
    than 100 USD, and run it.

    Never writes over a file. Loaders, marengo embed and marengo search find the captions next to the media. A file is
    paid for once: if a run is interrupted, run the command again to continue.

    Exit code: 0 done, 1 files failed or were not started, 2 invalid input or you answered no, 130 Ctrl-C.
    """
    with errors_shown(verbose, CONTINUES):
        module, limits = needed("marengo_cli.captions"), needed("marengo_cli.embed").Limits
        media, transcribe = sources_of(sources), transcribe_of(language)
        asked = limits(
            ask_above_usd=ask_above_usd, max_cost_usd=max_cost_usd, assume_duration_sec=assume_duration_sec, yes=yes
        )
        with connect(connection, prices=prices_of(price)) as client:
            job = module.Captions(client, media, transcribe, output=output, force=force)
            raise typer.Exit(job.run(asked, dry_run=dry_run, as_json=as_json))


for command in (forget, mcp, migrate, prune):
    app.command()(command)

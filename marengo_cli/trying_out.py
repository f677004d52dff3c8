"""The commands that need no AWS account: the demo, and the stand-in in a shell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marengo_cli.options import AsJson, Verbose
from marengo_cli.running import errors_shown, needed, stand_in
from marengo_cli.terminal import say

__all__ = ["demo", "local"]


class Framework(StrEnum):
    """What the demo's store is made with."""

    LANGCHAIN = "langchain"
    LLAMA_INDEX = "llama-index"


def demo(
    store: Annotated[
        str, typer.Option(metavar="FOLDER|s3vectors", help="Store: a folder, or S3 Vectors.")
    ] = "demo-store",
    framework: Annotated[Framework, typer.Option(help="Framework to build the store with.")] = Framework.LANGCHAIN,
) -> None:
    """Index and search real photos and clips, without AWS."""
    say("Loading the demo: it indexes and searches real photos and clips, in less than a minute ...")
    with errors_shown(0):
        module = needed("marengo_cli.demo", "pip install 'bedrock-marengo[demo]'")
        raise typer.Exit(module.main(["--store", store, "--framework", framework.value]))


def local(
    media: Annotated[
        list[Path] | None, typer.Argument(metavar="MEDIA", help="Files and folders to put into the bucket.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="Port for Bedrock. Default: any free port.")] = 0,
    s3_port: Annotated[int, typer.Option(metavar="PORT", help="Port for S3 and STS. Default: any free port.")] = 0,
    region: Annotated[str, typer.Option(metavar="REGION", help="Region to simulate.")] = "us-east-1",
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the bucket. Default: a new name.")] = None,
    latency_sec: Annotated[float, typer.Option(metavar="SECONDS", help="Delay before each response.")] = 0.0,
    synthetic_sec: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Don't decode media: treat each file as this long.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Run a stand-in for Bedrock, S3, S3 Vectors and Transcribe on this machine until Ctrl-C.

    Prints lines to paste into another shell. All commands and AWS SDK programs that you start there use the stand-in.
    """
    with errors_shown(verbose):
        module = stand_in()
        knobs = {"latency_sec": latency_sec, "synthetic_sec": synthetic_sec}
        where = {"port": port, "s3_port": s3_port, "region": region, "bucket": bucket}
        raise typer.Exit(module.run(media or [], as_json=as_json, **where, **knobs))

"""The command that serves a store to assistants: mcp."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marengo_cli.options import Connection, Local, Verbose, bundled
from marengo_cli.running import check_installed, errors_shown, needed, stand_in

__all__ = ["mcp"]


@bundled
def mcp(
    connection: Connection,
    media: Annotated[
        list[Path] | None, typer.Argument(metavar="MEDIA", help="With --local: files and folders. Default: the demo's.")
    ] = None,
    local: Local = False,
    chroma: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of a Chroma store on disk.")] = None,
    collection: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its collection, or the base name of one collection per track.")
    ] = None,
    retriever: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="For any other store: your MarengoRetriever, of either framework."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with more settings, such as filter.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="ask|describe", help="Also offer a tool that costs money. Repeatable.")
    ] = None,
    prefix: Annotated[
        list[str] | None, typer.Option(metavar="S3_URI", help="Show only what is under this prefix. Repeatable.")
    ] = None,
    max_usd: Annotated[float | None, typer.Option(metavar="USD", help="The most one call may cost.")] = None,
    max_session_usd: Annotated[float | None, typer.Option(metavar="USD", help="The most all calls may cost.")] = None,
    links: Annotated[
        bool | None, typer.Option("--links", help="Add presigned URLs for clients; models don't see them.")
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP on this machine instead of stdio.")
    ] = False,
    host: Annotated[str, typer.Option(metavar="HOST", help="For --http: 127.0.0.1, ::1 or localhost.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port for --http.")] = 8000,
    verbose: Verbose = 0,
) -> None:
    """Serve your moments to an assistant or agent over MCP: Claude, VS Code, Cursor and others start this command.

    Assistants can search, read words and look at frames; with --allow they can also ask a video model, within a budget.
    Try it with --local, without AWS.

    Exit code: 0 the client disconnected, 2 invalid input, 130 Ctrl-C or SIGTERM.
    """
    with errors_shown(verbose):
        install = "pip install 'bedrock-marengo[cli,langchain,mcp]' langchain-chroma"
        module = needed("marengo_cli.mcp", install)
        if local or chroma:
            check_installed("langchain_chroma", install)
        if local:
            stand_in()
        given = {
            "chroma": chroma,
            "collection": collection,
            "retriever": retriever,
            "allow": allow or None,
            "allowed_prefixes": prefix or None,
            "max_usd": max_usd,
            "max_session_usd": max_session_usd,
            "links": links,
        }
        module.run(connection, given, config=config, local=local, media=media or [], http=http, host=host, port=port)

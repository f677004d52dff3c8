"""``marengo mcp``: opens the store, and serves its tools to assistants."""

from __future__ import annotations

import signal
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

from bedrock_marengo import ConfigurationError, InputError, MarengoError
from bedrock_marengo.agents import TOOLS, MomentTools
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.errors import visible
from bedrock_marengo.search.weights import collection_names, tracks_of
from bedrock_marengo.validation import reject_unknown
from marengo_cli.options import Connection
from marengo_cli.skipped import show_skipped
from marengo_cli.spelling import rendered
from marengo_cli.terminal import say
from marengo_cli.undecodable import plainly
from marengo_mcp.server import PATH, create_server, run_http, run_stdio
from marengo_mcp.settings import ServerSettings, read_settings, retriever_of
from marengo_mcp.stdio import claim_stdio

__all__ = ["run"]

BUCKET = "marengo-demo"


def run(
    connection: Connection,
    given: dict[str, Any],
    *,
    config: Path | None,
    local: bool,
    media: Sequence[Path],
    http: bool,
    host: str,
    port: int,
) -> None:
    """Serve until the client disconnects, Ctrl-C or SIGTERM.

    Args:
        connection: how to reach AWS.
        given: settings of ``ServerSettings``, as typed.
        config: a TOML file with more of them.
        local: use a stand-in for AWS.
        media: with ``local``, files and folders; none for the demo's reel.
        http: streamable HTTP instead of stdio.
        host: for ``http``.
        port: for ``http``.

    Raises:
        bedrock_marengo.MarengoError: A setting has a wrong value, or there is no such store.
    """
    settings, aws = read_settings(config, given)
    connection = _connection(connection, aws)
    folders = [Path.cwd(), *([config.resolve().parent] if config else [])]
    _check_store(settings, connection, media, local=local)
    wire = nullcontext() if http else claim_stdio()
    # The stack ends first: it closes the client, so that an opening which nobody waits for ends, too.
    with _until_terminated(), wire as streams, ThreadPoolExecutor(1) as pool, ExitStack() as opened:
        ended = CancelToken()
        opened.callback(ended.cancel)

        def tools() -> MomentTools:
            found = _local(settings, media, opened, ended) if local else _opened(settings, connection, opened, folders)
            return settings.tools(found)

        # Clients wait 10 seconds for the first answer, and the stand-in has to embed its media.
        specs = [spec for spec in TOOLS.values() if spec.permission in (None, *settings.allow)]
        server = create_server(pool.submit(tools), specs=specs) if local else create_server(tools())
        if streams is None:
            shown = f"[{host}]" if ":" in host else host
            run_http(server, host=host, port=port, started=f"Serving at http://{shown}:{port}{PATH} until Ctrl-C.")
        else:
            run_stdio(server, streams)


@contextmanager
def _until_terminated() -> Iterator[None]:
    """Let SIGTERM, with which assistants end their servers, clean up as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_store(settings: ServerSettings, connection: Connection, media: Sequence[Path], *, local: bool) -> None:
    """Refuse settings that would have no effect: a filter that isn't used shows what it should hide."""
    if media and not local:
        raise InputError(f"{media[0]}: files can only be served with --local. Embed them first, then pass --chroma.")
    for path in media:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder.")
    stores = [name for name in ("chroma", "retriever") if getattr(settings, name) is not None]
    if len(stores) + local != 1:
        raise ConfigurationError(
            "Pass one of --chroma DIR (with --collection NAME), --retriever MODULE:NAME for any other store, or "
            f"--local to try it without AWS.{f' Got {len(stores) + local}.' if stores else ''}"
        )
    if settings.chroma is not None and settings.collection is None:
        raise ConfigurationError("--chroma needs --collection NAME.")
    if settings.retriever is not None:
        for setting in ("filter", "weights", "collection"):
            if getattr(settings, setting) is not None:
                raise ConfigurationError(
                    f"{setting} has no effect with --retriever: set it in your retriever, and remove it here."
                )


def _connection(connection: Connection, aws: dict[str, Any]) -> Connection:
    """The options as typed, and those of the file that were not."""
    names = [field.name for field in fields(Connection)]
    reject_unknown(aws, names, "[aws]")
    for name, value in aws.items():
        if not isinstance(value, str):
            raise ConfigurationError("expected a string.", setting=f"[aws] {name}", value=value)
    return Connection(**{name: getattr(connection, name) or aws.get(name) for name in names})


def _opened(settings: ServerSettings, connection: Connection, opened: ExitStack, folders: Sequence[Path]) -> Any:
    """The retriever of a store that is there."""
    if settings.retriever is not None:
        return retriever_of(settings.retriever, *folders)
    from marengo_cli.migrate import embeddings_of

    embeddings = embeddings_of(connection)
    opened.enter_context(embeddings.core)
    stores = _collections(Path(settings.chroma or ""), settings.collection or "", embeddings)
    return _retriever(embeddings, settings, stores)


def _collections(folder: Path, collection: str, embeddings: Any) -> dict[str, Any]:
    """Settings of a retriever over one collection, or over one for each track."""
    from langchain_chroma import Chroma

    from marengo_cli.migrate import open_chroma

    model = embeddings.core.model
    tracks = {name: track for track, name in collection_names(collection, tracks_of(model), model).items()}
    client, found = open_chroma(folder, collection, *tracks)
    stores = {
        name: Chroma(name, embeddings, client=client, create_collection_if_not_exists=False)
        for name in ([collection] if collection in found else found)
    }
    if collection in stores:
        return {"vectorstore": stores[collection]}
    return {"vectorstores": {tracks[name]: store for name, store in stores.items()}}


def _local(settings: ServerSettings, media: Sequence[Path], opened: ExitStack, ended: CancelToken) -> Any:
    """The retriever of a store in memory, over a stand-in: of the demo's reel, or of files of one's own."""
    from langchain_chroma import Chroma

    import marengo_local
    from bedrock_marengo import Transcribe
    from langchain_marengo import MarengoEmbeddings, MarengoLoader, add_segments
    from marengo_cli.local import without_outside
    from marengo_local import reel

    opened.enter_context(without_outside())
    ended.check("Opening the archive")
    local = opened.enter_context(marengo_local.serve(bucket=BUCKET))
    folder = opened.enter_context(tempfile.TemporaryDirectory())
    sources: Any = list(media)
    if not media:
        reel.build(Path(folder, "reel.mp4"))
        sources = local.put(Path(folder, "reel.mp4"))
    options: Any = local.client_options
    embeddings = MarengoEmbeddings(**options)
    opened.enter_context(embeddings.core)
    # The stand-in's Transcribe answers with the reel's own captions.
    loader = MarengoLoader(
        sources, embeddings=embeddings, transcripts=True if media else Transcribe(), on_error=_skipped
    )
    if media:
        listed = embeddings.core.list_media(sources)
        deque(listed.items(), maxlen=0)
        show_skipped(listed)
    # Chroma shares collections in memory between all of a process.
    ended.check("Opening the archive")
    store = Chroma(f"local-{uuid4().hex}", embeddings, collection_configuration={"hnsw": {"space": "cosine"}})
    count = len(add_segments(store, loader.lazy_load()))
    if not count:
        raise InputError("There are no videos, audio files or images here that Marengo can embed.")
    say(f"{count:,} segments are ready. A stand-in for AWS runs here; nothing leaves this machine.", err=True)
    return _retriever(embeddings, settings, {"vectorstore": store})


def _skipped(source: Any, error: Exception) -> None:
    """One file that Marengo can't embed doesn't keep the others from being served."""
    plain = plainly(error) if isinstance(error, MarengoError) else error
    say(f"\nSkipped {visible(str(getattr(source, 'path', source)))}: {rendered(plain)}", err=True)


def _retriever(embeddings: Any, settings: ServerSettings, stores: dict[str, Any]) -> Any:
    from langchain_marengo import MarengoRetriever

    # Without weights, the retriever has its own default.
    weights: Any = {} if settings.weights is None else {"weights": settings.weights}
    return MarengoRetriever(embeddings=embeddings, filter=settings.filter, **weights, **stores)

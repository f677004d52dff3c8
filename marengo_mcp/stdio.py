"""stdin and stdout for the protocol alone: nothing else reads or writes them, and a read ends when the server does."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, TextIO

import anyio

__all__ = ["Wire", "claim_stdio"]


@dataclass(frozen=True, slots=True)
class Wire:
    """The protocol's own streams.

    Attributes:
        input: what the client sends.
        output: what it gets.
    """

    input: TextIO
    output: TextIO

    @property
    def stdin(self) -> Any:
        """The client's lines, as ``mcp.server.stdio.stdio_server`` takes them."""
        return _lines(self.input)

    @property
    def stdout(self) -> anyio.AsyncFile[str]:
        """Where the server's lines go."""
        return anyio.wrap_file(self.output)


@contextmanager
def claim_stdio() -> Iterator[Wire]:
    """Take stdin and stdout for the protocol, from here on: what else is printed goes to stderr, even while opening."""
    sys.stdout.flush()
    kept = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            # Their descriptors stay open: a thread may still read one when the server has ended.
            yield Wire(
                open(kept[0], encoding="utf-8", errors="replace", closefd=False),  # noqa: SIM115
                open(kept[1], "w", encoding="utf-8", newline="\n", closefd=False),  # noqa: SIM115
            )
    finally:
        for own, standard in zip(kept, (0, 1), strict=True):
            os.dup2(own, standard)


async def _lines(stream: TextIO) -> AsyncIterator[str]:
    """Lines of a stream. A daemon thread reads: a read of stdin can't be cancelled, so Ctrl-C would wait for a line."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop has ended
            with suppress(OSError, ValueError):
                for line in stream:
                    loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="marengo-mcp-stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line

"""What the terminal shows: results on stdout, progress and questions on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Column, Table

from bedrock_marengo import ConfigurationError
from bedrock_marengo.errors import visible

__all__ = [
    "agreed",
    "apart",
    "console",
    "dollars",
    "gigabytes",
    "length",
    "logs_shown",
    "print_json",
    "print_table",
    "say",
    "waiting",
]

PACKAGES = ("bedrock_marengo", "langchain_marengo", "llama_index_marengo", "marengo_cli")
PIPE_WIDTH = 200
"""Columns without a terminal: a table in a pipe is not cut at 80."""


def console(*, stderr: bool = False) -> Console:
    """Where to print. Names come from others, so none is read as markup."""
    found = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = PIPE_WIDTH
    return found


def say(text: str, *, err: bool = False) -> None:
    """Print lines. A name or caption in one has to be ``visible`` by itself: it may contain a line break."""
    # Not typer's echo, which writes UTF-8 where the encoding is ASCII.
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr if err else sys.stdout, flush=True)


def print_table(
    headings: Iterable[str | Column], rows: Iterable[Iterable[str]], *, title: str = "", stderr: bool = False
) -> None:
    """A table without headings if all of them are empty."""
    columns = [heading if isinstance(heading, Column) else Column(heading) for heading in headings]
    shown = Table(
        *columns,
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=any(column.header for column in columns),
        show_edge=False,
        pad_edge=False,
    )
    for row in rows:
        shown.add_row(*map(visible, row))
    console(stderr=stderr).print(shown)


def print_json(value: Any) -> None:
    """One object on stdout."""
    say(json.dumps(value, indent=2))


def agreed(question: str, instead: str) -> bool:
    """Ask on stderr; no answer is no.

    Raises:
        ConfigurationError: There is no terminal to ask on; ``instead`` says which option to give.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"{question} There is no terminal to ask in: {instead}")
    # Not typer's own question, which reads Ctrl-C as no.
    print(visible(f"{question} [y/N]: "), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def apart(names: Sequence[str]) -> list[str]:
    """Names without the folders that all of them share."""
    folders = [name.split("/")[:-1] for name in names]
    shared = next((i for i, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1), None)
    if shared is None:
        shared = min(map(len, folders), default=0)
    return ["/".join(name.split("/")[shared:]) for name in names]


def waiting(for_what: str) -> Status:
    """A spinner on stderr for the duration of its ``with``; nothing without a terminal."""
    on = console(stderr=True)
    return on.status(for_what, spinner="line" if on.options.ascii_only else "dots")


@contextmanager
def logs_shown(verbosity: int) -> Iterator[None]:
    """Logs on stderr in this block: none at 0, INFO and above at 1, DEBUG at 2."""
    if verbosity <= 0:
        yield
        return
    handler, loggers = _Lines(), [logging.getLogger(package) for package in PACKAGES]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Lines(logging.Handler):
    """Not StreamHandler, which would keep the stderr of its start: a progress bar puts its own in place."""

    def emit(self, record: logging.LogRecord) -> None:
        say(visible(self.format(record)), err=True)


def dollars(usd: float) -> str:
    """US dollars: small sums with four decimals."""
    return f"{usd:,.2f}" if usd == 0 or usd >= 10 else f"{usd:,.4f}"


def gigabytes(size: int) -> str:
    """Bytes in a suitable unit."""
    for unit, factor in (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,} bytes"


def length(seconds: float) -> str:
    """Seconds in a suitable unit."""
    for unit, factor in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:,.1f} {unit}"
    return f"{seconds:,.0f} s"

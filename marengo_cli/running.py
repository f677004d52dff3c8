"""What each command runs in: its module, its client, and how errors are shown."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import typer

from bedrock_marengo import ConfigurationError, InputError, MarengoError, MarengoWarning, Prices
from marengo_cli.options import Connection, connect
from marengo_cli.spelling import rendered
from marengo_cli.terminal import logs_shown, say

if TYPE_CHECKING:
    from bedrock_marengo import MarengoClient

__all__ = ["CONTINUES", "check_installed", "client_of", "errors_shown", "needed", "show_version", "stand_in"]

_logger = logging.getLogger(__name__)

CONTINUES = "Jobs that were started continue. Run the same command again: it finds them, and you don't pay twice."


def needed(module: str, install: str = "pip install 'bedrock-marengo[cli]'") -> ModuleType:
    """A command's module; exit 2 with what to install if a package is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # Not only ModuleNotFoundError: in a clone, the folder of a package that isn't installed is found instead.
        say(f"This needs {error.name}: {install}", err=True)
        raise typer.Exit(2) from error


def check_installed(package: str, install: str) -> None:
    """Exit 2 with what to install if a package is missing; without importing it, where that would take seconds."""
    found = None
    with suppress(ModuleNotFoundError):
        found = find_spec(package)
    if found is None:
        say(f"This needs {package}: {install}", err=True)
        raise typer.Exit(2)


def show_version(is_asked: bool) -> None:
    """``--version``: print it and exit."""
    if is_asked:
        say(f"bedrock-marengo {importlib.metadata.version('bedrock-marengo')}, Python {sys.version.split()[0]}")
        raise typer.Exit


def stand_in() -> ModuleType:
    """The command's module that runs a stand-in."""
    return needed("marengo_cli.local", "pip install 'bedrock-marengo[cli,local]'")


@contextmanager
def client_of(
    connection: Connection, model: str, local_media: Sequence[object] | None, prices: Prices | None = None
) -> Iterator[MarengoClient]:
    """A client of AWS, or of a stand-in if there are local media for it."""
    if local_media is None:
        with _local_is_offered(), connect(connection, model=model, prices=prices) as client:
            yield client
    else:
        with stand_in().stand_in(model, connection.region, local_media, prices) as client:
            yield client


@contextmanager
def _local_is_offered() -> Iterator[None]:
    """Whoever has no AWS settings may have forgotten --local."""
    try:
        yield
    except ConfigurationError as error:
        if error.setting in ("region_name", "output_s3_uri") and error.value is ...:
            error.args = (f"{error.args[0].rstrip('.')}. To try it with local files and without AWS, add --local.",)
        raise


@contextmanager
def errors_shown(verbose: int, stopped: str = "Nothing was left unfinished.") -> Iterator[None]:
    """Our own errors, warnings and Ctrl-C as a line on stderr; anything else is a bug and keeps its traceback."""
    with warnings.catch_warnings(), logs_shown(verbose):
        warnings.showwarning = _warned(warnings.showwarning)
        _logger.debug("bedrock-marengo %s, Python %s", importlib.metadata.version("bedrock-marengo"), sys.version)
        try:
            yield
        except MarengoError as error:
            if verbose:
                say(traceback.format_exc().rstrip(), err=True)
            else:
                say(f"{rendered(error)} (-v shows where)", err=True)
            raise typer.Exit(2 if isinstance(error, ConfigurationError | InputError) else 1) from error
        except KeyboardInterrupt as error:
            say(f"Stopped. {stopped}", err=True)
            raise typer.Exit(130) from error


def _warned(otherwise: Callable[..., None]) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, MarengoWarning):
            say(rendered(message), err=True)
        else:
            otherwise(message, category, *where, **more)

    return show

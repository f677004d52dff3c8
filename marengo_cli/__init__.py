"""The command line, ``marengo``, with the extra ``cli``."""

import io
import logging
import sys

logging.getLogger(__name__).addHandler(logging.NullHandler())


def main() -> int:
    """The console script ``marengo``: 0 done, 1 not everything, 2 invalid input, 130 Ctrl-C."""
    escape_what_cannot_be_encoded()
    try:
        from marengo_cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f"marengo needs {error.name}: pip install 'bedrock-marengo[cli]'", file=sys.stderr)
        return 2
    app(prog_name="marengo")
    return 0


def escape_what_cannot_be_encoded() -> None:
    """Have stdout and stderr escape letters that their encoding lacks: a name must not end a command that is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

"""The command line, ``marengo``, with the extra ``cli``."""

import logging
import sys

logging.getLogger(__name__).addHandler(logging.NullHandler())


def main() -> int:
    """The console script ``marengo``: 0 done, 1 not everything, 2 invalid input, 130 Ctrl-C."""
    try:
        from marengo_cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print("marengo needs typer: pip install 'bedrock-marengo[cli]'", file=sys.stderr)
        return 2
    app(prog_name="marengo")
    return 0

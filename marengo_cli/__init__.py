"""The command line: ``marengo demo`` and ``marengo migrate``, with the extra ``cli``."""

import sys


def main() -> int:
    """The console script ``marengo``: 0 done, 1 not all of it, 2 the user's mistake."""
    try:
        from marengo_cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print("marengo needs typer: pip install 'bedrock-marengo[cli]'", file=sys.stderr)
        return 2
    app(prog_name="marengo")
    return 0

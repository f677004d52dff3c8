"""Whether ``marengo search`` asks for its queries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bedrock_marengo import InputError

__all__ = ["is_wanted"]


def is_wanted(words: Sequence[str], *, by_media: bool, interactive: bool) -> bool:
    """Whether to ask for queries: if that was asked for, or the only word is where to search.

    Raises:
        InputError: There is nothing to search, or no terminal to ask in; or the query is a file.
    """
    is_place = len(words) == 1 and (words[0].startswith("s3://") or _exists(words[0]))
    if not (interactive or (is_place and not by_media)):
        if not words and not by_media:
            raise InputError("There is no query and no source. Usage: marengo search 'a dog' clips/.")
        return False
    if by_media:
        raise InputError("--interactive asks for texts: leave out --image, --audio and --video.")
    if not words:
        raise InputError("--interactive: there are no sources to search. Usage: marengo search -i clips/.")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            f"There is no query, and no terminal to ask for one. Pass it first: marengo search 'a dog' {words[0]}."
        )
    return True


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False

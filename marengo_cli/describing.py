"""The option that has Pegasus describe videos."""

from __future__ import annotations

from typing import Annotated

import typer

from bedrock_marengo import InputError, Pegasus

__all__ = ["Describe", "descriptions_of"]

Describe = Annotated[
    str | None,
    typer.Option(
        "--describe",
        metavar="video|segment|1.2",
        help="Have Pegasus describe videos: one call for each, a clip for each segment, or that with Pegasus 1.2. A "
        "call in flight when this process is killed may be paid for twice.",
    ),
]
_WAYS = {
    "video": Pegasus(per="video"),
    "segment": Pegasus(per="segment"),
    "1.5": Pegasus("1.5"),
    "1.2": Pegasus("1.2"),
}


def descriptions_of(way: str | None) -> Pegasus | None:
    """What ``--describe`` stands for.

    Raises:
        InputError: It is none of the ways.
    """
    if way is None:
        return None
    if way not in _WAYS:
        raise InputError(f"--describe {way!r}: expected {', '.join(_WAYS)}.")
    return _WAYS[way]

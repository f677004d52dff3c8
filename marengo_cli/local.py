"""``marengo local``: the stand-in in the shell; and the stand-in for one command, ``--local``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

import marengo_local
from bedrock_marengo import ConfigurationError, InputError, MarengoClient, Prices
from marengo_cli.free import FREE
from marengo_cli.terminal import waiting
from marengo_local import outside
from marengo_local.__main__ import run as serve_in_shell
from marengo_local.contract import REGIONS

__all__ = ["run", "stand_in", "without_outside"]

OUTSIDE = (*outside.OUTSIDE, "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
"""Environment variables that would direct a client away from the stand-in, or fail before it is reached."""


def run(media: Sequence[Path], *, as_json: bool, **settings: Any) -> int:
    """Serve until Ctrl-C.

    Raises:
        ConfigurationError: A port in use, a bucket name that S3 refuses, a region without Marengo, media that don't
            exist.
    """
    try:
        return serve_in_shell(media, as_json=as_json, **settings)
    except (ValueError, OSError, ClientError, BotoCoreError) as error:
        raise ConfigurationError(f"The stand-in can't start: {str(error).rstrip('.')}.") from error


@contextmanager
def stand_in(
    model: str, region: str | None, sources: Iterable[object], prices: Prices | None
) -> Iterator[MarengoClient]:
    """A client of a stand-in that runs as long as the ``with``; without ``prices`` nothing costs.

    Raises:
        InputError: Media that are not local.
        ConfigurationError: A region without Marengo.
    """
    for source in sources:
        uri = source if isinstance(source, str) else getattr(source, "uri", None)
        if uri is not None:
            raise InputError(
                f"{uri!r}: with --local, all media must be local files, because the stand-in's S3 is empty."
            )
    if region not in (None, *REGIONS):
        raise ConfigurationError(f"--region {region}: expected a region with Marengo: {', '.join(REGIONS)}.")
    with ExitStack() as opened:
        opened.enter_context(without_outside())
        with waiting("Starting the stand-in"):
            local = opened.enter_context(marengo_local.serve(region=region or REGIONS[0]))
        settings: dict[str, Any] = {**local.client_options, "prices": prices or FREE}
        yield opened.enter_context(MarengoClient(model, **settings))


@contextmanager
def without_outside() -> Iterator[None]:
    """Without the environment variables and files that lead an AWS client away from the stand-in."""
    kept = {name: os.environ.pop(name) for name in OUTSIDE if name in os.environ}
    os.environ |= dict.fromkeys(OUTSIDE[-2:], os.devnull)
    try:
        yield
    finally:
        for name in OUTSIDE[-2:]:
            del os.environ[name]
        os.environ.update(kept)

"""The fixture `marengo_bedrock`: a local stand-in for Marengo on Bedrock, reset for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from marengo_local.outside import OUTSIDE

if TYPE_CHECKING:
    from marengo_local.local import Local

__all__ = ["marengo_bedrock"]


@pytest.fixture(scope="session")
def _marengo_bedrock_server() -> Iterator[Local]:
    # Imported here because pytest loads this module in every project that has the package installed.
    from marengo_local.local import serve

    with serve() as local:
        yield local


@pytest.fixture
def marengo_bedrock(_marengo_bedrock_server: Local, monkeypatch: pytest.MonkeyPatch) -> Local:
    """A running stand-in with default settings, an empty bucket and no recorded calls.

    The AWS environment variables point at it, so that boto3 clients without options use it.
    """
    _marengo_bedrock_server.reset()
    for name, value in _marengo_bedrock_server.env.items():
        monkeypatch.setenv(name, value)
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    return _marengo_bedrock_server

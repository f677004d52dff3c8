"""Calls to the stand-in go past proxies: no proxy reaches this machine's loopback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.request import getproxies_environment

__all__ = ["bypass_proxies", "no_proxy"]

_LOOPBACK: Final = "127.0.0.1"
_NAMES: Final = ("NO_PROXY", "no_proxy")


def no_proxy(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """NO_PROXY in both spellings: what it is in `environ`, and the loopback. Programs differ in the one they read."""
    return {
        name: _extended(environ.get(name, environ.get(other, "")))
        for name, other in zip(_NAMES, _NAMES[::-1], strict=True)
    }


def bypass_proxies() -> None:
    """Take the loopback out of the proxies of this process, if its environment has any.

    Otherwise nothing is set: on macOS and Windows a NO_PROXY alone would turn off the system's own proxies.
    """
    if getproxies_environment():
        os.environ.update(no_proxy())


def _extended(hosts: str) -> str:
    # "*" means all hosts only if it stands alone.
    if hosts.strip() == "*" or _LOOPBACK in (host.strip() for host in hosts.split(",")):
        return hosts
    return f"{hosts},{_LOOPBACK}".lstrip(",")

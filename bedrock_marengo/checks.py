"""What a value must be, and how a refusal names it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Number, Real
from typing import Any, TypeVar

from bedrock_marengo.errors import InputError

__all__ = ["brief", "check_known", "is_number", "is_whole", "many", "valid_unicode"]

T = TypeVar("T")

LONG = 1000
"""Characters over which a string is no name or path; it may be an image in base64."""


def is_number(value: Any) -> bool:
    """Whether a value is a real number, numpy's too: no bool, no NaN, no text."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(value == value)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number from ``least``, numpy's too: no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def many(values: Iterable[T], where: str, what: str) -> Iterable[T]:
    """Values that are many: one string would be taken letter by letter, each of them paid for.

    Raises:
        InputError: One thing, or nothing.
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Mapping | os.PathLike):
        return values
    letters = " A string would be its letters." if isinstance(values, str) else ""
    raise InputError(f"{where} takes many {what}, not {brief(values)}: give a list, even of one.{letters}")


def check_known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse settings of unknown names.

    Raises:
        InputError: The first of them, with the nearest known one and all others.
    """
    names = tuple(known)
    for name in sorted(set(given) - set(names)):
        near = "".join(f" Did you mean {other!r}?" for other in get_close_matches(name, names, 1))
        raise InputError(f"{name!r} is no setting of {where}.{near} Known: {', '.join(names)}.")


def brief(value: object) -> str:
    """A value in a message: strings cut short, and what may hold media or secrets by its type and size alone."""
    if isinstance(value, str) and len(value) > LONG:
        return f"a string of {len(value):,} characters"
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else f"{value[:77]}...")
    return repr(value) if value is None or isinstance(value, Number) else type(value).__name__


def valid_unicode(text: str) -> str:
    """A text that UTF-8 can hold: two surrogates are the letter they stand for, a lone one becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

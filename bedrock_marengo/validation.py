"""What a value must be, and how a refusal names it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Number, Real
from typing import Any, TypeVar

from bedrock_marengo.errors import InputError

__all__ = ["check_width", "is_int", "is_number", "reject_unknown", "require_many", "short_repr", "valid_unicode"]

T = TypeVar("T")

LONG = 1000
"""Characters over which a string is no name or path; it may be an image in base64."""


def is_number(value: Any) -> bool:
    """Whether a value is a real number, numpy's too: no bool, no NaN, no text."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(value == value)


def is_int(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number from ``least``, numpy's too: no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def require_many(values: Iterable[T], where: str, what: str) -> Iterable[T]:
    """Values that are many: one string would be taken letter by letter, each of them paid for.

    Raises:
        InputError: One thing, or nothing.
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Mapping | os.PathLike):
        return values
    letters = " A string would be its letters." if isinstance(values, str) else ""
    raise InputError(f"{where} takes many {what}, not {short_repr(values)}: give a list, even of one.{letters}")


def reject_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse settings of unknown names.

    Raises:
        InputError: The first of them, with the nearest known one and all others.
    """
    names = tuple(known)
    for name in sorted(set(given) - set(names)):
        near = "".join(f" Did you mean {other!r}?" for other in get_close_matches(name, names, 1))
        raise InputError(f"{name!r} is no setting of {where}.{near} Known: {', '.join(names)}.")


def short_repr(value: object) -> str:
    """A value in a message: strings cut short, and what may hold media or secrets by its type and size alone."""
    if isinstance(value, str) and len(value) > LONG:
        return f"a string of {len(value):,} characters"
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else f"{value[:77]}...")
    return repr(value) if value is None or isinstance(value, Number) else type(value).__name__


def valid_unicode(text: str) -> str:
    """A text that UTF-8 can hold: two surrogates are the letter they stand for, a lone one becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_width(width: int) -> None:
    """Refuse a width that no picture should have.

    Raises:
        InputError: As said.
    """
    if not (is_int(width, 16) and width <= 4096):
        raise InputError(f"width={short_repr(width)}: give 16 to 4096 pixels.")

"""Checks of values that several modules share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeVar

from bedrock_marengo.errors import InputError, short_repr

__all__ = ["check_width", "is_int", "is_number", "reject_unknown", "require_many", "short_repr", "valid_unicode"]

T = TypeVar("T")


def is_number(value: Any) -> bool:
    """Whether a value is a real number, numpy's included: not a bool, NaN or text."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(value == value)


def is_int(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number from ``least``, numpy's included: not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def require_many(values: Iterable[T], where: str, what: str) -> Iterable[T]:
    """Refuse a single value where a list is expected: a string would be read letter by letter, each paid for.

    Raises:
        InputError: Not a list or another iterable of values.
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | bytearray | Mapping | os.PathLike):
        return values
    raise InputError(f"{where} takes a list of {what}, not {short_repr(values)}: pass a list, even for a single item.")


def reject_unknown(given: Iterable[str], known: Iterable[str], where: str, what: str = "a setting") -> None:
    """Refuse settings of unknown names.

    Raises:
        InputError: The first of them, with the nearest known one and all others.
    """
    names = tuple(known)
    for name in sorted(set(given) - set(names)):
        near = "".join(f" Did you mean {other!r}?" for other in get_close_matches(name, names, 1))
        raise InputError(f"{name!r} is not {what} of {where}.{near} Known: {', '.join(names)}.")


def valid_unicode(text: str) -> str:
    """A text that UTF-8 can encode: surrogate pairs become their character, a lone surrogate becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_width(width: int) -> None:
    """Refuse the width of a frame or clip outside of 16 to 4096 pixels.

    Raises:
        InputError: The width is not a whole number in this range.
    """
    if not (is_int(width, 16) and width <= 4096):
        raise InputError("expected 16 to 4096 pixels (whole number).", setting="width", value=width)

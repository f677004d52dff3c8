"""Estimates the number of tokens in a text, since Marengo's tokenizer is not public.

Each punctuation mark counts as one token, and each started group of 8 letters in a word.
"""

from __future__ import annotations

import re

__all__ = ["count", "cut"]

_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")


def count(text: str) -> int:
    """The estimated number of tokens in `text`."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut(text: str, limit: int) -> str:
    """`text` truncated to its first `limit` tokens."""
    if len(text) <= limit:
        return text
    for number, token in enumerate(_TOKEN.finditer(text), start=1):
        if number == limit:
            return text[: token.end()]
    return text

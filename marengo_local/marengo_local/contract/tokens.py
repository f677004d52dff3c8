"""An estimate of how many tokens a text has. Marengo's tokenizer is not public: one token for each
punctuation mark and for each 8 letters of a word, begun or whole, is this stand-in's own count.
"""

from __future__ import annotations

import re

__all__ = ["count", "cut"]

_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")


def count(text: str) -> int:
    """How many tokens `text` has, about."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut(text: str, limit: int) -> str:
    """`text` without what lies behind its first `limit` tokens."""
    if len(text) <= limit:
        return text
    for number, token in enumerate(_TOKEN.finditer(text), start=1):
        if number == limit:
            return text[: token.end()]
    return text

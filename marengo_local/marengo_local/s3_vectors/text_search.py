"""Full-text search over one metadata key: BM25."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["TextIndex"]

_K1: Final = 1.2
_B: Final = 0.75
# Chinese and Japanese are written without spaces, and Korean joins particles to words.
_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")


class TextIndex:
    """The words of some vectors' texts. Nothing is stemmed and no word is left out, in any language."""

    def __init__(self, texts: Mapping[str, Any]) -> None:
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        self._lengths: dict[str, int] = {}
        for key, text in texts.items():
            words = _words(" ".join(map(str, text if isinstance(text, list) else [text])))
            self._lengths[key] = len(words)
            for word, count in Counter(words).items():
                self._counts[word][key] = count

    def scores(self, query: str) -> dict[str, float]:
        """Key -> BM25 of all vectors whose text has a word of the query."""
        scores: dict[str, float] = defaultdict(float)
        total = len(self._lengths)
        mean = sum(self._lengths.values()) / total if total else 1.0
        for word in dict.fromkeys(_words(query)):
            found = self._counts.get(word, {})
            rarity = math.log(1 + (total - len(found) + 0.5) / (len(found) + 0.5))
            for key, count in found.items():
                length = _K1 * (1 - _B + _B * self._lengths[key] / mean)
                scores[key] += rarity * count * (_K1 + 1) / (count + length)
        return dict(scores)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in _WORD.findall(text.casefold()):
        is_cjk = re.match(f"[{_CJK}]", word) is not None
        words += [word[i : i + 2] for i in range(max(1, len(word) - 1))] if is_cjk else [word]
    return words

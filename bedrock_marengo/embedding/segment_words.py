"""The words of the segments that this process has loaded: they show which texts a text splitter cut from a segment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from bedrock_marengo.contract.segment_texts import TextSegment, cuts_uri
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.contract.words import heading
from bedrock_marengo.errors import InputError, short_repr

__all__ = ["SegmentWords"]

MAX_CHARACTERS = 20_000_000
"""Words of some 600 hours of speech; ours."""

_Key = tuple[str, str, int, int]


class SegmentWords:
    """Words by time range, which all tracks share; those of the oldest ranges are dropped.

    Args:
        max_characters: how many to keep.
    """

    def __init__(self, *, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_characters = max_characters
        self._words: OrderedDict[_Key, str] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def remember(self, segment: Segment, words: str) -> None:
        """Keep the words that a segment's text has after its URI, with or without its heading."""
        key, words = _key(segment), _letters(words).removeprefix(_heading(segment))
        if not words:
            return
        with self._lock:
            self._size += len(words) - len(self._words.pop(key, ""))
            self._words[key] = words
            while self._size > self._max_characters:
                self._size -= len(self._words.popitem(last=False)[1])

    def refuse_pieces(self, texts: Sequence[str], named: Sequence[TextSegment | None]) -> None:
        """Refuse texts that a text splitter cut from segments' texts: their vectors would be those of no segment.

        Args:
            texts: texts to embed, in order.
            named: the segment that each of them stands for.

        Raises:
            InputError: A text cuts a segment's URI, or is among the words of a segment whose text was cut before it.
        """
        cut: Segment | None = None
        for place, (text, found) in enumerate(zip(texts, named, strict=True)):
            if found is not None:
                if self._is_cut(found.segment, text):
                    cut = found.segment
                elif cut is not None and _key(cut) != _key(found.segment):
                    cut = None
            elif isinstance(text, str):
                if cut is not None and not self._has_piece(cut, text):
                    cut = None
                if cut is not None or cuts_uri(text):
                    of = repr(cut.uri) if cut is not None else "a segment"
                    raise InputError(
                        f"Text {place} of {len(texts)}: {short_repr(text)} is a piece of the text of {of}, cut by a "
                        "text splitter. A segment has one vector, and a piece of its text has none. Split only your "
                        "other documents, not the segments of MarengoLoader or MarengoSegmenter."
                    )

    def _is_cut(self, segment: Segment, text: str) -> bool:
        """Whether a text has only the beginning of its segment's text, which had no heading in the first version."""
        words, given = self._words.get(_key(segment), ""), _letters(text.partition("\n")[2])
        return any(given != whole and whole.startswith(given) for whole in (_heading(segment) + words, words))

    def _has_piece(self, segment: Segment, text: str) -> bool:
        """Whether a text is a piece of what a segment's text has after its URI; a heading shows what words follow."""
        title, piece = _heading(segment), _letters(text)
        return piece in title + self._words.get(_key(segment), "") or piece.startswith(title)


def _key(segment: Segment) -> _Key:
    return segment.source, segment.job, round(segment.start_sec * 1000), round(segment.end_sec * 1000)


def _heading(segment: Segment) -> str:
    return _letters(heading(segment.source, segment.start_sec, segment.end_sec))


def _letters(text: str) -> str:
    # Splitters change white space.
    return "".join(text.split())

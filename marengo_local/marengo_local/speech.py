"""What a test said is spoken in media files, by URI."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from marengo_local.transcripts import Cue

__all__ = ["Said", "Speech"]


@dataclass(frozen=True)
class Said:
    """What is spoken in one file."""

    cues: list[Cue]
    language: str


class Speech:
    """What is spoken, by URI or by pattern. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, Said] = {}

    def say(self, uri: str, cues: Iterable[tuple[float, float, str]], language: str) -> None:
        """Set what is spoken in a file, or in all files whose URI matches a pattern with `*`."""
        ordered = [Cue(*cue) for cue in sorted(cues)]
        for cue in ordered:
            if not 0 <= cue.start_sec < cue.end_sec:
                raise ValueError(f"say: {cue.text!r} is from {cue.start_sec} to {cue.end_sec} s. Give start < end.")
        with self._lock:
            self._said[uri] = Said(ordered, language)

    def of(self, uri: str) -> Said | None:
        """What is spoken in a file: as it was said of its URI, or else of the last pattern that matches."""
        with self._lock:
            if uri in self._said:
                return self._said[uri]
            patterns = (pattern for pattern in reversed(self._said) if "*" in pattern)
            return next((self._said[pattern] for pattern in patterns if fnmatchcase(uri, pattern)), None)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._said.clear()

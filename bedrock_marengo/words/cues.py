"""A cue as a caption file has it: when it is shown, and its text with what markup there is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["TIME", "Cue", "Cues", "seconds_of"]

TIME = r"-?(?:\d+:)?\d+:\d{1,2}(?:[.,]\d+)?"
"""H:MM:SS.mmm, with any number of hours; or MM:SS.mmm."""
_TIME = re.compile(r"(-?)(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2})(?:[.,](\d{1,9})\d*)?")
"""Longer numbers are no times of a file, and too large for a float."""


@dataclass(slots=True)
class Cue:
    """Text between two times. Its lines are separated by ``\\n``; tags, entities and inline times are still in it."""

    start_sec: float
    end_sec: float
    text: str


@dataclass(slots=True)
class Cues:
    """The cues of a file, and the times of those that can't be used."""

    usable: list[Cue] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def add(self, times: str, start_sec: float | None, end_sec: float | None, text: str) -> None:
        """A cue as found; ``times`` is what the file says of its times, which are None if they are not times."""
        if start_sec is None or end_sec is None or end_sec < max(start_sec, 0.0):
            self.unusable.append(times.strip())
        else:
            self.usable.append(Cue(max(start_sec, 0.0), end_sec, text))


def seconds_of(time: str) -> float | None:
    """A time as in ``TIME`` in seconds; None if it is not one."""
    match = _TIME.fullmatch(time.strip())
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups()
    return (-1 if sign else 1) * (
        int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")
    )

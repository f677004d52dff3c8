"""What is seen in a file, with times; and which ranges of it still have to be described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bedrock_marengo.contract.segments import SegmentEmbeddings
from bedrock_marengo.words.parts import HAIR_SEC
from bedrock_marengo.words.pegasus_contract import MIN_SEC

__all__ = ["Description", "Descriptions", "clips_of"]

_HALF = 0.5


class Description(msgspec.Struct, frozen=True):
    """What is seen between two times, in seconds from the start of the file; "" if Pegasus could not say."""

    start_sec: float
    end_sec: float
    text: str

    def shared(self, start_sec: float, end_sec: float) -> float:
        """Seconds that it has in common with a range."""
        return min(self.end_sec, end_sec) - max(self.start_sec, start_sec)

    def fits(self, start_sec: float, end_sec: float) -> bool:
        """Whether it has half of the shorter of the two in common with a range."""
        shorter = min(self.end_sec - self.start_sec, end_sec - start_sec)
        return self.shared(start_sec, end_sec) >= max(_HALF * shorter, 1e-3)


class Descriptions:
    """The descriptions of one file, in order."""

    def __init__(self, found: Iterable[Description]) -> None:
        self.found: Sequence[Description] = sorted(found, key=lambda one: (one.start_sec, one.end_sec))

    def words(self, start_sec: float, end_sec: float) -> str:
        """What is seen in a time range, on one line: the descriptions that it shares half with, or the nearest one."""
        fitting = [one for one in self.found if one.fits(start_sec, end_sec)]
        if not fitting:
            best = max(self.found, key=lambda one: one.shared(start_sec, end_sec), default=None)
            fitting = [best] if best is not None and best.shared(start_sec, end_sec) > 0 else []
        return " ".join(dict.fromkeys(one.text for one in fitting if one.text))

    def lacks(self, start_sec: float, end_sec: float) -> bool:
        """Whether less than half of a range was described, or tried."""
        shared = sum(max(0.0, one.shared(start_sec, end_sec)) for one in self.found)
        return shared < _HALF * (end_sec - start_sec)

    def as_rows(self) -> list[dict[str, Any]]:
        """For the record."""
        return [msgspec.structs.asdict(one) for one in self.found]

    @classmethod
    def of_rows(cls, rows: Any) -> Descriptions:
        """From the record.

        Raises:
            msgspec.ValidationError: They are not rows of this package.
        """
        return cls(msgspec.convert(rows, list[Description]))


def clips_of(segments: SegmentEmbeddings) -> list[tuple[float, float]]:
    """The ranges to describe: those of the segments, each second once, none shorter than a clip may be.

    Segments that are too short for a clip share one with their neighbors. Of a file without clips, its whole range. If
    tracks are cut at different times, the cuts of the one with the most segments count.
    """
    picked = segments.select(scope="clip") if "clip" in segments.scope else segments
    main = picked.select(option=Counter(picked.option).most_common(1)[0][0])
    found: list[tuple[float, float]] = []
    for start, end in sorted(zip(main.start_sec.tolist(), main.end_sec.tolist(), strict=True)):
        last_start, last_end = found[-1] if found else (0.0, 0.0)
        if found and start < last_end - HAIR_SEC:
            continue
        if found and start <= last_end + HAIR_SEC and _is_short(last_start, last_end):
            found[-1] = (last_start, end)
        else:
            found.append((start, end))
    if len(found) > 1 and _is_short(*found[-1]) and found[-1][0] <= found[-2][1] + HAIR_SEC:
        found[-2:] = [(found[-2][0], found[-1][1])]
    return found


def _is_short(start_sec: float, end_sec: float) -> bool:
    return end_sec - start_sec < MIN_SEC - HAIR_SEC

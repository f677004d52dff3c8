"""A segment for people: how to cite it."""

from __future__ import annotations

from bedrock_marengo.contract.segments import Segment

__all__ = ["citation", "clock", "span"]


def citation(segment: Segment) -> str:
    """``match.mp4 at 00:06``: the file's name and when the segment starts."""
    name = segment.source.rpartition("/")[2]
    return f"{name} at {clock(segment.start_sec)}" if segment.end_sec > segment.start_sec else name


def span(start_sec: float, end_sec: float) -> str:
    """``00:06 to 00:12``: a time range as a person reads it; empty for an image."""
    return f"{clock(start_sec)} to {clock(end_sec)}" if end_sec > start_sec else ""


def clock(seconds: float) -> str:
    """Whole seconds as ``MM:SS``, or as ``H:MM:SS`` from one hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"

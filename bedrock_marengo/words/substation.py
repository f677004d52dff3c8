"""ASS and SSA -> cues."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedrock_marengo.words.cues import Cues, seconds_of

__all__ = ["read_substation"]

_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
"""The fields of a line if no Format line names them."""
_TAGGED = re.compile(r"(\{[^{}]*\})([^{]*)")
_DRAWS = re.compile(r"\\p(\d)")
_ESCAPES = {r"\N": "\n", r"\n": "\n", r"\h": " ", r"\{": "&#123;", r"\}": "&#125;"}
_ESCAPE = re.compile(r"\\[Nnh{}]")


def read_substation(text: str) -> Cues:
    """The cues of an ASS or SSA file: its Dialogue lines, without drawings and comments.

    Args:
        text: with ``\\n`` as its line breaks.
    """
    fields: Sequence[str] = _FIELDS
    cues = Cues()
    for line in text.split("\n"):
        kind, _, rest = line.strip().partition(":")
        if kind == "Format":
            named = tuple(name.strip().lower() for name in rest.split(","))
            fields = named if {"start", "end"} < set(named) else fields
        elif kind == "Dialogue":
            values = rest.split(",", len(fields) - 1)
            row = dict(zip(fields, values, strict=False))
            start, end = row.get("start", ""), row.get("end", "")
            shown = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], _without_drawings(row.get(fields[-1], "")))
            cues.add(line, seconds_of(start), seconds_of(end), shown)
    return cues


def _without_drawings(text: str) -> str:
    """The text without what follows a tag such as ``{\\p1}``, up to ``{\\p0}``: shapes, not words."""
    drawing = False

    def shown(found: re.Match[str]) -> str:
        nonlocal drawing
        scales = _DRAWS.findall(found[1])
        drawing = scales[-1] != "0" if scales else drawing
        return found[1] if drawing else found[0]

    return _TAGGED.sub(shown, text)

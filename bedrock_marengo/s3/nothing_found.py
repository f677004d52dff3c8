"""What is said of a prefix, folder or list without media: where it was looked, for what, and what was skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bedrock_marengo.contract.formats import SUFFIXES
from bedrock_marengo.errors import visible, warn_once

__all__ = ["ADVICE", "warn_of_nothing"]

ADVICE: Mapping[str, str] = {
    "unsupported image": "convert to JPEG or PNG",
    "archived": "restore from the archive first",
    "restoring": "wait until S3 has restored them",
}
"""What to do about files that were skipped for a reason."""


def warn_of_nothing(
    place: str, suffixes: Sequence[str], skipped: Mapping[str, int], examples: Mapping[str, Sequence[str]]
) -> None:
    """Warn once per process that a place has no media.

    Args:
        place: a prefix, a folder or a list.
        suffixes: what was looked for; empty for all that Marengo reads.
        skipped: reason -> how many files.
        examples: reason -> some of their names.
    """
    looked = ", ".join(suffixes or SUFFIXES)
    warn_once(
        f"nothing found {place}",
        f"No media found in {visible(place)}. Looked for files that end in {looked}. {_skipped(skipped, examples)}",
        stacklevel=6,
    )


def _skipped(skipped: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> str:
    if not skipped:
        return "There are no files: check the bucket, the prefix or the path."
    parts = [
        f"{count:,} {reason} (such as {visible(examples[reason][-1])}"
        + (f": {ADVICE[reason]})" if reason in ADVICE else ")")
        for reason, count in skipped.items()
    ]
    return f"Skipped: {', '.join(parts)}."

"""Which files of a folder or prefix were skipped, and why, for people."""

from __future__ import annotations

from bedrock_marengo.errors import visible
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.s3.nothing_found import ADVICE
from marengo_cli.terminal import say

__all__ = ["show_skipped"]

NAMED = 3
USUAL = ("hidden", "not media")
"""Reasons that surprise no one: counted, not named."""


def show_skipped(listing: MediaListing) -> None:
    """One line for each reason, on stderr, with names and what to do."""
    for reason, count in listing.skipped.most_common():
        if reason in USUAL:
            continue
        names = [visible(name) for name in listing.skipped_examples[reason]]
        more = f" and {count - NAMED:,} more" if count > NAMED else ""
        advice = f": {ADVICE[reason]}" if reason in ADVICE else ""
        say(f"Skipped ({reason}): {', '.join(names[:NAMED])}{more}{advice}.", err=True)

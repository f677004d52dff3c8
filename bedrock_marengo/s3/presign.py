"""Presigned URLs that play a segment."""

from __future__ import annotations

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import is_number

__all__ = ["WEEK_SEC", "check_lifetime", "fragment", "playable_url"]


WEEK_SEC = 7 * 24 * 3600


def playable_url(objects: S3Objects, segment: Segment, *, expires_sec: int) -> str:
    """A presigned URL that plays a segment: a browser starts and stops where the segment does.

    No request is made. Whoever has it can read the whole file until it expires, at the latest when the credentials
    that signed it do.

    Raises:
        ConfigurationError: ``expires_sec`` is not 1 second to 7 days.
        ServiceError: There are no credentials.
    """
    check_lifetime(expires_sec)
    return f"{objects.presign(segment.source, int(expires_sec))}{fragment(segment)}"


def fragment(segment: Segment) -> str:
    """``#t=6.5,13``, the player's part of a segment's URL: the times as in its own URI. An image has none."""
    return f"#{segment.uri.partition('#')[2].partition('&')[0]}" if segment.end_sec > segment.start_sec else ""


def check_lifetime(expires_sec: float) -> None:
    """Refuse a lifetime that S3 does not support.

    Raises:
        ConfigurationError: Not 1 second to 7 days.
    """
    if not (is_number(expires_sec) and 1 <= expires_sec <= WEEK_SEC):
        raise ConfigurationError(
            f"expected 1 to {WEEK_SEC} seconds (7 days).", setting="expires_sec", value=expires_sec
        )

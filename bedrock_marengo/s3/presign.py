"""Presigned URLs that play a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import ConfigurationError, ServiceError
from bedrock_marengo.validation import is_number, short_repr

if TYPE_CHECKING:
    from bedrock_marengo.aws.session import Aws

__all__ = ["WEEK_SEC", "check_lifetime", "fragment", "playable_url"]


WEEK_SEC = 7 * 24 * 3600


def playable_url(aws: Aws, segment: Segment, *, expires_sec: int) -> str:
    """A presigned URL of a segment's medium that a browser's player starts and ends where the segment does.

    Made without a call. Whoever has it can read the whole medium until it expires: at the latest with the credentials
    that signed it.

    Raises:
        ConfigurationError: ``expires_sec`` is not 1 second to 7 days.
        ServiceError: There are no credentials.
    """
    check_lifetime(expires_sec)
    bucket, key = split_s3_uri(segment.source)
    try:
        url = aws.s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=int(expires_sec)
        )
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "presigning GetObject", segment.source) from error
    return f"{url}{fragment(segment)}"


def fragment(segment: Segment) -> str:
    """``#t=6.5,13``, what a player is told of a segment: the times as its own URI has them. An image has none."""
    return f"#{segment.uri.partition('#')[2].partition('&')[0]}" if segment.end_sec > segment.start_sec else ""


def check_lifetime(expires_sec: float) -> None:
    """Refuse a lifetime that S3 does not have.

    Raises:
        ConfigurationError: As said.
    """
    if not (is_number(expires_sec) and 1 <= expires_sec <= WEEK_SEC):
        raise ConfigurationError(f"expires_sec={short_repr(expires_sec)}: S3 takes 1 second to {WEEK_SEC} (7 days).")

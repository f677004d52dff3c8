"""Which captions belong to which media file, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.errors import InputError, ServiceError

if TYPE_CHECKING:
    from bedrock_marengo.aws.session import Aws
from bedrock_marengo.words.captions import Transcript

__all__ = ["SUFFIXES", "by_rank", "captions_beside"]


SUFFIXES = (".vtt", ".srt")


def captions_beside(aws: Aws, media: Media) -> Transcript | None:
    """The captions that lie beside a medium under its own name: ``match.vtt``, ``match.srt``, ``match.en.vtt``.

    A medium that comes from a prefix's listing knows its captions; of any other the bucket is listed once.

    Returns:
        None if there are none.

    Raises:
        InputError: They are no captions.
        ServiceError: AWS refused.
    """
    if media.path is not None:
        beside = sorted(media.path.parent.glob(f"{_escaped(media.path.stem)}.*"), key=lambda path: by_rank(path.name))
        return next((Transcript.of(path) for path in beside if path.suffix.lower() in SUFFIXES), None)
    if media.uri is None:
        return None
    bucket, _ = split_s3_uri(media.uri)
    try:
        name = (
            _name_beside(aws, media.uri) if media.captions is None else media.captions.removeprefix(f"s3://{bucket}/")
        )
        if not name:
            return None
        body = aws.s3.get_object(Bucket=bucket, Key=name)["Body"].read()
    except (ClientError, BotoCoreError) as error:
        raise ServiceError.of(error, "GetObject", f"captions of {media.uri}") from error
    try:
        return Transcript.parse(body.decode("utf-8", "replace"))
    except InputError as error:
        raise InputError(f"s3://{bucket}/{name}: {error}") from None


def by_rank(name: str) -> tuple[int, bool, str]:
    """The order in which captions of one medium are taken: match.vtt before match.en.vtt, .vtt before .srt."""
    return len(name), not name.lower().endswith(".vtt"), name


def _name_beside(aws: Aws, uri: str) -> str | None:
    """The key of the captions beside one object, by one listing."""
    bucket, key = split_s3_uri(uri)
    stem = f"{key[: -len(suffix)] if (suffix := Path(key).suffix) else key}."
    listed = aws.s3.list_objects_v2(Bucket=bucket, Prefix=stem).get("Contents", [])
    names = (item["Key"] for item in listed if "/" not in item["Key"][len(stem) :])
    return min((name for name in names if name.lower().endswith(SUFFIXES)), key=by_rank, default=None)


def _escaped(stem: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", stem)

"""How long a file is: as given, or read from its container by a few ranged reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.errors import InputError
from bedrock_marengo.media.containers import has_av, open_container
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import is_number, short_repr

__all__ = ["Durations", "duration_of", "requested_sec"]

Durations = Mapping[str, float] | Callable[[str], float | None]

_MICROSECONDS = 1_000_000
"""FFmpeg's unit of a container's length."""


def duration_of(
    objects: S3Objects, media: Media, durations: Durations | None = None, *, probe: bool = True
) -> float | None:
    """A file's length in seconds, None if it is unknown.

    Args:
        objects: S3.
        media: on S3, in a file or in memory. An image has no length.
        durations: source URI (or path) -> seconds; a length that is not in it is read.
        probe: whether to read the container if PyAV is installed (extra ``media``): a few GETs of 256 KiB.

    Raises:
        InputError: ``durations`` returned something that is not a length.
        ServiceError: AWS refused to return the bytes.
    """
    if not KINDS[media.kind].timed:
        return None
    given = (
        durations.get(media.name) if isinstance(durations, Mapping) else durations(media.name) if durations else None
    )
    if given is not None:
        if not (is_number(given) and 0 < given < float("inf")):
            raise InputError(
                f"durations gave {short_repr(given)} for {media.name}: expected seconds, more than 0, or None.",
                setting="durations",
            )
        return float(given)
    return _probe(objects, media) if probe and has_av() else None


def requested_sec(request: MediaRequest, duration_sec: float | None) -> float | None:
    """How many seconds of a file a request asks for; a range with an end needs no length, an image has none."""
    if not KINDS[request.kind].timed:
        return None
    start = request.start_sec or 0.0
    ends = [end for end in (request.end_sec, duration_sec) if end is not None]
    return max(0.0, min(ends) - start) if ends else None


def _probe(objects: S3Objects, media: Media) -> float | None:
    try:
        with open_container(objects, media) as container:
            lengths = [container.duration / _MICROSECONDS] if container.duration else []
            lengths += [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
    except InputError:
        # Bedrock may read a file that we can't: the length is unknown, not wrong.
        return None
    return max(lengths, default=None)

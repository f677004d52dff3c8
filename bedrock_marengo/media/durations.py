"""How long a medium is: as given, else read from its container by a few ranged reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bedrock_marengo.contract.inputs import Media
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
    """A medium's length in seconds, None where nobody knows.

    Args:
        objects: S3.
        media: on S3, in a file or in memory. An image has none.
        durations: source URI (or path) -> seconds; what it lacks is read.
        probe: whether to read the container where PyAV is installed (extra ``media``): a few GETs of 256 KiB.

    Raises:
        InputError: ``durations`` gave no length.
        ServiceError: AWS would not give the bytes.
    """
    if media.kind == "image":
        return None
    given = (
        durations.get(media.name) if isinstance(durations, Mapping) else durations(media.name) if durations else None
    )
    if given is not None:
        if not (is_number(given) and 0 < given < float("inf")):
            raise InputError(
                f"durations gave {short_repr(given)} for {media.name}: give seconds, more than 0, or None."
            )
        return float(given)
    return _probe(objects, media) if probe and has_av() else None


def requested_sec(request: MediaRequest, duration_sec: float | None) -> float | None:
    """How many seconds of a medium a request asks for; a range with an end needs no length, an image has none."""
    if request.kind == "image":
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
        # Bedrock may read what we can't: unknown, not wrong.
        return None
    return max(lengths, default=None)

"""Documented rules that a schema can't express: sizes, ranges between fields, placeholders."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from marengo_local.contract import tokens
from marengo_local.contract.models import MIN_IMAGE_PX, MIN_MEDIA_SEC, Model
from marengo_local.errors import ServiceError, malformed

__all__ = [
    "MAX_BODY_BYTES",
    "PLACEHOLDER",
    "ROUNDING_SEC",
    "check_duration",
    "check_image",
    "check_image_bytes",
    "check_rules",
    "fields",
    "inline_bytes",
    "media_sources",
    "refused",
]

MAX_BODY_BYTES: Final = 25_000_000

# FFmpeg's names; an animated PNG is a PNG.
_IMAGE_CODECS: Final = frozenset({"mjpeg", "png", "apng"})
# Containers round durations.
ROUNDING_SEC: Final = 0.05
PLACEHOLDER: Final = re.compile(r"<@([^<>]+)>")


def check_rules(model: Model, body: Mapping[str, Any]) -> None:
    """Raise ServiceError for a body that passes its schema but violates the documentation."""
    given = fields(model, body)
    _check_text(given)
    if (rule := _RULES.get((model.version, body["inputType"]))) is not None:
        rule(given)
    for source in media_sources(given):
        if "base64String" in source and body["inputType"] not in ("video", "audio"):
            check_image_bytes(model, len(inline_bytes(source)))


def fields(model: Model, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a body: nested under the input type in 3.0, top-level in 2.7."""
    return body[body["inputType"]] if model.has_scopes else body


def media_sources(given: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The media sources of a request."""
    if "mediaSource" in given:
        yield given["mediaSource"]
    yield from given.get("mediaSources", ())


def inline_bytes(source: Mapping[str, Any]) -> bytes:
    """The decoded `base64String` of a source."""
    try:
        return base64.b64decode(source["base64String"], validate=True)
    except (binascii.Error, ValueError):
        raise malformed("#/mediaSource/base64String: not valid base64") from None


def check_image_bytes(model: Model, size: int) -> None:
    """Raise ServiceError if an image is over the model's limit."""
    if size > model.max_image_bytes:
        raise refused(f"The image has {size} bytes; the maximum is {model.max_image_bytes}.")


def check_image(codec: str, width: int, height: int) -> None:
    """Raise ServiceError for an image that is not JPEG or PNG, or too small."""
    if codec not in _IMAGE_CODECS:
        raise refused(f"The image format {codec} is not supported; supported formats are JPEG and PNG.")
    if min(width, height) < MIN_IMAGE_PX:
        raise refused(f"The image has {width}x{height} pixels; the minimum is {MIN_IMAGE_PX}x{MIN_IMAGE_PX}.")


def check_duration(model: Model, kind: str, duration_sec: float) -> None:
    """Raise ServiceError for a file that is too short or too long."""
    if duration_sec > model.max_media_sec:
        raise refused(f"The {kind} lasts {duration_sec:.0f} s; the maximum is {model.max_media_sec:.0f} s.")
    if duration_sec < MIN_MEDIA_SEC - ROUNDING_SEC:
        raise refused(f"The {kind} lasts {duration_sec:.2f} s; the minimum is {MIN_MEDIA_SEC:g} s.")


def refused(message: str) -> ServiceError:
    """A ValidationException with `message`."""
    return ServiceError("ValidationException", message)


def _check_text(given: Mapping[str, Any]) -> None:
    try:
        given.get("inputText", "").encode()
    except UnicodeEncodeError:
        raise malformed("#/inputText: not valid Unicode") from None


def _text_2_7(given: Mapping[str, Any]) -> None:
    if given.get("textTruncate") == "none" and tokens.count(given["inputText"]) > 77:
        raise refused("The text is longer than the maximum of 77 tokens and textTruncate is none.")


def _media_2_7(given: Mapping[str, Any]) -> None:
    if given.get("minClipSec", 0) > given.get("useFixedLengthSec", 10):
        raise refused("minClipSec must be less than or equal to useFixedLengthSec.")
    if given.get("lengthSec", 1) == 0:
        raise refused("lengthSec must be greater than 0.")


def _audio_2_7(given: Mapping[str, Any]) -> None:
    _media_2_7(given)
    # AWS's page allows embeddingOption for audio without saying which: visual options are taken and give no rows.
    if "audio" not in given.get("embeddingOption", ("audio",)):
        raise refused("embeddingOption must contain audio for the inputType audio.")


def _media_3_0(given: Mapping[str, Any]) -> None:
    if "endSec" not in given:
        return
    segmentation = given.get("segmentation", {"method": "default"})
    inner = segmentation.get(segmentation["method"], {})
    segment_sec = {
        "fixed": inner.get("durationSec", 6),
        "dynamic": inner.get("minDurationSec", 4),
        "default": 4 if "visual" in given.get("embeddingOption", ("visual",)) else 0,
    }[segmentation["method"]]
    start_sec = given.get("startSec", 0)
    if given["endSec"] < start_sec + segment_sec or given["endSec"] <= start_sec:
        raise refused("endSec must be at least startSec plus the segment length.")


def _multi_input(given: Mapping[str, Any]) -> None:
    names = [source["name"] for source in given["mediaSources"] if "name" in source]
    asked = PLACEHOLDER.findall(given.get("inputText", ""))
    if len(set(names)) != len(names):
        raise refused("The names of mediaSources must be unique.")
    if unknown := sorted(set(asked) - set(names)):
        raise refused(f"The placeholders {unknown} of inputText name no media source.")
    if unused := sorted(set(names) - set(asked)):
        raise refused(f"The media sources {unused} are named but have no placeholder in inputText.")


_RULES: Final[Mapping[tuple[str, str], Callable[[Mapping[str, Any]], None]]] = {
    ("2.7", "text"): _text_2_7,
    ("2.7", "video"): _media_2_7,
    ("2.7", "audio"): _audio_2_7,
    ("3.0", "video"): _media_3_0,
    ("3.0", "audio"): _media_3_0,
    ("3.0", "multi_input"): _multi_input,
}

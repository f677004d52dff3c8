"""What Amazon Transcribe accepts: the schema of each request, and the rules between its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from marengo_local.contract.schemas import flaw
from marengo_local.errors import ServiceError

__all__ = ["MAX_BYTES", "MAX_SEC", "MIN_SEC", "TRANSCRIBE_OPERATIONS", "bad_request", "check_transcribe", "is_format"]

TRANSCRIBE_OPERATIONS: Final = (
    "StartTranscriptionJob",
    "GetTranscriptionJob",
    "ListTranscriptionJobs",
    "DeleteTranscriptionJob",
)
MIN_SEC: Final = 0.5
MAX_SEC: Final = 4 * 3600.0
MAX_BYTES: Final = 2 * 1024**3
FORMATS: Final = frozenset({"mp3", "mp4", "wav", "flac", "ogg", "amr", "webm", "m4a"})
_LANGUAGE_SETTINGS: Final = ("LanguageCode", "IdentifyLanguage", "IdentifyMultipleLanguages")
# What changes the words or the files that are written, and the stand-in can't do.
_UNSUPPORTED: Final = ("ContentRedaction", "ToxicityDetection", "LanguageIdSettings", "ModelSettings")
_NAMED: Final = ("VocabularyName", "VocabularyFilterName")


def bad_request(message: str) -> ServiceError:
    """A BadRequestException."""
    return ServiceError("BadRequestException", message, 400)


def is_format(given: str | None, found: str) -> bool:
    """Whether a MediaFormat may stand for the detected format: mp4 and m4a are one container."""
    same = {"m4a": "mp4"}
    return given is None or same.get(given, given) == same.get(found, found)


def check_transcribe(op: str, body: Any) -> None:
    """Raise ServiceError for a request that the service refuses."""
    reason = flaw("transcribe", op, body)
    if reason is not None:
        raise bad_request(f"1 validation error detected: {reason}")
    if op == "StartTranscriptionJob":
        _check_start(body)


def _check_start(body: Mapping[str, Any]) -> None:
    asked = [name for name in _LANGUAGE_SETTINGS if body.get(name)]
    if len(asked) != 1:
        given = f", not {' and '.join(asked)}" if asked else ""
        raise bad_request(f"Specify exactly one of {', '.join(_LANGUAGE_SETTINGS)}{given}.")
    options = body.get("LanguageOptions")
    if options is not None and ("LanguageCode" in body or len(set(options)) < 2):
        raise bad_request("LanguageOptions needs two or more language codes, and language identification.")
    settings = body.get("Settings", {})
    if settings.get("ShowSpeakerLabels") and settings.get("ChannelIdentification"):
        raise bad_request("ShowSpeakerLabels and ChannelIdentification can't be used in the same request.")
    for name in _NAMED:
        if name in settings:
            raise bad_request(f"The requested {name} {settings[name]} couldn't be found.")
    for name in _UNSUPPORTED:
        if name in body:
            raise bad_request(f"{name} is not supported by the stand-in marengo_local.")

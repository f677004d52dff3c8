"""What Pegasus 1.5 and 1.2 are on Bedrock: IDs by region, limits, requests and replies. Pure data, no network.

Sources: AWS's user guide pages "TwelveLabs Pegasus 1.5" and "TwelveLabs Pegasus", as far as they could be read in
November 2026, TwelveLabs' SDK 1.3.6, and public code that runs. What is marked "assumed" was not seen on an AWS page: a
request's ``extra=`` overrides or removes any of its fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bedrock_marengo.contract.payloads import Body
from bedrock_marengo.errors import ConfigurationError, InputError, OutputError
from bedrock_marengo.validation import is_int, is_number, short_repr

__all__ = [
    "INLINE_BYTES",
    "MIN_SEC",
    "PEGASUS",
    "Described",
    "PegasusModel",
    "Reply",
    "find_pegasus",
    "general_body",
    "read_reply",
    "segments_body",
    "with_extra",
]

INLINE_BYTES = 25_000_000 // 4 * 3
"""The most bytes of a video inside a request: 25,000,000 in base64, from botocore's model of InvokeModel."""
MIN_SEC = 4.0
"""Shorter videos are refused as unprocessable, as public code has seen."""
TEMPERATURE = 0.2
"""The service's default."""

_US = ("us-east-1", "us-east-2", "us-west-1", "us-west-2")
_EU = ("eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3")


@dataclass(frozen=True, slots=True, kw_only=True)
class PegasusModel:
    """A Pegasus version on Bedrock. Lengths in seconds, sizes in bytes."""

    version: str
    model_id: str
    profiles: Mapping[str, str]
    """Region -> prefix of the inference profile; "" is the model's own ID."""
    max_sec: float
    max_bytes: int
    min_tokens: int
    max_tokens: int
    """The range of ``maxOutputTokens``."""
    timed: bool
    """Whether one call can return segments with times (``time_based_metadata``)."""
    window: tuple[str, str] | None
    """The fields that name a part of a file on S3. Assumed; without them, the whole file is read and billed."""
    durations: tuple[str, str] | None
    """The fields that limit a segment's length. Assumed."""

    def invoke_id(self, region: str) -> str:
        """What InvokeModel gets in a region; where there is no other, the global profile."""
        prefix = self.profiles.get(region, "global")
        return f"{prefix}.{self.model_id}".lstrip(".")


PEGASUS: Mapping[str, PegasusModel] = {
    "1.5": PegasusModel(
        version="1.5",
        model_id="twelvelabs.pegasus-1-5-v1:0",
        profiles=dict.fromkeys(_US, "us"),
        max_sec=7200.0,
        max_bytes=2 * 1024**3 - 1,
        min_tokens=512,
        max_tokens=98_304,
        timed=True,
        window=("start_time", "end_time"),
        durations=("min_segment_duration", "max_segment_duration"),
    ),
    "1.2": PegasusModel(
        version="1.2",
        model_id="twelvelabs.pegasus-1-2-v1:0",
        # Its own ID keeps calls within Seoul; there is no profile of its geography on AWS's page.
        profiles={**dict.fromkeys(_US, "us"), **dict.fromkeys(_EU, "eu"), "ap-northeast-2": ""},
        max_sec=3600.0,
        max_bytes=2 * 1024**3 - 1,
        min_tokens=1,
        max_tokens=4096,
        timed=False,
        window=None,
        durations=None,
    ),
}
"""A new version is a new row."""


def find_pegasus(model: str) -> tuple[PegasusModel, str | None]:
    """The version that a setting names, and the ID for InvokeModel if the region does not decide it.

    Raises:
        ConfigurationError: It is not a version of Pegasus, nor an ID or ARN that contains one.
    """
    if isinstance(model, str):
        for version, row in PEGASUS.items():
            if model in (version, row.model_id):
                return row, None
            if model.endswith(row.model_id):
                return row, model
    raise ConfigurationError(
        f"expected {' or '.join(map(repr, PEGASUS))}, the ID of Pegasus or of its inference profile, or the ARN of "
        "either. For an application inference profile, set the version here, and its ARN as invoke_model_id.",
        setting="model",
        value=model,
    )


# Requests.


def general_body(
    prompt: str, *, max_tokens: int, temperature: float | None = None, schema: Mapping[str, Any] | None = None
) -> Body:
    """A question without its video: the answer is text, or JSON that fits ``schema``. The same for all versions."""
    body: Body = {"inputPrompt": prompt, "maxOutputTokens": max_tokens}
    body["temperature"] = TEMPERATURE if temperature is None else float(temperature)
    if schema is not None:
        # The bare schema, as in code that runs; the page says "json_schema only".
        body["responseFormat"] = {"jsonSchema": schema}
    return body


SEGMENTS_ID, SEGMENTS_FIELD = "segments", "description"


def segments_body(
    model: PegasusModel,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float | None = None,
    lengths: tuple[float | None, float | None] = (None, None),
) -> Body:
    """A request, without its video, for segments with descriptions. One definition, since each may be billed."""
    limits = {
        name: seconds for name, seconds in zip(model.durations or (), lengths, strict=False) if seconds is not None
    }
    field = {"name": SEGMENTS_FIELD, "type": "string", "description": prompt}
    return {
        "analysis_mode": "time_based_metadata",
        "segment_definitions": [{"id": SEGMENTS_ID, "description": prompt, "fields": [field]}],
        "maxOutputTokens": max_tokens,
        "temperature": TEMPERATURE if temperature is None else float(temperature),
        **limits,
    }


def with_extra(body: Body, extra: Mapping[str, Any] | None) -> Body:
    """A request with the user's own fields, which replace ours; None leaves a field out.

    Raises:
        InputError: ``extra`` is not a mapping with names as keys.
    """
    if extra is None:
        return body
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise InputError("expected a mapping of the request's fields to their values.", setting="extra", value=extra)
    return {name: value for name, value in {**body, **extra}.items() if value is not None}


def most_tokens(model: PegasusModel, body: Body) -> int:
    """The most output tokens that a request allows."""
    limit = body.get("maxOutputTokens")
    return int(limit) if limit is not None and is_int(limit) else model.max_tokens


def times_billed(body: Body) -> int:
    """How often a request's seconds may be billed: TwelveLabs' own API bills each definition. Assumed for Bedrock."""
    definitions = body.get("segment_definitions")
    return max(1, len(definitions)) if isinstance(definitions, Sequence) else 1


# Replies.


@dataclass(frozen=True, slots=True)
class Described:
    """What is seen between two times, in seconds from the start of what was sent."""

    start_sec: float
    end_sec: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one call returned, and what it is billed for.

    Attributes:
        text: the answer; empty if it has segments.
        segments: of ``time_based_metadata``, in order.
        stop_reason: "stop", or "length" if the answer was cut off; "" if the service did not say.
        input_tokens: as the service counted them; None if it didn't.
        output_tokens: the same.
        why_unreadable: what is wrong with it; the call is billed all the same.
    """

    text: str = ""
    segments: tuple[Described, ...] = ()
    stop_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    why_unreadable: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether it ends in the middle: half a sentence, or half a JSON."""
        return self.stop_reason == "length"

    def check(self, what: str) -> None:
        """Refuse a reply that can't be read.

        Raises:
            OutputError: It is not JSON, or has neither a message nor segments.
        """
        if self.why_unreadable:
            raise OutputError(
                f"Pegasus' answer about {what} can't be used: {self.why_unreadable} The call is billed. Ask again, "
                "which is a new call."
            )


def read_reply(data: bytes, headers: Mapping[str, str]) -> Reply:
    """A reply with what its headers say of tokens. Fields that are not known are ignored."""
    tokens: dict[str, Any] = {name: _count(headers.get(header)) for name, header in _TOKEN_HEADERS.items()}
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Reply(why_unreadable=f"it is not JSON: {error}.", **tokens)
    if not isinstance(body, dict):
        return Reply(why_unreadable=f"expected an object, got {short_repr(body)}.", **tokens)
    known: dict[str, Any] = {**tokens, "stop_reason": stop_reason(body)}
    if isinstance(body.get("message"), str):
        return Reply(text=body["message"], **known)
    if (failed := body.get("definition_errors")) and not body.get("segments"):
        return Reply(why_unreadable=f"its segment definitions failed: {str(failed)[:200]}.", **known)
    if "segments" in body:
        return Reply(segments=tuple(sorted(_segments(body["segments"]), key=_start)), **known)
    return Reply(why_unreadable="it has neither a message nor segments.", **known)


_TOKEN_HEADERS = {
    "input_tokens": "x-amzn-bedrock-input-token-count",
    "output_tokens": "x-amzn-bedrock-output-token-count",
}
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", re.ASCII)


def stop_reason(body: Mapping[str, Any]) -> str:
    """Why an answer ends: the page on 1.2 says ``finishReason``; what was seen in practice is ``stopReason``."""
    return str(body.get("stopReason") or body.get("finishReason") or "")


def _start(described: Described) -> float:
    return described.start_sec


def _segments(found: Any) -> Iterator[Described]:
    """Segments with their times: a list, or lists by definition as in TwelveLabs' own API."""
    rows = [row for rows in found.values() for row in rows] if isinstance(found, dict) else found
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        start, end = (_seconds(row.get(f"{name}_sec", row.get(f"{name}_time"))) for name in ("start", "end"))
        # Assumed: the fields are next to the times; TwelveLabs' own API has them in "metadata".
        fields = row | (row["metadata"] if isinstance(row.get("metadata"), dict) else {})
        text = fields.get(SEGMENTS_FIELD)
        if start is not None and end is not None and end > start and isinstance(text, str) and text.strip():
            yield Described(start, end, " ".join(text.split()))


def _seconds(value: Any) -> float | None:
    if is_number(value) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    return None


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None

"""The Pegasus models, and what a request must be beyond its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from marengo_local.contract import tokens
from marengo_local.contract.models import GIBIBYTE, MIN_MEDIA_SEC, identified, invalid, on_demand
from marengo_local.contract.rules import PLACEHOLDER, ROUNDING_SEC, inline_bytes, refused
from marengo_local.contract.schemas import flaw
from marengo_local.errors import ServiceError, malformed

__all__ = ["PEGASUS_MODELS", "PegasusModel", "check_pegasus", "check_video", "resolve_pegasus", "unprocessable"]


@dataclass(frozen=True)
class PegasusModel:
    """One version of Pegasus on Bedrock."""

    version: str
    model_id: str
    max_media_sec: float
    max_output_tokens: int
    max_prompt_tokens: int
    # What InvokeModel takes in each region: "base" is the model's own ID, the rest are profile prefixes.
    invoke_ids: Mapping[str, frozenset[str]]
    max_media_bytes: int = 2 * GIBIBYTE - 1


PEGASUS_MODELS: Final = (
    PegasusModel(
        version="1.5",
        model_id="twelvelabs.pegasus-1-5-v1:0",
        max_media_sec=2 * 3600.0,
        max_output_tokens=98_304,
        max_prompt_tokens=261_120 - 98_304,
        invoke_ids={
            "us-east-1": frozenset({"us", "global"}),
            "eu-west-1": frozenset({"global"}),
            "ap-northeast-2": frozenset({"global"}),
        },
    ),
    PegasusModel(
        version="1.2",
        model_id="twelvelabs.pegasus-1-2-v1:0",
        max_media_sec=3600.0,
        max_output_tokens=4_096,
        max_prompt_tokens=2_000,
        invoke_ids={
            "us-east-1": frozenset({"base", "us", "global"}),
            "eu-west-1": frozenset({"eu", "global"}),
            "ap-northeast-2": frozenset({"base", "apac", "global"}),
        },
    ),
)
_BY_ID: Final = {model.model_id: model for model in PEGASUS_MODELS}
# What an answer's schema may consist of; other keywords, even descriptions, make the video "unprocessable".
_KEYWORDS: Final = frozenset(
    {
        *("type", "properties", "required", "items", "minItems", "enum", "const", "anyOf", "$ref", "$defs"),
        *("minimum", "maximum", "format"),
    }
)
_LEAST_WINDOW_SEC: Final = 1.0


def resolve_pegasus(
    identifier: str, *, region: str, account_id: str, application_profiles: Mapping[str, str]
) -> PegasusModel | None:
    """The model that `identifier` names, or None if it isn't Pegasus; raises ServiceError where it can't be called."""
    if identifier in application_profiles:
        return _BY_ID.get(application_profiles[identifier])
    kind, model_id = identified(identifier, region, account_id)
    model = _BY_ID.get(model_id)
    if model is None or kind in model.invoke_ids.get(region, ()):
        return model
    raise on_demand(identifier) if kind == "base" else invalid()


def check_pegasus(model: PegasusModel, body: Any) -> None:
    """Raise ServiceError for a body that the model refuses before it reads the video."""
    mode = body.get("analysis_mode", "general") if isinstance(body, dict) else "general"
    if mode not in ("general", "time_based_metadata") or (mode != "general" and model.version == "1.2"):
        raise malformed(f"#/analysis_mode: {mode!r} is not a valid enum value")
    reason = flaw(f"pegasus-{model.version}", mode, body)
    if reason is not None:
        raise malformed(reason)
    prompt = body.get("inputPrompt", "")
    if (count := tokens.count(prompt)) > model.max_prompt_tokens:
        raise refused(f"The prompt has {count} tokens; the maximum is {model.max_prompt_tokens}.")
    if "base64String" in body["mediaSource"]:
        inline_bytes(body["mediaSource"])
    _check_window(model, body)
    _check_images(body.get("prompt_v2", {}))
    if body.get("min_segment_duration", 0) > body.get("max_segment_duration", float("inf")):
        raise refused("max_segment_duration must be at least min_segment_duration.")
    ids = [definition["id"] for definition in body.get("segment_definitions", ())]
    if len(set(ids)) != len(ids):
        raise refused("The ids of segment_definitions must be unique.")
    if "responseFormat" in body:
        _check_answer_schema(body["responseFormat"]["jsonSchema"])


def check_video(model: PegasusModel, body: Mapping[str, Any], duration_sec: float) -> None:
    """Raise ServiceError for a video that is too short or too long, or if the window begins after its end."""
    if duration_sec < MIN_MEDIA_SEC - ROUNDING_SEC:
        raise unprocessable()
    if duration_sec > model.max_media_sec:
        raise refused(f"The video lasts {duration_sec:.0f} s; the maximum is {model.max_media_sec:.0f} s.")
    if body.get("start_time", 0) >= duration_sec or body.get("end_time", 0) > duration_sec + ROUNDING_SEC:
        raise refused(f"start_time and end_time must be within the video, which lasts {duration_sec:.2f} s.")


def unprocessable() -> ServiceError:
    """What the model says of a video or a schema that it can't work with."""
    return refused("Unprocessable video")


def _check_window(model: PegasusModel, body: Mapping[str, Any]) -> None:
    length_sec = body.get("end_time", float("inf")) - body.get("start_time", 0)
    if length_sec < _LEAST_WINDOW_SEC:
        raise refused(f"end_time must be at least {_LEAST_WINDOW_SEC:g} s after start_time.")


def _check_images(prompt: Mapping[str, Any]) -> None:
    names = {image["name"] for image in prompt.get("media_sources", ())}
    if unknown := sorted(set(PLACEHOLDER.findall(prompt.get("input_text", ""))) - names):
        raise refused(f"The placeholders {unknown} of input_text name no media source.")


def _check_answer_schema(schema: Any) -> None:
    try:
        Draft202012Validator.check_schema(schema)
        is_supported = all(_is_supported(part, schema.get("$defs", {})) for part in _parts(schema))
    except (SchemaError, RecursionError):
        raise unprocessable() from None
    if not is_supported:
        raise unprocessable()


def _is_supported(part: Any, defs: Mapping[str, Any]) -> bool:
    if not isinstance(part, dict) or set(part) - _KEYWORDS or part.get("minItems", 0) > 1:
        return False
    # A reference elsewhere would be fetched by the validator.
    return "$ref" not in part or part["$ref"] in {f"#/$defs/{name}" for name in defs}


def _parts(schema: Any) -> Iterator[Any]:
    """A schema and all schemas in it; the names of properties are not keywords."""
    yield schema
    if not isinstance(schema, dict):
        return
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    for part in [*inner, *([schema["items"]] if "items" in schema else ())]:
        yield from _parts(part)

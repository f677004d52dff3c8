"""The Marengo models, and the identifiers that each operation accepts in each region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from marengo_local.errors import ServiceError

__all__ = [
    "GIBIBYTE",
    "MIN_IMAGE_PX",
    "MIN_MEDIA_SEC",
    "MODELS",
    "REGIONS",
    "Model",
    "identified",
    "invalid",
    "on_demand",
    "resolve",
]

# TwelveLabs' page on its own API; AWS's pages name no minimum.
MIN_IMAGE_PX: Final = 128
MIN_MEDIA_SEC: Final = 4.0
MEBIBYTE: Final = 1024 * 1024
GIBIBYTE: Final = 1024 * MEBIBYTE


@dataclass(frozen=True)
class Model:
    """One version of Marengo on Bedrock."""

    version: str
    model_id: str
    dimension: int
    invoke_inputs: tuple[str, ...]
    async_inputs: tuple[str, ...]
    media_options: Mapping[str, tuple[str, ...]]
    max_text_tokens: int
    max_image_bytes: int
    max_media_bytes: int
    max_media_sec: float
    has_scopes: bool
    # What InvokeModel takes in each region: "base" is the model's own ID, the rest are profile prefixes.
    invoke_ids: Mapping[str, frozenset[str]]

    def inputs(self, operation: str) -> tuple[str, ...]:
        """The values of `inputType` that `operation` accepts."""
        return self.invoke_inputs if operation == "InvokeModel" else self.async_inputs

    def arn(self, region: str) -> str:
        """The ARN of the foundation model."""
        return f"arn:aws:bedrock:{region}::foundation-model/{self.model_id}"


MODELS: Final = (
    Model(
        version="3.0",
        model_id="twelvelabs.marengo-embed-3-0-v1:0",
        dimension=512,
        invoke_inputs=("text", "image", "text_image", "multi_input"),
        async_inputs=("text", "image", "text_image", "multi_input", "video", "audio"),
        media_options={"video": ("visual", "audio", "transcription"), "audio": ("audio", "transcription")},
        max_text_tokens=500,
        max_image_bytes=5 * MEBIBYTE,
        max_media_bytes=6 * GIBIBYTE,
        max_media_sec=4 * 3600.0,
        has_scopes=True,
        invoke_ids={
            "us-east-1": frozenset({"base", "us"}),
            "eu-west-1": frozenset({"eu"}),
            "ap-northeast-2": frozenset({"base"}),
        },
    ),
    Model(
        version="2.7",
        model_id="twelvelabs.marengo-embed-2-7-v1:0",
        dimension=1024,
        invoke_inputs=("text", "image"),
        async_inputs=("text", "image", "video", "audio"),
        media_options={"video": ("visual-text", "visual-image", "audio"), "audio": ("audio",)},
        max_text_tokens=77,
        max_image_bytes=5 * MEBIBYTE,
        max_media_bytes=2 * GIBIBYTE,
        max_media_sec=2 * 3600.0,
        has_scopes=False,
        invoke_ids={
            "us-east-1": frozenset({"us"}),
            "eu-west-1": frozenset({"eu"}),
            "ap-northeast-2": frozenset({"apac"}),
        },
    ),
)

REGIONS: Final = tuple(MODELS[0].invoke_ids)

_BY_ID: Final = {model.model_id: model for model in MODELS}
_FOUNDATION_ARN: Final = re.compile(r"arn:aws:bedrock:([a-z0-9-]+)::foundation-model/(.+)")
_PROFILE_ARN: Final = re.compile(r"arn:aws:bedrock:([a-z0-9-]+):(\d{12}):inference-profile/(.+)")
_PROFILE_ID: Final = re.compile(r"([a-z]+)\.(twelvelabs\..+)")


def resolve(
    operation: str, identifier: str, *, region: str, account_id: str, application_profiles: Mapping[str, str]
) -> Model:
    """The model that `identifier` names for `operation` in `region`; raises the service's error if none."""
    if ":application-inference-profile/" in identifier:
        return _application_profile(operation, identifier, application_profiles)
    kind, model_id = identified(identifier, region, account_id)
    model = _BY_ID.get(model_id)
    if model is None or region not in model.invoke_ids:
        raise invalid()
    is_known = kind in model.invoke_ids[region]
    if operation != "InvokeModel":
        if kind == "base":
            return model
        raise _no_async() if is_known else invalid()
    if is_known:
        return model
    raise on_demand(identifier) if kind == "base" else invalid()


def identified(identifier: str, region: str, account_id: str) -> tuple[str, str]:
    """The kind of identifier ("base" or the prefix of a profile), and the model ID in it; of another region, none."""
    if arn := _FOUNDATION_ARN.fullmatch(identifier):
        return "base", arn[2] if arn[1] == region else ""
    if arn := _PROFILE_ARN.fullmatch(identifier):
        if (arn[1], arn[2]) != (region, account_id):
            return "", ""
        identifier = arn[3]
    if profile := _PROFILE_ID.fullmatch(identifier):
        return profile[1], profile[2]
    return "base", identifier


def _application_profile(operation: str, identifier: str, application_profiles: Mapping[str, str]) -> Model:
    model = _BY_ID.get(application_profiles.get(identifier, ""))
    if model is None:
        raise ServiceError("ResourceNotFoundException", f"The inference profile {identifier} was not found.")
    if operation != "InvokeModel":
        raise _no_async()
    return model


def invalid() -> ServiceError:
    """The error for an identifier that can't be used."""
    return ServiceError("ValidationException", "The provided model identifier is invalid.")


def _no_async() -> ServiceError:
    return ServiceError("ValidationException", "The provided model doesn't support async inference.")


def on_demand(identifier: str) -> ServiceError:
    """The error for a base model ID where only inference profiles can be called."""
    return ServiceError(
        "ValidationException",
        f"Invocation of model ID {identifier} with on-demand throughput isn’t supported. "
        "Retry your request with the ID or ARN of an inference profile that contains this model.",
    )

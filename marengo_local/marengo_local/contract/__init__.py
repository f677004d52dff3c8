"""The service's contract, written from AWS's documentation: JSON Schemas, a table of models, and rules."""

from __future__ import annotations

from marengo_local.contract import tokens
from marengo_local.contract.models import MODELS, REGIONS, Model, resolve
from marengo_local.contract.rules import (
    MAX_BODY_BYTES,
    check_duration,
    check_image,
    check_image_bytes,
    check_rules,
    fields,
    inline_bytes,
    media_sources,
    refused,
)
from marengo_local.contract.schemas import check_list_query, check_model_input, check_start

__all__ = [
    "MAX_BODY_BYTES",
    "MODELS",
    "REGIONS",
    "Model",
    "check_duration",
    "check_image",
    "check_image_bytes",
    "check_list_query",
    "check_model_input",
    "check_rules",
    "check_start",
    "fields",
    "inline_bytes",
    "media_sources",
    "refused",
    "resolve",
    "tokens",
]

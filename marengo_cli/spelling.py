"""Messages of the core with its settings as they are typed: ``--region us-east-1``."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any

from bedrock_marengo import MarengoError, MarengoWarning
from bedrock_marengo.errors import as_keyword, visible
from marengo_cli.options import Connection, Embedding, Fused

__all__ = ["rendered"]


def rendered(error: Exception | str) -> str:
    """An error's or warning's message with its settings as options: ``--region us-east-1``."""
    return error.render(_as_option) if isinstance(error, MarengoError | MarengoWarning) else visible(str(error))


def _as_option(setting: str, value: Any) -> str:
    """A setting of the core as it is typed; one without an option as in Python."""
    if setting not in _OPTIONS:
        return as_keyword(setting, value)
    option = f"--{_OPTIONS[setting]}"
    if value is ... or (value is True and setting != "fused"):
        return option
    return f"{option} {Fused.ALSO if value is True else shlex.quote(str(value))}"


_NAMED_ALIKE = (
    *(f.name for bundle in (Connection, Embedding) for f in fields(bundle)),
    *(
        "model",
        "force",
        "max_cost_usd",
        "max_segments",
        "assume_duration_sec",
        "duration_sec",
        "max_tokens",
        "json_schema",
        "k",
        "fusion",
        "merge_gap_sec",
        "distinct",
        "mmr_lambda",
        "min_confidence",
        "min_iou",
        "max_per_source",
        "weights",
        "words",
    ),
)
_OPTIONS = {
    **{name: name.replace("_", "-") for name in _NAMED_ALIKE},
    "region_name": "region",
    "profile_name": "profile",
    "prices": "price",
    "repay_expired": "force",
}
"""The core's settings -> the options that set them, without dashes."""

"""The settings of a client and of a run, and what each of them may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bedrock_marengo.aws.session import AwsSettings
from bedrock_marengo.aws.start_rate import JobSlots
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.models import Model, find_model
from bedrock_marengo.contract.payloads import BUCKET
from bedrock_marengo.embedding.pricing import Prices
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.s3.object_version import Identity
from bedrock_marengo.validation import is_int, is_number
from bedrock_marengo.words.pegasus import Pegasus
from bedrock_marengo.words.transcribe import Transcribe

__all__ = ["KMS_KEY", "WORDS", "ClientSettings", "check_run"]

Rule = tuple[Callable[[Any], bool], str]

# From botocore's service model of StartAsyncInvoke; 40 characters of an output's URI are ours.
_S3_PREFIX = re.compile(rf"s3://{BUCKET.pattern}(/[^\x00-\x1f\x7f]*)?")
_S3_PREFIX_CHARACTERS = 1024 - 40
KMS_KEY = re.compile(r"arn:aws(-[^:]+)?:kms:[a-zA-Z0-9-]*:[0-9]{12}:(key/[a-zA-Z0-9-]{36}|alias/[a-zA-Z0-9-_/]+)")
_MODEL_ID = re.compile(r"[a-zA-Z_.\-/0-9:]{1,256}")
_TAG = re.compile(r"[a-zA-Z0-9\s._:/=+@-]*", re.ASCII)
_TAGS = 200
_TAG_KEY, _TAG_VALUE = 128, 256


@dataclass(frozen=True)
class ClientSettings(AwsSettings):
    """The settings of ``MarengoClient``, which documents them. A new setting is a field here, with its rule below.

    Raises:
        InputError: An S3 prefix that is not one.
        ConfigurationError: Any other value that is not valid.
    """

    model: str = field(default="3.0", kw_only=False)
    output_s3_uri: str | None = field(default=None, kw_only=True)
    invoke_model_id: str | None = field(default=None, kw_only=True)
    truncate: Literal["end", "error"] = field(default="end", kw_only=True)
    token_counter: Callable[[str], int] | None = field(default=None, kw_only=True)
    tags: Mapping[str, str] | None = field(default=None, kw_only=True)
    output_kms_key_id: str | None = field(default=None, kw_only=True)
    staging_s3_uri: str | None = field(default=None, kw_only=True)
    identity: Identity = field(default="etag", kw_only=True)
    prices: Prices | None = field(default=None, kw_only=True)
    max_starts_per_sec: float | None = field(default=None, kw_only=True)
    job_slots: JobSlots | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        find_model(self.model)
        for name in ("output_s3_uri", "staging_s3_uri"):
            if (prefix := getattr(self, name)) is not None:
                split_s3_uri(prefix)
                if not _S3_PREFIX.fullmatch(prefix) or len(prefix) > _S3_PREFIX_CHARACTERS:
                    raise InputError(
                        "expected s3://bucket/prefix/ with a bucket of 3 to 63 lower-case letters, digits, dots and "
                        f"hyphens, at most {_S3_PREFIX_CHARACTERS} characters.",
                        setting=name,
                        value=prefix,
                    )
        _check(_CLIENT, vars(self))

    @property
    def resolved_model(self) -> Model:
        """What ``model`` names."""
        return find_model(self.model)[0]

    @property
    def resolved_invoke_id(self) -> str | None:
        """The ID for InvokeModel; None if the region decides it."""
        return self.invoke_model_id or find_model(self.model)[1]


def check_run(**settings: Any) -> None:
    """Refuse a run's setting that is not valid, before anything is started.

    Raises:
        ConfigurationError: The first that is not valid.
    """
    _check(_RUN, settings)


def _check(rules: Mapping[str, Rule], settings: Mapping[str, Any]) -> None:
    for name, (fits, advice) in rules.items():
        if name in settings and not fits(settings[name]):
            raise ConfigurationError(f"{advice}.", setting=name, value=settings[name])


def _optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _are_tags(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= _TAGS
        and all(_is_tag(key, _TAG_KEY) and key and _is_tag(text, _TAG_VALUE) for key, text in value.items())
    )


def _is_tag(text: Any, most: int) -> bool:
    return isinstance(text, str) and len(text) <= most and bool(_TAG.fullmatch(text))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _are_slots(value: Any) -> bool:
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in ("acquire", "release"))


def _is_lookup(value: Any) -> bool:
    return callable(value) or isinstance(value, Mapping)


_CLIENT: Mapping[str, Rule] = {
    "truncate": (lambda value: value in ("end", "error"), "expected 'end' or 'error'"),
    "identity": (
        lambda value: value in ("etag", "checksum") or callable(value),
        "expected 'etag', 'checksum' or a callable",
    ),
    "token_counter": (_optional(callable), "expected a callable from a text to its number of tokens"),
    "invoke_model_id": (_optional(_matches(_MODEL_ID)), "expected a model ID, an inference profile's ID, or its ARN"),
    "prices": (_optional(lambda value: isinstance(value, Prices)), "expected Prices(...)"),
    "max_starts_per_sec": (
        _optional(lambda value: is_number(value) and value > 0),
        "expected jobs per second, more than 0; leave it out for no limit",
    ),
    "job_slots": (_optional(_are_slots), "expected JobSlots, such as marengo_ray.RayJobSlots(jobs_at_once=20)"),
    "output_kms_key_id": (
        _optional(_matches(KMS_KEY)),
        "expected the key's ARN, such as arn:aws:kms:us-east-1:123456789012:key/... or :alias/...",
    ),
    "tags": (
        _optional(_are_tags),
        f"expected a mapping of at most {_TAGS} keys (1 to {_TAG_KEY} characters) to values (at most {_TAG_VALUE}), "
        "both of letters, digits, spaces and . _ : / = + @ -",
    ),
}

WORDS: Mapping[str, type[Any]] = {"transcripts": Transcribe, "descriptions": Pegasus}
"""Settings of a run that are a source of words, and what each takes."""


def _is_source(kind: type[Any]) -> Rule:
    advice = f"expected {kind.__name__}(...), or leave it out"
    return lambda value: value is None or isinstance(value, kind), advice


_RUN: Mapping[str, Rule] = {
    **{name: _is_source(kind) for name, kind in WORDS.items()},
    **dict.fromkeys(("force", "repay_expired", "only_done"), (_is_bool, "expected True or False")),
    "timeout_sec": (
        _optional(lambda value: is_number(value) and value >= 0),
        "expected seconds, 0 or more; leave it out to wait until the job ends",
    ),
    "on_progress": (_optional(callable), "expected a callable that takes a Progress"),
    "validate": (callable, "expected a callable that takes a source's URI"),
    "jobs_at_once": (is_int, "expected a whole number, 1 or more"),
    "mean_job_sec": (lambda value: is_number(value) and value > 0, "expected seconds, more than 0"),
    "assume_duration_sec": (_optional(lambda value: is_number(value) and value > 0), "expected seconds, more than 0"),
    "max_cost_usd": (_optional(lambda value: is_number(value) and value >= 0), "expected US dollars, 0 or more"),
    "durations": (_optional(_is_lookup), "expected a mapping or a callable from a source's URI to seconds"),
}

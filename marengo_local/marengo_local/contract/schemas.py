"""Validation by JSON Schema files, with the error messages of Bedrock's validator."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from marengo_local.contract.models import Model
from marengo_local.errors import malformed

__all__ = ["check_list_query", "check_model_input", "check_start", "flaw"]


def check_model_input(model: Model, operation: str, body: Any) -> None:
    """Validate a body of InvokeModel or a modelInput of StartAsyncInvoke by the model's schema."""
    if not isinstance(body, dict):
        raise malformed(f"#: expected type: JSONObject, found: {_json_type(body)}")
    if "inputType" not in body:
        raise malformed("#: required key [inputType] not found")
    input_type = body["inputType"]
    if input_type not in model.inputs(operation):
        raise malformed(f"#/inputType: {_short_json(input_type)} is not a valid enum value")
    _check(_validator(f"marengo-{model.version}", input_type), body)


def check_start(body: Any) -> None:
    """Validate a body of StartAsyncInvoke by Bedrock Runtime's API model."""
    _check(_validator("start-async-invoke"), body)


def check_list_query(query: Mapping[str, str]) -> None:
    """Validate the query parameters of ListAsyncInvokes by Bedrock Runtime's API model."""
    _check(_validator("list-async-invokes"), dict(query))


def _pattern(_: Any, pattern: str, found: Any, __: Any) -> Iterator[ValidationError]:
    # In Python, $ also matches before a line break at the end.
    if isinstance(found, str) and re.search(re.sub(r"\$$", r"\\Z", pattern), found) is None:
        yield ValidationError("")


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def flaw(name: str, definition: str, instance: Any) -> str | None:
    """What violates a definition of a schema file, such as `#/text: ...`; None if nothing does."""
    return _flaw(_validator(name, definition), instance)


def _check(validator: Any, instance: Any) -> None:
    if (reason := _flaw(validator, instance)) is not None:
        raise malformed(reason)


def _flaw(validator: Any, instance: Any) -> str | None:
    error = best_match(validator.iter_errors(instance))
    if error is None:
        return None
    pointer = "".join(f"/{part}" for part in error.absolute_path)
    return f"#{pointer}: {_reason(error)}"


@cache
def _validator(name: str, definition: str | None = None) -> Any:
    schema = json.loads(files(__package__).joinpath(f"{name}.json").read_text("utf-8"))
    if definition is not None:
        # Validating only the given input type, not the oneOf, keeps the error specific.
        schema = {**schema["$defs"][definition], "$defs": schema["$defs"]}
    Draft202012Validator.check_schema(schema)
    return _Validator(schema)


_REASONS: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "const": lambda expected, found: f"expected: {expected}, found: {_short_json(found)}",
    "dependentRequired": lambda needs, found: "; ".join(
        f"[{key}] needs [{', '.join(needed)}]" for key, needed in needs.items() if key in found
    ),
    "enum": lambda _, found: f"{_short_json(found)} is not a valid enum value",
    "exclusiveMinimum": lambda limit, found: f"{found} is not greater than {limit}",
    "maximum": lambda limit, found: f"{found} is not less or equal to {limit}",
    "maxItems": lambda limit, found: f"expected maximum item count: {limit}, found: {len(found)}",
    "maxLength": lambda limit, found: f"expected maxLength: {limit}, actual: {len(found)}",
    "minimum": lambda limit, found: f"{found} is not greater or equal to {limit}",
    "maxProperties": lambda limit, found: f"expected maximum property count: {limit}, found: {len(found)}",
    "minItems": lambda limit, found: f"expected minimum item count: {limit}, found: {len(found)}",
    "minLength": lambda limit, found: f"expected minLength: {limit}, actual: {len(found)}",
    "minProperties": lambda limit, found: f"expected minimum property count: {limit}, found: {len(found)}",
    "not": lambda _, found: f"{_short_json(found)} is reserved",
    "oneOf": lambda choices, _: f"exactly one of {len(choices)} subschemas must match",
    "pattern": lambda pattern, found: f"string {_short_json(found)} does not match pattern {pattern}",
    "required": lambda keys, found: f"required key [{', '.join(k for k in keys if k not in found)}] not found",
    "type": lambda expected, found: f"expected type: {expected}, found: {_json_type(found)}",
    "uniqueItems": lambda _, __: "array items are not unique",
}


def _reason(error: ValidationError) -> str:
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        found: Any = error.instance
        extra = next(key for key in found if key not in schema["properties"])
        return f"extraneous key [{extra}] is not permitted"
    return _REASONS[str(error.validator)](error.validator_value, error.instance)


def _short_json(value: Any) -> str:
    """A value as JSON, truncated, so that media stay out of errors and logs."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _json_type(value: Any) -> str:
    names = {bool: "Boolean", dict: "JSONObject", list: "JSONArray", str: "String", type(None): "Null"}
    return names.get(type(value), "Number")

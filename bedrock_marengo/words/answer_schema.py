"""JSON Schemas for answers: what of one is sent to Pegasus, and whether an answer fits the whole of it.

Pegasus reads a part of JSON Schema and calls the video "unprocessable" if there is more in it. So the rest is left out
of the request and checked here. A keyword that can't be checked is refused before the call.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from bedrock_marengo.errors import InputError, OutputError
from bedrock_marengo.validation import is_int, is_number, short_repr

__all__ = ["check_schema", "read_json", "schema_to_send"]

_SENT = frozenset(
    {"type", "properties", "required", "items", "minItems", "enum", "const", "anyOf", "$ref", "minimum", "maximum"}
)
"""What Pegasus reads: TwelveLabs' list, with ``minItems`` at most 1."""
_NOTES = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "format", "deprecated"}
    | {"readOnly", "writeOnly", "contentMediaType", "contentEncoding", "discriminator"}
)
"""What says nothing of whether a value fits. Not sent either: public code has seen that titles and descriptions are
refused.
"""
_DEFS = ("$defs", "definitions")
_DEPTH = 100
"""How deep an answer may be nested. Ours: a schema that refers to itself needs an end."""
_FENCE = re.compile(r"\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and float(value).is_integer(),
    "null": lambda value: value is None,
    "number": is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}


def check_schema(schema: Any) -> None:
    """Refuse a schema that can't be checked, or that isn't one.

    Raises:
        InputError: The first part that is not supported, with where it is.
    """
    if not isinstance(schema, Mapping):
        raise InputError("expected a JSON Schema as a dict.", setting="json_schema", value=schema)
    try:
        json.dumps(schema, allow_nan=False)
        _check(schema, schema, "#")
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"it can't be written as JSON: {error}.", setting="json_schema", value=schema) from None


def schema_to_send(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What Pegasus gets of a schema that ``check_schema`` accepts. Whatever fits the whole fits this, too."""
    sent = _sent(schema)
    defs = {name: _sent(part) for key in _DEFS for name, part in schema.get(key, {}).items()}
    return {**sent, **({"$defs": defs} if defs else {})}


def read_json(text: str, schema: Mapping[str, Any], what: str) -> Any:
    """The value of an answer, also if it is in a Markdown fence.

    Raises:
        OutputError: It is not JSON, or does not fit the schema.
    """
    fenced = _FENCE.fullmatch(text)
    again = "The call is billed. Ask again, which is a new call, or relax the schema."
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise OutputError(f"Pegasus' answer about {what} is not JSON ({error}): {short_repr(text)}. {again}") from None
    flaw = _flaw(value, schema, schema, "answer", 0)
    if flaw is not None:
        raise OutputError(f"Pegasus' answer about {what} does not fit json_schema: {flaw}. {again}")
    return value


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


# Checking a schema.


def _check(part: Any, root: Mapping[str, Any], where: str) -> None:
    if isinstance(part, bool):
        return
    if not isinstance(part, Mapping):
        raise _unsupported(where, f"{short_repr(part)} is not a schema")
    for name in part:
        if name not in _NOTES and name not in _DEFS and name not in _RULES:
            raise _unsupported(
                where, f"the keyword {name!r} is not supported: use {', '.join(sorted(_RULES))}, or leave it out"
            )
        if name in _FORMS and not _FORMS[name](part[name]):
            raise _unsupported(where, f"{name} can't be {short_repr(part[name])}")
    if "$ref" in part and (len(set(part) - _NOTES - set(_DEFS)) > 1 or _target(part["$ref"], root) is None):
        raise _unsupported(where, f"$ref {short_repr(part['$ref'])}: expected #/$defs/NAME of this schema, alone")
    for name, inner in _inner(part):
        _check(inner, root, f"{where}/{name}")


def _inner(part: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The schemas in a schema; names of properties are not keywords."""
    found = [
        (f"{key}/{name}", inner)
        for key in ("properties", *_DEFS)
        for name, inner in part.get(key, {}).items()
        if isinstance(part[key], Mapping)
    ]
    found += [(f"{key}/{n}", inner) for key in ("anyOf", "oneOf", "allOf") for n, inner in enumerate(part.get(key, ()))]
    return found + [(key, part[key]) for key in ("items", "additionalProperties") if key in part]


def _unsupported(where: str, why: str) -> InputError:
    return InputError(f"json_schema at {where}: {why}.", setting="json_schema")


def _target(ref: Any, root: Mapping[str, Any]) -> Any:
    """What a reference names; None if there is no such definition, or it only refers to itself."""
    seen = set()
    while isinstance(ref, str) and ref not in seen:
        seen.add(ref)
        key, _, name = ref.removeprefix("#/").partition("/")
        found = root.get(key, {}).get(name) if key in _DEFS and ref.startswith("#/") else None
        if not isinstance(found, Mapping) or "$ref" not in found:
            return found
        ref = found["$ref"]
    return None


# What is sent.


def _sent(part: Any) -> dict[str, Any]:
    if isinstance(part, bool):
        return {}
    kept = {name: value for name, value in part.items() if name in _SENT}
    # Exactly one fits: at least one does.
    for name in ("anyOf", "oneOf"):
        if name in part:
            kept["anyOf"] = [_sent(inner) for inner in part[name]]
    if "properties" in part:
        kept["properties"] = {name: _sent(inner) for name, inner in part["properties"].items()}
        # The first property has to be required. Sent so, an answer has it, which fits the caller's schema as well.
        kept["required"] = list(dict.fromkeys([*list(part["properties"])[:1], *part.get("required", [])]))
    if "items" in part:
        kept["items"] = _sent(part["items"])
    if "minItems" in part:
        kept["minItems"] = min(1, part["minItems"])
    if "$ref" in part:
        kept["$ref"] = part["$ref"].replace("#/definitions/", "#/$defs/", 1)
    if len(part.get("allOf", ())) == 1:
        kept |= _sent(part["allOf"][0])
    return kept


# Checking an answer.


def _flaw(value: Any, part: Any, root: Mapping[str, Any], at: str, depth: int) -> str | None:
    """Why a value does not fit a schema, and where; None if it fits."""
    if depth > _DEPTH:
        return f"{at[:80]} is nested more than {_DEPTH} deep"
    if isinstance(part, bool):
        return None if part else f"{at} must not be there"
    if "$ref" in part:
        return _flaw(value, _target(part["$ref"], root), root, at, depth + 1)
    for name, limit in part.items():
        rule = _RULES.get(name)
        if rule is not None and not rule(value, limit):
            return f"{at} is {short_repr(value)}, but {name} is {short_repr(limit)}"
    for inner in _parts_of(value, part, at):
        if (flaw := _flaw(*inner[:2], root, inner[2], depth + 1)) is not None:
            return flaw
    return _choice_flaw(value, part, root, at, depth)


def _parts_of(value: Any, part: Mapping[str, Any], at: str) -> list[tuple[Any, Any, str]]:
    """The values in a value, each with its schema and where it is."""
    if isinstance(value, list) and "items" in part:
        return [(item, part["items"], f"{at}[{n}]") for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return []
    known, rest = part.get("properties", {}), part.get("additionalProperties", True)
    return [(inner, known.get(name, rest), f"{at}.{name}") for name, inner in value.items()]


def _choice_flaw(value: Any, part: Mapping[str, Any], root: Mapping[str, Any], at: str, depth: int) -> str | None:
    for name, (least, most) in (("anyOf", (1, math.inf)), ("oneOf", (1, 1)), ("allOf", (math.inf, math.inf))):
        if name in part:
            flaws = [_flaw(value, inner, root, at, depth + 1) for inner in part[name]]
            fits = flaws.count(None)
            if not min(least, len(flaws)) <= fits <= most:
                return next((flaw for flaw in flaws if flaw), f"{at} fits {fits} of {name}")
    return None


def _equal(one: Any, other: Any) -> bool:
    # In JSON, 1 and true are not equal; 1 and 1.0 are.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_type(value: Any, types: Any) -> bool:
    return any(_TYPES[name](value) for name in ([types] if isinstance(types, str) else types))


def _sized(kind: type, compare: Callable[[int, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, limit: not isinstance(value, kind) or compare(len(value), limit)  # type: ignore[arg-type]


def _number(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, limit: not is_number(value) or compare(value, limit)


def _are_unique(values: list[Any]) -> bool:
    return len({json.dumps(value, sort_keys=True) for value in values}) == len(values)


def _always(value: Any, limit: Any) -> bool:
    return True


_RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": _is_type,
    "enum": lambda value, allowed: any(_equal(value, one) for one in allowed),
    "const": _equal,
    "required": lambda value, names: not isinstance(value, dict) or set(names) <= set(value),
    "minItems": _sized(list, lambda size, limit: size >= limit),
    "maxItems": _sized(list, lambda size, limit: size <= limit),
    "uniqueItems": lambda value, limit: not (limit and isinstance(value, list)) or _are_unique(value),
    "minLength": _sized(str, lambda size, limit: size >= limit),
    "maxLength": _sized(str, lambda size, limit: size <= limit),
    "pattern": lambda value, pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
    "minimum": _number(lambda value, limit: value >= limit),
    "maximum": _number(lambda value, limit: value <= limit),
    "exclusiveMinimum": _number(lambda value, limit: value > limit),
    "exclusiveMaximum": _number(lambda value, limit: value < limit),
    "multipleOf": _number(lambda value, limit: math.isclose(value / limit, round(value / limit), abs_tol=1e-9)),
    # What these say is of the schemas in them.
    **dict.fromkeys(("properties", "additionalProperties", "items", "anyOf", "oneOf", "allOf", "$ref"), _always),
}
"""Keyword -> whether (value, what the keyword says) fits."""


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _is_count(value: Any) -> bool:
    return is_int(value, least=0)


_FORMS: Mapping[str, Callable[[Any], bool]] = {
    "type": lambda value: (
        value in _TYPES if isinstance(value, str) else _are_names(value) and set(value) <= set(_TYPES)
    ),
    "enum": _are_schemas,
    "required": _are_names,
    "pattern": _is_pattern,
    "uniqueItems": lambda value: isinstance(value, bool),
    "multipleOf": lambda value: is_number(value) and value > 0,
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), is_number),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _are_schemas),
    **dict.fromkeys(("properties", *_DEFS), lambda value: isinstance(value, Mapping)),
}
"""Keyword -> whether what it says has the right form."""

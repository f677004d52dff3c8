"""Metadata filters of QueryVectors: JSON -> a function that tests a vector's metadata."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from marengo_local.s3_vectors.checks import invalid

__all__ = ["Filter", "parse_filter"]

Matches = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was checked. `constraints` counts each value; `needs_enhanced` names what CLASSIC lacks."""

    matches: Matches
    constraints: int
    needs_enhanced: bool


def parse_filter(given: Mapping[str, Any], non_filterable: Collection[str]) -> Filter:
    """Check a filter. Raises ServiceError for what is not in the documented grammar."""
    if len(given) != 1:
        raise invalid("/filter", "a filter has exactly one key; join conditions by $and or $or")
    [(key, value)] = given.items()
    if key in ("$and", "$or"):
        return _joined(key, value, non_filterable)
    if key.startswith("$"):
        raise invalid("/filter", f"unknown operator {key}")
    if key in non_filterable:
        raise invalid("/filter", f"{key} is non-filterable metadata")
    conditions = value if isinstance(value, dict) else {"$eq": value}
    if not conditions:
        raise invalid("/filter", f"{key} has no condition")
    for name, operand in conditions.items():
        if name not in _OPERATORS:
            raise invalid("/filter", f"unknown operator {name}")
        if not _OPERATORS[name].accepts(operand):
            raise invalid("/filter", f"{name} takes {_OPERATORS[name].operand}")
    tests = [(_OPERATORS[name].test, operand) for name, operand in conditions.items()]
    constraints = sum(len(operand) if isinstance(operand, list) else 1 for operand in conditions.values())

    def matches(metadata: Mapping[str, Any]) -> bool:
        values = metadata.get(key)
        return all(test(values, operand) for test, operand in tests)

    return Filter(matches, constraints, "$startsWith" in conditions)


def _joined(key: str, value: Any, non_filterable: Collection[str]) -> Filter:
    if not isinstance(value, list) or not value or not all(isinstance(part, dict) for part in value):
        raise invalid("/filter", f"{key} takes a list of filters that is not empty")
    parts = [parse_filter(part, non_filterable) for part in value]
    tests, joined = [part.matches for part in parts], all if key == "$and" else any
    return Filter(
        lambda metadata: joined(test(metadata) for test in tests),
        sum(part.constraints for part in parts),
        any(part.needs_enhanced for part in parts),
    )


class _Operator(NamedTuple):
    operand: str
    accepts: Callable[[Any], bool]
    test: Callable[[Any, Any], bool]


def _is_primitive(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_primitive, value))


def _equals_any(found: Any, operands: list[Any]) -> bool:
    """Whether the value, or an element of a list, equals one of these. True is not 1."""
    elements = found if isinstance(found, list) else [found]
    return any(
        element == operand and isinstance(element, bool) == isinstance(operand, bool)
        for element in elements
        for operand in operands
    )


def _compares(holds: Callable[[Any, Any], bool]) -> _Operator:
    return _Operator("a number", _is_number, lambda found, operand: _is_number(found) and holds(found, operand))


_PRIMITIVE: Final = "a string, number or boolean"
_LIST: Final = "a list of strings, numbers and booleans that is not empty"
# A vector without the key matches nothing but $exists: false.
_OPERATORS: Final = {
    "$eq": _Operator(_PRIMITIVE, _is_primitive, lambda found, operand: _equals_any(found, [operand])),
    "$ne": _Operator(
        _PRIMITIVE, _is_primitive, lambda found, operand: found is not None and not _equals_any(found, [operand])
    ),
    "$in": _Operator(_LIST, _is_list, _equals_any),
    "$nin": _Operator(_LIST, _is_list, lambda found, operand: found is not None and not _equals_any(found, operand)),
    "$gt": _compares(lambda found, operand: found > operand),
    "$gte": _compares(lambda found, operand: found >= operand),
    "$lt": _compares(lambda found, operand: found < operand),
    "$lte": _compares(lambda found, operand: found <= operand),
    "$exists": _Operator(
        "a boolean", lambda operand: isinstance(operand, bool), lambda found, operand: (found is not None) == operand
    ),
    "$startsWith": _Operator(
        "a string",
        lambda operand: isinstance(operand, str),
        lambda found, operand: isinstance(found, str) and found.startswith(operand),
    ),
}

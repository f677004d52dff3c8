"""Answers in the form of Pegasus: sentences, JSON by a schema, segments with fields. They say what the scenes hold.

A scene is what `content.descriptions.describe` returns. The words are plain, and not of Pegasus' quality.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jsonschema import Draft202012Validator

from marengo_local.contract.pegasus import unprocessable

__all__ = ["answer_json", "answer_text", "segments", "sentence"]

Scene = Mapping[str, Any]

COLOURS: Final = frozenset(
    ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey", "white")
)
_WORDS: Final = {
    "grey": "gray",
    "monochrome": "black and white",
    "colourful": "colorful",
    "still": "without motion",
    "moving": "with motion",
    "silence": "silent",
    "tone": "with a tone",
    "noise": "noisy",
}
# Words in the name of a field or property -> which time it is for.
_LENGTH: Final = frozenset({"duration", "length"})
_END: Final = frozenset({"end", "ends", "until"})
_START: Final = frozenset({"start", "starts", "from", "at", "when", "time", "timestamp", "timecode", "sec", "seconds"})
_MOST_DEPTH: Final = 8


def sentence(scene: Scene) -> str:
    """What a scene holds, as a sentence without its times."""
    names = [f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}" for name in scene["names"]]
    what = _joined(names, "or") if names else "a scene"
    colours = [_WORDS.get(look, look) for look in scene["looks"] if look in COLOURS]
    rest = [_WORDS.get(look, look) for look in (*scene["looks"], *scene["sounds"]) if look not in COLOURS]
    text = ", ".join([f"{what} in {_joined(colours, 'and')}" if colours else what, *rest])
    return f"{text[0].upper()}{text[1:]}."


def answer_text(scenes: Sequence[Scene], best: int) -> str:
    """A line for each scene in order; if there are several, first the one that suits the prompt best."""
    if len(scenes) == 1:
        return sentence(scenes[0])
    lines = [f"{clock(scene['start_sec'])} to {clock(scene['end_sec'])}: {sentence(scene)}" for scene in scenes]
    return "\n".join([f"Best match at {lines[best]}", *lines])


def answer_json(schema: Mapping[str, Any], scenes: Sequence[Scene]) -> Any:
    """A value that is valid against the schema; raises ServiceError if there is none that is simple."""
    value = _filled(schema, schema.get("$defs", {}), list(scenes), "", 0)
    try:
        is_valid = Draft202012Validator(schema).is_valid(value)
    except RecursionError:
        is_valid = False
    if not is_valid:
        raise unprocessable()
    return value


def segments(
    definitions: Sequence[Mapping[str, Any]], scenes: Sequence[Scene], least_sec: float, most_sec: float
) -> list[dict[str, Any]]:
    """The segments of each definition: all scenes, within the lengths asked for, with the fields of the definition."""
    fitted = _fitted(scenes, least_sec, most_sec)
    return [
        {
            "definition_id": definition["id"],
            "start_sec": scene["start_sec"],
            "end_sec": scene["end_sec"],
            **{field["name"]: _field(field, scene) for field in definition.get("fields", ())},
        }
        for definition in definitions
        for scene in fitted
    ]


def clock(sec: float) -> str:
    """Minutes and seconds, with hours from the first on."""
    whole = int(sec)
    hours = f"{whole // 3600:02d}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:02d}:{whole % 60:02d}"


def _joined(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _fitted(scenes: Sequence[Scene], least_sec: float, most_sec: float) -> list[Scene]:
    """Scenes merged with the next ones until they are long enough, then cut into equal parts if they are too long."""
    merged: list[Scene] = []
    for scene in scenes:
        if merged and min(_length(merged[-1]), _length(scene)) < least_sec:
            names = list(dict.fromkeys([*merged[-1]["names"], *scene["names"]]))
            merged[-1] = {**merged[-1], "end_sec": scene["end_sec"], "names": names}
        else:
            merged.append(scene)
    return [part for scene in merged for part in _cut(scene, most_sec)]


def _cut(scene: Scene, most_sec: float) -> list[Scene]:
    count = max(1, math.ceil(_length(scene) / most_sec - 1e-9))
    edges = [round(scene["start_sec"] + _length(scene) * place / count, 3) for place in range(count + 1)]
    return [{**scene, "start_sec": edges[place], "end_sec": edges[place + 1]} for place in range(count)]


def _length(scene: Scene) -> float:
    return scene["end_sec"] - scene["start_sec"]  # type: ignore[no-any-return]


def _field(field: Mapping[str, Any], scene: Scene) -> Any:
    kind = field["type"]
    if kind == "array":
        each = {**field["items"], "name": field["name"]}
        return _names([scene]) if each == {"type": "string", "name": field["name"]} else [_field(each, scene)]
    if "enum" in field:
        return _chosen(field["enum"], [scene])
    if kind == "timestamp":
        sec = _time(field["name"], [scene]) or scene["start_sec"]
        whole = f"{int(sec) // 3600:02d}:{int(sec) // 60 % 60:02d}:{int(sec) % 60:02d}"
        forms = {"seconds": sec, "hh:mm:ss": whole, "hh:mm:ss.fff": f"{whole}.{round(sec % 1 * 1000):03d}"}
        return forms[field.get("format", "seconds")]
    return _scalar(kind, field["name"], [scene], {})


def _filled(schema: Mapping[str, Any], defs: Mapping[str, Any], scenes: list[Scene], name: str, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        return None
    if "$ref" in schema:
        schema = defs.get(schema["$ref"].removeprefix("#/$defs/"), {})
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _chosen(schema["enum"], scenes)
    if "anyOf" in schema:
        choices = sorted(schema["anyOf"], key=lambda choice: choice.get("type") == "null")
        return _filled(choices[-1 if depth == _MOST_DEPTH else 0], defs, scenes, name, depth + 1)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "object":
        parts = schema.get("properties", {}).items()
        return {key: _filled(part, defs, scenes, key, depth + 1) for key, part in parts}
    if kind == "array":
        if depth >= _MOST_DEPTH - 2 and not schema.get("minItems"):
            return []
        if schema.get("items") == {"type": "string"}:
            return _names(scenes)
        return [_filled(schema.get("items", {}), defs, [scene], name, depth + 1) for scene in scenes]
    return _scalar(kind, name, scenes, schema)


def _scalar(kind: str, name: str, scenes: list[Scene], schema: Mapping[str, Any]) -> Any:
    if kind in ("boolean", "null"):
        return True if kind == "boolean" else None
    sec = _time(name, scenes)
    if kind == "string":
        return clock(sec) if sec is not None else " ".join(sentence(scene) for scene in scenes)
    number = float(len(scenes)) if sec is None else sec
    number = min(max(number, schema.get("minimum", -math.inf)), schema.get("maximum", math.inf))
    return int(number) if kind == "integer" else round(number, 3)


def _time(name: str, scenes: list[Scene]) -> float | None:
    """The time that a field of this name is for: the start, the end or the length of the scenes; None for others."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)}
    first, last = scenes[0]["start_sec"], scenes[-1]["end_sec"]
    times = ((_LENGTH, last - first), (_END, last), (_START, first))
    return next((sec for names, sec in times if words & names), None)


def _names(scenes: list[Scene]) -> list[str]:
    """What is recognized, each once; or, of a scene without names, its sentence."""
    return list(dict.fromkeys(name for scene in scenes for name in scene["names"] or [sentence(scene)]))


def _chosen(values: Sequence[Any], scenes: list[Scene]) -> Any:
    """The first value that the scenes' words contain, or the first."""
    text = " ".join(sentence(scene) for scene in scenes).lower()
    return next((value for value in values if isinstance(value, str) and value.lower() in text), values[0])

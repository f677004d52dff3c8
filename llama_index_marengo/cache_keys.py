"""What a callable is, as part of the key of an IngestionCache: its code and the values that it holds, no addresses."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

__all__ = ["callable_key"]

_PLAIN = str | bytes | int | float | complex | bool | None | PurePath
_DEPTH = 2
"""How many objects deep attributes are looked at; ours. Further in, a client's would differ in each process."""


def callable_key(value: Any) -> str:
    """A digest of what a callable does and its name: the same in each process, another for other code or values.

    It covers the code of a function, its defaults, captured variables and plain globals; what ``functools.partial`` and
    bound methods hold; and the attributes of a callable object. It doesn't cover the functions that a function calls.
    """
    digest = hashlib.sha256("\n".join(_parts(value, {}, 0)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:16]}:{_name(value)}"


def _parts(value: Any, seen: dict[int, Any], depth: int) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}"
        return
    yield _name(value)
    if id(value) in seen:
        return
    # Kept, so that no other object gets its id.
    seen[id(value)] = value
    contents = _contents(value)
    if contents is None and depth < _DEPTH:
        depth, contents = depth + 1, _attributes(value)
    yield "("
    for item in contents or ():
        yield from _parts(item, seen, depth)
    yield ")"


def _contents(value: Any) -> Sequence[Any] | None:
    """What a value consists of, in an order that is the same in each process; None for an object of another kind."""
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: repr(item[0]))
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, types.BuiltinFunctionType):
        # Such as the method ``get`` of a dict.
        return () if isinstance(value.__self__, types.ModuleType) else (value.__self__,)
    if isinstance(value, types.FunctionType):
        return value.__code__, value.__defaults__, value.__kwdefaults__, _captured(value)
    if isinstance(value, types.CodeType):
        return value.co_code, value.co_names, value.co_consts
    return () if isinstance(value, type | types.ModuleType) else None


def _captured(function: types.FunctionType) -> list[tuple[str, Any]]:
    names = function.__code__.co_names
    plain = [(name, found) for name in names if isinstance(found := function.__globals__.get(name), _PLAIN | tuple)]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return plain + [(name, _cell_contents(cell)) for name, cell in cells]


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # not assigned yet


def _attributes(value: Any) -> list[tuple[str, Any]]:
    names = {*getattr(value, "__dict__", ())}
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
    names -= {"__dict__", "__weakref__"}
    return [(name, getattr(value, name)) for name in sorted(names) if hasattr(value, name)]


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None) or ''}.{named.__qualname__}"

"""Write frozen values as JSON and read them back, without loss.

Owns how a dataclass becomes an object and how the hints of its fields lead back. A name is written
as events.py does it; a NamedTuple and a tuple are lists, an enumeration is its number. It knows no
value in particular.
"""

from __future__ import annotations

import base64
import binascii
import enum
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from arsync.errors import InternalError
from arsync.events import named

__all__ = ["decode", "encode", "name_of"]

_B64: Final = "_b64"
_ITEM: Final = "name"


def encode(value: object) -> Any:
    """Return a frozen value as what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return _object({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return named(_ITEM, value)
    if isinstance(value, tuple):
        return [encode(one) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    raise InternalError(f"a {type(value).__name__} has no place in a plan")


def _object(members: Mapping[str, object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members.items():
        found |= named(name, value) if isinstance(value, bytes) else {name: encode(value)}
    return found


def decode(hint: Any, value: Any) -> Any:
    """Return what was encoded.

    Args:
        hint: the type of it: a dataclass, or what a field of one has as its annotation.
    Raises: ValueError for what is no such value; what a dataclass raises for a value out of range.
    """
    if hint is bytes:
        return name_of(value, _ITEM)
    if get_origin(hint) in (Union, types.UnionType):
        return _one_of(get_args(hint), value)
    if get_origin(hint) is Literal:
        return _checked(value in get_args(hint), value)
    if get_origin(hint) is tuple:
        item, _ = get_args(hint)
        return tuple(decode(item, one) for one in _checked(isinstance(value, list), value))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if isinstance(hint, type) and issubclass(hint, tuple):
        hints = get_type_hints(hint)
        _checked(isinstance(value, list) and len(value) == len(hints), value)
        return hint(*map(decode, hints.values(), value))
    if is_dataclass(hint):
        return _dataclass(hint, value)
    return _checked(type(value) is hint, value)


def _one_of(hints: tuple[Any, ...], value: Any) -> Any:
    """Read a value that may be None, or of several dataclasses, which their members tell apart."""
    if value is None and types.NoneType in hints:
        return None
    rest = [hint for hint in hints if hint is not types.NoneType]
    if len(rest) > 1:
        rest = [hint for hint in rest if _members(value) <= {one.name for one in fields(hint)}]
    _checked(bool(rest), value)
    return decode(rest[0], value)


def _members(value: Any) -> set[str]:
    _checked(isinstance(value, dict), value)
    return {name for name in value if name.removesuffix(_B64) not in set(value) - {name}}


def _dataclass(kind: Any, value: Any) -> Any:
    known = {one.name: one for one in fields(kind)}
    _checked(_members(value) <= set(known), value)
    hints = get_type_hints(kind)
    given = {
        name: _member(hints[name], value, name)
        for name, one in known.items()
        if name in value or _is_needed(one)
    }
    return kind(**given)


def _is_needed(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _member(hint: Any, value: Mapping[str, Any], name: str) -> Any:
    _checked(name in value, value)
    holds_bytes = hint is bytes or bytes in get_args(hint)
    if holds_bytes and isinstance(value[name], str):
        return name_of(value, name)
    return decode(hint, value[name])


def name_of(value: Any, name: str) -> bytes:
    """Return a name that stands in an object as events.py writes it.

    Raises: ValueError.
    """
    _checked(isinstance(value, dict) and isinstance(value.get(name), str), value)
    if name + _B64 not in value:
        return str(value[name]).encode()
    try:
        return base64.b64decode(value[name + _B64], validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(str(error)) from None


def _checked(is_right: bool, value: Any) -> Any:
    if not is_right:
        raise ValueError(f"{value!r:.60} is not what belongs there")
    return value

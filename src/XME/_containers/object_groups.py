"""Attributes that have something changeable in common are stored together, so that it stays one thing.

``self.a = self.b = []`` makes one list, and a method that appends to `a` finds it in `b` in every process: the two form
a group. The first one's record holds both values; the record of each other only names the first.
"""

from __future__ import annotations

import enum
import io
import pickle
import sys
import types
from typing import Any

from XME._containers.home import Home
from XME._containers.object_class import CORE
from XME._store import arrays, pickling
from XME._store.codec import PLAIN_TYPES

# What may be met in several places and is the same everywhere, or holds only parts that are looked at themselves.
_UNCHANGEABLE: tuple[Any, ...] = (
    *PLAIN_TYPES, tuple, frozenset, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType,
    enum.Enum, Home,
)  # fmt: skip
# What cannot be looked into might share anything with anything.
_ANYTHING = object()


class Group(dict[str, Any]):
    """The values of the attributes of a group, by name."""


def groups_of(values: dict[str, Any]) -> list[list[str]]:
    """Return the names of attributes in groups, the first of each being the first in order; most stand alone.

    Costs as much as pickling them if there are several that hold more than numbers and text.
    """
    if len(values) < 2:
        return [[name] for name in values]
    leaders = {name: name for name in values}
    met: dict[int, str] = {}
    # What pickling makes on its way lives until the end, or two of them might have one identity.
    kept: list[Any] = []
    for name, value in values.items():
        for part in _parts(value, kept):
            other = met.setdefault(id(part), name)
            one, two = _leader(leaders, other), _leader(leaders, name)
            leaders[two] = one
    groups: dict[str, list[str]] = {}
    for name in values:
        groups.setdefault(_leader(leaders, name), []).append(name)
    return list(groups.values())


def _leader(leaders: dict[str, str], name: str) -> str:
    while leaders[name] != name:
        name = leaders[name]
    return name


def _parts(value: Any, kept: list[Any]) -> list[Any]:
    """Return the changeable objects in a value, itself included."""
    if pickling.is_plain(value):
        return [] if type(value) in (tuple, frozenset) else [value]
    # A tuple is none itself, and may hold some.
    if _is_constant(value) and not isinstance(value, (tuple, frozenset)):
        return []
    pickler = pickling._Pickler(io.BytesIO(), 5, buffer_callback=lambda _buffer: False)
    kept.append(pickler)
    try:
        pickler.dump(value)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        # It takes another way into its record, or none.
        return [value, _ANYTHING]
    found = [part for _, part in pickler.memo.copy().values() if not _is_constant(part)]
    kept.append(found)
    return found


def _is_constant(part: Any) -> bool:
    if isinstance(part, _UNCHANGEABLE) or is_shared(part):
        return True
    numpy = arrays.loaded_numpy()
    return numpy is not None and isinstance(part, (numpy.dtype, numpy.generic))


def is_shared(value: Any) -> bool:
    """True for a handle of something shared: which one it is does not change."""
    if isinstance(value, Home) or hasattr(type(value), CORE):
        return True
    shared_array = sys.modules.get("XME._containers.shared_array")
    return shared_array is not None and isinstance(value, shared_array.xmem_array)

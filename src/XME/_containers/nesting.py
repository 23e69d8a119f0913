"""nested=True: plain lists and dicts that are put in become shared containers, which belong to where they are put.

A child is a container of its parent's domain with the parent's serial number in its home (W_PARENT), filled before the
commit that stores it; until then it is in the making (ledger.Kind.MAKING), and goes if that commit does not come. Its
own lists and dicts are its children, and so on down.
"""

from __future__ import annotations

import threading
from typing import Any

from XME._containers import flight, opening
from XME._containers import home as homes

_KINDS: dict[type, int] = {list: homes.LIST, dict: homes.DICT}


class _Local(threading.local):
    # The lists and dicts that this thread is in the middle of turning into shared ones, by identity.
    around: frozenset[int] = frozenset()


_local = _Local()


def is_nestable(value: Any) -> bool:
    """True for what nested=True shares: plain lists and dicts themselves, not what is derived from them."""
    return type(value) in _KINDS


def shared_child(parent: Any, value: Any) -> Any:
    """Return a new child of a container with the content of a plain list or dict (some 150 us, and its content).

    Raises:
        ValueError: it contains itself.
        UnshareableValue, SharedMemoryFull: as for every value; nothing is left behind.
    """
    if id(value) in _local.around:
        msg = f"a {type(value).__name__} that contains itself cannot be nested: store it with nested=False"
        raise ValueError(msg)
    cls: Any = opening.class_of(_KINDS[type(value)])
    child = cls.__new__(cls)
    child._found(parent.domain, parent=parent.serial, nested=True)
    flight.note_making(parent.domain, child.serial)
    child._parent = parent
    if parent._public_name is not None:
        child._bear(parent._public_name)
    outer, _local.around = _local.around, _local.around | {id(value)}
    try:
        child._fill(value)
    except BaseException:
        parent.domain.names.unlink(child.serial)
        raise
    finally:
        _local.around = outer
    return child


def is_child(value: Any, parent: Any) -> bool:
    """True for a shared container that nested=True made for a parent."""
    if not isinstance(value, homes.Home) or value.domain is not parent.domain:
        return False
    return bool(value.map()[homes.W_PARENT] == parent.serial)


def plain(value: Any, memo: dict[int, tuple[Any, Any]]) -> Any:
    """Return a value in which shared lists and dicts are plain, also inside plain lists, dicts and tuples.

    Args:
        value: what a container gave.
        memo: by the identity of its handle, that handle (so that it lives) and what it became: they may contain each
            other.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return kind([plain(part, memo) for part in value])
    if kind is dict:
        return {key: plain(part, memo) for key, part in value.items()}
    fill = getattr(kind, "_fill_plain", None)
    if fill is None:
        return value
    return memo[id(value)][1] if id(value) in memo else fill(value, memo)

"""The functions of an XMEManager by name, as its table ``__XMEM__`` has them and as `append` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from XME.errors import ManagerRefuses

_REFUSED = {
    "Lock::initial": "the lock is there from the start: Lock::update changes its type, for all processes",
    "Lock::update_onlock": "how the lock is taken is not changed from outside: xmem.security has its functions",
    "Lock::update_unlock": "how the lock is given back is not changed from outside: xmem.security has its functions",
}


class Builtin:
    """One function of a manager; it pickles, so it may be appended, stored and passed on."""

    __slots__ = ("_manager", "name")

    def __init__(self, manager: Any, name: str) -> None:
        self._manager = manager
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return tree_of(self._manager)[self.name](*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return type(other) is Builtin and other.name == self.name and other._manager == self._manager

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> Any:
        return Builtin, (self._manager, self.name)

    def __repr__(self) -> str:
        return self.name


def tree_of(manager: Any) -> dict[str, Callable[..., Any]]:
    """Return all functions of a manager under their names."""
    refused = {name: _refusal(name, why) for name, why in _REFUSED.items()}
    return {
        **refused,
        "Lock::update": manager.security.update_lock,
        "Table::update": _with_value(manager.update),
        "Table::set": manager.set,
        "Table::delete": _with_keys(manager.delete),
        "Table::items": lambda: dict(manager.items()),
        "Table::get": _with_keys(manager.get_table),
        "Monitor::get": _with_keys(manager.get_msg),
        "Monitor::update": _with_message(manager.update_msg),
        "Monitor::delete": _with_keys(manager.delete_msg),
        "Monitor::copy_msg": manager.copy_msg,
    }


def _refusal(name: str, why: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise ManagerRefuses.of(name, why)

    return refuse


# A call in the buffer has keywords only: what a function takes by position has a name here.


def _with_value(update: Callable[..., Any]) -> Callable[..., Any]:
    def call(newtable: Any = None, Operator: Any = None, *, value: Any = None) -> Any:
        return update(value if newtable is None else newtable, Operator)

    return call


def _with_message(update: Callable[..., Any]) -> Callable[..., Any]:
    def call(newmessage: Any = None, Operator: Any = None, *, value: Any = None) -> Any:
        return update(value if newmessage is None else newmessage, Operator)

    return call


def _with_keys(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*positional: Any, key: Any = None, keys: Any = (), **others: Any) -> Any:
        named = (*positional, *([] if key is None else [key]), *keys)
        return function(*named, **others)

    return call

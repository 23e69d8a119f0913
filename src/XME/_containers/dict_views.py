"""keys(), values() and items() of a shared dict: whatever is asked of a view, it answers from one instant."""

from __future__ import annotations

import operator
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any


def _plain(view: Any) -> Any:
    """Return the builtin's view of what a view shows now; anything else as it is."""
    return view._plain() if isinstance(view, (Keys, Items)) else view


def _of_both(name: str, *, reflected: bool = False) -> Any:
    """Return an operator method that lets the builtin views do it."""
    function: Callable[[Any, Any], Any] = getattr(operator, name)

    def method(self: Any, other: Any) -> Any:
        if reflected:
            return function(other, _plain(self))
        return function(_plain(self), _plain(other))

    return method


class _SetLike:
    __slots__ = ()

    __and__, __or__, __sub__, __xor__ = map(_of_both, ("and_", "or_", "sub", "xor"))
    __eq__, __ne__, __lt__, __le__, __gt__, __ge__ = map(_of_both, ("eq", "ne", "lt", "le", "gt", "ge"))
    __rand__ = _of_both("and_", reflected=True)
    __ror__ = _of_both("or_", reflected=True)
    __rsub__ = _of_both("sub", reflected=True)
    __rxor__ = _of_both("xor", reflected=True)
    __hash__ = None  # type: ignore[assignment] # as the builtin views have it

    def _plain(self) -> Any:
        raise NotImplementedError

    def isdisjoint(self, other: Any) -> bool:
        """Return whether the view and an iterable have nothing in common."""
        answer: bool = self._plain().isdisjoint(_plain(other))
        return answer

    def __repr__(self) -> str:
        return f"xmem_{self._plain()!r}"


class Keys(_SetLike, KeysView[Any]):
    """What xmem_dict.keys() returns."""

    __slots__ = ()

    _mapping: Any

    def _plain(self) -> Any:
        return dict.fromkeys(self._mapping).keys()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self._mapping)
        return backwards

    def __contains__(self, key: Any) -> bool:
        return key in self._mapping


class Items(_SetLike, ItemsView[Any, Any]):
    """What xmem_dict.items() returns."""

    __slots__ = ()

    _mapping: Any

    def _plain(self) -> Any:
        return self._mapping.copy().items()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        pairs: Iterator[tuple[Any, Any]] = self._mapping._pairs()
        return pairs

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        pairs: Iterator[tuple[Any, Any]] = self._mapping._pairs(backwards=True)
        return pairs

    def __contains__(self, item: Any) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, wanted = item
        try:
            value = self._mapping[key]
        except KeyError:
            return False
        return value is wanted or bool(value == wanted)


class Values(ValuesView[Any]):
    """What xmem_dict.values() returns."""

    __slots__ = ()

    _mapping: Any

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs(backwards=True))

    def __contains__(self, wanted: Any) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __repr__(self) -> str:
        return f"xmem_{self._mapping.copy().values()!r}"

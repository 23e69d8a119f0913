"""A shared list beside plain ones: comparison, search, concatenation, copies, text."""

from __future__ import annotations

import copy
import reprlib
import sys
from collections.abc import Iterable
from operator import countOf
from typing import Any, NoReturn, SupportsIndex

from XME._containers import nesting
from XME._containers.container import Container
from XME._containers.home import W_PARENT
from XME._containers.list_reading import Reading


class Plain(Reading):
    """A shared list, as far as it is compared, searched and copied; all of it sees one instant."""

    __slots__ = ()

    # -- comparison ------------------------------------------------------------------------------------------------

    # It changes, so it has no hash, as a list has none.
    __hash__ = None  # type: ignore[assignment] # object has a method there

    def __eq__(self, other: object) -> Any:
        plain = _as_list(other)
        if plain is None:
            return NotImplemented
        return len(self) == len(plain) and self.tolist() == plain

    def __lt__(self, other: object) -> Any:
        plain = _as_list(other)
        return NotImplemented if plain is None else self.tolist() < plain

    def __le__(self, other: object) -> Any:
        plain = _as_list(other)
        return NotImplemented if plain is None else self.tolist() <= plain

    def __gt__(self, other: object) -> Any:
        plain = _as_list(other)
        return NotImplemented if plain is None else self.tolist() > plain

    def __ge__(self, other: object) -> Any:
        plain = _as_list(other)
        return NotImplemented if plain is None else self.tolist() >= plain

    # -- search ----------------------------------------------------------------------------------------------------

    def __contains__(self, value: object) -> bool:
        return self._find(value) >= 0

    def _find(self, value: Any) -> int:
        for position, element in enumerate(self):
            if element is value or element == value:
                return position
        return -1

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize) -> int:
        """Return the index of the first element that equals a value; elements are read until it is found.

        Raises:
            ValueError: there is none.
        """
        if (start, stop) != (0, sys.maxsize):
            return self.tolist().index(value, start, stop)
        position = self._find(value)
        return position if position >= 0 else [].index(value)

    def count(self, value: Any) -> int:
        """Return how many elements equal a value; all are read."""
        return countOf(self, value)

    # -- concatenation and copies ----------------------------------------------------------------------------------

    def __add__(self, other: Any) -> list[Any]:
        plain = _as_list(other)
        return NotImplemented if plain is None else self.tolist() + plain

    def __radd__(self, other: Any) -> list[Any]:
        plain = _as_list(other)
        return NotImplemented if plain is None else plain + self.tolist()

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        if hasattr(times, "__index__") or type(times).__module__ == "builtins":
            return self.tolist() * times
        # It may know how to multiply a list.
        return NotImplemented

    __rmul__ = __mul__

    def copy(self) -> list[Any]:
        """Return the elements of one instant as a plain list (`tolist` says what that costs).

        >>> from XME._containers.shared_list import xmem_list
        >>> xmem_list([1, 2]).copy()
        [1, 2]
        """
        return self.tolist()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        """Return the content as a plain list; shared containers in it become plain as well."""
        found = memo[id(self)] = []
        found += [copy.deepcopy(element, memo) for element in self.tolist()]
        return found

    def _fill_plain(self, memo: dict[int, tuple[Any, Any]]) -> list[Any]:
        found: list[Any] = []
        memo[id(self)] = self, found
        found += [nesting.plain(element, memo) for element in self.tolist()]
        return found

    def _taken(self, value: Any) -> Any:
        """Return what pop() gives for an element: the content of a container that goes with its place."""
        is_owned = isinstance(value, Container) and value.domain is self.domain
        return nesting.plain(value, {}) if is_owned and value.map()[W_PARENT] == self.serial else value

    @reprlib.recursive_repr("xmem_list([...])")
    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"xmem_list({self.tolist()!r}{name})"


def _as_list(other: object) -> list[Any] | None:
    if isinstance(other, Plain):
        return other.tolist()
    return other if isinstance(other, list) else None


# -- what a list refuses, in its own words -----------------------------------------------------------------------------


def assigned(which: slice, source: Any) -> list[Any]:
    """Return the elements that are assigned to a slice.

    Raises:
        TypeError: it is no iterable, or a bound of the slice is no integer.
    """
    which.indices(0)
    if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
        [][which] = source
    return list(source)


def refuse_size(count: int, chosen: range) -> NoReturn:
    """Raise what a list raises if an extended slice of it is given another number of elements."""
    msg = f"attempt to assign sequence of size {count} to extended slice of size {len(chosen)}"
    raise ValueError(msg)


def delete(change: Any, chosen: range) -> None:
    """Delete the elements at these positions."""
    if not chosen:
        return
    if chosen.step < 0:
        chosen = chosen[::-1]
    if chosen.step == 1:
        from XME._store.sequence_bulk import Batch

        change.splice(chosen.start, chosen.stop, Batch())
    else:
        change.delete(slice(chosen.start, chosen.stop, chosen.step))


def refuse_assignment(index: int) -> NoReturn:
    """Raise what a list raises if an element is set that it does not have."""
    nothing: list[Any] = []
    nothing[index] = None
    raise IndexError(index)


def refuse_deletion(index: int) -> NoReturn:
    """Raise what a list raises if an element is deleted that it does not have."""
    del [][index]
    raise IndexError(index)

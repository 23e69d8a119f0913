"""`xmem_list`: a list in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence
from operator import index as as_int
from typing import Any, Self, SupportsIndex

from XME._containers import flight, list_plain, opening
from XME._containers import home as homes
from XME._containers.list_quick import Quick
from XME._containers.list_reading import refuse_index
from XME._containers.shown import under_its_own_name
from XME._containers.struck import whole
from XME._store import sequence, sequence_bulk, values
from XME._store.sequence_bulk import Batch
from XME.errors import UnshareableValue


@under_its_own_name
class xmem_list(Quick, MutableSequence[Any]):
    """A list that all processes that get it read and change, in shared memory.

    It does what `list` does. Each method is atomic: one commit, and who reads meanwhile sees the list before or after
    it; killed at any instruction, a process leaves it as it was before or as it is after. `atomic()` makes one
    transaction of many operations. Elements are values: a list that is stored is a copy, and changing what one has read
    changes nothing shared (``nested=True`` turns plain lists and dicts into shared ones instead). Slices, ``+`` and
    ``*`` give plain lists.

    Args:
        init: anything that `list` takes.
        name: a public name, under which `XME.attach` finds it from any program of this user.
        nested: whether plain lists and dicts that are put in become shared ones, at any depth.

    Raises:
        NameTaken: the name is in use.
        UnshareableValue: an element does not pickle.
        SharedMemoryFull: there is no room.

    Cost: some 100 us, and 1 us an element (numbers 0.1 us). What is read again costs 0.2 us, the first time 2 us;
    ``append``, ``pop()``, ``pop(0)`` and setting an element cost 1 to 2 us at any length; what moves elements (insert
    and delete in the middle, sort) costs some 10 ns for each of the list's. An element takes 36 bytes besides its own.

    >>> squares = xmem_list(n * n for n in range(5))
    >>> squares.append("end")
    >>> squares
    xmem_list([0, 1, 4, 9, 16, 'end'])
    """

    __slots__ = ()

    _KIND = homes.LIST
    _CHANGE = sequence.SequenceChange

    def __init__(self, init: Iterable[Any] = (), *, name: str | None = None, nested: bool = False) -> None:
        self._become(name, nested, list(init))

    def _fill(self, elements: Iterable[Any]) -> None:
        self.extend(elements)

    # -- changing one element --------------------------------------------------------------------------------------

    @whole
    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Add an element before an index: at the front some 4 us, in the middle 10 ns for each of the list's."""
        index = as_int(index)
        tag, payload, made = self._encoded(value, "the element")
        change = self._begin(made)
        try:
            position = max(0, index + change.count) if index < 0 else min(index, change.count)
            if position == change.count:
                change.append(tag, payload)
            elif not position:
                change.prepend(tag, payload)
            else:
                change.splice(position, position, Batch([tag], [payload]))
        except BaseException:
            self._fail()
            raise
        self._end()

    def __setitem__(self, index: Any, value: Any) -> None:
        """Set an element, or replace those of a slice by those of an iterable.

        Raises:
            IndexError: there is none.
            ValueError: an extended slice is given another number of elements.
        """
        if type(index) is not int:
            if isinstance(index, slice):
                self._set_slice(index, value)
                return
            index = as_int(index) if hasattr(index, "__index__") else refuse_index(index)
        mark = flight.making()
        try:
            tag, payload, made = self._encoded_at(index, value)
            if made or not self._shortly(self._set_shortly, index, tag, payload):
                self._set(index, tag, payload, made)
        except BaseException:
            flight.unlink_making(mark)
            raise

    def _encoded_at(self, index: int, value: Any) -> tuple[int, bytes, Any]:
        try:
            return self._encoded(value, "the value")
        except UnshareableValue:
            # Once more, for an error that names the place: its text would cost more than most values do.
            return self._encode(value, f"[{index}]")

    @whole
    def _set(self, index: int, tag: int, payload: bytes, made: Any) -> None:
        change = self._begin(made)
        try:
            position = index + change.count if index < 0 else index
            if not 0 <= position < change.count:
                list_plain.refuse_assignment(index)
            change.set(position, tag, payload)
        except BaseException:
            self._fail()
            raise
        self._end()

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Take an element away and return it: at both ends 2 us, in the middle 10 ns for each of the list's.

        Raises:
            IndexError: there is none.
        """
        index = as_int(index)
        if index in (0, -1):
            popped = self._shortly(self._pop_shortly, index == 0)
            if popped is not None:
                tag, payload = popped
                return values.decode(tag, payload, self._open_value)[0]
        return self._pop(index)

    @whole
    def _pop(self, index: int) -> Any:
        change = self._begin_with_user_code()
        try:
            if not -change.count <= index < change.count:
                return ([0] if change.count else []).pop(index)
            value = self._taken(self[index])
            self._delete(index, change)
        except BaseException:
            self._fail()
            raise
        self._end()
        return value

    def _delete(self, index: int, change: Any) -> None:
        position = index + change.count if index < 0 else index
        if position == change.count - 1:
            change.pop_last()
        elif not position:
            change.pop_first()
        else:
            change.splice(position, position + 1, Batch())

    @whole
    def remove(self, value: Any) -> None:
        """Take the first element away that equals a value.

        Raises:
            ValueError: there is none.
        """
        change = self._begin_with_user_code()
        try:
            position = self._find(value)
            if position < 0:
                [].remove(value)
            self._delete(position, change)
        except BaseException:
            self._fail()
            raise
        self._end()

    @whole
    def apply(self, index: SupportsIndex, function: Callable[[Any], Any]) -> Any:
        """Set an element to what a function makes of it, and return that; nobody else changes the list meanwhile.

        Raises:
            IndexError: there is none.

        What the function raises goes through, and the list is unchanged. Costs some 10 us, and the function.

        >>> scores = xmem_list([3, 5])
        >>> scores.apply(1, lambda score: score * 2)
        10
        """
        index = as_int(index)
        self._begin_with_user_code()
        try:
            value = function(self[index])
            self[index] = value
        except BaseException:
            self._fail()
            raise
        self._end()
        return value

    def increment(self, index: SupportsIndex, by: Any = 1) -> Any:
        """Add to an element, and return the sum; no addition of another process is lost.

        Raises:
            IndexError: there is none.

        >>> counts = xmem_list([0, 0])
        >>> counts.increment(0), counts.increment(0, 5)
        (1, 6)
        """
        return self.apply(index, lambda value: value + by)

    # -- changing many ---------------------------------------------------------------------------------------------

    def _encode_all(self, elements: list[Any]) -> tuple[Batch, dict[int, Any]]:
        made: dict[int, Any] = {}
        try:
            return sequence_bulk.encode_all(elements, self._encode, made), made
        except BaseException:
            self._unlink(made)
            raise

    @whole
    def extend(self, values: Iterable[Any]) -> None:
        """Add elements at the end, all at once: others see none or all of them.

        Raises:
            UnshareableValue: one does not pickle; the list is unchanged.
            SharedMemoryFull: there is no room; the list is unchanged.

        Costs 0.1 us for each number of a long sequence, 1 us for each other small element.

        >>> a = xmem_list([1])
        >>> a.extend(range(2, 4))
        >>> a
        xmem_list([1, 2, 3])
        """
        batch, made = self._encode_all(list(values))
        if not batch:
            return
        change = self._begin(made)
        try:
            change.splice(change.count, change.count, batch)
        except BaseException:
            self._fail()
            raise
        self._end()

    @whole
    def _set_slice(self, which: slice, source: Any) -> None:
        batch, made = self._encode_all(list_plain.assigned(which, source))
        change = self._begin(made)
        try:
            chosen = range(change.count)[which]
            if chosen.step == 1:
                end = max(chosen.start, chosen.stop)
                if batch or end > chosen.start:
                    change.splice(chosen.start, end, batch)
            else:
                if len(batch) != len(chosen):
                    list_plain.refuse_size(len(batch), chosen)
                for k, position in enumerate(chosen):
                    change.set(position, *batch.element(k))
        except BaseException:
            self._fail()
            raise
        self._end()

    @whole
    def __delitem__(self, index: Any) -> None:
        """Delete an element or those of a slice.

        Raises:
            IndexError: there is none.
        """
        if not isinstance(index, slice):
            index = as_int(index) if hasattr(index, "__index__") else refuse_index(index)
        change = self._begin()
        try:
            if isinstance(index, slice):
                list_plain.delete(change, range(change.count)[index])
            elif -change.count <= index < change.count:
                self._delete(index, change)
            else:
                list_plain.refuse_deletion(index)
        except BaseException:
            self._fail()
            raise
        self._end()

    @whole
    def clear(self) -> None:
        """Delete all elements; large memory goes back."""
        change = self._begin()
        try:
            if change.count:
                change.clear()
        except BaseException:
            self._fail()
            raise
        self._end()

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[override, misc] # as a list: in place
        self.extend(values)
        return self

    @whole
    def __imul__(self, times: SupportsIndex) -> Self:  # type: ignore[override] # as a list: in place
        times = as_int(times)
        self._begin_with_user_code()
        try:
            if times < 1:
                self.clear()
            else:
                # Encoded anew, so that each element has its own large buffers: they go when it goes.
                self.extend(self.tolist() * (times - 1))
        except BaseException:
            self._fail()
            raise
        self._end()
        return self

    @whole
    def reverse(self) -> None:
        """Put all elements in the opposite order."""
        change = self._begin()
        try:
            if change.count > 1:
                change.reverse()
        except BaseException:
            self._fail()
            raise
        self._end()

    @whole
    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort as `list.sort` does: stable, and after an exception, also one of `key`, the list is as it was.

        Raises:
            ValueError: `key` or a comparison has changed the list.

        Costs reading all elements, and what `sorted` costs; all others wait meanwhile if they want to change the list.

        >>> words = xmem_list(["pear", "fig", "banana"])
        >>> words.sort(key=len)
        >>> words
        xmem_list(['fig', 'pear', 'banana'])
        """
        change = self._begin_with_user_code()
        try:
            elements = self.tolist()
            before = change.root
            keys = elements if key is None else list(map(key, elements))
            order = sorted(range(len(elements)), key=keys.__getitem__, reverse=reverse)
            if change.root != before:
                msg = "list modified during sort"
                raise ValueError(msg)
            if order != list(range(len(order))):
                change.reorder(order)
        except BaseException:
            self._fail()
            raise
        self._end()


opening.CLASSES[homes.LIST] = xmem_list

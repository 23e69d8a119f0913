"""What can be read of a shared list."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index as as_int
from typing import Any, NoReturn

from XME._containers.container import CACHED, Container
from XME._containers.home import W_REFERS
from XME._store import sequence, sequence_bulk, values
from XME._store.log import PLACE_MASK, UNIT, Generation
from XME._store.sequence import BODY_AT, NUMBERS, NUMBERS_AT
from XME._store.sequence_bulk import Places
from XME.errors import ContainerGone

# An entry of the cache: the root under which the value is right (0: it is given out as a view only), the value, and the
# record that it was decoded from: the generation's number, not the generation itself, whose memory would stay mapped.
STAMP, VALUE, NUMBER, PLACE = range(4)
# So many values with memory of their own are kept; what was dropped meanwhile stays mapped until they are forgotten.
_LARGE_KEPT = 8
# So many elements are decoded at a time.
_AT_ONCE = 1024


class Reading(Container):
    """A shared list, as far as it is read."""

    __slots__ = ()

    # -- reading ---------------------------------------------------------------------------------------------------

    def _snapshot(self) -> tuple[int, Generation, int, int, int, int]:
        """Return (root or 0, generation, limit, count, start, index) of what the calling thread may see."""
        root, generation, limit = self._look()
        if root:
            count, start, _, at = NUMBERS(generation.data, limit * UNIT + NUMBERS_AT)
            return root, generation, limit, count, start, at
        change = self._change
        return 0, change.generation, PLACE_MASK, change.count, change.end, change.extra

    def __getitem__(self, index: Any) -> Any:
        """Return an element, or a plain list for a slice.

        Raises:
            IndexError: there is none.
        """
        if type(index) is int:
            try:
                entry = self._cache[index]
                if entry[STAMP] == self._stamp[0]:
                    return entry[VALUE]
            except KeyError:
                pass
            return self._get(index)
        if isinstance(index, slice):
            return self._between(index)
        return self._get(as_int(index) if hasattr(index, "__index__") else refuse_index(index))

    def _get(self, index: int) -> Any:
        root, generation, limit, count, start, at = self._snapshot()
        position = index + count if index < 0 else index
        if not 0 <= position < count:
            return [][index]
        place = generation.ints[4 * at + BODY_AT + start + position]
        entry = self._cache.get(index)
        # The record that was decoded, and not what the position said then: it may have been ahead of the root.
        if entry is not None and root and entry[PLACE] == place and entry[NUMBER] == generation.number:
            return self._kept(entry, root)
        place = generation.public(place, limit)
        tag = generation.tag(place)
        try:
            value, kept = values.decode(tag, generation.value(place), self._open_value)
        except ContainerGone:
            return self._once_more(root, lambda: self._get(index))
        if root and kept:
            self._keep(index, [root if kept == values.AS_IT_IS else 0, value, generation.number, place], tag)
        return value.view() if kept == values.AS_VIEW else value

    def _kept(self, entry: list[Any], root: int) -> Any:
        value = entry[VALUE]
        if not entry[STAMP]:
            return value.view()
        entry[STAMP] = root
        return value

    def _keep(self, index: int, entry: list[Any], tag: int) -> None:
        cache = self._cache
        if tag & values.HAS_SERIALS:
            large = self._large
            large.append(index)
            if len(large) > _LARGE_KEPT:
                cache.pop(large.pop(0), None)
        if len(cache) >= CACHED:
            cache.clear()
        cache[index] = entry

    def _between(self, which: slice) -> list[Any]:
        root, generation, limit, count, start, at = self._snapshot()
        chosen = range(count)[which]
        first, last = sorted((chosen[0], chosen[-1])) if chosen else (0, -1)
        found = sequence.places_between(generation, limit, at, start + first, last + 1 - first)
        try:
            return sequence_bulk.decode_all(generation, found[:: chosen.step], self._open_value)
        except ContainerGone:
            again: list[Any] = self._once_more(root, lambda: self._between(which))
            return again

    def tolist(self) -> list[Any]:
        """Return the elements of one instant as a plain list.

        Raises:
            ContainerGone: an element is a shared container that was unlinked.

        Costs 0.1 us for each number, 0.5 us for each short text.

        >>> from XME._containers.shared_list import xmem_list
        >>> xmem_list("abc").tolist()
        ['a', 'b', 'c']
        """
        return self._between(slice(None))

    def __len__(self) -> int:
        """Return how many elements there are."""
        return self._snapshot()[3]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the elements of one instant, whatever is written meanwhile.

        Takes 4 bytes an element; all elements at once inside `atomic()`, and if there are large ones or shared
        containers among them, which another process may drop.
        """
        return self._each(1)

    def __reversed__(self) -> Iterator[Any]:
        """Iterate from the last element to the first; otherwise as `iter` does."""
        return self._each(-1)

    def _each(self, step: int) -> Iterator[Any]:
        root, generation, limit, count, start, at = self._snapshot()
        if not root or self.map()[W_REFERS]:
            return iter(self._between(slice(None, None, step)))
        found = sequence.places_between(generation, limit, at, start, count)
        return self._in_parts(generation, found[::step])

    def _in_parts(self, generation: Generation, found: Places) -> Iterator[Any]:
        for k in range(0, len(found), _AT_ONCE):
            yield from sequence_bulk.decode_all(generation, found[k : k + _AT_ONCE], self._open_value)


def refuse_index(index: Any) -> NoReturn:
    """Raise what a list raises for what is no index."""
    [][index]
    raise TypeError(index)

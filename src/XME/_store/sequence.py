"""A list as records: what a position leads to, and changes of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from XME._store import index, moving
from XME._store.change import Change, room_wanted
from XME._store.log import INDEX, PLACE_MASK, Generation, units_for

_NO_LIMIT = PLACE_MASK
_LEAST_PLACES = 8

Element = tuple[int, bytes]


def place_of(generation: Generation, limit: int, position: int) -> int:
    """Return the place of the element at a position (which the list has) at `limit`."""
    _, _, start, _, at = generation.fields(limit)
    return generation.public(index.newest_at(generation, at, start + position), limit)


def places(generation: Generation, limit: int) -> list[int]:
    """Return the places of all elements that the list has at `limit`."""
    _, count, start, _, at = generation.fields(limit)
    if not count:
        return []
    public = generation.public
    return [public(place, limit) for place in index.places_of(generation, at, start, count)]


class SequenceChange(Change):
    """A change of a list; `end` is where its first element stands in the position index, `extra` that index."""

    __slots__ = ()

    def place(self, position: int) -> int:
        """Return the place of an element as this change has it."""
        return self.generation.public(index.newest_at(self.generation, self.extra, self.end + position), _NO_LIMIT)

    def set(self, position: int, tag: int, value: bytes) -> None:
        """Replace an element."""
        units = units_for(0, len(value))
        if not self.fits(units):
            self._renew(units)
        self._drop_at(position)
        self.live += units
        self._put(position, tag, value)

    def append(self, tag: int, value: bytes) -> None:
        """Add an element at the end."""
        units = units_for(0, len(value))
        if self.end + self.count >= index.index_capacity(self.generation, self.extra):
            self._reindex(back=self.count // 2 + _LEAST_PLACES, units=units)
        if not self.fits(units):
            self._renew(units)
        self.count += 1
        self.live += units
        self._put(self.count - 1, tag, value)

    def prepend(self, tag: int, value: bytes) -> None:
        """Add an element at the front."""
        units = units_for(0, len(value))
        if not self.end:
            self._reindex(front=self.count // 2 + _LEAST_PLACES, back=_LEAST_PLACES, units=units)
        if not self.fits(units):
            self._renew(units, front=_LEAST_PLACES)
        self.count += 1
        self.end -= 1
        self.live += units
        self._put(0, tag, value)

    def _put(self, position: int, tag: int, value: bytes) -> None:
        at = self.end + position
        place = self.write(tag, b"", value, index.newest_at(self.generation, self.extra, at), self.extra)
        index.store_place(self.generation, self.extra, at, place)

    def pop_last(self) -> None:
        """Take the last element away."""
        self._drop_at(self.count - 1)
        self.count -= 1
        self._say()

    def pop_first(self) -> None:
        """Take the first element away."""
        self._drop_at(0)
        self.count -= 1
        self.end += 1
        self._say()

    def _say(self) -> None:
        if self.fits(units_for(0, 0)):
            self.commit_record()
        else:
            self._renew(0)

    def _drop_at(self, position: int) -> None:
        self._drop_place(self.place(position))

    def _drop_place(self, place: int) -> None:
        self.drop(place, self.generation.tag(place), self.generation.value(place))

    def splice(self, begin: int, end: int, elements: Sequence[Element]) -> None:
        """Replace the elements from `begin` up to `end` by others."""
        for position in range(begin, end):
            self._drop_at(position)
        old = self._all_places()
        self._rebuild([*old[:begin], *elements, *old[end:]])

    def keep(self, positions: Sequence[int]) -> None:
        """Keep only the elements at these positions, in this order."""
        kept = set(positions)
        for position in range(self.count):
            if position not in kept:
                self._drop_at(position)
        self.reorder(positions)

    def reorder(self, positions: Sequence[int]) -> None:
        """Put the elements at these positions, each at most once, in this order; the others are dropped already."""
        old = self._all_places()
        self._rebuild([old[position] for position in positions])

    def clear(self) -> None:
        """Take all elements away, in a new generation."""
        for place in self._all_places():
            self._drop_place(place)
        self._start_anew([], 0, 0)

    def _all_places(self) -> list[int]:
        if not self.count:
            return []
        return [int(place) for place in moving.places_in_list(self.generation, self.extra, self.end, self.count)]

    def _rebuild(self, parts: Sequence[int | Element]) -> None:
        """Make a new position index of places of this generation and of new elements."""
        new = [part for part in parts if isinstance(part, tuple)]
        units = sum(units_for(0, len(value)) for _, value in new)
        back = len(parts) // 8 + _LEAST_PLACES
        if not self.fits(units + units_for(0, 4 * (len(parts) + back))):
            moved = self._moved([part for part in parts if isinstance(part, int)], units, len(parts) + back)
            parts = [part if isinstance(part, tuple) else next(moved) for part in parts]
        self.live += units
        self.count = len(parts)
        found = [self.write(part[0], b"", part[1], 0, self.extra) if isinstance(part, tuple) else part
                 for part in parts]  # fmt: skip
        self._write_index(found, 0, back)

    def _moved(self, kept: list[int], units: int, places: int) -> Iterator[int]:
        """Begin a new generation with the records at these places, and return the new ones."""
        old = self.generation
        live = sum(old.units(place) for place in kept)
        made = self.begin_generation(room_wanted(live, units) + 2 * units_for(0, 4 * places), 0, 0)
        copied, self.high = moving.copy_records(old, kept, made)
        self.generation = made
        self.live = self.high - made.first
        self.extra = self.end = 0
        return iter([int(place) for place in copied])

    def _reindex(self, *, front: int = 0, back: int = 0, units: int = 0) -> None:
        """Make a position index with room in front and behind, in this generation if it fits."""
        size = units_for(0, 4 * (front + self.count + back))
        if self.fits(size + units):
            self._write_index(self._all_places(), front, back)
        else:
            self._start_anew(self._all_places(), front, back, units)

    def _renew(self, units: int, *, front: int = 0) -> None:
        """Go on in a new generation, which has all live records and room for more."""
        self._start_anew(self._all_places(), front, self.count // 2 + _LEAST_PLACES, units)

    def _start_anew(self, kept: list[int], front: int, back: int, units: int = 0) -> None:
        moved = list(self._moved(kept, units, front + len(kept) + back))
        self.count = len(kept)
        self._write_index(moved, front, back)

    def _write_index(self, found: Sequence[int], front: int, back: int) -> None:
        """Append a record whose body is a position index; it says that it is the index itself."""
        if self.extra:
            self.live -= self.generation.units(self.extra)
        body = memoryview(bytearray(4 * (front + len(found) + back))).cast("I")
        for k, place in enumerate(found):
            body[front + k] = place
        self.live += units_for(0, body.nbytes)
        self.end = front
        self.extra = self.high
        self.write(INDEX, b"", bytes(body), 0, self.extra)

    @property
    def is_wasteful(self) -> bool:
        """True if the generation is far larger than what lives in it."""
        return self.generation.size > 1024 and 8 * (self.live + self.count // 4) < self.generation.size

    def shrink(self) -> None:
        """Give memory back: go on in a generation that is as large as what lives needs."""
        self._renew(0)

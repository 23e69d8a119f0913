"""A list as records: what a position leads to, and changes of that.

A position index is a record whose body has room behind its last place, and may have some before its first: appending
and popping at either end move no place. Whatever else moves elements writes a new index. What an index leads to at one
root never changes: a position that is used again gets a record that leads back to the one before (`previous`).
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

from XME._store import log, moving, values
from XME._store.change import Change, room_wanted
from XME._store.log import HEADER_BYTES, INDEX, PLACE_MASK, UNIT, UNITS_MASK, Generation, units_for
from XME._store.sequence_bulk import Batch, Places
from XME.errors import SharedMemoryFull

# In 4-byte words: where the places of an index record begin.
BODY_AT = HEADER_BYTES // 4
# Of a record: (count, end, live, extra) and where they stand in it; see log.Fields.
NUMBERS = struct.Struct("<4I").unpack_from
NUMBERS_AT = 12

_NO_LIMIT = PLACE_MASK
_LEAST_PLACES = 8
_PLACES_A_UNIT = UNIT // 4
# What a generation larger than this wastes is given back; smaller ones come and go (see room_wanted).
LARGE_UNITS = 1 << 13


def capacity(generation: Generation, at: int) -> int:
    """Return how many places the index in this record has room for; its body fills its units."""
    return int(generation.ints[4 * at]) * _PLACES_A_UNIT - BODY_AT if at else 0


def place_at(generation: Generation, limit: int, at: int, position: int) -> int:
    """Return the place of the record that a position of an index has at `limit`."""
    return generation.public(generation.ints[4 * at + BODY_AT + position], limit)


def places_between(generation: Generation, limit: int, at: int, start: int, count: int) -> Places:
    """Return the places of the records that `count` positions of an index have at `limit`."""
    found = array("I")
    if count:
        first = 4 * at + BODY_AT + start
        found.frombytes(generation.ints[first : first + count].cast("B"))
    words = generation.words
    if count >= moving.FEW:
        import numpy as np

        places = np.frombuffer(found, np.uint32).astype(np.int64)
        tags = np.frombuffer(words, np.uint64)[2 * places] >> log.TAG_SHIFT & log.TAG_MASK
        wrong = ((places > limit) | (tags == log.VOID)).nonzero()[0].tolist()
    else:
        wrong = range(count)
    for k in wrong:
        found[k] = generation.public(found[k], limit)
    return found


def places(generation: Generation, limit: int) -> Places:
    """Return the places of all elements that the list has at `limit`."""
    count, start, _, at = NUMBERS(generation.data, limit * UNIT + NUMBERS_AT)
    return places_between(generation, limit, at, start, count)


class SequenceChange(Change):
    """A change of a list; `end` is where its first element stands in the position index, `extra` that index."""

    __slots__ = ()

    # -- one element -----------------------------------------------------------------------------------------------

    def place(self, position: int) -> int:
        """Return the place of an element as this change has it."""
        return place_at(self.generation, _NO_LIMIT, self.extra, self.end + position)

    def set(self, position: int, tag: int, value: bytes) -> None:
        """Replace an element."""
        units = units_for(0, len(value))
        if not self.fits(units):
            self._renew(units)
        self._drop(self.place(position))
        self.live += units
        self._put(position, tag, value)

    def append(self, tag: int, value: bytes) -> None:
        """Add an element at the end."""
        units = units_for(0, len(value))
        if self._room_behind() < 1:
            self._reindex(self._room_kept(self.end), self._room_to_grow(), units)
        if not self.fits(units):
            self._renew(units)
        self.count += 1
        self.live += units
        self._put(self.count - 1, tag, value)

    def prepend(self, tag: int, value: bytes) -> None:
        """Add an element at the front."""
        units = units_for(0, len(value))
        if not self.end:
            self._reindex(self._room_to_grow(), self._room_kept(self._room_behind()), units)
        if not self.fits(units):
            self._renew(units, front=self._room_kept(self.end))
        self.count += 1
        self.end -= 1
        self.live += units
        self._put(0, tag, value)

    def _put(self, position: int, tag: int, value: bytes) -> None:
        word = 4 * self.extra + BODY_AT + self.end + position
        ints = self.generation.ints
        # Who reads at an older root finds there what the position had then.
        ints[word] = self.write(tag, b"", value, ints[word], self.extra)

    def pop_last(self) -> None:
        """Take the last element away."""
        self._drop(self.place(self.count - 1))
        self.count -= 1
        self._say()

    def pop_first(self) -> None:
        """Take the first element away."""
        self._drop(self.place(0))
        self.count -= 1
        self.end += 1
        self._say()

    # -- many ------------------------------------------------------------------------------------------------------

    def splice(self, begin: int, end: int, batch: Batch) -> None:
        """Replace the elements from `begin` up to `end` by others; some of both, or one of them, there must be."""
        self._drop_all(self._places(begin, end))
        if end == self.count and self._room_behind() >= len(batch) - (end - begin) and self.fits(batch.units + 2):
            self.count = begin
            self._extend(batch)
        elif not begin and not batch:
            self.end += end
            self.count -= end
            self._say()
        else:
            self._rebuild(self._places(0, begin), batch, self._places(end, self.count))

    def _extend(self, batch: Batch) -> None:
        if not batch:
            self._say()
            return
        ints = self.generation.ints
        first = 4 * self.extra + BODY_AT + self.end + self.count
        self.count += len(batch)
        for k, place in enumerate(self._write_batch(batch, array("I", ints[first : first + len(batch)]))):
            ints[first + k] = place

    def _write_batch(self, batch: Batch, previous: Places | None = None) -> Places:
        """Append the records of new elements, which fit; returns their places."""
        if not batch:
            return array("I")
        self.live += batch.units
        high = self.high
        generation = self.generation
        head, body, found = batch.records(high, previous, (self.count, self.end, self.live, self.extra))
        words = generation.words
        self.high = words[log.G_HIGH] = high + batch.units
        # The first head is last: without it, all that this may have written is one hole, however far the copy came.
        generation.data[high * UNIT + 8 : self.high * UNIT] = body
        words[2 * high] = head
        self.last = found[-1]
        return found

    def delete(self, which: slice) -> None:
        """Take the elements of a slice away, whose numbers are in range."""
        kept = self._places(0, self.count)
        self._drop_all(kept[which])
        del kept[which]
        self._rebuild(kept)

    def reverse(self) -> None:
        """Put all elements in the opposite order."""
        self._rebuild(self._places(0, self.count)[::-1])

    def reorder(self, positions: list[int]) -> None:
        """Put all elements in the order of these positions, each exactly once."""
        self._rebuild(array("I", map(self._places(0, self.count).__getitem__, positions)))

    def clear(self) -> None:
        """Take all elements away."""
        self._drop_all(self._places(0, self.count))
        self.count = 0
        self._say()

    # -- what is dropped -------------------------------------------------------------------------------------------

    def _drop(self, place: int) -> None:
        generation = self.generation
        self.drop(place, generation.tag(place), generation.value(place))

    def _drop_all(self, dropped: Places) -> None:
        if len(dropped) < moving.FEW:
            for place in dropped:
                self._drop(place)
            return
        import numpy as np

        where = np.frombuffer(dropped, np.uint32).astype(np.int64)
        heads = np.frombuffer(self.generation.words, np.uint64)[2 * where]
        tags = heads >> log.TAG_SHIFT & log.TAG_MASK
        has_parts = (tags & values.HAS_SERIALS != 0) & (tags < log.FIRST_OTHER)
        self.live -= int((heads[~has_parts] & UNITS_MASK).sum())
        for place in where[has_parts].tolist():
            self._drop(place)

    def _say(self) -> None:
        """Append a record that only says what the list is now, and give memory back where much of it is waste."""
        if self.is_wasteful:
            try:
                self.shrink()
            except SharedMemoryFull:
                # Then later: what is taken away must not fail because there is no room for what gives some back.
                pass
            else:
                return
        if self.fits_as_removal(units_for(0, 0)):
            self.commit_record()
        else:
            self._renew(0)

    # -- indexes and generations -----------------------------------------------------------------------------------

    def _places(self, begin: int, end: int) -> Places:
        return places_between(self.generation, _NO_LIMIT, self.extra, self.end + begin, end - begin)

    def _room_behind(self) -> int:
        return capacity(self.generation, self.extra) - self.end - self.count

    def _room_to_grow(self) -> int:
        return self.count // 2 + _LEAST_PLACES

    def _room_kept(self, room: int) -> int:
        """Return how much room the other end keeps: who adds at both ends must not pay for one at the other's cost."""
        return min(room, self._room_to_grow())

    def _rebuild(self, before: Places, batch: Batch | None = None, after: Places | None = None) -> None:
        """Make a new index: of places of this generation, new elements, and other places."""
        batch = batch if batch is not None else Batch()
        after = after if after is not None else array("I")
        count = len(before) + len(batch) + len(after)
        back = count // 8 + _LEAST_PLACES
        if self.is_wasteful or not self.fits(batch.units + _index_units(count + back)):
            moved = self._moved(before + after, batch.units, count + back)
            before, after = moved[: len(before)], moved[len(before) :]
        new = self._write_batch(batch)
        self._write_index(before + new + after, 0, back)

    def _reindex(self, front: int, back: int, units: int) -> None:
        """Make a new index with room at both ends, in this generation if so many units fit after it."""
        found = self._places(0, self.count)
        if not self.fits(_index_units(front + self.count + back) + units):
            found = self._moved(found, units, front + self.count + back)
        self._write_index(found, front, back)

    def _renew(self, units: int, *, front: int = 0) -> None:
        """Go on in a new generation, which has all live records and room for more."""
        back = self._room_to_grow()
        self._write_index(self._moved(self._places(0, self.count), units, front + self.count + back), front, back)

    def _moved(self, kept: Places, units: int, places_wanted: int) -> Places:
        """Begin a new generation with the records at these places, and return the new ones."""
        old = self.generation
        room = units + 2 * _index_units(places_wanted)
        if len(kept) < moving.FEW:
            live = sum(map(old.units, kept))
            made = self.begin_generation(room_wanted(live, room, old.size), 0, 0)
            copied, high = moving.copy_records(old, kept, made)
            found = array("I", copied)
        else:
            import numpy as np

            where: Any = np.frombuffer(kept, np.uint32).astype(np.int64)
            live = int((np.frombuffer(old.words, np.uint64)[2 * where] & UNITS_MASK).sum())
            made = self.begin_generation(room_wanted(live, room, old.size), 0, 0)
            copied, high = moving.copy_records(old, where, made)
            found = array("I", np.asarray(copied).astype(np.uint32).tobytes())
        self.high = made.words[log.G_HIGH] = high
        self.generation = made
        self.live = high - made.first
        self.extra = self.end = 0
        return found

    def _write_index(self, found: Places, front: int, back: int) -> None:
        """Append a record whose body is a position index; it says that it is the index itself."""
        if self.extra:
            self.live -= self.generation.units(self.extra)
        units = _index_units(front + len(found) + back)
        self.live += units
        self.count = len(found)
        self.end = front
        self.extra = self.high
        body = bytes(4 * front) + found.tobytes()
        self.write(INDEX, b"", body.ljust(units * UNIT - HEADER_BYTES, b"\0"), 0, self.extra)

    @property
    def is_wasteful(self) -> bool:
        """True if the generation is far larger than what lives in it."""
        size = self.generation.size
        return size > LARGE_UNITS and 8 * self.live < size

    def shrink(self) -> None:
        """Give memory back: go on in a generation that is as large as what lives needs."""
        self._renew(0)


def _index_units(count: int) -> int:
    return units_for(0, 4 * count)

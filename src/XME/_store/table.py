"""A dict as records: what a key leads to, and changes of that."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

from XME._store import index, log, moving
from XME._store.change import Change, Room, room_wanted
from XME._store.log import DELETED, G_GIVEN, G_PROBES, PLACE_MASK, Generation
from XME.errors import SharedMemoryFull

# A tag with this bit: before the value stand the length and the bytes that give the key as it was first spelled.
SPELLED = 0x40
_LENGTH = struct.Struct("<I")
_NO_LIMIT = PLACE_MASK
_LEAST_POSITIONS = 16


def slots_for(positions: int) -> int:
    """Return how many slots so many keys get: a power of two, at most two thirds full."""
    return 1 << max(4, (positions + positions // 2 - 1).bit_length())


def lookup(generation: Generation, limit: int, key: bytes, hashed: int) -> tuple[int, int]:
    """Return (slot, place) of a key at `limit`; the place is 0 if the dict has no such key then."""
    slot, place = index.find(generation, key, hashed)
    place = generation.public(place, limit)
    if place and generation.tag(place) == DELETED:
        place = 0
    return slot, place


def split(generation: Generation, place: int) -> tuple[bytes, int, memoryview]:
    """Return (spelling of the key, tag, bytes of the value) of a record."""
    tag = generation.tag(place)
    value = generation.value(place)
    if tag & SPELLED and tag < log.FIRST_OTHER:
        (length,) = _LENGTH.unpack_from(value)
        return bytes(value[4 : 4 + length]), tag & ~SPELLED, value[4 + length :]
    return b"", tag, value


def items(generation: Generation, limit: int, *, backwards: bool = False) -> Iterator[int]:
    """Yield the places of all records that the dict has at `limit`, in insertion order."""
    _, _, end, _, _ = generation.fields(limit)
    return index.in_order(generation, end, limit, backwards=backwards)


class TableChange(Change):
    """A change of a dict."""

    __slots__ = ()

    def __init__(self, generation: Generation, root_place: int, room: Room) -> None:
        """Begin behind the root's record."""
        super().__init__(generation, root_place, room)

    def find(self, key: bytes, hashed: int) -> int:
        """Return the place of a key's record as this change has it, 0 if there is none."""
        return lookup(self.generation, _NO_LIMIT, key, hashed)[1]

    def put(self, key: bytes, hashed: int, spelling: bytes, tag: int, value: bytes) -> bool:
        """Set a key; True if it is new.

        Raises:
            ValueError: the key is too long.
        """
        if len(key) > log.KEY_BYTES_MAX:
            msg = f"a key of a shared dict has at most {log.KEY_BYTES_MAX:,} bytes, not {len(key):,}: use a hash of it"
            raise ValueError(msg)
        generation = self.generation
        slot, newest = index.find(generation, key, hashed)
        old = self._live(newest)
        if old:
            spelling = split(generation, old)[0]
        if spelling:
            tag |= SPELLED
            value = _LENGTH.pack(len(spelling)) + spelling + value
        units = log.units_for(len(key), len(value))
        full = self.high + units > generation.size
        if slot < 0 or full or (not old and generation.words[G_GIVEN] >= generation.order):
            self._renew(units)
            generation = self.generation
            slot, newest = index.find(generation, key, hashed)
            while slot < 0:
                # Many keys of few hashes; nobody else knows this generation yet.
                generation.probes = generation.words[G_PROBES] = min(2 * generation.probes, generation.slots)
                slot, newest = index.find(generation, key, hashed)
            # Every record in it is live.
            old = newest
        below = generation.ints[4 * old + 7] if old else self.end + 1
        position = self._replaced(old) if old else self._added(slot)
        self.live += units
        place = self.write(tag, key, value, newest, position)
        generation.ints[4 * place + 7] = below
        index.store_slot(generation, slot, hashed, place)
        return not old

    def _live(self, newest: int) -> int:
        place = self.generation.public(newest, _NO_LIMIT)
        return 0 if place and self.generation.tag(place) == DELETED else place

    def _replaced(self, old: int) -> int:
        _, tag, value = split(self.generation, old)
        self.drop(old, tag, value)
        return int(self.generation.ints[4 * old + 6])

    def _added(self, slot: int) -> int:
        # Raised first and never given again: a reader of an older root finds its own keys at their positions.
        words = self.generation.words
        position: int = words[G_GIVEN]
        words[G_GIVEN] = self.end = position + 1
        self.count += 1
        index.store_position(self.generation, position, slot)
        return position

    def delete(self, key: bytes, hashed: int) -> bool:
        """Delete a key; False if there is none."""
        generation = self.generation
        slot, newest = index.find(generation, key, hashed)
        old = self._live(newest)
        if not old:
            return False
        below = generation.ints[4 * old + 7]
        position = self._replaced(old)
        self.count -= 1
        if position == self.end - 1:
            # What lies between was deleted when this key came, and so is now.
            self._trim(below - 1 if 0 < below <= position else position)
        if self.fits_as_removal(log.units_for(len(key), 0)):
            place = self.write(DELETED, key, b"", newest, position)
            index.store_slot(generation, slot, hashed, place)
        else:
            self._renew(0, without=old)
        return True

    def _trim(self, end: int) -> None:
        """Let what was deleted at the end count no more, so that popping from there stays cheap.

        The record that is written next says so.
        """
        generation = self.generation
        self.end = end
        while self.end and not index.at_position(generation, self.end - 1, _NO_LIMIT):
            self.end -= 1

    def clear(self) -> None:
        """Delete all keys, in a new generation."""
        for place in index.in_order(self.generation, self.end, _NO_LIMIT):
            self._replaced(place)
        self.count = self.end = self.live = 0
        self._begin(0, _LEAST_POSITIONS, slots_for(_LEAST_POSITIONS))
        self.commit_record()

    def _begin(self, units: int, positions: int, slots: int) -> Generation:
        made = self.begin_generation(units + 4, slots, positions)
        self.generation, self.high = made, made.first
        return made

    def _renew(self, units: int, *, without: int = 0, is_shrinking: bool = False) -> None:
        """Go on in a new generation, which has all live records and room for more."""
        old = self.generation
        entries = moving.entries_in_order(old, self.end, without)
        count = len(entries.places)
        positions = max(_LEAST_POSITIONS, 2 * (count + 1))
        room = room_wanted(self.live, units, 0 if is_shrinking else old.size)
        try:
            made = self._begin(room, positions, slots_for(positions))
        except SharedMemoryFull:
            if not without:
                raise
            # What is deleted must be able to go: with little room, beside what each generation keeps for that.
            positions = max(_LEAST_POSITIONS, count + 1)
            made = self._begin(self.live + self.live // 8, positions, slots_for(positions))
        self.high = moving.copy_table(old, entries, made)
        self.count = self.end = count
        self.live = self.high - made.first
        self.commit_record()

    @property
    def is_wasteful(self) -> bool:
        """True if the generation is far larger than what lives in it."""
        return self.generation.size > 1024 and 8 * (self.live + self.count) < self.generation.size

    def shrink(self) -> None:
        """Give memory back: go on in a generation that is as large as what lives needs."""
        # Not twice as large as before, which would be wasteful again. And if there is no room for it now, then later:
        # what is deleted must be able to go.
        with contextlib.suppress(SharedMemoryFull):
            self._renew(4, is_shrinking=True)

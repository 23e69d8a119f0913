"""The record store of a shared container: a generation of memory that is only appended to.

A generation lies in the container's first segment, or fills one of its own. All numbers are little-endian, places
count units of 16 bytes from the generation's start, and all-zero is the first valid state of everything::

    0     number of the generation
    8     high-water place: everything below it may have been written
    16    size, in units
    24    how many slots there are: a power of two (dict), or 0
    32    how many positions there are (dict), or 0
    40    place of the first record
    48    how many positions were ever given (dict): none is given twice
    56    as far as a key may lie behind the slot that its hash leads to (dict)
    64    slots       8 bytes each: hash << 32 | place of the newest record of a key
    ...   order       4 bytes each: the slot of the key that has this position
    ...   records

A record::

    0     head: units (32 bits) | tag (8) | padding (4) | length of the key (20); stored last
    8     previous: the place that its slot led to before; smaller, 0 if there was none
    12    elements: how many the container has with it
    16    end: dict: behind the last position that counts; list: where its first element stands in the position index
    20    live: how many units the live records take with it
    24    extra: dict: the position of its key; list: the place of the record whose body is the position index
    28    dict: 1 + what `end` was before its key was inserted; 0: not known in this generation
    32    the key, the value, padding

What makes a record public is the container's root word, which names one record: all that lie not behind it and are not
void. So everything here may be stored before the commit, in any number, and a kill at any store leaves the container
as it was. What is behind the root when a writer begins is a dead one's: it is voided, and its places are never used
again. Readers that come upon a record behind their root, or a void one, go down `previous`. The technique is that of
log-structured stores (Rosenblum and Ousterhout, SOSP 1991) with one root as in LMDB's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

UNIT = 16
GENERATION_BYTES = 64
HEADER_BYTES = 32
G_NUMBER, G_HIGH, G_SIZE, G_SLOTS, G_ORDER, G_FIRST, G_GIVEN, G_PROBES = range(8)

# As far as a key may at least lie behind the slot that its hash leads to.
LEAST_PROBES = 64

PLACE_MASK = (1 << 32) - 1
UNITS_MASK = (1 << 32) - 1
TAG_SHIFT = 32
PAD_SHIFT = 40
KEY_SHIFT = 44
TAG_MASK = 0xFF
KEY_BYTES_MAX = (1 << 20) - 1
UNITS_MAX = 1 << 31

# What a record is, beside the value tags below 128.
VOID = 0xFF
DELETED = 0xFE
COMMIT = 0xFD
INDEX = 0xFC
# The first that is no value.
FIRST_OTHER = 0xF0

VOID_BITS = VOID << TAG_SHIFT
_VOID_FIELD = TAG_MASK << TAG_SHIFT

FIELDS = struct.Struct("<QIIIIII")
_FIELDS_BEHIND_HEAD = struct.Struct("<IIIII")
_ZERO_HEAD = bytes(8)
_SPARE_UNITS = 64


class Fields(NamedTuple):
    """What a record says of the container; see the module's table."""

    previous: int
    elements: int
    end: int
    live: int
    extra: int


def units_for(key_bytes: int, value_bytes: int) -> int:
    """Return how many units a record with so long a key and value takes."""
    return (HEADER_BYTES + key_bytes + value_bytes + UNIT - 1) // UNIT


def first_record(slots: int, order: int) -> int:
    """Return the place of the first record of a generation with so many slots and positions."""
    return (GENERATION_BYTES + 8 * slots + 4 * order + UNIT - 1) // UNIT


def spare_of(units: int) -> int:
    """Return how much of so large a generation is kept for records that take something away.

    What is full can then be made emptier, also when there is no memory for a new generation.
    """
    return min(_SPARE_UNITS, units >> 4)


def with_spare(units: int) -> int:
    """Return how large a generation must be that has room for so much without what is kept."""
    return units + min(_SPARE_UNITS, units // 15 + 1)


class Generation:
    """One generation, mapped.

    Attributes:
        number: which one it is; never given twice in a container.
        words: its memory as 8-byte words; the only thing through which heads, slots and the high-water word are stored.
        ints: the same as 4-byte words.
        data: the same as bytes.
        keeper: what must live as long as the views do.
        whole, size: as far as it reaches; as far as records may that make the container larger.
        slots: how many slots there are.
        order_at: where the positions begin, as an index of `ints`.
    """

    __slots__ = ("data", "first", "ints", "keeper", "number", "order", "order_at", "probes", "size", "slots", "whole",
                 "words")  # fmt: skip

    def __init__(self, data: memoryview, keeper: Any) -> None:
        """Look at a generation that was laid out before (see lay_out)."""
        self.data = data
        self.words: Any = data.cast("Q")
        self.ints: Any = data.cast("I")
        self.keeper = keeper
        words = self.words
        self.number: int = words[G_NUMBER]
        self.whole: int = words[G_SIZE]
        self.size: int = self.whole - spare_of(self.whole)
        self.slots: int = words[G_SLOTS]
        self.order: int = words[G_ORDER]
        self.first: int = words[G_FIRST]
        self.probes: int = words[G_PROBES]
        self.order_at = (GENERATION_BYTES + 8 * self.slots) // 4

    @property
    def is_sound(self) -> bool:
        """False if the numbers at its start cannot be a generation's."""
        bound = self.whole * UNIT <= self.data.nbytes
        power = self.slots & (self.slots - 1) == 0
        return bound and power and self.first == first_record(self.slots, self.order) <= self.size

    # -- reading ---------------------------------------------------------------------------------------------------

    def fields(self, place: int) -> Fields:
        """Return what a whole record says of the container."""
        return Fields._make(_FIELDS_BEHIND_HEAD.unpack_from(self.data, place * UNIT + 8))

    def tag(self, place: int) -> int:
        """Return a record's tag."""
        return int(self.words[2 * place]) >> TAG_SHIFT & TAG_MASK

    def units(self, place: int) -> int:
        """Return how many units a record takes."""
        return int(self.words[2 * place]) & UNITS_MASK

    def public(self, place: int, limit: int) -> int:
        """Go down from a record to the first one that is neither void nor behind `limit`; 0 if there is none."""
        words = self.words
        ints = self.ints
        while place and (place > limit or words[2 * place] & _VOID_FIELD == VOID_BITS):
            place = ints[4 * place + 2]
        return int(place)

    def key(self, place: int) -> memoryview:
        """Return the bytes of a record's key."""
        start = place * UNIT + HEADER_BYTES
        return self.data[start : start + (self.words[2 * place] >> KEY_SHIFT)]

    def value(self, place: int) -> memoryview:
        """Return the bytes of a record's value."""
        head = self.words[2 * place]
        start = place * UNIT + HEADER_BYTES + (head >> KEY_SHIFT)
        return self.data[start : (place + (head & UNITS_MASK)) * UNIT - (head >> PAD_SHIFT & 15)]

    def walk(self, limit: int) -> Iterator[int]:
        """Yield the places of all whole records up to the one at `limit`, void ones too."""
        place = self.first
        words = self.words
        while place <= limit:
            yield place
            place += words[2 * place] & UNITS_MASK

    # -- writing: by the holder of the container's mutex only ------------------------------------------------------

    def begin(self, root_place: int) -> int:
        """Return where the next record begins; what a dead writer left behind the root is voided first."""
        words = self.words
        end = root_place + (words[2 * root_place] & UNITS_MASK)
        high = words[G_HIGH]
        if high != end:
            self.void(end)
        return int(high)

    def void(self, place: int) -> None:
        """Make everything from a place on, which is not public, void."""
        words = self.words
        high = words[G_HIGH]
        while place < high:
            head = words[2 * place]
            if not head:
                # Half-written: no slot leads here. One head closes all that is left, so that walks come past it.
                words[2 * place] = VOID_BITS | (high - place)
                return
            if head & _VOID_FIELD != VOID_BITS:
                words[2 * place] = head | VOID_BITS
            place += head & UNITS_MASK

    def append(self, place: int, tag: int, key: bytes, value: bytes, fields: tuple[int, int, int, int, int]) -> int:
        """Write a record at the high-water place and return where the next one begins; the caller knows there is room.

        Cost: about 0.6 us and a memcpy.
        """
        used = HEADER_BYTES + len(key) + len(value)
        units = (used + UNIT - 1) // UNIT
        after = place + units
        words = self.words
        # Before the first byte: who finds a dead writer's record knows from this how far it may reach.
        words[G_HIGH] = after
        start = place * UNIT
        self.data[start + 8 : start + used] = FIELDS.pack(0, *fields, 0)[8:] + key + value
        words[2 * place] = units | tag << TAG_SHIFT | (units * UNIT - used) << PAD_SHIFT | len(key) << KEY_SHIFT
        return after


def lay_out(data: memoryview, number: int, slots: int, order: int) -> Generation:
    """Write the start of a generation into zeroed memory that nobody else sees yet."""
    words = data.cast("Q")
    first = first_record(slots, order)
    words[G_NUMBER], words[G_SIZE] = number, data.nbytes // UNIT
    words[G_SLOTS], words[G_ORDER], words[G_FIRST], words[G_HIGH] = slots, order, first, first
    words[G_PROBES] = min(slots, LEAST_PROBES)
    words.release()
    return Generation(data, None)

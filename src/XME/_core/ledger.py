"""The ledger: which names exist, written before they are made.

One append-only area per participant, so that nobody needs a lock. An entry is 16 bytes, written by one pwrite that
lies within one page, and so is there or not::

    + 0   kind (8 bits) | serial number (36) | upper part of the incarnation (20)
    + 8   owner (37 bits) | lower part of the incarnation (27)

The owner is the serial number of the container or call that the name belongs to, or the incarnation of the process that
a result is of; 0 if it stands for itself. What is in flight bears its writer's incarnation: so it is known to be a dead
one's also when his number was given again.

An entry is cleared (all zero) when its name is unlinked, and its place is used again. Entries of a dead participant
stay until his names are swept; the next one with his number goes on behind them. pwrite is used and not a mapping,
because the areas are sparse: where tmpfs is full, pwrite fails, and a store into a mapping would be a SIGBUS.
"""

from __future__ import annotations

import enum
import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from XME._core import layout, names

_ENTRY = struct.Struct("<QQ")
_STEP = 1 << 16
_SOMETHING = re.compile(rb"[^\0]")
_SERIAL_MASK = (1 << names.SERIAL_BITS) - 1
_HIGH_AT = 8 + names.SERIAL_BITS
_OWNER_BITS = layout.INCARNATION_BITS
_OWNER_MASK = (1 << _OWNER_BITS) - 1
_LOW_BITS = 64 - _OWNER_BITS
CAPACITY = layout.LEDGER_BYTES // _ENTRY.size


class Kind(enum.IntEnum):
    """What a name stands for; MAKING and DROPPING: see NameBook.enter and NameBook.note_dropping."""

    CONTAINER = 1
    CALL = 2
    RESULT = 3
    CREW = 4
    GENERATION = 5
    VALUE = 6
    MAKING = 7
    DROPPING = 8


# Names that belong to a container, not to the process that made them: they go with it and outlive that process.
PARTS = frozenset({Kind.GENERATION, Kind.VALUE, Kind.MAKING})
# Names of which only the container's root word tells whether they are in use.
IN_FLIGHT = frozenset({Kind.MAKING, Kind.DROPPING})


_KINDS = {int(kind): kind for kind in Kind}


class Entry(NamedTuple):
    """One name: its place in the area, serial number, kind, that of its owner, its writer's incarnation."""

    place: int
    serial: int
    kind: Kind
    owner: int
    incarnation: int = 0


def _offset(number: int, index: int) -> int:
    return layout.LEDGER_AT + number * layout.LEDGER_BYTES + index * _ENTRY.size


def write(fd: int, number: int, entry: Entry) -> None:
    """Write an entry; OSError (ENOSPC) if the file system is full."""
    _, serial, kind, owner, incarnation = entry
    first = kind | serial << 8 | incarnation >> _LOW_BITS << _HIGH_AT
    second = owner | (incarnation & (1 << _LOW_BITS) - 1) << _OWNER_BITS
    os.pwrite(fd, _ENTRY.pack(first, second), _offset(number, entry.place))


def clear(fd: int, number: int, index: int) -> None:
    """Clear an entry: its name is gone."""
    os.pwrite(fd, bytes(_ENTRY.size), _offset(number, index))


def read(fd: int, number: int, end: int) -> Iterator[Entry]:
    """Yield the entries of a participant's area, of which `end` have ever been used."""
    for first in range(0, end, _STEP // _ENTRY.size):
        wanted = min(_STEP, (end - first) * _ENTRY.size)
        data = os.pread(fd, wanted, _offset(number, first))
        # Most of the area of one who once had thousands of names is cleared: it is passed over at memory's speed.
        if data.strip(b"\0"):
            yield from _entries(first, data)


def _entries(first: int, data: bytes) -> Iterator[Entry]:
    whole = len(data) - len(data) % _ENTRY.size
    k = 0
    while found := _SOMETHING.search(data, k * _ENTRY.size, whole):
        k = found.start() // _ENTRY.size
        word, second = _ENTRY.unpack_from(data, k * _ENTRY.size)
        kind = _KINDS.get(word & 0xFF)
        # A damaged ledger must not keep every program of this user from starting: what is no entry is no name.
        incarnation = word >> _HIGH_AT << _LOW_BITS | second >> _OWNER_BITS
        if kind is not None and incarnation < 1 << layout.INCARNATION_BITS:
            yield Entry(first + k, word >> 8 & _SERIAL_MASK, kind, second & _OWNER_MASK, incarnation)
        k += 1

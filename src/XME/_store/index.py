"""Finding a dict's records: by key through a hash table, in order through an array of slots.

Both are only ways to the newest record; what is public is decided by the record and the root that the reader has read
(log.py). A slot is given to a key for as long as its generation lives, also when the key is deleted or was never
committed, so a probe that ends at an empty slot has seen all there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from XME._store import log
from XME._store.log import GENERATION_BYTES, HEADER_BYTES, KEY_SHIFT, PLACE_MASK, TAG_MASK, TAG_SHIFT, UNIT, Generation

# In words: where the slots begin.
_SLOTS_AT = GENERATION_BYTES // 8


class Found(NamedTuple):
    """Where a key was found.

    Attributes:
        slot: the slot that is the key's, or that it could get; -1 if there is none.
        newest: the place that the slot leads to, 0 if it is free.
    """

    slot: int
    newest: int


def find(generation: Generation, key: bytes, hashed: int) -> Found:
    """Return the slot of a key and the place that it leads to (1 us and more)."""
    words = generation.words
    data = generation.data
    mask = generation.slots - 1
    slot = hashed & mask
    for _ in range(generation.probes):
        word = words[_SLOTS_AT + slot]
        if not word:
            return Found(slot, 0)
        if word >> 32 == hashed:
            place = word & PLACE_MASK
            start = place * UNIT + HEADER_BYTES
            if data[start : start + (words[2 * place] >> KEY_SHIFT)] == key:
                return Found(slot, place)
        slot = (slot + 1) & mask
    return Found(-1, 0)


def store_slot(generation: Generation, slot: int, hashed: int, place: int) -> None:
    """Let a slot lead to a record that is whole."""
    generation.words[_SLOTS_AT + slot] = hashed << 32 | place


def store_position(generation: Generation, position: int, slot: int) -> None:
    """Give a position in the order of insertion to the key of a slot."""
    generation.ints[generation.order_at + position] = slot


def at_position(generation: Generation, position: int, limit: int) -> int:
    """Return the place of the record that has this position at `limit`; 0 if its key was deleted since."""
    words = generation.words
    slot = generation.ints[generation.order_at + position]
    place = generation.public(words[_SLOTS_AT + slot] & PLACE_MASK, limit)
    if not place or words[2 * place] >> TAG_SHIFT & TAG_MASK == log.DELETED:
        return 0
    return place if generation.ints[4 * place + 6] == position else 0


def in_order(generation: Generation, end: int, limit: int, *, backwards: bool = False) -> Iterator[int]:
    """Yield the places of the records that a dict has at `limit`, in the order in which their keys were inserted."""
    positions = range(end - 1, -1, -1) if backwards else range(end)
    for position in positions:
        place = at_position(generation, position, limit)
        if place:
            yield place

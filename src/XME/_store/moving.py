"""Moving live records to a new generation: growth and compaction.

Small containers are copied record by record; large ones by numpy, in a few passes over the memory (some 50 ns a
record). The new memory is known to nobody yet, so the order of stores does not matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from XME._store import index, log
from XME._store.log import (
    G_GIVEN,
    G_PROBES,
    GENERATION_BYTES,
    LEAST_PROBES,
    PLACE_MASK,
    UNIT,
    UNITS_MASK,
    Generation,
)

# Below this many records numpy's fixed costs, and its import, are not worth it.
FEW = 256
_NO_LIMIT = PLACE_MASK
_SLOTS_AT = GENERATION_BYTES // 8


class Entries(NamedTuple):
    """A dict's records in insertion order: their places and their keys' hashes."""

    places: Sequence[int]
    hashes: Sequence[int]


def entries_in_order(generation: Generation, end: int, without: int = 0) -> Entries:
    """Return a dict's records as its writer sees them, but for one."""
    if end >= FEW:
        return _many_in_order(generation, end, without)
    words = generation.words
    at = generation.order_at
    places = []
    hashes = []
    for position in range(end):
        place = index.at_position(generation, position, _NO_LIMIT)
        if place and place != without:
            places.append(place)
            hashes.append(words[_SLOTS_AT + generation.ints[at + position]] >> 32)
    return Entries(places, hashes)


def _many_in_order(generation: Generation, end: int, without: int) -> Entries:
    import numpy as np

    ints, words = _views(generation)
    at = generation.order_at
    slots = words[_SLOTS_AT + ints[at : at + end].astype(np.int64)]
    places = _public(generation, (slots & PLACE_MASK).astype(np.int64), words)
    is_live = (places != 0) & (places != without)
    is_live &= (_tags(words, places) != log.DELETED) & (ints[4 * places + 6] == np.arange(end))
    return Entries(places[is_live], (slots >> np.uint64(32))[is_live])


def copy_table(old: Generation, entries: Entries, made: Generation) -> int:
    """Copy a dict's records and lead the new slots and positions there; returns the place behind the last."""
    places, behind = copy_records(old, entries.places, made)
    if len(places) < FEW:
        farthest = 0
        for position, (place, hashed) in enumerate(zip(places, entries.hashes, strict=True)):
            made.ints[4 * place + 6] = position
            made.ints[4 * place + 7] = 0
            farthest = max(farthest, _insert(made, hashed, place, position))
    else:
        farthest = _insert_many(made, places, entries.hashes)
    made.words[G_GIVEN] = len(places)
    # Keys that all have one hash are found as well, however long that takes.
    made.probes = made.words[G_PROBES] = min(made.slots, max(LEAST_PROBES, 2 * farthest))
    return behind


def copy_records(old: Generation, places: Sequence[int], made: Generation) -> tuple[Sequence[int], int]:
    """Copy whole records one behind the other; returns their new places and the place behind the last."""
    if len(places) >= FEW:
        return _copy_many(old, places, made)
    copied = []
    high = made.first
    for place in places:
        units = old.units(place)
        made.data[high * UNIT : (high + units) * UNIT] = old.data[place * UNIT : (place + units) * UNIT]
        # What it replaced is not there any more.
        made.ints[4 * high + 2] = 0
        copied.append(high)
        high += units
    return copied, high


def _insert(made: Generation, hashed: int, place: int, position: int) -> int:
    mask = made.slots - 1
    slot = hashed & mask
    steps = 1
    while made.words[_SLOTS_AT + slot]:
        slot = (slot + 1) & mask
        steps += 1
    index.store_slot(made, slot, hashed, place)
    index.store_position(made, position, slot)
    return steps


def _views(generation: Generation) -> tuple[Any, Any]:
    import numpy as np

    return np.frombuffer(generation.ints, np.uint32), np.frombuffer(generation.words, np.uint64)


def _tags(words: Any, places: Any) -> Any:
    return words[2 * places] >> log.TAG_SHIFT & log.TAG_MASK


def _public(generation: Generation, places: Any, words: Any) -> Any:
    """Replace the places of void records by those of the records before them."""
    for k in (_tags(words, places) == log.VOID).nonzero()[0]:
        places[k] = generation.public(int(places[k]), _NO_LIMIT)
    return places


def _copy_many(old: Generation, places: Any, made: Generation) -> tuple[Any, int]:
    import numpy as np

    _, words = _views(old)
    units = (words[2 * places] & UNITS_MASK).astype(np.int64)
    ends = np.cumsum(units)
    begins = ends - units
    total = int(ends[-1])
    kind = np.dtype("V16")
    target = np.frombuffer(made.data, kind, total, made.first * UNIT)
    source = np.frombuffer(old.data, kind, old.whole)
    first = int(places[0])
    if np.array_equal(places, begins + first):
        # Nothing between them was dropped, and they lie in order.
        target[:] = source[first : first + total]
    else:
        target[:] = source[np.repeat(places - begins, units) + np.arange(total)]
    copied = begins + made.first
    ints, _ = _views(made)
    ints[4 * copied + 2] = 0
    return copied, made.first + total


def _insert_many(made: Generation, places: Any, hashes: Any) -> int:
    import numpy as np

    ints, words = _views(made)
    count = len(places)
    ints[4 * places + 6] = np.arange(count)
    ints[4 * places + 7] = 0
    wanted = (hashes.astype(np.uint64) << np.uint64(32)) | places.astype(np.uint64)
    slots = hashes.astype(np.int64) & (made.slots - 1)
    table = words[_SLOTS_AT : _SLOTS_AT + made.slots]
    waiting = np.arange(count)
    steps = 0
    while waiting.size:
        steps += 1
        there = slots[waiting]
        is_free = table[there] == 0
        # Of several that want one slot the last one gets it.
        table[there[is_free]] = wanted[waiting[is_free]]
        waiting = waiting[table[there] != wanted[waiting]]
        slots[waiting] = (slots[waiting] + 1) & (made.slots - 1)
    ints[made.order_at : made.order_at + count] = slots
    return steps

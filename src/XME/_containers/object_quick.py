"""The short way of a shared object's commit: small plain values that replace such ones, and nothing to settle.

What stands in the way makes it say no, and the long way (object_changes.py) writes everything anew: what was written
until then is nobody's, as a dead writer's is, and is voided there. The order of the stores is the long way's:
high-water word, body, head, slot, root. So a kill or a Ctrl-C in here leaves what one there leaves.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

from XME._containers.home import MUTEX_AT, W_ROOT, W_SETTLED
from XME._containers.object_class import MISSING
from XME._containers.object_state import Entry, Loading
from XME._store import values
from XME._store.log import G_HIGH, HEADER_BYTES, KEY_SHIFT, PAD_SHIFT, PLACE_MASK, TAG_SHIFT, Generation

_QUICK_BYTES = 4096
_FIELDS = struct.Struct("<6I").pack
_NUMBERS = struct.Struct("<3I").unpack_from
# What a number is in a record, and how it is packed.
_TAGS: dict[type, tuple[int, str]] = {int: (values.INT, "q"), float: (values.FLOAT, "d")}
# Values that need no encoder.
_SMALL: dict[type, Any] = {
    int: lambda value: (values.INT, values._pack_int(value)),
    float: lambda value: (values.FLOAT, values._pack_float(value)),
    str: lambda value: (values.STR, value.encode()),
    bytes: lambda value: (values.BYTES, value),
    bool: lambda value: (values.TRUE if value else values.FALSE, b""),
    type(None): lambda _value: (values.NONE, b""),
}
_Tail = tuple[int, int, int, int, int]


@functools.cache
def _packer(form: str) -> Any:
    return struct.Struct(form).pack_into


class Quick(Loading):
    """A shared object's core, as far as it has short ways; the mutex is held.

    `_tail` is what this process knows of the end of the records since its last short way: (root, place behind the
    root's record, elements, end, live units). If the root is still that one and nothing was begun behind it, all of it
    is still right, and so is what the entries of the attributes say.
    """

    __slots__ = ()

    def _learn_tail(self, generation: Generation) -> _Tail:
        root = self._root
        last = root & PLACE_MASK
        count, end, live = _NUMBERS(generation.data, last * 16 + 12)
        return root, last + generation.ints[4 * last], count, end, live

    def _publish_number(self, name: str, value: Any, others: Iterator[tuple[str, Any]]) -> bool:
        """Commit a number in the place of what an attribute was; False if the long way must be gone (1 us).

        Args:
            name: the attribute.
            value: what it is now.
            others: attributes that may be changed, too; then it is not enough.
        """
        known = self._known
        for other, now in others:
            if known.get(other, MISSING) is not now:
                return False
        entry = self._entries.get(name)
        generation = self._generation
        # Nothing that is mapped is let go while the mutex is held; but another thread may look at an older generation.
        if entry is None or entry.is_lazy or generation is None or generation.number != self._number or self._is_dirty:
            return False
        way = entry.ways.get(type(value)) or _way_of(entry, type(value))
        if way is None:
            return False
        root, high, count, end, live = self._tail if self._tail[0] == self._root else self._learn_tail(generation)
        home = self.words
        words = generation.words
        units, head, pack_into = way
        after = high + units
        if words[G_HIGH] != high or home[W_SETTLED] != home[MUTEX_AT] or after > generation.size:
            return False
        words[G_HIGH] = after
        live += units - entry.units
        data = generation.data
        try:
            pack_into(data, high * 16 + 8, entry.place, count, end, live, entry.position, 0, entry.key, value)
        except struct.error:
            # Too large a number.
            return False
        words[2 * high] = head
        words[entry.slot] = entry.hashed << 32 | high
        root = root >> 32 << 32 | high
        # Unknown, in case that an exception comes before all is noted.
        self._root = 0
        # The commit.
        home[W_ROOT] = root
        known[name] = value
        entry.place = high
        entry.units = units
        self._tail = (root, after, count, end, live)
        self._root = root
        return True

    def _publish_quickly(self, changed: dict[str, Any]) -> bool:
        """Commit small plain values in the place of what attributes were; False if the long way must be gone."""
        generation = self._generation
        home = self.words
        if generation is None or generation.number != self._number or self._is_dirty:
            return False
        root, high, *numbers = self._tail if self._tail[0] == self._root else self._learn_tail(generation)
        if generation.words[G_HIGH] != high or home[W_SETTLED] != home[MUTEX_AT]:
            return False
        places = [high]
        for name, value in changed.items():
            entry = self._entries.get(name)
            if entry is None or entry.is_lazy:
                return False
            high = _write_small(generation, entry, value, numbers, high)
            if not high:
                return False
            places.append(high)
        root = root >> 32 << 32 | places[-2]
        # Unknown, in case that an exception comes before all is noted.
        self._root = 0
        # The commit.
        home[W_ROOT] = root
        self._known.update(changed)
        for name, place in zip(changed, places, strict=False):
            self._entries[name].lies_at(generation, place)
        self._root = root
        return True


def _way_of(entry: Entry, kind: type) -> tuple[int, int, Any] | None:
    """Return how a number is written in the place of an attribute: units, head, and what packs the rest."""
    if kind not in _TAGS:
        return None
    tag, letter = _TAGS[kind]
    used = HEADER_BYTES + len(entry.key) + 8
    units = (used + 15) >> 4
    head = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(entry.key) << KEY_SHIFT
    way = units, head, _packer(f"<6I{len(entry.key)}s{letter}")
    entry.ways[kind] = way
    return way


def _write_small(generation: Generation, entry: Entry, value: Any, numbers: list[int], high: int) -> int:
    """Write a record and its slot; returns the place behind it, 0 if that cannot be.

    Args:
        generation: where.
        entry: the attribute, whose record is replaced.
        value: what it is now.
        numbers: elements, end and live units, which then are those behind the record.
        high: the place.
    """
    encode = _SMALL.get(type(value))
    if encode is None:
        return 0
    try:
        tag, payload = encode(value)
    except (ValueError, struct.error):
        return 0
    words = generation.words
    key = entry.key
    used = HEADER_BYTES + len(key) + len(payload)
    units = (used + 15) >> 4
    after = high + units
    if len(payload) > _QUICK_BYTES or after > generation.size:
        return 0
    numbers[2] += units - entry.units
    words[G_HIGH] = after
    fields = _FIELDS(entry.place, *numbers, entry.position, 0)
    generation.data[high * 16 + 8 : high * 16 + used] = fields + key + payload
    words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(key) << KEY_SHIFT
    words[entry.slot] = entry.hashed << 32 | high
    return after

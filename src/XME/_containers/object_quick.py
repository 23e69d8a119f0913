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
from XME._store.log import G_HIGH, HEADER_BYTES, KEY_SHIFT, PAD_SHIFT, PLACE_MASK, TAG_SHIFT, UNITS_MASK

_QUICK_BYTES = 4096
_FIELDS = struct.Struct("<4IQ").pack
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
# Before anything is known: no root word and no high-water word is this.
_NO_WORDS = (-1,) * (MUTEX_AT + 1)
_NO_WAY = (_NO_WORDS, _NO_WORDS, b"", 0, 0, 0)
_NO_TAIL = (-2, 0, 0, 0, 0)


@functools.cache
def _packer(form: str) -> Any:
    return struct.Struct(form).pack_into


class Quick(Loading):
    """A shared object's core, as far as it has short ways; the mutex is held.

    `_way` and `_tail` are what this process knows since its last short way: the views and bounds of the generation, and
    (root, place behind the root's record, elements, end, live units). If the root is still that one and nothing was
    begun behind it, all of it is still right, and so is what the entries of the attributes say.
    """

    __slots__ = ("_tail", "_way")

    def _become_empty(self) -> None:
        super()._become_empty()
        self._forget_way()

    def _forget_way(self) -> None:
        self._way: Any = _NO_WAY
        self._tail: Any = _NO_TAIL

    def _forget_mapped(self) -> bool:
        if not super()._forget_mapped():
            return False
        self._forget_way()
        return True

    def _learn(self) -> None:
        """Learn what the short ways need; nothing is as they want it if the long way must come first."""
        self._forget_way()
        home = self.words
        generation = self._generation
        root = self._root
        # Another thread may look at an older generation.
        if generation is None or generation.number != root >> 32 or self._is_dirty:
            return
        epoch = home[MUTEX_AT]
        if home[W_SETTLED] != epoch:
            return
        last = root & PLACE_MASK
        count, end, live = _NUMBERS(generation.data, last * 16 + 12)
        self._way = home, generation.words, generation.data, generation.size, root - last, epoch
        self._tail = root, last + generation.ints[4 * last], count, end, live

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
        if entry is None or entry.is_lazy:
            return False
        kind = type(value)
        way = entry.ways[kind] if kind in entry.ways else _way_of(entry, kind)
        if way is None:
            return False
        units, head, pack_into = way
        if self._tail[0] != self._root:
            self._learn()
        _, high, count, end, live = self._tail
        home, words, data, size, base, epoch = self._way
        after = high + units
        if words[G_HIGH] != high or home[MUTEX_AT] != epoch or after > size:
            return False
        words[G_HIGH] = after
        live += units - entry.units
        try:
            pack_into(data, high * 16 + 8, entry.place, count, end, live, entry.position, entry.key, value)
        except struct.error:
            # Too large a number.
            return False
        words[2 * high] = head
        words[entry.slot] = entry.base + high
        # The commit. After an exception behind it everything is loaded again.
        home[W_ROOT] = root = base + high
        known[name] = value
        entry.place = high
        entry.units = units
        self._tail = root, after, count, end, live
        self._root = root
        return True

    def _publish_quickly(self, changed: dict[str, Any]) -> bool:
        """Commit small plain values in the place of what attributes were; False if the long way must be gone."""
        if self._tail[0] != self._root:
            self._learn()
        _, high, *numbers = self._tail
        home, words, _, _, base, epoch = self._way
        if words[G_HIGH] != high or home[MUTEX_AT] != epoch:
            return False
        places = []
        for name, value in changed.items():
            places.append(high)
            high = self._write_small(self._entries.get(name), value, numbers, high)
            if not high:
                return False
        # The commit, as above.
        home[W_ROOT] = root = base + places[-1]
        self._known.update(changed)
        for name, place in zip(changed, places, strict=True):
            entry = self._entries[name]
            entry.place, entry.units = place, words[2 * place] & UNITS_MASK
        self._tail = (root, high, *numbers)
        self._root = root
        return True

    def _write_small(self, entry: Entry | None, value: Any, numbers: list[int], high: int) -> int:
        """Write a record and its slot; returns the place behind it, 0 if that cannot be.

        Args:
            entry: the attribute, whose record is replaced.
            value: what it is now.
            numbers: elements, end and live units, which then are those behind the record.
            high: the place.
        """
        encode = _SMALL.get(type(value))
        if entry is None or entry.is_lazy or encode is None:
            return 0
        try:
            tag, payload = encode(value)
        except (ValueError, struct.error):
            return 0
        _, words, data, size, _, _ = self._way
        key = entry.key
        used = HEADER_BYTES + len(key) + len(payload)
        units = (used + 15) >> 4
        after = high + units
        if len(payload) > _QUICK_BYTES or after > size:
            return 0
        numbers[2] += units - entry.units
        words[G_HIGH] = after
        data[high * 16 + 8 : high * 16 + used] = _FIELDS(entry.place, *numbers, entry.position) + key + payload
        words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(key) << KEY_SHIFT
        words[entry.slot] = entry.base + high
        return after


def _way_of(entry: Entry, kind: type) -> tuple[int, int, Any] | None:
    """Return how a number is written in the place of an attribute: units, head, and what packs the rest."""
    if kind not in _TAGS:
        return None
    tag, letter = _TAGS[kind]
    used = HEADER_BYTES + len(entry.key) + 8
    units = (used + 15) >> 4
    head = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(entry.key) << KEY_SHIFT
    way = units, head, _packer(f"<4IQ{len(entry.key)}s{letter}")
    entry.ways[kind] = way
    return way

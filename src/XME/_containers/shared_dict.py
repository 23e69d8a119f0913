"""`xmem_dict`: a dict in shared memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, MutableMapping
from typing import Any

from XME._containers import home as homes
from XME._containers import opening
from XME._containers.container import BUSY, CACHED, Container
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT, W_SETTLED
from XME._core import named, program
from XME._store import index, keys, restoring, table, values
from XME._store.index import find
from XME._store.log import (
    G_GIVEN,
    G_HIGH,
    HEADER_BYTES,
    KEY_SHIFT,
    PAD_SHIFT,
    PLACE_MASK,
    TAG_MASK,
    TAG_SHIFT,
    UNITS_MASK,
)
from XME.errors import ContainerGone, UnshareableValue

# An entry of the cache: the root under which the value is right, the value, the word of its slot, the place of the
# record that it was decoded from (-1: of none), the generation, the key's bytes and hash.
STAMP, VALUE, SLOT, PLACE, GENERATION, KEY, HASH = range(7)

_FIELDS = struct.Struct("<6I").pack
_NUMBERS = struct.Struct("<3I").unpack_from
# Values that need no encoder; what they become is immutable.
_QUICK: dict[type, tuple[int, Any]] = {
    int: (values.INT, struct.Struct("<q").pack),
    float: (values.FLOAT, struct.Struct("<d").pack),
    str: (values.STR, str.encode),
    bytes: (values.BYTES, bytes),
}
_QUICK_BYTES = 4096
_NOTHING = object()
_PLAIN_KEYS = frozenset({str, int, bytes})
_KEPT = frozenset({values.INT, values.FLOAT, values.STR, values.BYTES})


class xmem_dict(Container, MutableMapping[Any, Any]):
    """A dict that all processes that get it read and change, in shared memory."""

    __slots__ = ()

    _KIND = homes.DICT
    _CHANGE = table.TableChange

    def __init__(self, init: Any = (), *, name: str | None = None, nested: bool = False) -> None:
        """Make a new shared dict."""
        named.tidy()
        self._found(program.program_domain(), nested=nested)
        if init:
            self.update(init)

    def _fill(self, content: Any) -> None:
        self.update(content)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """Return the value of a key."""
        try:
            entry = self._cache[key]
            if entry[STAMP] == self._stamp[0]:
                return entry[VALUE]
        except (KeyError, TypeError):
            pass
        return self._get(key)

    def _get(self, key: Any) -> Any:
        root, generation, limit = self._look()
        entry = self._cache.get(key)
        if entry is not None and entry[GENERATION] is generation and root:
            # The record that was decoded, and not what the slot said then: the slot may have been ahead of the root.
            if generation.words[entry[SLOT]] & PLACE_MASK == entry[PLACE]:
                entry[STAMP] = root
                return entry[VALUE]
            canonical = entry[KEY]
            hashed = entry[HASH]
        else:
            canonical = keys.canonical(key)
            hashed = keys.stable_hash(canonical)
        slot, place = table.lookup(generation, limit, canonical, hashed)
        if not place:
            raise KeyError(key)
        _, tag, data = table.split(generation, place)
        try:
            value, kept = values.decode(tag, data, self._open_value)
        except ContainerGone:
            return self._once_more(root, lambda: self._get(key))
        if root and kept == values.AS_IT_IS:
            self._keep(key, [root, value, 8 + slot, place, generation, canonical, hashed])
        return value

    def _keep(self, key: Any, entry: list[Any]) -> None:
        cache = self._cache
        if len(cache) >= CACHED:
            cache.clear()
        cache[key] = entry

    def __len__(self) -> int:
        """Return how many keys there are."""
        return self._numbers()[0]

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of one instant."""
        _, generation, limit = self._look()
        _, end, _ = self._numbers()
        for place in index.in_order(generation, end, limit):
            yield restoring.restore(bytes(generation.key(place)), table.split(generation, place)[0])

    # -- changing --------------------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a key."""
        made: Any = _NOTHING
        try:
            tag, encode = _QUICK[type(value)]
            payload = encode(value)
            if len(payload) <= _QUICK_BYTES:
                made = None
        except (KeyError, ValueError, struct.error):
            pass
        if made is _NOTHING:
            tag, payload, made = self._encode_for(key, value)
        known = self._cache.get(key)
        entry = self._entry_for(key) if known is None else known
        if made or entry is None or not self._set_quickly(entry, value, tag, payload):
            self._set(key, value, tag, payload, made)
        elif known is None:
            # Also what this process only writes: the next time its slot is known.
            self._keep(key, entry)

    def _entry_for(self, key: Any) -> list[Any] | None:
        """Return a new entry of the cache, without a slot; None for a key whose spelling must be kept beside it."""
        canonical = keys.canonical(key)
        entry = [0, None, 0, -1, None, canonical, keys.stable_hash(canonical)]
        return None if type(key) not in _PLAIN_KEYS and keys.spelled(key, canonical) else entry

    def _encode_for(self, key: Any, value: Any) -> tuple[int, bytes, Any]:
        try:
            return self._encode(value, "the value")
        except UnshareableValue:
            # Once more, for an error that names the place: its text costs more than most values do.
            return self._encode(value, f"[{key!r}]")

    def _set_quickly(self, entry: list[Any], value: Any, tag: int, payload: bytes) -> bool:
        """Set a key in the current generation; False if anything stands in the way: then it goes the long way."""
        mutex = self.mutex
        mutex.acquire()
        try:
            home = self.words
            generation = self._generation
            if home is None or generation is None or self._change is not None:
                return False
            # A signal handler of this thread must not come in between (see Container._begin).
            self._change = BUSY
            root = home[W_ROOT]
            words = generation.words
            last = root & PLACE_MASK
            if (
                root >> 32 != generation.number
                or last + (words[2 * last] & UNITS_MASK) != words[G_HIGH]
                or home[W_SETTLED] != home[MUTEX_AT]
                or home[W_GONE]
                or self._is_dirty
            ):
                self._change = None
                return False
            place = self._write_quickly(entry, generation, last, tag, payload)
            if not place:
                self._change = None
                return False
            # The commit.
            home[W_ROOT] = root = root - last + place
            if tag in _KEPT:
                entry[VALUE] = value
                entry[PLACE] = place
                entry[STAMP] = root
            else:
                # The value stays that of the stamp: another thread may be between its look at the one and the other.
                entry[PLACE] = -1
                entry[STAMP] = 0
            self._change = None
            return True
        except BaseException:
            self._change = None
            raise
        finally:
            mutex.release()

    def _write_quickly(self, entry: list[Any], generation: Any, last: int, tag: int, payload: bytes) -> int:
        """Write one record that fits and its slot, as TableChange.put does; returns its place, 0 if that is not enough.

        The order of the stores is that of log.append and TableChange.put.
        """
        words = generation.words
        key = entry[KEY]
        high = words[G_HIGH]
        used = HEADER_BYTES + len(key) + len(payload)
        units = (used + 15) >> 4
        if high + units > generation.size:
            return 0
        if entry[GENERATION] is generation:
            newest = words[entry[SLOT]] & PLACE_MASK
        else:
            slot, newest = find(generation, key, entry[HASH])
            if slot < 0:
                return 0
            # A place of another generation may be the same number.
            entry[PLACE] = -1
            entry[SLOT] = 8 + slot
            entry[GENERATION] = generation
        count, end, live = _NUMBERS(generation.data, last * 16 + 12)
        if newest:
            old = words[2 * newest]
            if old >> TAG_SHIFT & TAG_MASK >= values.HAS_SERIALS:
                # Void, deleted, or with parts that go.
                return 0
            live -= old & UNITS_MASK
            position = generation.ints[4 * newest + 6]
        else:
            position = words[G_GIVEN]
            if position >= generation.order:
                return 0
            words[G_GIVEN] = end = position + 1
            count += 1
            generation.ints[generation.order_at + position] = entry[SLOT] - 8
        words[G_HIGH] = high + units
        fields = _FIELDS(newest, count, end, live + units, position, 0)
        generation.data[high * 16 + 8 : high * 16 + used] = fields + key + payload
        words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(key) << KEY_SHIFT
        words[entry[SLOT]] = entry[HASH] << 32 | high
        return int(high)

    def _set(self, key: Any, value: Any, tag: int, payload: bytes, made: Any) -> None:
        canonical = keys.canonical(key)
        spelling = keys.spelled(key, canonical)
        change = self._begin(made)
        try:
            change.put(canonical, keys.stable_hash(canonical), spelling, tag, payload)
        except BaseException:
            self._fail()
            raise
        self._end()

    def __delitem__(self, key: Any) -> None:
        """Delete a key."""
        canonical = keys.canonical(key)
        change = self._begin()
        try:
            if not change.delete(canonical, keys.stable_hash(canonical)):
                raise KeyError(key)
        except BaseException:
            self._fail()
            raise
        self._end()


opening.CLASSES[homes.DICT] = xmem_dict

"""`xmem_dict`: a dict in shared memory."""

from __future__ import annotations

import struct
from collections.abc import Iterable, MutableMapping
from typing import Any, Self

from XME._containers import home as homes
from XME._containers import opening
from XME._containers.container import BUSY, CACHED
from XME._containers.dict_changing import DictChanging, plain_dict
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT, W_SETTLED
from XME._containers.shown import under_its_own_name
from XME._containers.struck import straighten_short, whole
from XME._store import keys, table, values
from XME._store.index import find
from XME._store.log import (
    DELETED,
    G_GIVEN,
    G_HIGH,
    HEADER_BYTES,
    KEY_BYTES_MAX,
    KEY_SHIFT,
    PAD_SHIFT,
    PLACE_MASK,
    TAG_MASK,
    TAG_SHIFT,
    UNITS_MASK,
    VOID_BITS,
)
from XME.errors import ContainerGone, UnshareableValue

# An entry of the cache: the root under which the value is right, the value, the word of its slot, the place of the
# record that it was decoded from (-1: of none), the generation's number, the key's bytes and hash.
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
# The stamp of an array that each reader gets a view of; never a root.
_AS_VIEW = -1
_LARGE_KEPT = 8
_PLAIN_KEYS = frozenset({str, int, bytes})
_KEPT = frozenset({values.INT, values.FLOAT, values.STR, values.BYTES})


@under_its_own_name
class xmem_dict(DictChanging, MutableMapping[Any, Any]):
    """A dict in shared memory: every process that gets it reads and changes the same one.

    It has the whole interface of `dict`, in the order of insertion, and each method is atomic. A process that is killed
    in the middle of anything leaves it as it was before, or as it is after. It pickles as a name, under every start
    method, as an argument, a result, a global, or a value in another container.

    Keys are what has the same bytes in every process: None, numbers, text, bytes, tuples and frozensets of such, dates
    and times, paths, UUIDs, enum members. Values are whatever pickles, and come back as copies: ``d["a"].append(1)``
    changes a copy, unless ``nested=True`` or an `xmem_list` was stored. Arrays come back read-only, without a copy if
    they have 64 KiB or more. An `xmem_array` comes back as itself, shared and writable.

    Args:
        init: what `dict` takes: a mapping or an iterable of pairs.
        name: a public name (1 to 128 bytes of UTF-8) under which `XME.attach` finds it from any program of this user.
            What has a name lives until the last process that uses it drops it or ends, or until `unlink`; what has none
            lives as long as its program, and only as long as its handle if no other process was told of it.
        nested: turn plain lists and dicts that are stored, and those inside of them, into shared ones, so that all see
            ``d["a"]["b"] = 1``. They belong to this dict, and go with their last place in it.
        **items: more items, as `dict` takes them.

    Raises:
        SharedMemoryFull: there is no room; nothing is left behind.
        UnshareableValue: a value does not pickle.
        TypeError: a key cannot be one; says why.
        NameTaken: the public name is in use.

    Costs some 150 us and 5 us an item; a page of memory and a semaphore; from some 1000 bytes of content on, a second
    segment, at most half of which is garbage.

    >>> import pickle
    >>> d = xmem_dict({"pears": 3}, plums=4)
    >>> pickle.loads(pickle.dumps(d))["figs"] = 5
    >>> d
    xmem_dict({'pears': 3, 'plums': 4, 'figs': 5})
    """

    __slots__ = ()

    _KIND = homes.DICT
    _CHANGE = table.TableChange

    def __init__(self, init: Any = (), *, name: str | None = None, nested: bool = False, **items: Any) -> None:
        """Make a new shared dict."""
        self._become(name, nested, plain_dict(init, items))

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> Self:
        """Return a new shared dict that has one value for all keys.

        >>> xmem_dict.fromkeys("ab", 0)
        xmem_dict({'a': 0, 'b': 0})
        """
        return cls(dict.fromkeys(iterable, value))

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
        if entry is None:
            canonical = keys.canonical(key)
            hashed = keys.stable_hash(canonical)
        elif entry[GENERATION] == generation.number and root:
            # The record that was decoded, and not what the slot said then: the slot may have been ahead of the root.
            newest = generation.words[entry[SLOT]] & PLACE_MASK
            if newest == entry[PLACE]:
                if entry[STAMP] == _AS_VIEW:
                    return entry[VALUE].view()
                entry[STAMP] = root
                return entry[VALUE]
            return self._read(key, root, generation, entry[SLOT], generation.public(newest, limit), entry)
        else:
            canonical, hashed = entry[KEY], entry[HASH]
        slot, newest = find(generation, canonical, hashed)
        place = newest
        if newest > limit or generation.words[2 * newest] & VOID_BITS == VOID_BITS:
            place = generation.public(newest, limit)
        entry = [0, None, 8 + slot, -1, generation.number, canonical, hashed]
        return self._read(key, root, generation, 8 + slot, place, entry)

    def _read(self, key: Any, root: int, generation: Any, slot: int, place: int, entry: list[Any]) -> Any:
        """Return the value of the record at a place, and keep it in a new entry if it may be given out again."""
        head = generation.words[2 * place] if place else 0
        tag = head >> TAG_SHIFT & TAG_MASK
        if not place or tag == DELETED:
            raise KeyError(key)
        if tag & table.SPELLED:
            _, tag, data = table.split(generation, place)
        else:
            start = place * 16 + HEADER_BYTES + (head >> KEY_SHIFT)
            data = generation.data[start : (place + (head & UNITS_MASK)) * 16 - (head >> PAD_SHIFT & 15)]
        try:
            value, kept = values.decode(tag, data, self._open_value)
        except ContainerGone:
            return self._once_more(root, lambda: self._get(key))
        if root and kept:
            stamp = root if kept == values.AS_IT_IS else _AS_VIEW
            self._keep(key, [stamp, value, slot, place, generation.number, entry[KEY], entry[HASH]])
            if kept == values.AS_VIEW:
                self._keep_few(key)
                return value.view()
        return value

    def _keep_few(self, key: Any) -> None:
        """Keep few large arrays: each keeps its memory mapped, also when it was dropped meanwhile."""
        large = self._large
        large.append(key)
        if len(large) > _LARGE_KEPT:
            self._cache.pop(large.pop(0), None)

    def _keep(self, key: Any, entry: list[Any]) -> None:
        cache = self._cache
        if len(cache) >= CACHED:
            cache.clear()
        cache[key] = entry

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
            self._set_encoded(key, value)
            return
        known = self._cache.get(key)
        entry = self._entry_for(key) if known is None else known
        try:
            is_set = entry is not None and self._set_quickly(entry, value, tag, payload)
        except BaseException:
            straighten_short(self, BUSY)
            raise
        if entry is None or not is_set:
            self._set(key, tag, payload, made)
        elif known is None:
            # Also what this process only writes: the next time its slot is known.
            self._keep(key, entry)

    @whole
    def _set_encoded(self, key: Any, value: Any) -> None:
        tag, payload, made = self._encode_for(key, value)
        known = None if made else self._cache.get(key)
        entry = self._entry_for(key) if known is None and not made else known
        if entry is None or not self._set_quickly(entry, value, tag, payload):
            self._set(key, tag, payload, made)
        elif known is None:
            self._keep(key, entry)

    def _entry_for(self, key: Any) -> list[Any] | None:
        """Return a new entry of the cache, without a slot; None for a key whose spelling must be kept beside it."""
        canonical = keys.canonical(key)
        entry = [0, None, 0, -1, None, canonical, keys.stable_hash(canonical)]
        is_usual = type(key) in _PLAIN_KEYS or not keys.spelled(key, canonical)
        return entry if is_usual and len(canonical) <= KEY_BYTES_MAX else None

    def _encode_for(self, key: Any, value: Any) -> tuple[int, bytes, Any]:
        try:
            return self._encode(value, "the value")
        except UnshareableValue:
            # Once more, for an error that names the place: its text costs more than most values do.
            return self._encode(value, f"[{key!r}]")

    def _set_quickly(self, entry: list[Any], value: Any, tag: int, payload: bytes) -> bool:
        """Set a key in the current generation; False if anything stands in the way: then it goes the long way.

        After an exception the caller calls straighten_short.
        """
        mutex = self.mutex
        is_mine = False
        mutex.acquire()
        try:
            home = self.words
            generation = self._generation
            if home is None or generation is None or self._change is not None:
                return False
            # A signal handler of this thread must not come in between (see Container._begin).
            is_mine = True
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
                return False
            place = self._write_quickly(entry, generation, last, tag, payload)
            if not place:
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
            return True
        finally:
            if is_mine:
                self._change = None
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
        if entry[GENERATION] == generation.number:
            newest = words[entry[SLOT]] & PLACE_MASK
        else:
            slot, newest = find(generation, key, entry[HASH])
            if slot < 0:
                return 0
            # A place of another generation may be the same number.
            entry[PLACE] = -1
            entry[SLOT] = 8 + slot
            entry[GENERATION] = generation.number
        count, end, live = _NUMBERS(generation.data, last * 16 + 12)
        if newest:
            old = words[2 * newest]
            if old >> TAG_SHIFT & TAG_MASK >= values.HAS_SERIALS:
                # Void, deleted, or with parts that go.
                return 0
            live -= old & UNITS_MASK
            position = generation.ints[4 * newest + 6]
            below = generation.ints[4 * newest + 7]
        else:
            position = words[G_GIVEN]
            if position >= generation.order:
                return 0
            below = end + 1
            words[G_GIVEN] = end = position + 1
            count += 1
            generation.ints[generation.order_at + position] = entry[SLOT] - 8
        words[G_HIGH] = high + units
        fields = _FIELDS(newest, count, end, live + units, position, below)
        generation.data[high * 16 + 8 : high * 16 + used] = fields + key + payload
        words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(key) << KEY_SHIFT
        words[entry[SLOT]] = entry[HASH] << 32 | high
        return int(high)

    @whole
    def _set(self, key: Any, tag: int, payload: bytes, made: Any) -> None:
        canonical = keys.canonical(key)
        spelling = keys.spelled(key, canonical)
        change = self._begin(made)
        try:
            change.put(canonical, keys.stable_hash(canonical), spelling, tag, payload)
        except BaseException:
            self._fail()
            raise
        self._end()


opening.CLASSES[homes.DICT] = xmem_dict

"""The short ways of the most frequent changes of a shared list: one small element, room for it, and nothing to settle.

What stands in the way of a short way makes it say no, and the caller goes the long way (container.py), which settles,
grows and recovers. The order of the stores is the long way's: high-water word, body, head, position, root. So a kill
or a Ctrl-C in here leaves what one there leaves.
"""

from __future__ import annotations

import struct
from typing import Any

from XME._containers.container import BUSY
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT, W_SETTLED
from XME._containers.list_plain import Plain
from XME._store import values
from XME._store.log import COMMIT, G_HIGH, HEADER_BYTES, PAD_SHIFT, PLACE_MASK, TAG_SHIFT
from XME._store.sequence import NUMBERS
from XME._store.sequence_bulk import QUICK, QUICK_BYTES

_FIELDS = struct.Struct("<6I").pack
_COMMIT_HEAD = 2 | COMMIT << TAG_SHIFT
# The head of a number's record, of 3 units, and what writes all behind that in one go.
_NUMBERS: dict[type, tuple[int, Any]] = {
    kind: (3 | tag << TAG_SHIFT | 8 << PAD_SHIFT, struct.Struct(f"<6I{letter}").pack_into)
    for kind, tag, letter in ((int, values.INT, "q"), (float, values.FLOAT, "d"))
}
# Before anything is known: no root word is this.
_NO_WORDS = (-1,) * (MUTEX_AT + 1)
_NO_WAY = (_NO_WORDS, _NO_WORDS, _NO_WORDS, b"", 0, 0, -1, 0, 0)
_NO_END = (-2, 0, 0, 0, 0)


class Quick(Plain):
    """A shared list, as far as it has short ways.

    `_way` and `_end_known` are what this process knows of the list since its last short way: the views and bounds of
    the generation and of the position index, and (root, place behind the root's record, count, start, live units). If
    the root is still that one and nothing was begun behind it, all of it is still right.
    """

    __slots__ = ("_end_known", "_way")

    def _reset(self) -> None:
        super()._reset()
        self._forget()

    def _forget(self) -> None:
        self._way: Any = _NO_WAY
        self._end_known: Any = _NO_END

    def let_go(self) -> bool:
        """Let mappings go (see Home)."""
        if not super().let_go():
            return False
        self._forget()
        return True

    def _learn(self) -> None:
        """Learn what the short ways need; nothing has room if the long way must come first. The mutex is held."""
        self._forget()
        home = self.words
        generation = self._generation
        if home is None or generation is None or self._is_dirty:
            return
        root = home[W_ROOT]
        last = root & PLACE_MASK
        if not _is_ready(home, generation, root, last):
            return
        ints = generation.ints
        count, start, live, at = NUMBERS(generation.data, last * 16 + 12)
        # An index ends with its record; there is none at 0, and no room in none.
        behind = 4 * (at + ints[4 * at]) if at else 0
        self._way = (home, generation.words, ints, generation.data, generation.size, root - last, home[MUTEX_AT], at,
                     behind)  # fmt: skip
        self._end_known = (root, last + ints[4 * last], count, start, live)

    def append(self, value: Any) -> None:
        """Add an element at the end.

        Raises:
            UnshareableValue: it does not pickle; the list is unchanged.
            SharedMemoryFull: there is no room; the list is unchanged.

        Costs some 1.5 us, at any length.
        """
        number = _NUMBERS.get(type(value))
        if number is not None:
            mutex = self.mutex
            mutex.acquire()
            try:
                if self._change is None:
                    # A signal handler of this thread must not come in between (see Container._begin).
                    self._change = BUSY
                    root, high, count, start, live = self._end_known
                    home, words, ints, data, size, base, epoch, at, behind = self._way
                    if home[W_ROOT] != root or words[G_HIGH] != high or home[MUTEX_AT] != epoch or home[W_GONE]:
                        self._learn()
                        root, high, count, start, live = self._end_known
                        home, words, ints, data, size, base, epoch, at, behind = self._way
                    word = 4 * at + 8 + start + count
                    after = high + 3
                    if word < behind and after <= size:
                        words[G_HIGH] = after
                        live += 3
                        count += 1
                        # Of a number that is too large nothing is written that counts: the long way voids it.
                        number[1](data, high * 16 + 8, ints[word], count, start, live, at, 0, value)
                        words[2 * high] = number[0]
                        ints[word] = high
                        # The commit.
                        home[W_ROOT] = root = base + high
                        self._end_known = root, after, count, start, live
                        self._change = None
                        return
                    self._change = None
            except struct.error:
                self._change = None
            except BaseException:
                self._change = None
                raise
            finally:
                mutex.release()
        tag, payload, made = self._encoded(value, "the element")
        if made or not append(self, tag, payload):
            self._changed("append", made, tag, payload)

    def _encoded(self, value: Any, where: str) -> tuple[int, bytes, Any]:
        """Return (tag, bytes, what was made for it, or None if nothing was)."""
        try:
            tag, encode = QUICK[type(value)]
            payload = encode(value)
        except (KeyError, ValueError, struct.error):
            return self._encode(value, where)
        return (tag, payload, None) if len(payload) <= QUICK_BYTES else self._encode(value, where)

    def _changed(self, method: str, made: Any, *arguments: Any) -> None:
        """Call a method of the change, in a change of its own or within the one in progress."""
        change = self._begin(made)
        try:
            getattr(change, method)(*arguments)
        except BaseException:
            self._fail()
            raise
        self._end()


def _is_ready(home: Any, generation: Any, root: int, last: int) -> bool:
    """True if the root's record is the last one that anybody has begun, and nothing else is to be done before."""
    return (
        root >> 32 == generation.number
        and last + generation.ints[4 * last] == generation.words[G_HIGH]
        and home[W_SETTLED] == home[MUTEX_AT]
        and not home[W_GONE]
    )


def append(container: Any, tag: int, payload: bytes) -> bool:
    """Add an element at the end; False if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return False
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return False
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            word = 4 * at + 8 + end + count
            high = last + ints[4 * last]
            used = HEADER_BYTES + len(payload)
            units = (used + 15) >> 4
            # An index ends with its record; there is none at 0.
            if not at or word >= 4 * (at + ints[4 * at]) or high + units > generation.size:
                return False
            words = generation.words
            words[G_HIGH] = high + units
            fields = _FIELDS(ints[word], count + 1, end, live + units, at, 0)
            data[high * 16 + 8 : high * 16 + used] = fields + payload
            words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT
            ints[word] = high
            # The commit.
            home[W_ROOT] = root - last + high
            return True
        finally:
            container._change = None
    finally:
        mutex.release()


def replace(container: Any, index: int, tag: int, payload: bytes) -> bool:
    """Set an element; False if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return False
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return False
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            position = index + count if index < 0 else index
            high = last + ints[4 * last]
            used = HEADER_BYTES + len(payload)
            units = (used + 15) >> 4
            if not 0 <= position < count or high + units > generation.size:
                return False
            word = 4 * at + 8 + end + position
            newest = ints[word]
            words = generation.words
            if words[2 * newest] >> TAG_SHIFT & 0xFF >= values.HAS_SERIALS:
                # Void, or with parts that go.
                return False
            words[G_HIGH] = high + units
            fields = _FIELDS(newest, count, end, live + units - ints[4 * newest], at, 0)
            data[high * 16 + 8 : high * 16 + used] = fields + payload
            words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT
            ints[word] = high
            # The commit.
            home[W_ROOT] = root - last + high
            return True
        finally:
            container._change = None
    finally:
        mutex.release()


def pop(container: Any, at_front: bool) -> tuple[int, memoryview] | None:
    """Take the first or the last element away; returns its tag and bytes, or None if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return None
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return None
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            high = last + ints[4 * last]
            if not count or high + 2 > generation.size or 8 * live < generation.size > 4096:
                return None
            newest = ints[4 * at + 8 + end + (0 if at_front else count - 1)]
            words = generation.words
            tag = words[2 * newest] >> TAG_SHIFT & 0xFF
            if tag >= values.PICKLE:
                # Void, with parts that go, or perhaps with code of the user's that makes the value, and may fail.
                return None
            words[G_HIGH] = high + 2
            live -= ints[4 * newest]
            data[high * 16 + 8 : high * 16 + HEADER_BYTES] = _FIELDS(0, count - 1, end + at_front, live, at, 0)
            words[2 * high] = _COMMIT_HEAD
            # The commit.
            home[W_ROOT] = root - last + high
            return tag, generation.value(newest)
        finally:
            container._change = None
    finally:
        mutex.release()

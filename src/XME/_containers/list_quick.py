"""The short ways of the most frequent changes of a shared list: one small element, room for it, and nothing to settle.

What stands in the way of a short way makes it say no, and the caller goes the long way (container.py), which settles,
grows and recovers. The order of the stores is the long way's: high-water word, body, head, position, root. So a kill
or a Ctrl-C in here leaves what one there leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from XME._containers import flight
from XME._containers.container import BUSY
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT, W_SETTLED
from XME._containers.list_plain import Plain
from XME._containers.struck import straighten_short, whole
from XME._store import values
from XME._store.log import COMMIT, G_HIGH, HEADER_BYTES, PAD_SHIFT, PLACE_MASK, TAG_MASK, TAG_SHIFT, UNITS_MASK
from XME._store.sequence import LARGE_UNITS, NUMBERS
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

    def _forget_mapped(self) -> bool:
        if not super()._forget_mapped():
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
            try:
                mutex.acquire()
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
                        number[1](data, high * 16 + 8, ints[word], count, start, live, at, 0, value)
                        words[2 * high] = number[0]
                        ints[word] = high
                        # The commit.
                        home[W_ROOT] = root = base + high
                        self._end_known = root, after, count, start, live
                        self._change = None
                        mutex.release()
                        return
                    self._change = None
                mutex.release()
            except BaseException as error:
                straighten_short(self, BUSY)
                # A number that is too large: what was written of it does not count, and the long way voids it.
                if not isinstance(error, struct.error):
                    raise
        self._append_encoded(value)

    def _append_encoded(self, value: Any) -> None:
        mark = flight.making()
        try:
            tag, payload, made = self._encoded(value, "the element")
            if made or not self._shortly(self._append_shortly, tag, payload):
                self._changed("append", made, tag, payload)
        except BaseException:
            flight.unlink_making(mark)
            raise

    # -- the other ways --------------------------------------------------------------------------------------------

    def _shortly(self, way: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a short way returns, which is false if the long one must be gone."""
        mutex = self.mutex
        found = None
        try:
            mutex.acquire()
            if self._change is None:
                self._change = BUSY
                root, high = self._end_known[:2]
                home, words = self._way[:2]
                if home[W_ROOT] != root or words[G_HIGH] != high or home[MUTEX_AT] != self._way[6] or home[W_GONE]:
                    self._learn()
                found = way(*arguments)
                self._change = None
            mutex.release()
        except BaseException:
            straighten_short(self, BUSY)
            raise
        return found

    def _append_shortly(self, tag: int, payload: bytes) -> bool:
        _, _, count, start, live = self._end_known
        _, _, ints, _, _, _, _, at, behind = self._way
        word = 4 * at + 8 + start + count
        return word < behind and self._write(word, tag, payload, (ints[word], count + 1, start, live))

    def _set_shortly(self, index: int, tag: int, payload: bytes) -> bool:
        _, _, count, start, live = self._end_known
        _, words, ints, _, _, _, _, at, _ = self._way
        position = index + count if index < 0 else index
        if not 0 <= position < count:
            return False
        word = 4 * at + 8 + start + position
        newest = ints[word]
        # Void, or with parts that go: that takes more.
        if words[2 * newest] >> TAG_SHIFT & TAG_MASK >= values.HAS_SERIALS:
            return False
        return self._write(word, tag, payload, (newest, count, start, live - ints[4 * newest]))

    def _write(self, word: int, tag: int, payload: bytes, numbers: tuple[int, int, int, int]) -> bool:
        """Write a record that fits, let a position lead there, and commit."""
        previous, count, start, live = numbers
        high = self._end_known[1]
        home, words, ints, data, size, base, _, at, _ = self._way
        used = HEADER_BYTES + len(payload)
        units = (used + 15) >> 4
        after = high + units
        if after > size:
            return False
        words[G_HIGH] = after
        live += units
        data[high * 16 + 8 : high * 16 + used] = _FIELDS(previous, count, start, live, at, 0) + payload
        words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT
        ints[word] = high
        # The commit.
        home[W_ROOT] = root = base + high
        self._end_known = root, after, count, start, live
        return True

    def _pop_shortly(self, at_front: bool) -> tuple[int, memoryview] | None:
        """Take the first or the last element away; returns its tag and bytes."""
        _, high, count, start, live = self._end_known
        home, words, ints, data, size, base, _, at, _ = self._way
        after = high + 2
        # Where much is waste, the long way gives some back.
        if not count or after > size or 8 * live < size > LARGE_UNITS:
            return None
        newest = ints[4 * at + 8 + start + (0 if at_front else count - 1)]
        head = words[2 * newest]
        # Void, with parts that go, or perhaps with code of the user's that makes the value, and may fail.
        if head >> TAG_SHIFT & TAG_MASK >= values.PICKLE:
            return None
        count -= 1
        start += at_front
        live -= head & UNITS_MASK
        words[G_HIGH] = after
        data[high * 16 + 8 : high * 16 + HEADER_BYTES] = _FIELDS(0, count, start, live, at, 0)
        words[2 * high] = _COMMIT_HEAD
        # The commit.
        home[W_ROOT] = root = base + high
        self._end_known = root, after, count, start, live
        begin = newest * 16 + HEADER_BYTES
        end = (newest + (head & UNITS_MASK)) * 16 - (head >> PAD_SHIFT & 15)
        return head >> TAG_SHIFT & TAG_MASK, data[begin:end]

    # -- the long way ----------------------------------------------------------------------------------------------

    def _encoded(self, value: Any, where: str) -> tuple[int, bytes, Any]:
        """Return (tag, bytes, what was made for it, or None if nothing was)."""
        try:
            tag, encode = QUICK[type(value)]
            payload = encode(value)
        except (KeyError, ValueError, struct.error):
            return self._encode(value, where)
        return (tag, payload, None) if len(payload) <= QUICK_BYTES else self._encode(value, where)

    @whole
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

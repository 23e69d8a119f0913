"""Calls of a shared object's methods that leave a number in the object, in the same commit.

Whoever runs calls for others, and is killed, is followed by one who asks the object whether the last call was done:
what a method has changed and the call's number become public by one store. The number is a record of its own, so every
later commit carries it forward, whoever makes it. There is one, so it is the number of the last call of this kind; who
it is from stands in it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from XME._containers import object_quick
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT
from XME._containers.object_class import MISSING
from XME._containers.object_core import LATE, Core
from XME._containers.object_quick import _way_of
from XME._containers.object_state import CLOSED, IDLE, OPEN, OWN, Entry
from XME._store import codec, index, table, values
from XME._store.log import G_HIGH, HEADER_BYTES, KEY_SHIFT, PAD_SHIFT, PLACE_MASK, TAG_SHIFT
from XME.errors import MutexError

# No attribute's name is of bytes.
_NAME: Any = b"number of the last call"
_ENTRY = Entry(_NAME)
_KEY, _HASH = _ENTRY.key, _ENTRY.hashed


@functools.cache
def _way_of_number(length: int) -> tuple[int, int, Any]:
    """Return how a call's number of so many bytes is written: units, head, and what packs the rest."""
    used = HEADER_BYTES + len(_KEY) + length
    units = (used + 15) >> 4
    head = units | values.BYTES << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT | len(_KEY) << KEY_SHIFT
    return units, head, object_quick._packer(f"<4IQ{len(_KEY)}s{length}s")


class Numbered:
    """Calls one object's methods with numbers; for one thread at a time."""

    __slots__ = ("_entry", "_number", "core")

    def __init__(self, core: Core) -> None:
        self.core = core
        self._entry = Entry(_NAME)
        # The generation for which the entry knows the slot.
        self._number = -1

    def last(self) -> bytes:
        """Return the number of the last call that was done, as it was given; empty if there was none."""
        root, generation = self.core.current()
        _, place = table.lookup(generation, root & PLACE_MASK, _KEY, _HASH)
        return bytes(table.split(generation, place)[2]) if place else b""

    def call(
        self, function: Callable[..., Any], kwargs: Mapping[str, Any], number: bytes, keep: Callable[[Any], None]
    ) -> Any:
        """Call a method; `keep` gets its result before anything becomes public.

        What the method or `keep` raises leaves the object as it was, without the number.

        Raises:
            MutexError: this thread is in a method of the object, or in its transaction, whose end is not yet come.
        """
        core = self.core
        mutex = core.mutex
        if mutex.held:
            msg = (
                f"a call of {core._called!r} cannot be run inside a method or a transaction of the same object, which "
                "may still fail: run it when that has ended"
            )
            raise MutexError(msg)
        inst = None
        try:
            mutex.acquire()
            core._phase = CLOSED
            words = core.words
            if words is None or words[W_ROOT] != core._root or words[W_GONE]:
                core._refresh()
            inst = core._inst
            core._phase = OPEN
            result = function(inst, **kwargs)
            if result is not None and (result is inst or type(result) in LATE):
                result = core._checked(function, result, inst)
            keep(result)
            # Else this is a fork's child, and the call its parent's.
            if core._inst is inst:
                if not self._publish_quickly(number):
                    self._publish(number)
                core._phase = IDLE
            mutex.release()
        except BaseException:
            core._struck(inst)
            raise
        return result

    def _publish_quickly(self, number: bytes) -> bool:
        core = self.core
        present = core._values
        known = core._known
        if present is None or core._touched or core._change is not None or len(present) != len(known):
            return False
        changed = {}
        for name, value in present.items():
            if known.get(name, MISSING) is not value:
                if type(value) not in codec.PLAIN_TYPES:
                    return False
                changed[name] = value
        core._phase = CLOSED
        try:
            if not self._find():
                return False
            if len(changed) == 1 and self._publish_two(*changed.popitem(), number):
                return True
            changed = {name: value for name, value in present.items() if known.get(name, MISSING) is not value}
            core._entries[_NAME] = self._entry
            changed[_NAME] = number
            return core._publish_quickly(changed)
        finally:
            # It is no attribute.
            core._entries.pop(_NAME, None)
            known.pop(_NAME, None)
            core._phase = OPEN

    def _publish_two(self, name: str, value: Any, number: bytes) -> bool:
        """Commit one changed number, and the call's; False if another way must be gone.

        The order of the stores is Quick._publish_number's, with a second record behind the first.
        """
        core, mine = self.core, self._entry
        entry = core._entries.get(name)
        way = None if entry is None or entry.is_lazy else entry.ways.get(type(value)) or _way_of(entry, type(value))
        if entry is None or way is None:
            return False
        if core._tail[0] != core._root:
            core._learn()
        _, high, count, end, live = core._tail
        home, words, data, size, base, epoch = core._way
        units, head, pack_into = way
        units2, head2, pack_into2 = _way_of_number(len(number))
        second = high + units
        after = second + units2
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
        live += units2 - mine.units
        pack_into2(data, second * 16 + 8, mine.place, count, end, live, mine.position, _KEY, number)
        words[2 * second] = head2
        words[mine.slot] = mine.base + second
        # The commit. After an exception behind it everything is loaded again.
        home[W_ROOT] = root = base + second
        core._known[name] = value
        entry.place, entry.units = high, units
        mine.place, mine.units = second, units2
        core._tail = root, after, count, end, live
        core._root = root
        return True

    def _find(self) -> bool:
        """Bring the entry up to date; False if there is no record yet, or not in this generation."""
        core = self.core
        generation = core._generation
        if generation is None or generation.number != core._number:
            return False
        entry = self._entry
        if generation.number != self._number:
            slot, place = index.find(generation, _KEY, _HASH)
            if slot < 0 or not place:
                return False
            entry.slot = 8 + slot
            self._number = generation.number
            entry.place = 0
        newest = generation.words[entry.slot] & PLACE_MASK
        # Places are never used again, so what was public there is the newest still.
        if newest != entry.place:
            place = generation.public(newest, core._root & PLACE_MASK)
            if not place:
                return False
            entry.lies_at(generation, place)
        return True

    def _publish(self, number: bytes) -> None:
        core = self.core
        # The method's own level, as atomic() in a method has it.
        change = super(Core, core)._begin_with_user_code()
        core._root = OWN
        core._phase = CLOSED
        change.put(_KEY, _HASH, b"", values.BYTES, number)
        if change.generation.number != core._number:
            core._find_again(change.generation)
        core._finish()

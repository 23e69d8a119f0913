"""Calls of a shared object's methods that leave a number in the object, in the same commit.

Whoever runs calls for others, and is killed, is followed by one who asks the object whether the last call was done:
what a method has changed and the call's number become public by one store. The number is a record of its own, so every
later commit carries it forward, whoever makes it. There is one, so it is the number of the last call of this kind; who
it is from stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from XME._containers.home import W_GONE, W_ROOT
from XME._containers.object_class import MISSING
from XME._containers.object_core import LATE, Core
from XME._containers.object_state import CLOSED, IDLE, OPEN, OWN, Entry
from XME._store import codec, index, table, values
from XME._store.log import PLACE_MASK
from XME.errors import MutexError

# No attribute's name is of bytes.
_NAME: Any = b"number of the last call"
_ENTRY = Entry(_NAME)
_KEY, _HASH = _ENTRY.key, _ENTRY.hashed


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
            core._entries[_NAME] = self._entry
            changed[_NAME] = number
            return core._publish_quickly(changed)
        finally:
            # It is no attribute.
            core._entries.pop(_NAME, None)
            known.pop(_NAME, None)
            core._phase = OPEN

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
        place = generation.public(generation.words[entry.slot] & PLACE_MASK, core._root & PLACE_MASK)
        if not place:
            return False
        if place != entry.place or generation.units(place) != entry.units:
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

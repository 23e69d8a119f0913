"""What a method has changed of its object, and how that becomes public: one commit.

A value that cannot change is as it was if it is the same object. Every other one that was touched is encoded and
compared with its record. What two attributes share is looked for among those that were touched or set: no other can
have come to share anything.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from XME._containers import flight
from XME._containers.home import W_REFERS
from XME._containers.object_class import MISSING
from XME._containers.object_groups import Group, groups_of
from XME._containers.object_quick import Quick
from XME._containers.object_state import LAZY, MEMBER, OWN, Entry, is_fixed
from XME._core.ledger import Kind
from XME._store import index, table, values
from XME._store.log import G_GIVEN
from XME._store.values import HAS_SERIALS
from XME.errors import UnshareableValue

# So much of a large buffer is compared at once.
_CHUNK = 1 << 20


class Write(NamedTuple):
    """A record to be written."""

    name: str
    tag: int
    payload: bytes


class Changing(Quick):
    """The half of an object's core that writes."""

    __slots__ = ()

    # -- what has changed ------------------------------------------------------------------------------------------

    def _publish(self, present: dict[str, Any]) -> None:
        """Make public what a method has done to the object, with one commit; the mutex is held.

        Raises:
            UnshareableValue: an attribute does not pickle; nothing was made public.
            SharedMemoryFull: the same.
        """
        known = self._known
        touched = self._touched
        changed = {name: value for name, value in present.items() if known.get(name, MISSING) is not value}
        is_simple = not touched and len(present) == len(known) and self._change is None
        if is_simple and (not changed or self._publish_quickly(changed)):
            return
        fixed: dict[str, Any] = {}
        changeable: dict[str, Any] = {}
        for name, value in changed.items():
            (fixed if is_fixed(value) else changeable)[name] = value
        # What was published before (atomic() in a method) is not gone once more.
        gone = [name for name in (*known, *touched) if name not in present and name in self._entries]
        self._publish_all(fixed, changeable, gone)

    def _publish_all(self, fixed: dict[str, Any], changeable: dict[str, Any], gone: list[str]) -> None:
        if self._complete_groups(fixed, changeable, gone):
            present = self._gathered()
            changeable.update({name: present[name] for name in self._touched if name in present and name not in fixed})
        touched = self._touched
        for name in [name for name, value in fixed.items() if touched.get(name, MISSING) is value]:
            # Loaded, and in no group.
            del fixed[name]
        writes: list[Write] = []
        made: dict[int, Kind] = {}
        mark = flight.making()
        try:
            for name, value in fixed.items():
                self._encode_one(name, value, fixed=True, writes=writes, made=made)
            for names in groups_of(changeable):
                self._encode_group({name: changeable[name] for name in names}, writes, made)
            if writes or gone:
                self._write(writes, gone, made)
        except BaseException:
            flight.unlink_making(mark)
            raise
        self._settle_object(fixed, writes, gone)

    def _complete_groups(self, fixed: dict[str, Any], changeable: dict[str, Any], gone: list[str]) -> bool:
        """Load the rest of the groups that lose a member; True if there are any."""
        leaders = {entry.leader for entry in self._entries.values() if entry.leader is not None}
        if not leaders:
            return False
        found = False
        for name in (*fixed, *changeable, *gone):
            entry = self._entries.get(name)
            if entry is not None and name not in self._touched and (entry.leader or entry.key in leaders):
                self._touch(name, entry)
                found = True
        return found

    def _encode_one(self, name: str, value: Any, *, fixed: bool, writes: list[Write], made: dict[int, Kind]) -> None:
        encoded = values.encode(value, f"{self._shape.cls.__qualname__}.{name}")
        tag = encoded.tag if fixed and not encoded.tag & HAS_SERIALS else encoded.tag | LAZY
        entry = self._entries.get(name)
        if entry is not None and self._is_as_stored(entry, tag, encoded):
            return
        payload = encoded.payload
        if tag & HAS_SERIALS:
            payload = self._store_parts(encoded, made)
        writes.append(Write(name, tag, payload))

    def _store_parts(self, encoded: values.Encoded, made: dict[int, Kind]) -> bytes:
        self.map()[W_REFERS] = 1
        for child in encoded.children:
            self._takes(child)
        serials = flight.store_buffers(self, encoded.large)
        made.update(dict.fromkeys(serials, Kind.VALUE))
        return values.payload_with(encoded, serials)

    def _encode_group(self, group: dict[str, Any], writes: list[Write], made: dict[int, Kind]) -> None:
        if len(group) == 1:
            for name, value in group.items():
                if self._touched.get(name, MISSING) is not value or not is_fixed(value):
                    self._encode_one(name, value, fixed=False, writes=writes, made=made)
            return
        first, *others = group
        try:
            self._encode_one(first, Group(group), fixed=False, writes=writes, made=made)
        except UnshareableValue:
            # Once more, for an error that names the attribute.
            for name, value in group.items():
                values.encode(value, f"{self._shape.cls.__qualname__}.{name}")
            raise
        leader = Entry(first).key
        for name in others:
            entry = self._entries.get(name)
            if entry is None or entry.leader != leader:
                writes.append(Write(name, LAZY | MEMBER, leader))

    def _is_as_stored(self, entry: Entry, tag: int, encoded: values.Encoded) -> bool:
        _, old_tag, data = table.split(self._generation_now(), entry.place)
        if old_tag != tag:
            return False
        if tag & HAS_SERIALS:
            return self._has_same_parts(data, encoded)
        old = bytes(data)
        if old == encoded.payload:
            return True
        if not tag & LAZY or len(old) != len(encoded.payload):
            return False
        # Sets pickle in an order that depends on how they came to be.
        again = values.encode(values.decode_own(tag & ~LAZY, data, self._open_value))
        return again.payload == encoded.payload

    def _has_same_parts(self, data: memoryview, encoded: values.Encoded) -> bool:
        stored, rest = values._large_of(data, self._open_value)
        buffers = list(stored)
        if bytes(rest) != encoded.payload or [raw.nbytes for raw in buffers] != [raw.nbytes for raw in encoded.large]:
            return False
        return all(map(_are_equal, buffers, encoded.large))

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, writes: list[Write], gone: list[str], made: dict[int, Kind]) -> None:
        if self._change is not None:
            self._made.update(made)
            flight.taken(made)
            self._put_all(self._change, writes, gone)
            return
        change = self._begin(made)
        try:
            self._put_all(change, writes, gone)
        except BaseException:
            self._fail()
            raise
        self._root = OWN
        self._end()

    def _put_all(self, change: Any, writes: list[Write], gone: list[str]) -> None:
        begun_in = change.generation
        for name, tag, payload in writes:
            entry = self._entries.get(name)
            is_new = entry is None
            if entry is None:
                entry = self._entries[name] = Entry(name)
            change.put(entry.key, entry.hashed, b"", tag, payload)
            entry.is_lazy = bool(tag & LAZY)
            entry.leader = payload if tag == LAZY | MEMBER else None
            entry.lies_at(change.generation, change.last)
            if is_new:
                entry.slot = 8 + index.find(change.generation, entry.key, entry.hashed).slot
        for name in gone:
            entry = self._entries.pop(name)
            change.delete(entry.key, entry.hashed)
        if change.is_wasteful and gone:
            change.shrink()
        generation = change.generation
        # In a transaction that outgrows several, all those have one number.
        if generation is not begun_in or generation.number != self._number:
            self._find_again(generation)
        self._end_known = generation.words[G_GIVEN]

    def _settle_object(self, fixed: dict[str, Any], writes: list[Write], gone: list[str]) -> None:
        """Note what is public now."""
        known = self._known
        for write in writes:
            if write.tag & LAZY:
                known.pop(write.name, None)
                self._shape.shadow(write.name)
            else:
                known[write.name] = fixed[write.name]
        for name in gone:
            known.pop(name, None)
        for name, value in fixed.items():
            if name in known and known[name] is not value:
                # It was encoded as what is stored already: an equal one.
                known[name] = value


def _are_equal(one: memoryview, two: memoryview) -> bool:
    one, two = one.cast("B"), two.cast("B")
    starts = range(0, one.nbytes, _CHUNK)
    return all(bytes(one[at : at + _CHUNK]) == bytes(two[at : at + _CHUNK]) for at in starts)


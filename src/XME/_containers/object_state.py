"""What this process has of a shared object: an object for the methods to run on, and which attributes it has now.

Attributes that cannot change (numbers, text, tuples of such) stay in that object as long as their records do. The
others are loaded when a method touches them, so it is known which were touched, and are taken away when it has ended:
what the method has handed out is the caller's copy. All of this belongs to the thread that holds the mutex.
"""

from __future__ import annotations

from typing import Any

from XME._containers.container import Container
from XME._containers.home import W_GONE, W_ROOT
from XME._containers.object_class import MISSING, Shape
from XME._containers.object_groups import Group, is_shared
from XME._store import codec, index, keys, restoring, table, values
from XME._store.log import DELETED, G_GIVEN, PLACE_MASK, Generation
from XME.errors import ContainerGone

# A bit of a record's tag: the value is loaded when it is touched. With MEMBER: the payload names the attribute in whose
# record the value is.
LAZY = 0x20
MEMBER = 15
# Keys that no attribute can have begin like this: they are those of bytes.
_NO_ATTRIBUTE = 0x85
# What the thread that has the mutex is doing: nothing with the object, running a method of it, or publishing.
IDLE, OPEN, CLOSED = range(3)
# No root word is this: the object is as the change in progress has it.
OWN = -1


class Entry:
    """Where an attribute is stored.

    Attributes:
        key, hashed: its key in the table.
        base: what a slot that leads to one of its records has beside the place.
        slot: the word of the generation that leads to its records.
        place, units, position: the place of its record, how many units that takes, and what it says of the attribute's
            position in the order (two numbers in one).
        ways: how numbers are written, by their type (object_quick.py).
        is_lazy: whether it is loaded when it is touched.
        leader: the key of the attribute in whose record the value is, if that is another one's.
    """

    __slots__ = ("base", "hashed", "is_lazy", "key", "leader", "place", "position", "slot", "units", "ways")

    def __init__(self, name: str) -> None:
        self.key = keys.canonical(name)
        self.hashed = keys.stable_hash(self.key)
        self.base = self.hashed << 32
        self.slot = self.place = self.units = self.position = 0
        self.ways: dict[type, Any] = {}
        self.is_lazy = False
        self.leader: bytes | None = None

    def lies_at(self, generation: Generation, place: int) -> None:
        """Note which record is its own now."""
        self.units = generation.units(place)
        self.position = generation.words[2 * place + 3]
        self.place = place


class Loading(Container):
    """The half of an object's core that reads."""

    __slots__ = (
        "_end_known", "_entries", "_inst", "_known", "_number", "_phase", "_root", "_shape", "_touched", "_values",
    )  # fmt: skip

    _shape: Shape

    def _reset(self) -> None:
        super()._reset()
        self._phase = IDLE
        self._become_empty()

    def _become_empty(self) -> None:
        """Have no object; the next call makes one."""
        self._inst: Any = None
        # Its attributes as they are stored in it; None if it has slots.
        self._values: dict[str, Any] | None = None
        # The attributes that cannot change, as they are public.
        self._known: dict[str, Any] = {}
        self._entries: dict[str, Entry] = {}
        # Lazy attributes that this call has loaded, as they were loaded.
        self._touched: dict[str, Any] = {}
        # The root word (or OWN) and generation that all this is right for.
        self._root = 0
        self._number = -1
        # Positions below this one were looked at.
        self._end_known = 0

    def _forget(self) -> None:
        """Forget all attributes; a method that is running goes on with the same object."""
        for name in list(self._gathered()):
            self._remove(name)
        self._known.clear()
        self._entries.clear()
        self._touched.clear()
        self._end_known = 0

    # -- the object ------------------------------------------------------------------------------------------------

    def _have(self, inst: Any) -> None:
        self._inst = inst
        shape = self._shape
        self._values = None if shape.slots or shape.dict_of is None else shape.dict_of(inst)

    def _gathered(self) -> dict[str, Any]:
        """Return the attributes that the object has now."""
        if self._values is not None:
            return self._values
        shape = self._shape
        inst = self._inst
        found = {} if shape.dict_of is None else dict(shape.dict_of(inst))
        for name, slot in shape.slots.items():
            try:
                found[name] = slot.__get__(inst)
            except AttributeError:
                pass
        return found

    def _store(self, name: str, value: Any) -> None:
        slot = self._shape.slots.get(name)
        if slot is not None:
            slot.__set__(self._inst, value)
        else:
            self._dict()[name] = value

    def _keep(self, name: str, value: Any) -> Any:
        """Give the object an attribute that it has not; returns what it has then."""
        slot = self._shape.slots.get(name)
        if slot is None:
            return self._dict().setdefault(name, value)
        try:
            return slot.__get__(self._inst)
        except AttributeError:
            slot.__set__(self._inst, value)
        return value

    def _remove(self, name: str) -> None:
        slot = self._shape.slots.get(name)
        if slot is None:
            self._dict().pop(name, None)
            return
        try:
            slot.__delete__(self._inst)
        except AttributeError:
            pass

    def _dict(self) -> dict[str, Any]:
        getter = self._shape.dict_of
        return {} if getter is None else getter(self._inst)

    def _restore(self) -> None:
        """Throw away what a method did: the object is what is known again."""
        known = self._known
        for name in list(self._gathered()):
            if name not in known:
                self._remove(name)
        for name, value in known.items():
            self._store(name, value)
        self._touched.clear()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Make the object what is public, or what the change in progress has; the mutex is held.

        Raises:
            ContainerGone: it was unlinked.
        """
        change = self._change
        if change is None:
            if self.map()[W_GONE]:
                raise ContainerGone.of(self._called)
            root, generation = self.current()
            limit = root & PLACE_MASK
            end = generation.fields(limit).end
        else:
            root, generation, limit, end = OWN, change.generation, PLACE_MASK, change.end
        if root == self._root:
            return
        self._root = 0
        if self._inst is None:
            self._have(self._shape.make(self))
        if generation.number != self._number:
            self._forget()
        self._look_at_known(generation, limit)
        self._look_at_new(generation, limit, end)
        self._number = generation.number
        self._root = root

    def _look_at_known(self, generation: Generation, limit: int) -> None:
        words = generation.words
        for name, entry in list(self._entries.items()):
            place = words[entry.slot] & PLACE_MASK
            if place != entry.place:
                place = generation.public(place, limit)
                if not place or generation.tag(place) == DELETED:
                    self._lose(name)
                elif place != entry.place:
                    self._load_record(generation, name, entry, place)

    def _look_at_new(self, generation: Generation, limit: int, end: int) -> None:
        for position in range(self._end_known, end):
            place = index.at_position(generation, position, limit)
            if place and generation.key(place)[0] != _NO_ATTRIBUTE:
                name = restoring.restore(bytes(generation.key(place)))
                entry = self._entries.get(name)
                if entry is None:
                    entry = self._entries[name] = Entry(name)
                    entry.slot = 8 + generation.ints[generation.order_at + position]
                    self._load_record(generation, name, entry, place)
        self._end_known = generation.words[G_GIVEN]

    def _lose(self, name: str) -> None:
        self._remove(name)
        self._known.pop(name, None)
        del self._entries[name]

    def _load_record(self, generation: Generation, name: str, entry: Entry, place: int) -> None:
        _, tag, data = table.split(generation, place)
        entry.is_lazy = bool(tag & LAZY)
        entry.leader = bytes(data) if tag == LAZY | MEMBER else None
        if entry.is_lazy:
            self._shape.shadow(name)
            self._known.pop(name, None)
            self._remove(name)
        else:
            value, _ = values.decode(tag, data, self._open_value)
            self._known[name] = value
            self._store(name, value)
        entry.lies_at(generation, place)

    def _find_again(self, generation: Generation) -> None:
        """Find all records in a generation that has the same ones; the object stays what it is."""
        for entry in self._entries.values():
            slot, place = index.find(generation, entry.key, entry.hashed)
            entry.slot = 8 + slot
            entry.lies_at(generation, place)
        self._number = generation.number
        self._end_known = generation.words[G_GIVEN]

    # -- what is touched -------------------------------------------------------------------------------------------

    def load(self, inst: Any, name: str) -> Any:
        """Return the value of a lazy attribute that a method touches; MISSING if there is none."""
        if inst is not self._inst or self._phase == IDLE or not self.mutex.held:
            # It has outlived its method.
            return self.read(name)
        entry = self._entries.get(name)
        if entry is None or not entry.is_lazy:
            return MISSING
        if name in self._touched:
            # Deleted since, or a signal handler has loaded it a moment ago.
            return self._gathered().get(name, MISSING)
        return self._touch(name, entry)

    def load_all(self, inst: Any) -> None:
        """Load all lazy attributes."""
        if inst is self._inst and self._phase != IDLE and self.mutex.held:
            for name, entry in self._entries.items():
                if entry.is_lazy and name not in self._touched:
                    self._touch(name, entry)

    def _touch(self, name: str, entry: Entry) -> Any:
        loaded = self._decoded(self._generation_now(), name, entry.place)
        present = self._gathered()
        for member, value in loaded.items():
            if member not in self._touched:
                # What the method has assigned meanwhile stays, and what a signal handler has loaded. It counts as
                # touched when it is there: else it would be missing after a Ctrl-C in between.
                stored = value if member in present else self._keep(member, value)
                self._touched.setdefault(member, stored)
        return self._gathered().get(name, MISSING)

    def _generation_now(self) -> Generation:
        change = self._change
        return self.current()[1] if change is None else change.generation

    def _decoded(self, generation: Generation, name: str, place: int) -> dict[str, Any]:
        """Return the value of a lazy attribute, and those of its group; arrays are the caller's own."""
        _, tag, data = table.split(generation, place)
        if tag == LAZY | MEMBER:
            place = self._entries[restoring.restore(bytes(data))].place
            _, tag, data = table.split(generation, place)
        value = values.decode_own(tag & ~LAZY, data, self._open_value)
        return value if type(value) is Group else {name: value}

    # -- reading from outside --------------------------------------------------------------------------------------

    def read(self, name: str) -> Any:
        """Return what is public of an attribute, without the mutex; MISSING if there is none."""
        words = self.words
        entry = self._cache.get(name)
        if entry is not None and words is not None and entry[0] == words[W_ROOT]:
            return entry[1]
        root, generation = self.current()
        key = keys.canonical(name)
        limit = root & PLACE_MASK
        _, place = table.lookup(generation, limit, key, keys.stable_hash(key))
        if not place:
            return MISSING
        try:
            return self._read_record(root, generation, name, place)
        except ContainerGone:
            return self._once_more(root, lambda: self.read(name))

    def _read_record(self, root: int, generation: Generation, name: str, place: int) -> Any:
        _, tag, data = table.split(generation, place)
        if tag == LAZY | MEMBER:
            key = bytes(data)
            _, place = table.lookup(generation, root & PLACE_MASK, key, keys.stable_hash(key))
            _, tag, data = table.split(generation, place)
        value, _ = values.decode(tag & ~LAZY, data, self._open_value)
        if type(value) is Group:
            value = value[name]
        if not tag & LAZY:
            self._cache[name] = [root, value]
        return value


def is_fixed(value: Any) -> bool:
    """True for a value that cannot change, or for a handle of something shared, which is not replaced by itself."""
    return type(value) in codec.PLAIN_TYPES or values.kept_how(value) == values.AS_IT_IS or is_shared(value)

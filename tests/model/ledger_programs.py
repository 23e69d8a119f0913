"""The ledger's state, and what processes do with it: a value or a generation is made, published, dropped, settled.

A program is a generator: each thing that it yields is one step that others can come between, but for "peek", which
asks what nobody else changes meanwhile.
"""

from typing import NamedTuple

NUMBERS = 2
MAKING, DROPPING, VALUE = "making", "dropping", "value"
IN_FLIGHT = MAKING, DROPPING


class Entry(NamedTuple):
    """A ledger entry; a VALUE's incarnation is 0."""

    kind: str
    serial: int
    incarnation: int


class Root(NamedTuple):
    """What one store publishes; the version stands for the place of the last record."""

    version: int
    generation: int
    values: tuple


def put(values, k, value):
    return (*values[:k], value, *values[k + 1 :])


class Process(NamedTuple):
    """Whoever has a number: what it runs, the answers of its steps, whether an exception left entries of its own."""

    incarnation: int
    alive: bool = True
    letter: str = ""
    answers: tuple = ()
    dirty: bool = False


class State(NamedTuple):
    """All that is shared, where everybody is, and what may still happen."""

    root: Root
    words: tuple
    names: frozenset
    areas: tuple
    mutex: tuple
    epoch: int
    asked: int
    settled: tuple
    dead_words: bool
    recoverer: int
    processes: tuple
    reader: tuple
    serials: int
    incarnations: int
    died_inside: frozenset
    ever: frozenset
    ops: int
    crashes: int
    exceptions: int
    joins: int


def live(s, fault=""):
    """The serials of live segments: of the values, and of the generation unless it lies in the home segment."""
    found = {serial for serial in s.root.values if serial}
    if fault == "a serial in either of the two words is live":
        found |= set(s.words) - {0}
    elif s.root.generation:
        found.add(s.words[s.root.generation & 1])
    return found | (s.ever if fault == "a segment that was ever public is kept" else set())


def places(s, serial, kind):
    every = ((n, k, entry) for n, area in enumerate(s.areas) for k, entry in enumerate(area))
    return tuple((n, k) for n, k, entry in every if entry and entry[:2] == (kind, serial))


class Program:
    """The programs of one process of one incarnation; who inherits settles a predecessor's entries as his own."""

    def __init__(self, number, p, inherits, fault):
        self.number, self.incarnation, self.dirty = number, p.incarnation, p.dirty
        self.inherits, self.fault = inherits, fault
        self.made, self.dropped = [], []

    def steps(self, letter):
        return self.join() if letter == "J" else self.leave() if letter == "L" else self.operate(letter)

    def join(self):
        area = yield "peek", "area"
        if not self.inherits and self.fault != "a joiner does not ask" and any(e and e.kind in IN_FLIGHT for e in area):
            yield ("ask",)

    def leave(self):
        if self.dirty:
            yield from self.operate("n")
        if self.fault == "who leaves takes his values along":
            for k, entry in enumerate((yield "peek", "area")):
                if entry and entry.kind == VALUE:
                    yield "unlink", entry.serial
                    yield "entry", self.number, k, None
        yield ("gone",)

    def operate(self, letter):
        if letter in "01r" and not self.shares(letter):
            yield from self.make()
        yield ("lock",)
        yield from self.settle_the_dead()
        if self.dirty and self.fault != "an exception's entries are forgotten":
            yield from self.settle_mine()
        if letter != "n":
            root = yield "peek", "root"
            wanted = yield from self.change(letter, root)
            yield from self.publish(root, wanted)
        yield ("unlock",)
        if self.fault == "a value after the mutex is free":
            yield from self.say_value()

    def shares(self, letter):
        return letter == "r" and self.fault == "a copy shares its segment"

    def make(self):
        if self.fault == "the segment before its entry":
            serial = yield ("serial",)
            yield "make", serial
            serial, place = yield "enter", MAKING, serial
        else:
            serial, place = yield "enter", MAKING, 0
            yield "make", serial
        self.made.append((serial, place))
        return serial

    def change(self, letter, root):
        """What the root shall be; segments that are made inside are made now."""
        values, generation = root.values, root.generation
        if letter == "C":
            serial = yield from self.make()
            generation += 1
            yield "word", generation & 1, serial
        elif letter == "d":
            values = put(values, 0, 0)
        elif letter == "t":
            for _ in "12":
                values = put(values, 0, (yield from self.make()))
        else:
            values = put(values, int(letter != "0"), values[0] if self.shares(letter) else self.made[0][0])
        return Root(root.version + 1, generation, values)

    def publish(self, root, wanted):
        gone = {k for k, v in zip(root.values, wanted.values, strict=True) if k and k != v}
        if wanted.generation != root.generation and root.generation:
            gone.add((yield "peek", "word", root.generation & 1))
        after = self.fault == "what is dropped is entered after the commit"
        if not after:
            yield from self.enter_dropped(gone)
        if self.fault == "the name goes before the commit":
            for serial in sorted(gone):
                yield "unlink", serial
        if self.fault == "a value before its commit":
            yield from self.say_value()
        yield "commit", wanted
        if after:
            yield from self.enter_dropped(gone)
        if self.fault not in {"a value before its commit", "a value after the mutex is free"}:
            yield from self.say_value()
        for serial, place in self.dropped:
            yield from self.drop(serial, place)

    def enter_dropped(self, gone):
        kind = MAKING if self.fault == "one kind in flight" else DROPPING
        for serial in sorted(gone):
            if self.fault == "no entry for what is dropped":
                self.dropped.append((serial, -1))
            else:
                self.dropped.append((yield "enter", kind, serial))

    def say_value(self):
        for serial, place in self.made:
            if (yield "peek", "live", serial) or self.fault.startswith("a value "):
                yield "entry", self.number, place, Entry(VALUE, serial, 0)
            elif self.fault != "what a transaction made and dropped is forgotten":
                yield "unlink", serial
                yield "entry", self.number, place, None

    def drop(self, serial, place):
        """What no live record shows loses its name, then its maker's entry, then the dropper's."""
        early = self.fault == "the entry is cleared before the name goes"
        late = self.fault == "the maker's entry after the dropper's"
        if early:
            yield from self.clear(serial, place)
        yield "unlink", serial
        if late and place >= 0:
            yield "entry", self.number, place, None
        if not early:
            yield from self.clear(serial, -1 if late else place)

    def clear(self, serial, place, number=None):
        if self.fault != "the maker's entry is left":
            for n, k in (yield "peek", "places", serial):
                yield "entry", n, k, None
        if place >= 0:
            yield "entry", self.number if number is None else number, place, None

    def settle_the_dead(self):
        if self.fault == "who recovers settles" and (yield "peek", "recoverer") != self.incarnation:
            return
        if self.fault == "a number waits for its settlement":
            sign = yield ("epoch",)
        else:
            sign = yield ("sign",)
        if (yield "peek", "settled") == sign:
            return
        if self.fault == "settled is stored before the scan, and an exception strikes":
            yield "settled", sign
        for number in range(NUMBERS):
            early = self.fault == "dead is proved before the area is read"
            proved = early and (yield "dead", number, 0)
            area = yield "area", number
            for place, entry in enumerate(area):
                if not entry or entry.kind not in IN_FLIGHT:
                    continue
                dead = proved if early else (yield from self.is_dead(number, entry))
                if dead:
                    yield from self.settle(number, place, entry)
        if self.fault == "settled is what the sign is after the scan":
            sign = yield ("sign",)
        yield "settled", sign

    def is_dead(self, number, entry):
        if self.fault == "all in flight that is not mine is dead" and number != self.number:
            return True
        any_incarnation = self.inherits or self.fault == "entries without an incarnation"
        return (yield "dead", number, 0 if any_incarnation else entry.incarnation)

    def settle_mine(self):
        current = {serial for serial, _ in self.made}
        for place, entry in enumerate((yield "peek", "area")):
            mine = entry and (self.inherits or entry.incarnation == self.incarnation)
            if mine and entry.kind in IN_FLIGHT and entry.serial not in current:
                yield from self.settle(self.number, place, entry)

    def settle(self, number, place, entry):
        is_live = yield "peek", "live", entry.serial
        if self.inherits and number != self.number:
            # What a successor has taken over is his.
            if not is_live:
                yield "unlink", entry.serial
                yield from self.clear(entry.serial, -1)
            kept = is_live and entry.kind == MAKING
            yield "entry if dead", number, place, entry, Entry(VALUE, entry.serial, 0) if kept else None
        elif is_live and entry.kind == MAKING:
            yield "entry", number, place, Entry(VALUE, entry.serial, 0)
        elif is_live:
            yield "entry", number, place, None
        else:
            yield "unlink", entry.serial
            yield from self.clear(entry.serial, place, number)

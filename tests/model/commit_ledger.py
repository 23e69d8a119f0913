"""Exhaustive check of the ledger's part in a commit: large values, generations, who settles what a dead one left.

One container of two keys whose values are segments of their own (commit_store.py has the records: here a commit is one
store of the root). Two participant numbers; every process may be killed at every step, or be struck by an exception
there and live on; a number is given again to a successor. A value's segment is made before the mutex is taken, a
generation's inside. Sequentially consistent; the mutex is what robust_mutex proves.

An entry is MAKING before its segment exists, DROPPING before the commit that drops it, VALUE while its segment is live.
Both in-flight kinds bear the writer's incarnation. Who takes the mutex compares a word SETTLED with (the mutex's epoch,
ASKED); if they differ he settles the in-flight entries of all dead incarnations, then stores what he compared with. A
joiner whose number has a predecessor's in-flight entries raises ASKED. Who was struck by an exception settles his own
entries at his next operation.

Operations: 0 1 set that key, t a transaction that sets key 0 twice, d delete key 0, r set key 1 to a copy of key 0,
C compaction, n nothing, L leave. With a + entries bear no incarnation: who settles reads them before he proves their
writer dead, and a successor settles what his number had in flight at his first change.
Asserts: at every instant each live segment has its name; a reader whose attach fails finds the root changed; in the end
the settlement by the sign alone leaves nothing of anybody who died in the mutex, and after that of exceptions and of
numbers given again there are exactly the live names, and one VALUE entry for each.

    python -m tests.model.commit_ledger            the protocol, then every planted fault; exit code 1 if one is missed
    python -m tests.model.commit_ledger big        larger sizes of the protocol
    python -m tests.model.commit_ledger OPS CRASHES EXCEPTIONS JOINS READS LETTERS [FAULT]
"""

import sys
import time

from tests.model.ledger_programs import (
    IN_FLIGHT,
    NUMBERS,
    VALUE,
    Entry,
    Process,
    Program,
    Root,
    State,
    live,
    places,
    put,
)

FREE = (-1, 0)
FIRST_SERIAL = 1

GOOD = ["2 1 1 0 0 0", "2 1 0 0 1 d", "2 2 0 1 0 d", "2 1 0 1 0 0+", "2 1 1 0 0 0+"]
BIG = [
    "2 1 0 1 0 0C", "2 0 1 0 0 0tdrCL",
    "3 1 0 1 0 0dC", "3 1 1 0 0 0dC", "2 1 0 0 2 01tdrC", "3 2 0 2 0 0", "2 1 1 1 1 01tC", "2 2 0 2 0 01tdrCL",
    "3 1 0 1 0 0dC+", "3 2 0 2 0 0+", "2 2 1 2 0 01tdCL+",
]  # fmt: skip
FAULTS = {
    "the segment before its entry": "1 1 0 0 0 0n",
    "no entry for what is dropped": "2 1 0 0 0 0",
    "what is dropped is entered after the commit": "2 1 0 0 0 0",
    "the entry is cleared before the name goes": "2 1 0 0 0 0d",
    "the name goes before the commit": "1 0 0 0 0 0",
    "a value before its commit": "2 1 0 0 0 0",
    "a value after the mutex is free": "2 0 0 0 0 0d",
    "who recovers settles": "3 1 0 0 0 0d",
    "settled is stored before the scan, and an exception strikes": "3 1 1 0 0 0n",
    "settled is what the sign is after the scan": "2 1 0 1 0 0n",
    "all in flight that is not mine is dead": "2 0 0 0 0 0n",
    "a segment that was ever public is kept": "2 1 0 0 0 0d",
    "a serial in either of the two words is live": "2 1 0 0 0 C",
    "one kind in flight": "3 1 0 0 0 0d",
    "the maker's entry is left": "1 0 0 0 0 d",
    "the maker's entry after the dropper's": "2 1 0 0 0 dn",
    "entries without an incarnation": "2 1 0 1 0 0n",
    "dead is proved before the area is read": "3 1 0 1 0 0n+",
    "a joiner does not ask": "2 1 0 1 0 0n",
    "a number waits for its settlement": "2 1 0 1 0 0n",
    "an exception's entries are forgotten": "2 0 1 0 0 0n",
    "what a transaction made and dropped is forgotten": "1 0 0 0 0 t",
    "a copy shares its segment": "2 0 0 0 0 rd",
    "a reader does not look again": "1 0 0 0 1 d",
    "who leaves takes his values along": "2 0 0 0 0 0L",
}


class Caught(Exception):
    """A promise was broken."""


def need(kept, promise):
    if not kept:
        raise Caught(promise)


# -- the steps ---------------------------------------------------------------------------------------------------------


class Model:
    """The moves of everybody, from a state to the states that may follow."""

    def __init__(self, ops, crashes, exceptions, joins, reads, letters, fault=""):
        self.inherits = letters.endswith("+")
        self.letters, self.fault, self.programs = letters.strip("+"), fault, {}
        # The epoch is one ahead of what is settled: the first holder scans while the other may be anywhere.
        areas = ((Entry(VALUE, FIRST_SERIAL, 0),), *[()] * (NUMBERS - 1))
        self.start = State(
            Root(1, 0, (FIRST_SERIAL, 0)), (0, 0), frozenset({FIRST_SERIAL}), areas, FREE, 1, 0, (0, 0), False, 0,
            tuple(Process(k + 1) for k in range(NUMBERS)), (int(reads), None, 0), FIRST_SERIAL + 1, NUMBERS + 1,
            frozenset(), frozenset({FIRST_SERIAL}), int(ops), int(crashes), int(exceptions), int(joins),
        )  # fmt: skip
        self.check(self.start)

    def request(self, s, number):
        """What a process wants to do next; None if its program is over. Loads that nothing can change are made."""
        p = s.processes[number]
        key = number, p
        if key not in self.programs:
            steps = Program(number, p, self.inherits, self.fault).steps(p.letter)
            self.programs[key] = self.advance(steps, p.answers)
        return self.programs[key]

    @staticmethod
    def advance(steps, answers):
        try:
            request = next(steps)
            for answer in answers:
                request = steps.send(answer)
        except StopIteration:
            return None
        return request

    def settle_peeks(self, s, number):
        """Answer what needs no step, and end a program that is over."""
        while True:
            request = self.request(s, number)
            p = s.processes[number]
            if request is None:
                return self.with_process(s, number, Process(p.incarnation, dirty=self.inherits and p.letter == "J"))
            if request[0] != "peek":
                return s
            s = self.answered(s, number, self.peek(s, number, *request[1:]))

    def peek(self, s, number, what, given=0):
        """What nobody else changes while the mutex is held, or the process's own."""
        if what == "area":
            return s.areas[number]
        if what == "live":
            return given in live(s, self.fault)
        if what == "places":
            return places(s, given, VALUE)
        return s.words[given] if what == "word" else getattr(s, what)

    @staticmethod
    def with_process(s, number, p):
        return s._replace(processes=put(s.processes, number, p))

    def answered(self, s, number, answer):
        p = s.processes[number]
        return self.with_process(s, number, p._replace(answers=(*p.answers, answer)))

    def do(self, s, number, request):
        """One step of a process: the state after it, or None if it has to wait."""
        what, *given = request
        p = s.processes[number]
        answer = None
        if what == "lock":
            if s.mutex != FREE:
                return None
            s = s._replace(mutex=(number, p.incarnation))
        elif what == "unlock":
            s = s._replace(mutex=FREE, recoverer=0)
        elif what == "gone":
            return self.with_process(s, number, Process(p.incarnation, alive=False))
        elif what in {"enter", "serial"}:
            s, answer = self.enter(s, number, *given)
        elif what == "entry":
            n, k, entry = given
            s = s._replace(areas=put(s.areas, n, put(s.areas[n], k, entry)))
        elif what == "commit":
            root = given[0]
            s = s._replace(root=root, ever=s.ever | {v for v in root.values if v} if self.fault else s.ever)
        elif what in {"area", "dead", "sign", "epoch"}:
            answer = self.load(s, what, *given)
        else:
            s = self.store(s, what, *given)
        s = self.settle_peeks(self.answered(s, number, answer), number)
        self.check(s)
        return s

    def enter(self, s, number, kind="", serial=0):
        if not kind:
            return s._replace(serials=s.serials + 1), s.serials
        if not serial:
            s, serial = s._replace(serials=s.serials + 1), s.serials
        area = s.areas[number]
        place = area.index(None) if None in area else len(area)
        entry = Entry(kind, serial, s.processes[number].incarnation)
        return s._replace(areas=put(s.areas, number, put(area, place, entry))), (serial, place)

    def load(self, s, what, number=0, incarnation=0):
        if what == "area":
            return s.areas[number]
        if what == "dead":
            p = s.processes[number]
            return not p.alive or incarnation not in {0, p.incarnation}
        return s.epoch, 0 if what == "epoch" else s.asked

    @staticmethod
    def store(s, what, *given):
        if what == "make":
            return s._replace(names=s.names | {given[0]})
        if what == "unlink":
            return s._replace(names=s.names - {given[0]})
        if what == "word":
            return s._replace(words=put(s.words, *given))
        if what == "entry if dead":
            n, k, known, entry = given
            free = not s.processes[n].alive and s.areas[n][k] == known
            return s._replace(areas=put(s.areas, n, put(s.areas[n], k, entry))) if free else s
        if what == "ask":
            return s._replace(asked=s.asked + 1)
        return s._replace(settled=given[0])

    @staticmethod
    def check(s):
        need(live(s) <= s.names, "what is live has lost its name")

    # -- who may do what now -------------------------------------------------------------------------------------------

    def begin(self, s, number, letter):
        p = s.processes[number]
        s = self.with_process(s, number, Process(p.incarnation, letter=letter, dirty=p.dirty))
        return self.settle_peeks(s, number)

    def moves(self, s):
        for number, p in enumerate(s.processes):
            if not p.alive:
                if s.joins and self.may_join(s, number):
                    yield self.join(s._replace(joins=s.joins - 1), number)
            elif p.letter:
                request = self.request(s, number)
                after = self.do(s, number, request)
                if after:
                    yield after
                if request[0] == "lock" and s.dead_words:
                    yield self.recover(s, number)
                yield from self.accidents(s, number, request)
            elif s.ops:
                for letter in self.letters:
                    # An operation that would find its key gone is none.
                    yield self.begin(s._replace(ops=s.ops - 1), number, letter)
        yield from self.read(s)

    def may_join(self, s, number):
        waits = self.fault == "a number waits for its settlement"
        return not waits or not any(e and e.kind in IN_FLIGHT for e in s.areas[number])

    def join(self, s, number):
        fresh = Process(s.incarnations)
        return self.begin(self.with_process(s, number, fresh)._replace(incarnations=s.incarnations + 1), number, "J")

    def recover(self, s, number):
        p = s.processes
        lost = s.mutex != FREE and not (p[s.mutex[0]].alive and p[s.mutex[0]].incarnation == s.mutex[1])
        who = p[number].incarnation if self.fault == "who recovers settles" else 0
        return s._replace(
            epoch=s.epoch + 1, dead_words=False, mutex=FREE if lost else s.mutex, recoverer=who or s.recoverer
        )

    def accidents(self, s, number, request):
        p = s.processes[number]
        holds = s.mutex == (number, p.incarnation)
        if s.crashes:
            dead = self.with_process(s, number, Process(p.incarnation, alive=False))._replace(crashes=s.crashes - 1)
            if holds:
                yield dead._replace(dead_words=True, died_inside=s.died_inside | {p.incarnation})
            else:
                yield dead
                if request[0] == "lock":
                    # On his way in: his word says TRYING.
                    yield dead._replace(dead_words=True)
        if s.exceptions and p.letter not in "JL":
            struck = self.with_process(s, number, Process(p.incarnation, dirty=True))
            yield struck._replace(exceptions=s.exceptions - 1, mutex=FREE if holds else s.mutex)

    def read(self, s):
        left, root, k = s.reader
        if root is None:
            if left:
                yield s._replace(reader=(left - 1, s.root, 0))
        elif k == len(root.values):
            yield s._replace(reader=(left, None, 0))
        elif not root.values[k] or root.values[k] in s.names:
            yield s._replace(reader=(left, root, k + 1))
        else:
            need(s.root != root, "a name is gone and the root has not changed")
            need(self.fault != "a reader does not look again", "a reader raises though the root has changed")
            yield s._replace(reader=(left, None, 0))

    # -- the end -------------------------------------------------------------------------------------------------------

    def alone(self, s, number, letter):
        """Run one program to its end with nobody between."""
        s = self.join(s, number) if letter == "J" else self.begin(s, number, letter)
        while s.processes[number].letter:
            s = self.do(s, number, self.request(s, number)) or self.recover(s, number)
        return s

    def check_end(self, s):
        """Settle by the sign alone, then exceptions and numbers; look each time at what is left."""
        living = [k for k, p in enumerate(s.processes) if p.alive]
        if living:
            s = self.alone(s, living[0], "n")
            # What a successor has inherited waits for his first change, or if he dies before it, for his successor's.
            last = {p.incarnation for p in s.processes}
            self.check_orphans(s, s.died_inside & last if self.inherits else s.died_inside)
        for number, p in enumerate(s.processes):
            if not p.alive and self.may_join(s, number):
                s = self.alone(self.alone(s, number, "J"), number, "n")
            elif p.alive and p.dirty:
                s = self.alone(s, number, "n")
        if any(p.alive for p in s.processes):
            s = self.alone(s, [p.alive for p in s.processes].index(True), "n")
        self.check_orphans(s, range(s.incarnations))
        for serial in live(s):
            need(len(places(s, serial, VALUE)) == 1, "a live segment has not exactly one entry")
        values = [e for area in s.areas for e in area if e and e.serial not in live(s)]
        need(not values, "an entry of what is gone")

    @staticmethod
    def check_orphans(s, incarnations):
        flying = {e.serial: e.incarnation for area in s.areas for e in area if e and e.kind in IN_FLIGHT}
        need(not set(flying.values()) & set(incarnations), "an entry in flight outlives the settlement")
        need(s.names - live(s) <= set(flying), "a segment that is in no entry")

    def explore(self):
        seen, ended, todo = {self.start}, set(), [self.start]
        try:
            while todo:
                s = todo.pop()
                following = list(self.moves(s))
                if not any(p.letter for p in s.processes):
                    end = s._replace(ops=0, crashes=0, exceptions=0, joins=0, reader=(0, None, 0))
                    if end not in ended:
                        ended.add(end)
                        self.check_end(end)
                for other in following:
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        except Caught as caught:
            return str(caught), len(seen)
        return "", len(seen)


def explore(size, fault=""):
    """Check one size with one planted fault (or none): (what was broken or "", number of states)."""
    return Model(*size.split(), fault=fault).explore()


def main(arguments):
    wrong = 0
    if arguments and arguments != ["big"]:
        broken, states = explore(" ".join(arguments[:6]), " ".join(arguments[6:]))
        print(broken or "ok", f"({states} states)")
        return bool(broken)
    plain = [(size, "") for size in (BIG if arguments else GOOD)]
    for size, fault in plain if arguments else [*plain, *((size, fault) for fault, size in FAULTS.items())]:
        began = time.perf_counter()
        broken, states = explore(size, fault)
        mark = "WRONG " if bool(broken) != bool(fault) else ""
        wrong += bool(mark)
        took = time.perf_counter() - began
        print(f"{mark}{size:18} {fault:60} {broken or 'ok'} ({states} states, {took:.1f} s)", flush=True)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

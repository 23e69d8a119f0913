"""Exhaustive check of the store's commit protocol with what lists and dicts need: probing, order, start offset.

Writers hold the mutex, so any number of them is one sequence of operations; each may be killed at each of its stores,
and its successor finds only memory. An exception inside a transaction leaves the same memory as a kill. A reader stores
nothing, so one is enough; it goes load by load. Sequentially consistent. Ledger and large values: commit_ledger.py.

Dict: keys a and b have equal hashes, c begins its probing at the same slot; slots are never emptied in a generation.
Operations: a b c set, A B delete, P popitem, Z clear, X one transaction (set, delete, set a), Y one that raises the
high-water word once for two records, C compaction, D a transaction that outgrows two generations. List: a append,
p pop(), q pop(0), f insert(0), i insert(1), s set 0, r reverse, X one transaction (append, pop(0), set 0), C
compaction. Readers: snap (len and all, in order), gets (each key by itself, at one root), cacheN (N gets of key a or
position 0 by a process with a cache). "dict:ac" begins with a and c.
Asserts: what a reader returns was public at one commit between its start and its end; at every instant, kills included,
what is public is the last committed state, in a dict's order, each key found by probing; no record is used before it is
whole; what is gone or bears another number at an attach means that the root word has changed.

    python -m tests.model.commit_store            the protocol, then every planted fault; exit code 1 if one is missed
    python -m tests.model.commit_store big        larger sizes of the protocol
    python -m tests.model.commit_store KIND OPS CRASHES READER LETTERS [FAULT]
"""

import sys
import time
from collections import deque

from tests.model.commit_reads import (
    HASH,
    Caught,
    Restart,
    Shape,
    dict_items,
    first_public,
    last_record,
    list_items,
    load,
    opened,
    probe,
    run,
)
from tests.model.commit_writers import DictWriter, ListWriter

GOOD = [
    "dict 2 1 gets abAB", "dict 3 1 snap aAb", "dict 3 2 snap aY", "dict 2 1 snap aCD", "list 2 1 snap apqfisrXC",
    "list 3 1 snap apf", "list 3 1 snap aqf",
    "list 2 1 cache2 aqfisC",
]  # fmt: skip
BIG = [
    "dict 2 1 snap abcAXYPZC", "dict 3 1 gets bc", "dict 2 1 cache2 aAXC",
    "dict 3 1 snap abcAXYPZCD", "dict 3 1 gets abcABXC", "dict 3 2 gets abc", "dict 3 2 snap abAXY",
    "dict 3 1 cache3 aAbXC", "dict 4 1 snap aAbP", "dict 4 1 gets abcA", "list 3 1 snap apqfisrXC",
    "list 4 1 snap apqf", "list 3 1 cache3 aqfisC", "list 3 2 snap apqfsX",
]  # fmt: skip
FAULTS = {
    "a dead one's records are not voided": "dict 2 1 snap ab",
    "a half-written record is not closed": "dict 3 2 snap abX",
    "the dead range is used again": "dict 3 2 snap ab",
    "a reader does not look for VOID": "dict 2 1 snap ab",
    "the slot before the head": "dict 2 1 gets ab",
    "the root before the slot": "dict 1 1 snap ab",
    "a record without its previous": "dict 1 1 snap aA",
    "heads of a batch in descending order": "dict 2 1 snap aY",
    "the order after the root": "dict 1 1 snap bc",
    "the position of the newest record, public or not": "dict 2 1 snap aX",
    "set again after a delete keeps its position": "dict 3 0 snap abA",
    "iteration takes whatever its slot leads to": "dict 3 0 snap abA",
    "popitem gives its position back": "dict 2 0 snap bcP",
    "a slot is emptied with its last record": "dict 3 1 gets bcAB",
    "a deleted key's slot is another's": "dict:ac 3 0 gets Abc",
    "the writer goes on behind the probe bound": "dict 3 0 gets bc",
    "one high-water word for all generations": "dict 2 1 snap aC",
    "the old name goes before the root": "dict 2 0 snap C",
    "the number after the serial, and zero is a number": "dict 2 0 snap CX",
    "the number is not looked at": "dict 3 0 snap C",
    "a transaction that grows twice takes two numbers": "dict 2 0 snap CD",
    "the cache keeps the slot's word": "dict 1 1 cache2 aA",
    "the cache forgets the generation": "dict 2 0 cache2 aC",
    "the cache's stamp is the root after the read": "dict 1 0 cache2 a",
    "the cache keeps a position's slot": "list 1 0 cache2 aqfi",
    "an append after a pop forgets the popped": "list 2 0 snap ap",
    "an insert at the front forgets the popped": "list 3 0 snap aqf",
    "an insert in the middle moves the slots": "list 2 1 snap ar",
    "the start is a word of its own": "list 1 1 snap aq",
}


class Model:
    """One size: which container, how many operations and kills, which reader, which operations, which fault."""

    def __init__(self, kind, ops, crashes, reader, letters, fault=""):
        self.kind, _, self.begin = kind.partition(":")
        self.ops, self.crashes, self.reader = int(ops), int(crashes), reader
        self.letters, self.fault = letters, fault
        self.items = dict_items if self.kind == "dict" else list_items
        self.writer = DictWriter if self.kind == "dict" else ListWriter

    def snap(self, mapped, _cache):
        root, serial, mapped = yield from opened(mapped, self.fault)
        return (yield from self.items(serial, root[1], root[1], self.fault)), mapped, None

    def gets(self, mapped, _cache):
        root, serial, mapped = yield from opened(mapped, self.fault)
        # Immutable since before the root led to this generation.
        shape = (yield "shape", serial) or Shape()
        found = []
        for key in HASH:
            _, place = yield from probe(serial, key, shape)
            _, body = yield from first_public(serial, place, root[1], self.fault)
            if body and body.value is not None:
                found.append((key, body.value))
        return tuple(found), mapped, None

    def cached(self, mapped, cache):
        """A get of key a, or of position 0; the cache: (root, slot's address, word, value)."""
        root = (yield ("root",)) or (0, 0)
        if cache and cache[0] == root:
            return cache[3], mapped, cache
        root, serial, mapped = yield from opened(mapped, self.fault)
        if cache and self.fault == "the cache keeps a position's slot":
            address = cache[1]
        elif self.kind == "list":
            last = yield from last_record(serial, root[1])
            if not last.count:
                return None, mapped, None
            address = ("slot", serial, (last.extra, last.end))
        else:
            shape = (yield "shape", serial) or Shape()
            slot, place = yield from probe(serial, "a", shape)
            if not place:
                return None, mapped, None
            address = ("slot", serial, slot)
        word = yield address
        known = cache and (cache[1] == address or (self.fault == "the cache forgets the generation"))
        if known and cache[2] == word[1]:
            return cache[3], mapped, (root, *cache[1:])
        place, body = yield from first_public(serial, word[1], root[1], self.fault)
        value = body and body.value
        if value is None:
            return None, mapped, None
        if self.fault == "the cache keeps the slot's word":
            place = word[1]
        if self.fault == "the cache's stamp is the root after the read":
            root = yield ("root",)
        return value, mapped, (root, address, place, value)

    def steps(self, mapped, cache):
        return {"snap": self.snap, "gets": self.gets}.get(self.reader, self.cached)(mapped, cache)

    def judge(self, result, states):
        for state in states:
            if self.reader == "snap":
                fits = result == (len(state), state)
            elif self.reader == "gets":
                fits = result == tuple(sorted(state))
            else:
                fits = result == (dict(state).get("a") if self.kind == "dict" else (state or [None])[0])
            if fits:
                return
        raise Caught(f"read {result}, public meanwhile {states}")

    def check(self, memory):
        """At every instant: what a reader with all the time there is would find is the last committed state."""
        state = memory["hist",][-1]
        root, serial, _ = run(opened(frozenset(), ""), memory)
        found = run(self.items(serial, root[1], root[1], self.fault), memory)
        if found != (len(state), state):
            raise Caught(f"public is {found}, committed was {state}")
        if self.kind == "dict":
            found = run(self.gets(frozenset(), None), memory)[0]
            if found != tuple(sorted(state)):
                raise Caught(f"found by probing: {found}, committed was {state}")


# -- every interleaving ------------------------------------------------------------------------------------------------


class Readers:
    """Where a reader can be: a tree of the answers that its loads had, and at each node what it does next."""

    def __init__(self, model):
        self.model, self.begun, self.nodes, self.following = model, {}, [], {}

    def at_start(self, mapped, cache):
        key = mapped, cache
        if key not in self.begun:
            self.begun[key] = self.add(mapped, cache, ())
        return self.begun[key]

    def add(self, mapped, cache, answers):
        steps = self.model.steps(mapped, cache)
        try:
            request = next(steps)
            for answer in answers:
                request = steps.send(answer)
        except StopIteration as stop:
            request = ("done", stop.value)
        except Restart:
            request = ("again", mapped)
        except Caught as caught:
            request = ("caught", str(caught))
        self.nodes.append((mapped, cache, answers, request))
        return len(self.nodes) - 1

    def step(self, reader, memory):
        """One load: the state of the reader after it (start, node, gets left), or None if it is done."""
        start, node, left = reader
        mapped, cache, answers, request = self.nodes[node]
        answer = load(memory, request)
        if (node, answer) not in self.following:
            self.following[node, answer] = self.add(mapped, cache, (*answers, answer))
        node = self.following[node, answer]
        what, *result = self.nodes[node][3]
        hist = memory["hist",]
        # Known from the first load on; a reader that has not begun starts whenever it likes.
        start = start if answers or start >= 0 else len(hist) - 1
        if what == "caught":
            raise Caught(result[0])
        if what == "again":
            return start, self.at_start(mapped, cache), left
        if what == "done":
            found, mapped, cache = result[0]
            self.model.judge(found, hist[start:])
            return (-1, self.at_start(mapped, cache), left - 1) if left > 1 else None
        return start, node, left


class Explorer:
    """All states of one size."""

    def __init__(self, model):
        self.model, self.readers = model, Readers(model)
        self.ids, self.memories, self.programs, self.stores, self.after = {}, [], {}, [], {}

    def memory_id(self, memory):
        key = frozenset(memory.items())
        if key not in self.ids:
            self.ids[key] = len(self.memories)
            self.memories.append(memory)
            self.model.check(memory)
        return self.ids[key]

    def first(self):
        memory = {("hist",): ((),)}
        plain = Model(self.model.kind, 0, 0, "", "")
        for letter in self.model.begin or "a":
            writer = self.model.writer(plain, memory, 9)
            writer.operate(letter)
            for stores in writer.commit():
                memory.update(stores)
        reader = (-1, self.readers.at_start(frozenset(), None), int(self.model.reader[5:] or 1))
        return self.memory_id(memory), -1, 0, 0, 0, reader

    def program(self, at, letter, number):
        """The stores of an operation that begins in this memory; -1 if it is refused (a key that is not there)."""
        key = at, letter, number
        if key not in self.programs:
            writer = self.model.writer(self.model, self.memories[at], number)
            allowed = writer.operate(letter)
            self.programs[key] = len(self.stores) if allowed else -1
            if allowed:
                self.stores.append(writer.commit())
        return self.programs[key]

    def store(self, at, program, position, *rest):
        key = at, program, position
        if key not in self.after:
            before = self.memories[at]
            memory = {**before, **self.stores[program][position]}
            if memory.get(("root",), (0, 0)) < before.get(("root",), (0, 0)):
                raise Caught("the root word fell")
            self.after[key] = self.memory_id(memory)
        if position + 1 < len(self.stores[program]):
            return self.after[key], program, position + 1, *rest
        return self.after[key], -1, 0, *rest

    def moves(self, state):
        at, program, position, begun, crashes, reader = state
        if program >= 0:
            yield self.store(*state)
            if crashes < self.model.crashes:
                yield at, -1, 0, begun, crashes + 1, reader
        elif begun < self.model.ops:
            for letter in self.model.letters:
                chosen = self.program(at, letter, begun + 1)
                if chosen >= 0:
                    yield self.store(at, chosen, 0, begun + 1, crashes, reader)
        if reader:
            yield at, program, position, begun, crashes, self.readers.step(reader, self.memories[at])

    def explore(self):
        seen = set()
        try:
            todo = deque([self.first()])
            while todo:
                for state in self.moves(todo.popleft()):
                    if state not in seen:
                        seen.add(state)
                        todo.append(state)
        except Caught as caught:
            return str(caught), len(seen)
        return "", len(seen)


def explore(size, fault=""):
    """Check one size with one planted fault (or none): (what was broken or "", number of states)."""
    return Explorer(Model(*size.split(), fault=fault)).explore()


def main(arguments):
    if arguments and arguments != ["big"]:
        broken, states = explore(" ".join(arguments[:5]), " ".join(arguments[5:]))
        print(broken or "ok", f"({states} states)")
        return bool(broken)
    wrong = 0
    plain = [(size, "") for size in (BIG if arguments else GOOD)]
    for size, fault in plain if arguments else [*plain, *((size, fault) for fault, size in FAULTS.items())]:
        began = time.perf_counter()
        broken, states = explore(size, fault)
        wrong += bool(broken) != bool(fault)
        mark = "WRONG " if bool(broken) != bool(fault) else ""
        took = time.perf_counter() - began
        print(f"{mark}{size:28} {fault:52} {broken or 'ok'} ({states} states, {took:.1f} s)", flush=True)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

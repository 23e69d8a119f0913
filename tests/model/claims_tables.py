"""Exhaustive check of the claim protocol with several tables of one call (the pool's calls.py and tables.py).

Rows that a death gave back become a further table of the call, on the same board, which has few slots: a further table
whose rows all have an outcome is read and its slot used again. Sequentially consistent; a worker may be killed at every
step (crashes) or stopped for ever (frozen, with a time limit). The parent's thread that works on deaths and the thread
that cancels exclude each other by the dispatcher's lock; the thread that waits looks without it (reads). Sleepers look
again after a slice, so posts do not occur. No move but a death undoes another, so every run ends.

    python claims_tables.py            the protocol, then every planted fault; exit code 1 if one is missed
    python claims_tables.py big        larger sizes of the protocol
    python claims_tables.py ROWS SIZE RETRIES CRASHES CANCELS LIMIT FROZEN READS [FAULT]
"""

import sys
import time
from typing import NamedTuple

WORKERS, SLOTS = 2, 2
FREE, PARENT = -1, 100
# Tags: 0 none, else who stored it (incarnation + 1), or one of these.
LOST, CANCELLED = -1, -2
DIED, LATE = "died", "late"
ALIVE, KILLED, DEAD, FROZEN = "alive", "killed", "dead", "frozen"

FAULTS = {
    "two stores, claim first": "3 2 0 1 0 0 0 0",
    "two stores, cursor first": "3 2 0 1 0 0 0 0",
    "tag before result": "2 1 0 1 0 0 0 0",
    "claims read before the proof": "2 1 0 1 0 0 0 0",
    "claim without the mutex": "2 1 0 0 0 0 0 0",
    "cancel without the mutex": "2 1 0 0 1 0 0 0",
    "cancel of a row that was given back": "2 2 1 1 1 0 0 0",
    "every row of the claim counts as begun": "2 2 0 1 0 0 0 0",
    "no row counts as begun": "1 1 0 2 0 0 0 0",
    "given back and not marked": "2 2 1 2 0 0 0 0",
    "a reader without the counter of moves": "2 2 0 1 0 0 0 1",
    "marked before it waits": "2 2 0 1 0 0 0 1",
    "no look at the call id": "2 1 1 2 0 0 0 0",
    "slot cleared without the mutex": "2 1 1 2 0 0 0 0",
    "the first table closed only": "2 2 1 1 0 1 0 0",
    "late before the proof": "2 1 0 0 0 1 0 0",
    "our own kill is a death": "2 1 0 0 0 1 0 0",
    "who waits is forgotten": "2 2 1 1 0 1 0 0",
    "a stopped holder is waited for": "2 1 0 0 0 1 1 0",
}
# Those that take a second or more to be found.
LATE_FOUND = frozenset(
    {
        "two stores, claim first", "cancel of a row that was given back", "given back and not marked",
        "marked before it waits", "no look at the call id", "slot cleared without the mutex",
        "the first table closed only", "who waits is forgotten",
    }
)  # fmt: skip
GOOD = ["1 1 1 2 0 0 0 0", "2 2 1 1 0 0 0 0", "2 2 0 0 0 1 1 0", "1 1 1 1 0 1 0 0"]
BIG = [
    "3 2 0 1 0 0 0 0", "2 2 0 1 1 0 0 0", "2 2 0 1 0 0 0 1",
    "2 2 0 1 0 1 0 0", "3 2 1 1 0 0 0 0", "2 1 1 2 0 0 0 0", "2 2 0 2 0 0 0 0", "2 2 1 1 1 0 0 0", "2 2 1 1 0 0 0 1",
    "2 2 1 1 0 1 0 0", "1 1 1 2 0 1 0 0", "2 2 1 1 1 0 0 1",
]  # fmt: skip


class Caught(Exception):
    """A promise was broken, or a run does not end."""


def need(kept, promise):
    if not kept:
        raise Caught(promise)


class Table(NamedTuple):
    """A table: the call's rows that it stands for, its claims (end, incarnation), one tag a row."""

    rows: tuple
    claims: tuple
    tags: tuple
    cursor: int = 0


class Worker(NamedTuple):
    """A worker: its incarnation, whether it lives, where it is, the rows of its claim, what it holds in its hand."""

    incarnation: int
    life: str = ALIVE
    at: str = "sleep"
    todo: tuple = ()
    hand: tuple = ()


class State(NamedTuple):
    """All that is shared, and where everybody is."""

    tables: tuple
    slots: tuple
    mutex: int
    results: tuple
    starts: tuple
    tries: tuple
    lost: tuple
    kept: tuple
    waiting: tuple
    moves: int
    lock: str
    workers: tuple
    parent: tuple
    canceller: tuple
    reader: tuple
    crashes: int
    frozen: int
    limit: int


def put(values, k, value):
    return (*values[:k], value, *values[k + 1 :])


class Model:
    """The moves of everybody, from a state to the states that may follow."""

    def __init__(self, rows, size, retries, crashes, cancels, limit, frozen, reads, fault=""):
        self.rows, self.size, self.retries, self.fault = rows, size, retries, fault
        self.crashes, self.cancels = crashes, cancels
        none = (0,) * rows
        first = Table(tuple(range(rows)), (), none)
        self.start = State(
            (first,), (0, *[-1] * (SLOTS - 1)), FREE, none, none, none, none, none, (), 0, "",
            tuple(Worker(k) for k in range(WORKERS)), ("watch", ()), ("idle", 0, None), ("idle", (), reads),
            crashes, frozen, limit,
        )  # fmt: skip

    # -- what can be read ----------------------------------------------------------------------------------------------

    def cursor(self, table):
        if self.fault.startswith("two stores"):
            return table.cursor
        return table.claims[-1][0] if table.claims else 0

    def claimable(self, table):
        return self.cursor(table) < len(table.rows)

    @staticmethod
    def claims_of(table, incarnation):
        first = 0
        for end, who in table.claims:
            if who == incarnation:
                yield range(first, end)
            first = end

    def undone(self, s, incarnation):
        """The places (table, k) that somebody has claimed and that have no tag."""
        return tuple(
            (n, k)
            for n, table in enumerate(s.tables)
            for claim in self.claims_of(table, incarnation)
            for k in claim
            if table.tags[k] == 0
        )

    def mutex_is_free(self, s):
        # That of a dead one is recovered.
        return s.mutex == FREE or (
            s.mutex < PARENT and not any(w.incarnation == s.mutex and w.life != DEAD for w in s.workers)
        )

    def outcome(self, s, row):
        """What the call's row has come to: 0 nothing yet, a worker's number + 1, CANCELLED, DIED, LATE."""
        if s.lost[row] or s.kept[row]:
            return s.lost[row] or s.kept[row]
        for n, table in enumerate(s.tables):
            if n == 0 or n in s.slots:
                for k, found in enumerate(table.rows):
                    if found == row and table.tags[k] not in (0, LOST):
                        return table.tags[k]
        return 0

    def tag(self, s, n, k, tag):
        table = s.tables[n]
        need(table.tags[k] == 0, "a row has two outcomes")
        return put(s.tables, n, table._replace(tags=put(table.tags, k, tag)))

    # -- a worker ------------------------------------------------------------------------------------------------------

    def worker(self, s, i):
        w = s.workers[i]

        def go(at=w.at, todo=w.todo, hand=(), **changes):
            return s._replace(workers=put(s.workers, i, w._replace(at=at, todo=todo, hand=hand)), **changes)

        if w.at == "sleep":
            for slot, n in enumerate(s.slots):
                if n >= 0 and self.claimable(s.tables[n]):
                    yield go("want", hand=(slot, n))
        elif w.at == "want":
            yield from self.take_mutex(s, w, go)
        elif w.at == "claim":
            yield from self.claim(s, w, go)
        elif w.at == "second store":
            yield go("leave", w.todo, **self.second_store(s, w))
        elif w.at == "leave":
            yield go("row" if w.todo else "sleep", mutex=FREE if s.mutex == w.incarnation else s.mutex)
        else:
            yield from self.run_row(s, w, go)

    def take_mutex(self, s, w, go):
        if self.fault != "claim without the mutex" and not self.mutex_is_free(s):
            return
        slot, n = w.hand
        known = s.slots[slot] == n or (self.fault == "no look at the call id" and s.slots[slot] >= 0)
        yield go("claim" if known else "leave", hand=w.hand, mutex=w.incarnation)

    def claim(self, s, w, go):
        slot, n = w.hand[:2]
        # The slot's memory, whatever table is there by now.
        place = s.slots[slot]
        if place < 0:
            yield go("leave")
            return
        table = s.tables[place]
        first = self.cursor(table)
        if self.fault == "claim without the mutex":
            first = w.hand[2] if len(w.hand) > 2 else first
            if len(w.hand) == 2:
                yield go("claim", hand=(*w.hand, first))
                return
        for end in range(first + 1, min(first + self.size, len(table.rows)) + 1):
            meant = s.tables[n].rows
            todo = tuple((place, k, meant[k] if k < len(meant) else None) for k in range(first, end))
            yield self.store_claim(s, w, go, place, end, todo)
        if first >= len(table.rows):
            yield go("leave")

    def store_claim(self, s, w, go, place, end, todo):
        table = s.tables[place]
        claimed = table._replace(claims=(*table.claims, (end, w.incarnation)))
        if self.fault == "two stores, cursor first":
            return go("second store", todo, (place, end), tables=put(s.tables, place, table._replace(cursor=end)))
        after = "second store" if self.fault.startswith("two stores") else "leave"
        return go(after, todo, (place, end), tables=put(s.tables, place, claimed))

    def second_store(self, s, w):
        place, end = w.hand
        table = s.tables[place]
        if self.fault == "two stores, claim first":
            return {"tables": put(s.tables, place, table._replace(cursor=end))}
        return {"tables": put(s.tables, place, table._replace(claims=(*table.claims, (end, w.incarnation))))}

    def run_row(self, s, w, go):
        n, k, row = w.todo[0]
        rest = w.todo[1:]
        after = "row" if rest else "sleep"
        if w.at == "row":
            if s.tables[n].tags[k]:
                # Cancelled before it was claimed.
                yield go(after, rest)
                return
            need(s.tables[n].rows[k] == row, "a row was run in place of another")
            need(s.starts[row] <= self.retries, f"a row begins {s.starts[row] + 1} times")
            need(not self.outcome(s, row), "a row begins after its outcome")
            yield go("half", starts=put(s.starts, row, s.starts[row] + 1), results=put(s.results, row, 0))
        elif w.at == "half":
            if self.fault == "tag before result":
                yield go("late result", tables=self.tag(s, n, k, w.incarnation + 1))
            else:
                yield go("whole", results=put(s.results, row, 1))
        elif w.at == "whole":
            yield go(after, rest, tables=self.tag(s, n, k, w.incarnation + 1))
        else:
            yield go(after, rest, results=put(s.results, row, 1))

    # -- the parent ----------------------------------------------------------------------------------------------------

    def parent(self, s):
        at, hand = s.parent
        if at == "watch":
            if not s.lock:
                yield from self.watch(s)
        else:
            yield from getattr(self, at)(s, *hand)

    def watch(self, s):
        for i, w in enumerate(s.workers):
            if w.life == DEAD or (self.fault == "claims read before the proof" and w.life == KILLED):
                yield self.see_death(s, i)
        if self.fault == "claims read before the proof":
            yield from self.look_too_early(s)
        for n, table in enumerate(s.tables):
            if n and n in s.slots and 0 not in table.tags:
                yield from self.recycle(s, n)
        if s.waiting and -1 in s.slots and s.limit < 2:
            yield s._replace(lock="parent", parent=("place", ()))
        if s.limit == 1 and not all(self.outcome(s, row) for row in range(self.rows)):
            yield s._replace(lock="parent", limit=2, parent=("take_mutex_in_time", ()))

    def look_too_early(self, s):
        for i, w in enumerate(s.workers):
            if w.life == ALIVE and s.crashes and w.at in ("row", "half", "whole"):
                # The look is made, then the death comes, then it is proved.
                yield s._replace(
                    lock="parent", parent=("wait_for_proof", (i, self.undone(s, w.incarnation)))
                )

    def wait_for_proof(self, s, i, seen):
        if s.workers[i].life == DEAD:
            yield s._replace(parent=("settle", (i, seen, ())))
        elif not set(seen) & set(self.undone(s, s.workers[i].incarnation)):
            yield s._replace(lock="", parent=("watch", ()))

    def see_death(self, s, i):
        return s._replace(lock="parent", parent=("settle", (i, self.undone(s, s.workers[i].incarnation), ())))

    def settle(self, s, i, undone, _done):
        """Count the one row that it may have begun; the others wait; then their tags; then a successor."""
        w = s.workers[i]
        if not undone:
            fresh = Worker(w.incarnation + WORKERS)
            # The mutex of the dead is no successor's.
            yield s._replace(workers=put(s.workers, i, fresh), lock="", parent=("watch", ()))
            return
        began = s.mutex != w.incarnation and self.fault != "no row counts as begun"
        tries, lost, again = s.tries, s.lost, []
        for place, (n, k) in enumerate(undone):
            row = s.tables[n].rows[k]
            if began and (place == 0 or self.fault == "every row of the claim counts as begun"):
                tries = put(tries, row, tries[row] + 1)
            if tries[row] > self.retries:
                lost = put(lost, row, DIED)
            else:
                again.append(row)
        s = s._replace(tries=tries, lost=lost, moves=s.moves + 1)
        if self.fault == "given back and not marked":
            yield s._replace(waiting=s.waiting + tuple(again), parent=("settle", (i, (), ())))
        elif self.fault == "marked before it waits":
            yield s._replace(parent=("mark", (i, undone, tuple(again))))
        else:
            yield s._replace(waiting=s.waiting + tuple(again), parent=("mark", (i, undone, ())))

    def mark(self, s, i, undone, then_waiting):
        tables = s.tables
        for n, k in undone:
            need(tables[n].tags[k] == 0, "a row has two outcomes")
            tables = put(tables, n, tables[n]._replace(tags=put(tables[n].tags, k, LOST)))
        if then_waiting:
            yield s._replace(tables=tables, parent=("wait_late", (i, then_waiting)))
        else:
            yield s._replace(tables=tables, parent=("settle", (i, (), ())))

    def wait_late(self, s, i, again):
        yield s._replace(waiting=s.waiting + again, parent=("settle", (i, (), ())))

    def place(self, s):
        """A further table of the rows that wait; then they wait no more."""
        slot = s.slots.index(-1)
        table = Table(s.waiting, (), (0,) * len(s.waiting))
        yield s._replace(
            tables=(*s.tables, table), slots=put(s.slots, slot, len(s.tables)), parent=("placed", (s.waiting,))
        )

    def placed(self, s, rows):
        left = tuple(row for row in s.waiting if row not in rows)
        yield s._replace(waiting=left, moves=s.moves + 1, lock="", parent=("watch", ()))

    def recycle(self, s, n):
        if self.fault != "slot cleared without the mutex" and not self.mutex_is_free(s):
            return
        kept = s.kept
        for k, row in enumerate(s.tables[n].rows):
            if s.tables[n].tags[k] != LOST:
                kept = put(kept, row, s.tables[n].tags[k])
        yield s._replace(kept=kept, slots=put(s.slots, s.slots.index(n), -1), moves=s.moves + 1)

    # -- the time limit ------------------------------------------------------------------------------------------------

    def take_mutex_in_time(self, s):
        if self.mutex_is_free(s):
            yield s._replace(mutex=PARENT, parent=("close", ()))
        elif self.fault != "a stopped holder is waited for":
            holder = [i for i, w in enumerate(s.workers) if w.incarnation == s.mutex and w.life in (ALIVE, FROZEN)]
            for i in holder:
                yield s._replace(workers=put(s.workers, i, s.workers[i]._replace(life=KILLED)))

    def close(self, s):
        tables = list(s.tables)
        for n in s.slots:
            if n >= 0 and self.claimable(tables[n]) and not (n and self.fault == "the first table closed only"):
                table = tables[n]
                tables[n] = table._replace(claims=(*table.claims, (len(table.rows), PARENT)), cursor=len(table.rows))
        yield s._replace(tables=tuple(tables), mutex=FREE, parent=("kill", ()))

    def kill(self, s):
        doomed = [
            w._replace(life=KILLED) if w.life in (ALIVE, FROZEN) and self.undone(s, w.incarnation) else w
            for w in s.workers
        ]
        yield s._replace(workers=tuple(doomed), parent=("give_up", ()))

    def give_up(self, s):
        """Only when all who were killed are proved dead."""
        if any(w.life == KILLED for w in s.workers) and self.fault != "late before the proof":
            return
        tables, lost = s.tables, s.lost
        if self.fault != "who waits is forgotten":
            for row in s.waiting:
                lost = put(lost, row, LATE)
            s = s._replace(waiting=())
        for n in s.slots:
            for k, tag in enumerate(tables[n].tags if n >= 0 else ()):
                if tag == 0:
                    lost = put(lost, tables[n].rows[k], DIED if self.fault == "our own kill is a death" else LATE)
                    tables = put(tables, n, tables[n]._replace(tags=put(tables[n].tags, k, LOST)))
        yield s._replace(tables=tables, lost=lost, moves=s.moves + 1, lock="", parent=("watch", ()))

    # -- cancelling, and looking without the lock ----------------------------------------------------------------------

    def cancel(self, s):
        at, row, _ = s.canceller
        if at == "idle" and self.cancels and not s.lock:
            for k in range(self.rows):
                yield s._replace(canceller=("look", k, None), lock="cancel")
        elif at == "look":
            table = s.tables[0]
            tagged = table.tags[row] if self.fault != "cancel of a row that was given back" else table.tags[row] > 0
            claimed = row < self.cursor(table)
            if self.fault == "cancel of a row that was given back" and table.tags[row] == LOST:
                yield s._replace(canceller=("end", row, True), lock="")
            elif tagged or claimed:
                yield s._replace(canceller=("end", row, False), lock="")
            elif self.fault == "cancel without the mutex":
                yield s._replace(canceller=("store", row, None))
            elif self.mutex_is_free(s):
                yield s._replace(canceller=("store", row, None), mutex=PARENT + 1)
        elif at == "store":
            tables = self.tag(s, 0, row, CANCELLED)
            mutex = FREE if s.mutex == PARENT + 1 else s.mutex
            yield s._replace(canceller=("end", row, True), tables=tables, mutex=mutex, lock="")

    def read(self, s):
        """done(): the counter, the tags of each table, who waits, the counter again."""
        at, hand, left = s.reader
        if at == "idle" and left:
            yield s._replace(reader=("tags", (s.moves, 0, len(s.tables)), left - 1))
        elif at == "tags":
            moves, n, count = hand
            here = n == 0 or n in s.slots
            if here and 0 in s.tables[n].tags:
                yield s._replace(reader=("idle", (), left))
            elif n + 1 < count:
                yield s._replace(reader=("tags", (moves, n + 1, count), left))
            else:
                yield s._replace(reader=("waiting", (moves,), left))
        elif at == "waiting":
            yield s._replace(reader=("idle", (), left) if s.waiting else ("counter", hand, left))
        elif at == "counter":
            same = hand[0] == s.moves or self.fault == "a reader without the counter of moves"
            if same:
                need(all(self.outcome(s, row) for row in range(self.rows)), "done was said too early")
            yield s._replace(reader=("idle", (), left))

    # -- all -----------------------------------------------------------------------------------------------------------

    def moves(self, s):
        for i, w in enumerate(s.workers):
            if w.life in (ALIVE, KILLED):
                yield from self.worker(s, i)
            if w.life == KILLED:
                yield s._replace(workers=put(s.workers, i, w._replace(life=DEAD)))
        yield from self.parent(s)
        yield from self.cancel(s)
        yield from self.read(s)

    def accidents(self, s):
        for i, w in enumerate(s.workers):
            if w.life == ALIVE and s.crashes:
                yield s._replace(crashes=s.crashes - 1, workers=put(s.workers, i, w._replace(life=DEAD)))
            if w.life == ALIVE and s.frozen and s.limit:
                yield s._replace(frozen=0, workers=put(s.workers, i, w._replace(life=FROZEN)))

    def check_end(self, s):
        """Nothing moves any more: the call must be over, and each row must have come to what it may."""
        frozen = any(w.life == FROZEN for w in s.workers)
        outcomes = [self.outcome(s, row) for row in range(self.rows)]
        need(all(outcomes), "the call never ends")
        need(not s.lock, "somebody keeps the lock")
        need(not frozen or s.limit == 2 or all(outcomes), "stuck behind a stopped worker")
        self.check_rows(s, outcomes)

    def check_rows(self, s, outcomes):
        for row, found in enumerate(outcomes):
            cancelled = s.canceller[0] == "end" and s.canceller[1:] == (row, True)
            need((found == CANCELLED) == cancelled, "cancel() and the outcome differ")
            need(not cancelled or not s.starts[row], "a cancelled row has begun")
            if isinstance(found, int) and found > 0:
                need(s.results[row] == 1, "an outcome without a whole result")
                need(s.starts[row] > 0, "an outcome of a row that never began")
            need(found != DIED or s.tries[row] == self.retries + 1, "a death before the retries were used up")
            need(found != LATE or s.limit == 2, "late without a limit")
        died = sum(found == DIED for found in outcomes)
        need(died <= self.crashes - s.crashes, "a death failed more than the one row that it was on")


def explore(model):
    """Visit every state; returns (what was broken or "", number of states)."""
    numbers = {model.start: 0}
    todo = [model.start]
    edges = {}
    while todo:
        state = todo.pop()
        try:
            following = list(model.moves(state))
            if not following:
                model.check_end(state)
        except Caught as caught:
            return str(caught), len(numbers)
        after = edges[numbers[state]] = []
        for other in (*following, *model.accidents(state)):
            if other not in numbers:
                numbers[other] = len(numbers)
                todo.append(other)
            after.append(numbers[other])
    return "a circle: the call may never end" if has_circle(edges) else "", len(numbers)


def has_circle(edges):
    """True if a run need not end."""
    waits_for = [0] * len(edges)
    for after in edges.values():
        for other in after:
            waits_for[other] += 1
    ready = [state for state, count in enumerate(waits_for) if not count]
    for state in ready:
        for other in edges[state]:
            waits_for[other] -= 1
            if not waits_for[other]:
                ready.append(other)
    return len(ready) < len(edges)


def run(size, fault=""):
    """Check one size with one planted fault (or none)."""
    return explore(Model(*map(int, size.split()), fault=fault))


def main(arguments):
    if arguments and arguments != ["big"]:
        broken, states = run(" ".join(arguments[:8]), " ".join(arguments[8:]))
        print(broken or "ok", f"({states} states)")
        return bool(broken)
    wrong = 0
    plain = [(size, "") for size in (BIG if arguments else GOOD)]
    for size, fault in plain if arguments else [*plain, *((size, fault) for fault, size in FAULTS.items())]:
        began = time.perf_counter()
        broken, states = run(size, fault)
        wrong += bool(broken) != bool(fault)
        print(f"{size}  {fault:40} {broken or 'ok'} ({states} states, {time.perf_counter() - began:.1f} s)", flush=True)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

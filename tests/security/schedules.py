"""Random schedules for the real deadlock detector: actors and locks are simulated, the records and the search are not.

Everything happens in one thread, at moments that dice choose, also between two reads of one search. The truth is known
at every moment: who waits for whom.
"""

import os
import types
from contextlib import contextmanager

from XME._core import deadlock, layout, waitboard
from XME._core.deadlock import ALONE, SHARED, Wait
from XME.errors import Deadlock


class Party:
    """A domain as one actor's process sees it."""

    id = "simulated"
    joined = True
    label = ""

    def __init__(self, world, number):
        self.world = world
        self.fd = world.fd
        self.number = number
        self.incarnation = number + 1

    def is_dead(self, number, _incarnation):
        return self.world.actors[number].dead


class Lock:
    """A reader-writer lock: who has its mutex, and who reads. A view of it for an actor is what the code sees."""

    def __init__(self, number):
        self.number = number
        self.owner = None
        self.readers = set()


class View:
    """One actor's handle of a lock, as the detector wants it."""

    def __init__(self, actor, lock):
        self._party = actor.party
        self._serial = lock.number
        self._actor = actor
        self._lock = lock

    def title(self):
        return f"lock {self._serial}"

    def holders_of(self, kind):
        who = self._lock.readers if kind == SHARED else {self._lock.owner} - {None}
        return [(actor.number, actor.number + 1) for actor in sorted(who, key=lambda actor: actor.number)]

    def kinds_held(self):
        kinds = ALONE if self._lock.owner is self._actor else ""
        return kinds + SHARED if self._actor in self._lock.readers else kinds


class Actor:
    """A thread in a process of its own."""

    def __init__(self, world, number):
        self.number = number
        self.party = Party(world, number)
        self.views = [View(self, lock) for lock in world.locks]
        self.dead = False
        # What it wants: (lock, alone?), what keeps it from that (ALONE: the mutex, SHARED: readers), and the wait.
        self.wants = None
        self.kept_by = None
        self.wait = None

    def held(self):
        return [view for view in self.views if view.kinds_held()]


class World:
    """Actors and locks, and one step after the other."""

    def __init__(self, dice, *, ordered, actors=4, locks=4):
        self.dice = dice
        self.ordered = ordered
        self.fd = os.memfd_create("waits")
        self.locks = [Lock(number) for number in range(locks)]
        self.actors = []
        self.actors += [Actor(self, number) for number in range(actors)]
        self.running = self.actors[0]
        self.now = 0
        self.reports = 0
        self.settling = False

    # -- the truth -------------------------------------------------------------------------------------------------

    def blockers(self, actor):
        if actor.wants is None or actor.dead:
            return set()
        lock, _ = actor.wants
        found = lock.readers if actor.kept_by == SHARED else {lock.owner} - {None}
        return {other for other in found if not other.dead and other is not actor}

    def is_deadlocked(self, actor):
        seen, todo = set(), list(self.blockers(actor))
        while todo:
            other = todo.pop()
            if other is actor:
                return True
            if other not in seen:
                seen.add(other)
                todo += self.blockers(other)
        return False

    # -- what actors do --------------------------------------------------------------------------------------------

    def begin(self, actor):
        held = {view._serial for view in actor.held()}
        lowest = max(held, default=-1) + 1 if self.ordered else 0
        free = [lock for lock in self.locks[lowest:] if lock.number not in held]
        if free:
            actor.wants = self.dice.choice(free), self.dice.random() < 0.6
            actor.kept_by = ALONE
            self.advance(actor)

    def advance(self, actor):
        """Let an actor get what it can get now."""
        lock, alone = actor.wants
        if actor.kept_by == ALONE:
            if lock.owner is not None:
                return
            if alone:
                lock.owner = actor
                actor.kept_by = SHARED
                if actor.wait is not None:
                    actor.wait.turn_to(actor.views[lock.number], SHARED)
            else:
                lock.readers.add(actor)
                self.finish(actor)
                return
        if not lock.readers:
            self.finish(actor)

    def finish(self, actor):
        if actor.wait is not None:
            actor.wait.end()
        actor.wants = actor.kept_by = actor.wait = None

    def give_up(self, actor):
        lock, _ = actor.wants
        if actor.kept_by == SHARED:
            lock.owner = None
        self.finish(actor)

    def release(self, actor):
        held = actor.held()
        if held:
            lock = self.dice.choice(held)._lock
            if lock.owner is actor:
                lock.owner = None
            lock.readers.discard(actor)

    def look(self, actor):
        """A slice ran out; returns True if a deadlock was reported, which must be one."""
        lock, _ = actor.wants
        if actor.wait is None:
            self.running = actor
            actor.wait = Wait(actor.views[lock.number], actor.kept_by)
        self.running = actor
        deadlocked = self.is_deadlocked(actor)
        if actor.wait.goes_on():
            return False
        assert isinstance(actor.wait.error, Deadlock)
        assert not self.ordered, "locks are taken in one order, and a deadlock is reported"
        assert deadlocked or self.is_deadlocked(actor), f"no deadlock: {actor.wait.error}"
        self.reports += 1
        self.give_up(actor)
        return True

    def disturb(self):
        """Between two reads of a search: somebody else gets something, gives something back, or wants something."""
        if not self.settling and self.dice.random() < 0.3:
            kept, self.running = self.running, self.dice.choice(self.actors)
            self.go_on(self.running, may_break=False)
            self.running = kept

    def go_on(self, actor, *, may_break):
        if actor.dead:
            # Recovered by somebody.
            for lock in self.locks:
                lock.readers.discard(actor)
                if lock.owner is actor:
                    lock.owner = None
        elif actor.wants is not None:
            if may_break and self.dice.random() < 0.05:
                if self.dice.random() < 0.5 and not self.is_deadlocked(actor):
                    # Struck by an exception: its record stays behind. (Were it in a circle, then that may still be
                    # reported, and rightly: the circle was there when its beat was made.)
                    actor.wait = None
                self.give_up(actor)
            else:
                self.advance(actor)
        elif self.dice.random() < 0.55:
            self.begin(actor)
        else:
            self.release(actor)

    def step(self):
        self.now += 1
        actor = self.dice.choice(self.actors)
        if not actor.dead and self.dice.random() < 0.01:
            actor.dead = True
        elif not actor.dead and actor.wants is not None and self.dice.random() < 0.7:
            self.look(actor)
        else:
            self.go_on(actor, may_break=True)

    def settle(self):
        """Everybody who waits looks again and again: what is a deadlock must be reported."""
        self.settling = True
        for _ in range(6):
            for actor in self.actors:
                if actor.wants is not None and not actor.dead:
                    self.look(actor)
        left = [actor.number for actor in self.actors if not actor.dead and self.is_deadlocked(actor)]
        assert not left, f"actors {left} wait in a circle, and nobody says so"

    def end(self):
        for actor in self.actors:
            if actor.wait is not None:
                actor.wait.end()
        os.close(self.fd)


@contextmanager
def simulated(world):
    """Let the detector take the running actor for the calling thread."""
    read, again = waitboard.read, waitboard.again

    def read_disturbed(domain, number):
        world.disturb()
        for record in read(domain, number):
            yield record
            world.disturb()

    def again_disturbed(domain, record):
        world.disturb()
        return again(domain, record)

    def ticks():
        world.now += 1
        return world.now

    threading = types.SimpleNamespace(
        get_native_id=lambda: world.running.number,
        current_thread=lambda: types.SimpleNamespace(name=f"actor {world.running.number}"),
    )
    time = types.SimpleNamespace(monotonic_ns=ticks, time=lambda: 0.0)
    replaced = [
        (deadlock, "living", lambda _handles: list(world.running.views)),
        (deadlock, "threading", threading), (deadlock, "time", time),
        (waitboard, "time", time), (waitboard, "read", read_disturbed), (waitboard, "again", again_disturbed),
        (waitboard, "_free", {}), (layout, "WAITS_AT", 0),
    ]  # fmt: skip
    kept = [getattr(module, name) for module, name, _ in replaced]
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(replaced, kept, strict=True):
            setattr(module, name, value)


def run(dice, *, ordered, steps=60):
    """Run one schedule; returns how many deadlocks were reported."""
    world = World(dice, ordered=ordered)
    try:
        with simulated(world):
            for _ in range(steps):
                world.step()
            world.settle()
    finally:
        world.end()
    return world.reports

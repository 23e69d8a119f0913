"""One process changes a Security's settings while others wait for it: each gets what is due to it then, and at once."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.crew import Child
from tests.helpers import wait_until
from tests.security import programs
from tests.security.test_security import InThread
from XME import Security
from XME._core.guarded import W_FLAG
from XME._core.rwlock import DRAINING

ADMIN = Security.ADMIN
KINDS = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
ON, OFF = Security.DEADLOCKMARK_ONLOCK, Security.DEADLOCKMARK_UNLOCK
# A limit that is over while the test looks, and one that never is.
SHORT_S, LONG_S = 0.03, 3600.0
# Who waits, beside the holder (the test itself) and who changes the settings: 2 to 6 processes.
MOST_WAITERS = 4


class ByProcess:
    """An actor that is a process."""

    def __init__(self, lock):
        self._child = Child(programs.obey, lock)
        self.result = self._child.hear

    def start(self, *order):
        self._child.tell(order)

    def end(self):
        with self._child:
            pass


class ByThread:
    """An actor that is a thread of this process."""

    def __init__(self, lock):
        self._thread = InThread()
        self._lock = lock
        self.result = self._thread.result

    def start(self, name, *args):
        self._thread.start(getattr(programs, name), self._lock, *args)

    def end(self):
        self._thread.end()


class Waiter:
    def __init__(self, actor, operator, shared, limit, is_loose):
        self.actor, self.operator, self.shared, self.limit = actor, operator, shared, limit
        # It may wait or have it already: nobody knows who was first.
        self.is_loose = is_loose


class Story:
    """Somebody has the lock; others come, wait and go, and settings change. What is due to whom is known here."""

    def __init__(self, kind, make_actor, holder_shares=False):
        self.lock = Security.Security(kind)
        self.lock.MuteTime(0.01)
        self.kind, self.authorised, self.registered, self.wait_s = kind, {ADMIN}, ADMIN, 0
        self.holder_shares = holder_shares
        self.is_changed = False
        assert (self.lock.acquire_read if holder_shares else self.lock.acquire)(ADMIN) is True
        self.changer = make_actor(self.lock)
        self.make_actor = make_actor
        self.actors = [self.changer]
        self.idle, self.waiting = [], []

    # -- what is due -----------------------------------------------------------------------------------------------

    def may(self, operator, shared):
        if self.kind == Security.AUTHORISATION:
            return operator in self.authorised
        if self.kind == Security.READWRITE:
            return shared or operator == self.registered
        return True

    def writers(self):
        return [one for one in self.waiting if not one.shared and self.may(one.operator, shared=False)]

    def due(self, operator, shared, limit):
        """True: has it at once; ON: gets the mark at once; None: has to wait."""
        if self.kind == Security.DISABLE:
            return True
        if not self.may(operator, shared):
            return None if limit else ON
        return True if self.holder_shares and shared and not self.writers() else None

    # -- what happens ----------------------------------------------------------------------------------------------

    def actor(self):
        if not self.idle and len(self.actors) <= MOST_WAITERS:
            self.idle.append(self.make_actor(self.lock))
            self.actors.append(self.idle[0])
        return self.idle.pop() if self.idle else None

    def arrive(self, operator, shared, wait):
        actor = self.actor()
        if actor is None:
            return
        limit = self.wait_s if wait is None else wait
        due = self.due(operator, shared, limit)
        actor.start("take_and_give", operator, shared, wait)
        # A change sends waiting writers back to the door, and a reader who comes then may be faster than they are.
        is_loose = due is None and shared and self.holder_shares and self.is_changed
        if due is None and limit != SHORT_S:
            self.waiting.append(Waiter(actor, operator, shared, limit, is_loose))
            return
        answer, given, took = actor.result()
        if not (is_loose and answer is True):
            assert (answer, given) == ((True, True) if due is True else (ON, None)), (operator, shared, wait)
            # Who may yet be let gets all of his time, and so does who waits for the holder.
            assert due is not None or took >= SHORT_S
        self.idle.append(actor)

    def intrude(self, operator):
        actor = self.actor()
        if actor is not None:
            actor.start("intrude", operator)
            assert actor.result() == ((True, True) if self.kind == Security.DISABLE else (False, OFF)), operator
            self.idle.append(actor)

    def change(self, name, value):
        self.changer.start("change", name, value)
        assert self.changer.result() is None
        self.is_changed = True
        if name == "update_lock":
            self.kind = value
        elif name == "authorize":
            self.authorised.add(value)
        elif name == "registe":
            self.registered = value
        elif name == "WaitTime":
            self.wait_s = value
        self.settle()

    def settle(self):
        """Hear all who need not wait any more."""
        dues = [(one, self.due(one.operator, one.shared, one.limit)) for one in self.waiting]
        for one, due in dues:
            if due is not None:
                self.leave(one, due)
            # All waiters are judged anew, and a reader may be faster than the writer before it.
            elif self.holder_shares and one.shared:
                one.is_loose = True

    def leave(self, one, due):
        self.waiting.remove(one)
        assert one.actor.result()[:2] == ((True, True) if due is True else (ON, None)), one.operator
        self.idle.append(one.actor)

    def look(self):
        """The holder has it as before, and those wait who should."""
        loose = sum(one.is_loose for one in self.waiting)
        most = len(self.waiting)
        wait_until(lambda: most - loose <= self.lock.statistics().waiting <= most)
        now = self.lock.statistics()
        if self.holder_shares:
            assert now.reading >= 1
            if self.writers():
                wait_until(lambda: self.lock._words[W_FLAG] == DRAINING)
        else:
            assert (now.holder.operator, now.holder.pid) == ("ADMIN", os.getpid())

    def end(self):
        """It is given back: first those have it who may, then, without any condition, the others."""
        assert (self.lock.release_read if self.holder_shares else self.lock.release)(ADMIN) is True
        for one in [one for one in self.waiting if self.may(one.operator, one.shared)]:
            self.leave(one, True)
        wait_until(lambda: self.lock.statistics().waiting == len(self.waiting))
        self.change("update_lock", Security.DISABLE)
        assert not self.waiting
        assert repr(self.lock) == "<Security DISABLE, free>"


def tell(story, steps):
    try:
        for name, *args in steps:
            getattr(story, name)(*args)
            story.look()
        story.end()
    finally:
        for actor in story.actors:
            actor.end()


NAMES = st.sampled_from([ADMIN, "a", "b", 3])
WAITS = st.sampled_from([None, 0, SHORT_S, LONG_S])
COMES = st.tuples(st.just("arrive"), NAMES, st.booleans(), WAITS)
ALWAYS = [
    COMES,
    COMES,
    st.tuples(st.just("intrude"), NAMES),
    st.tuples(st.just("change"), st.just("authorize"), NAMES),
    st.tuples(st.just("change"), st.just("registe"), NAMES),
    st.tuples(st.just("change"), st.just("WaitTime"), st.sampled_from([0, SHORT_S, LONG_S])),
    st.tuples(st.just("change"), st.just("MuteTime"), st.sampled_from([0, 0.01])),
]
TYPES = st.tuples(st.just("change"), st.just("update_lock"), st.sampled_from([*KINDS, Security.DISABLE]))
STEPS = st.lists(st.one_of(*ALWAYS, TYPES), min_size=3, max_size=12)
STEPS_OF_READERS = st.lists(st.one_of(*ALWAYS), min_size=3, max_size=12)


def runs(count):
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


@runs(10)
@given(st.sampled_from(KINDS), STEPS)
def test_threads_get_their_due(kind, steps):
    tell(Story(kind, ByThread), steps)


@runs(5)
@given(st.sampled_from(KINDS), STEPS)
def test_processes_get_their_due(kind, steps):
    tell(Story(kind, ByProcess), steps)


@pytest.mark.long
@runs(40)
@given(st.sampled_from(KINDS), STEPS)
def test_processes_get_their_due_in_many_stories(kind, steps):
    tell(Story(kind, ByProcess), steps)


@pytest.mark.long
@pytest.mark.parametrize("make_actor", [ByProcess, ByThread])
@runs(20)
@given(STEPS_OF_READERS)
def test_they_get_it_beside_a_reader_too(make_actor, steps):
    tell(Story(Security.READWRITE, make_actor, holder_shares=True), steps)


ADMITTED = [("arrive", "a", False, LONG_S), ("arrive", "a", False, 0), ("arrive", "b", True, 0)]


@pytest.mark.long
@pytest.mark.parametrize("make_actor", [ByProcess, ByThread])
@pytest.mark.parametrize(
    ("kind", "change"), [(Security.AUTHORISATION, "authorize"), (Security.READWRITE, "registe")], ids=["auth", "rw"]
)
def test_who_waits_to_be_let_is_let_and_who_would_not_wait_got_the_mark(kind, change, make_actor):
    tell(Story(kind, make_actor), [*ADMITTED, ("change", change, "a"), ("arrive", "a", False, 0), ("intrude", "a")])


@pytest.mark.long
@pytest.mark.parametrize("make_actor", [ByProcess, ByThread])
def test_readers_behind_a_writer_pass_when_another_is_registered(make_actor):
    steps = [
        ("arrive", ADMIN, False, 0), ("arrive", "a", True, 0), ("arrive", "b", True, LONG_S),
        ("change", "registe", "c"), ("arrive", "b", True, 0), ("arrive", ADMIN, False, LONG_S),
        ("change", "registe", ADMIN),
        ("arrive", "a", True, SHORT_S),
    ]  # fmt: skip
    tell(Story(Security.READWRITE, make_actor, holder_shares=True), steps)


def test_the_objects_waiting_time_is_that_of_those_who_come_then():
    steps = [
        ("change", "WaitTime", SHORT_S), ("arrive", "a", False, None), ("arrive", "a", False, 0),
        ("change", "WaitTime", LONG_S), ("change", "update_lock", Security.AUTHORISATION), ("arrive", "b", True, None),
        ("change", "WaitTime", 0), ("arrive", "b", True, None), ("change", "authorize", "b"),
    ]  # fmt: skip
    tell(Story(Security.MUTEX, ByProcess), steps)

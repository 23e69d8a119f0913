"""Deadlocks are found, named, and only where there are some."""

import json
import pickle
import signal
import threading
import time

import pytest

from tests.core.crew import Child
from tests.security import programs
from tests.security.test_security import InThread
from XME import Security
from XME._core import shared_mutex, waitboard
from XME._core.deadlock import Wait
from XME.errors import Deadlock

ADMIN = Security.ADMIN
EXCLUDING = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
# The promise is 200 ms on a machine that is not overloaded; the tests share theirs.
FOUND_S = 2.0
SOME_SLICES_S = 0.25
# What a Security's release gives, and a mutex's.
GIVEN_BACK = {True, None}


class Threads:
    """Actors that are threads of this process; they take locks when told."""

    def __init__(self, locks, count):
        self._locks = locks
        self._threads = [InThread() for _ in range(count)]

    def start(self, who, name, lock, *args):
        self._threads[who].start(getattr(self._locks[lock], name), *args)

    def hear(self, who):
        try:
            return self._threads[who].result()
        except Deadlock as error:
            return error

    def is_silent(self, who, seconds):
        return self._threads[who].is_silent(seconds)

    def end(self):
        for thread in self._threads:
            thread.end()


class Processes:
    """Actors that are processes."""

    def __init__(self, locks, count):
        self._children = [Child(programs.serve, *locks) for _ in range(count)]

    def start(self, who, name, lock, *args):
        self._children[who].tell((name, lock, *args))

    def hear(self, who):
        assert self._children[who].pipe.poll(10)
        return self._children[who].pipe.recv()

    def is_silent(self, who, seconds):
        return self._children[who].is_silent(seconds)

    def kill(self, who):
        self._children[who].kill()

    def stop(self, who):
        self._children[who].stop()

    def go_on(self, who):
        self._children[who].signal(signal.SIGCONT)

    def end(self):
        for child in self._children:
            with child:
                pass


@pytest.fixture(params=[Threads, Processes])
def actors(request):
    """Make actors of both sorts; they end with the test."""
    made = []

    def make(locks, count):
        made.append(request.param(locks, count))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def processes():
    """Make actors that are processes; they end with the test."""
    made = []

    def make(locks, count):
        made.append(Processes(locks, count))
        return made[-1]

    yield make
    for each in made:
        each.end()


def first_to_speak(crew, whos, limit_s=FOUND_S):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        for who in whos:
            if not crew.is_silent(who, 0.005):
                return who
    raise AssertionError("no deadlock was found")


def close_circle(crew, count, acquire="acquire", release="release", args=(ADMIN,)):
    """Everybody takes his own lock, then wants the next one's; returns (who got the error, how long it took)."""
    for who in range(count):
        crew.start(who, acquire, who, *args)
        assert crew.hear(who) is True
    for who in range(count):
        crew.start(who, acquire, (who + 1) % count, *args)
    began = time.monotonic()
    loser = first_to_speak(crew, range(count))
    took = time.monotonic() - began
    # Who lost gives his own lock back, and everybody gets on, one after the other.
    answer = crew.hear(loser)
    crew.start(loser, release, loser, *args[:1])
    assert crew.hear(loser) in GIVEN_BACK
    who = (loser - 1) % count
    while who != loser:
        assert crew.hear(who) is True
        for lock in (who, (who + 1) % count):
            crew.start(who, release, lock, *args[:1])
            assert crew.hear(who) in GIVEN_BACK
        who = (who - 1) % count
    return answer, took


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_a_circle_is_found(kind, count, actors):
    crew = actors([Security.Security(kind) for _ in range(count)], count)
    answer, took = close_circle(crew, count)
    assert answer == Security.DEADLOCKMARK_ONLOCK
    assert took < FOUND_S


def test_a_circle_of_mixed_types_is_found(actors):
    locks = [Security.Security(kind) for kind in (Security.MUTEX, Security.SPIN, Security.READWRITE)]
    answer, _ = close_circle(actors(locks, 3), 3)
    assert answer == Security.DEADLOCKMARK_ONLOCK


def test_mutexes_and_securities_are_in_one_circle(actors):
    mutex, lock = shared_mutex.create(), Security.Security(Security.MUTEX)
    crew = actors([mutex, lock], 2)
    crew.start(0, "acquire", 0)
    assert crew.hear(0) is True
    crew.start(1, "acquire", 1, ADMIN)
    assert crew.hear(1) is True
    crew.start(0, "acquire", 1, ADMIN)
    crew.start(1, "acquire", 0)
    loser = first_to_speak(crew, range(2))
    answer = crew.hear(loser)
    assert isinstance(answer, Deadlock) if loser == 1 else answer == Security.DEADLOCKMARK_ONLOCK
    crew.start(loser, "release", loser, *((), (ADMIN,))[loser])
    assert crew.hear(loser) in GIVEN_BACK
    assert crew.hear(1 - loser) is True


def test_the_error_names_the_circle(processes):
    mutexes = [shared_mutex.create(), shared_mutex.create()]
    mutexes[0].label, mutexes[1].label = "the left fork", "the right fork"
    crew = processes(mutexes, 2)
    answer, _ = close_circle(crew, 2, args=())
    again = pickle.loads(pickle.dumps(answer))
    for error in (answer, again):
        assert isinstance(error, Deadlock)
        first, second = error.cycle
        assert {first["pid"], second["pid"]} == {child.pid for child in crew._children}
        assert {first["holds"], second["holds"]} == {"the left fork", "the right fork"}
        assert first["waits_for"] == second["holds"]
        assert second["waits_for"] == first["holds"]
        assert first["thread"] == second["thread"] == "MainThread"
        assert time.time() - 60 < first["since"] <= time.time()
        assert str(error).count(" holds the ") == 2
        assert str(error).count(" and waits for the ") == 2


def test_the_operators_are_named():
    locks = [Security.Security(Security.MUTEX), Security.Security(Security.MUTEX)]
    crew = Threads(locks, 2)
    for who, name in enumerate(("left", "right")):
        crew.start(who, "acquire", who, name)
        assert crew.hear(who) is True
    blocks = [locks[1].holding("left"), locks[0].holding("right")]
    for thread, block in zip(crew._threads, blocks, strict=True):
        thread.start(block.__enter__)
    loser = first_to_speak(crew, range(2))
    error = crew.hear(loser)
    assert {link["operator"] for link in error.cycle} == {"'left'", "'right'"}
    assert "operator 'left'" in str(error)
    assert "(as 'right')" in str(error)
    crew.start(loser, "release", loser, ("left", "right")[loser])
    assert crew.hear(loser) is True
    assert crew.hear(1 - loser) is not None
    crew.end()


def test_readers_and_writers_in_a_circle(actors):
    """Each reads what the other wants to write."""
    locks = [Security.Security(), Security.Security()]
    crew = actors(locks, 2)
    for who in range(2):
        crew.start(who, "acquire_read", who, "reader")
        assert crew.hear(who) is True
    for who in range(2):
        crew.start(who, "acquire", 1 - who, ADMIN)
    loser = first_to_speak(crew, range(2))
    assert crew.hear(loser) == Security.DEADLOCKMARK_ONLOCK
    crew.start(loser, "release_read", loser, "reader")
    assert crew.hear(loser) is True
    assert crew.hear(1 - loser) is True


def test_a_reader_behind_a_waiting_writer_is_in_the_circle(actors):
    """0 reads a; 1 holds b and waits to write a; 0 wants b."""
    a, b = Security.Security(), Security.Security(Security.MUTEX)
    crew = actors([a, b], 2)
    crew.start(0, "acquire_read", 0, "reader")
    assert crew.hear(0) is True
    crew.start(1, "acquire", 1, ADMIN)
    assert crew.hear(1) is True
    crew.start(1, "acquire", 0, ADMIN)
    assert crew.is_silent(1, 0.05)
    crew.start(0, "acquire", 1, ADMIN)
    assert first_to_speak(crew, range(2)) == 0
    assert crew.hear(0) == Security.DEADLOCKMARK_ONLOCK
    crew.start(0, "release_read", 0, "reader")
    assert crew.hear(0) is True
    assert crew.hear(1) is True


def test_published_locks_of_different_domains_are_in_one_circle(processes):
    locks = [Security.Security(Security.MUTEX).publish("deadlock-a"), Security.Security(Security.MUTEX)]
    answer, _ = close_circle(processes(locks, 2), 2)
    assert answer == Security.DEADLOCKMARK_ONLOCK
    locks[1].publish("deadlock-b")
    answer, _ = close_circle(processes(locks, 2), 2)
    assert answer == Security.DEADLOCKMARK_ONLOCK


# -- where there is none -----------------------------------------------------------------------------------------


def test_a_slow_holder_is_no_deadlock(actors):
    locks = [Security.Security(Security.MUTEX), Security.Security(Security.MUTEX)]
    crew = actors(locks, 2)
    for who in range(2):
        crew.start(who, "acquire", who, ADMIN)
        assert crew.hear(who) is True
    crew.start(0, "acquire", 1, ADMIN)
    assert crew.is_silent(0, SOME_SLICES_S)
    crew.start(1, "release", 1, ADMIN)
    assert crew.hear(1) is True
    assert crew.hear(0) is True


def test_another_thread_of_a_process_in_a_circle_goes_on():
    """Thread 0 reads r; thread 1 of the same process waits for x; x's holder waits to write r: 0 goes on."""
    r, x = Security.Security(), Security.Security(Security.MUTEX)
    mine = Threads([r, x], 2)
    with Child(programs.serve, r, x) as child:
        child.tell(("acquire", 1, ADMIN))
        assert child.hear() is True
        mine.start(0, "acquire_read", 0, "reader")
        assert mine.hear(0) is True
        mine.start(1, "acquire", 1, ADMIN)
        child.tell(("acquire", 0, ADMIN))
        assert child.is_silent(SOME_SLICES_S)
        assert mine.is_silent(1, 0.01)
        mine.start(0, "release_read", 0, "reader")
        assert mine.hear(0) is True
        assert child.hear() is True
        child.tell(("release", 1, ADMIN))
        assert child.hear() is True
        assert mine.hear(1) is True
    mine.end()


def test_a_dead_holder_is_recovered_and_no_deadlock(processes):
    """0 and 1 wait in a circle whose third member is killed while it waits."""
    locks = [Security.Security(Security.MUTEX) for _ in range(3)]
    crew = processes(locks, 3)
    for who in range(3):
        crew.start(who, "acquire", who, ADMIN)
        assert crew.hear(who) is True
    crew.start(2, "acquire", 0, ADMIN)
    assert crew.is_silent(2, 0.06)
    # Its record says that it waits for 0 and holds 2.
    crew.kill(2)
    crew.start(0, "acquire", 1, ADMIN)
    crew.start(1, "acquire", 2, ADMIN)
    assert crew.hear(1) is True
    for lock in (1, 2):
        crew.start(1, "release", lock, ADMIN)
        assert crew.hear(1) is True
    assert crew.hear(0) is True


def test_a_stopped_member_means_no_report_until_it_goes_on(processes):
    locks = [Security.Security(Security.MUTEX) for _ in range(2)]
    crew = processes(locks, 2)
    for who in range(2):
        crew.start(who, "acquire", who, ADMIN)
        assert crew.hear(who) is True
    crew.start(0, "acquire", 1, ADMIN)
    assert crew.is_silent(0, 0.06)
    crew.stop(0)
    crew.start(1, "acquire", 0, ADMIN)
    assert crew.is_silent(1, SOME_SLICES_S)
    crew.go_on(0)
    assert crew.hear(first_to_speak(crew, range(2))) == Security.DEADLOCKMARK_ONLOCK


def test_a_wait_that_was_interrupted_is_no_evidence():
    """Its record stays behind, and its beat stands still."""
    one, two = shared_mutex.create(), shared_mutex.create()
    crew = Threads([one, two], 1)
    crew.start(0, "acquire", 1)
    assert crew.hear(0) is True
    with one:
        wait = Wait(two)
        assert wait.goes_on()
        assert wait._places
        # This thread never waits again, and says so to nobody.
        crew.start(0, "acquire", 0)
        assert crew.is_silent(0, SOME_SLICES_S)
    assert crew.hear(0) is True
    wait.end()
    crew.end()


def test_who_holds_nothing_writes_nothing():
    mutex = shared_mutex.create()
    crew = Threads([mutex], 1)
    with mutex:
        crew.start(0, "acquire", 0)
        assert crew.is_silent(0, 0.1)
        assert not list(waitboard.read(mutex._party, mutex._party.number))
    assert crew.hear(0) is True
    crew.end()


def test_more_threads_than_places_means_no_report(monkeypatch):
    monkeypatch.setattr(waitboard, "PLACES", 1)
    monkeypatch.setattr(waitboard, "_free", {})
    locks = [shared_mutex.create() for _ in range(3)]
    crew = Threads(locks, 3)
    for who in range(3):
        crew.start(who, "acquire", who)
        assert crew.hear(who) is True
    crew.start(2, "acquire", 0)
    assert crew.is_silent(2, 0.06)
    crew.start(0, "acquire", 1, 0.5)
    crew.start(1, "acquire", 0, 0.5)
    # Thread 2 has the only place.
    assert crew.hear(0) is False
    assert crew.hear(1) is False
    for who in (0, 1):
        crew.start(who, "release", who)
    assert crew.hear(0) is None
    assert crew.hear(1) is None
    assert crew.hear(2) is True
    crew.end()


@pytest.mark.parametrize(("count", "has_titles"), [(2, True), (40, False)])
def test_a_circle_of_threads_that_hold_many_locks_is_found(count, has_titles):
    """With other names than their own where all the titles of what is held do not fit into a record."""
    wanted = [shared_mutex.create(), shared_mutex.create()]
    wanted[0].label, wanted[1].label = "the left fork", "the right fork"
    rest = [Security.Security(Security.MUTEX) for _ in range(2 * (count - 1))]
    crew = Threads([*wanted, *rest], 2)
    for who in range(2):
        crew.start(who, "acquire", who)
        assert crew.hear(who) is True
        for number in range(who, len(rest), 2):
            crew.start(who, "acquire", 2 + number, ADMIN)
            assert crew.hear(who) is True
    for who in range(2):
        crew.start(who, "acquire", 1 - who, 5)
    loser = first_to_speak(crew, range(2))
    error = crew.hear(loser)
    assert isinstance(error, Deadlock)
    assert {link["holds"] for link in error.cycle} == {"the left fork", "the right fork"}
    crew.start(loser, "release", loser)
    assert crew.hear(loser) is None
    assert crew.hear(1 - loser) is True
    crew.end()


@pytest.mark.parametrize("count", [1, 20, 300, 2000])
def test_a_record_has_as_many_holds_as_fit(count):
    locks = [(("x" * 22, "y" * 22)[number % 5 == 0], number, "rw"[number % 2]) for number in range(count)]
    titles = [f"Security {number}" for number in range(count)]
    facts = {"who": ["ForkProcess-1", 1 << 22, "MainThread", "ADMIN"], "title": "a lock", "from": [(7, 1 << 36)]}
    text = waitboard.encode((1 << 60, 1 << 22, 1 << 22), facts, locks, titles)
    record = waitboard.Record("", 0, 0, 0, 0, (0, 0, 0), json.loads(text))
    fitting = [lock for lock in locks if record.holds(lock)]
    assert len(text) <= waitboard.PLACE_BYTES - waitboard._HEAD.size
    assert len(fitting) == count if count <= 300 else len(fitting) >= 300
    assert [record.title_of(lock) for lock in locks[:20]] == (titles if count <= 20 else [None] * 20)
    assert not record.holds(("x" * 22, count, "w"))


def test_a_deadlock_among_many_records_is_found_by_its_youngest_wait():
    """Waits that hang on a circle from outside are in none."""
    locks = [shared_mutex.create() for _ in range(4)]
    crew = Threads(locks, 4)
    for who in (0, 1, 2):
        crew.start(who, "acquire", who)
        assert crew.hear(who) is True
    crew.start(2, "acquire", 0)
    crew.start(0, "acquire", 1)
    assert crew.is_silent(0, 0.06)
    crew.start(1, "acquire", 0)
    loser = first_to_speak(crew, range(4))
    assert loser == 1
    assert isinstance(crew.hear(1), Deadlock)
    crew.start(1, "release", 1)
    assert crew.hear(1) is None
    assert crew.hear(0) is True
    for lock in (0, 1):
        crew.start(0, "release", lock)
        assert crew.hear(0) is None
    assert crew.hear(2) is True
    crew.end()


def test_a_release_in_a_signal_handler_ends_the_circle():
    """The waiting thread itself gives back what it holds: its record is made anew."""
    one, two = shared_mutex.create(), shared_mutex.create()
    crew = Threads([one, two], 1)
    crew.start(0, "acquire", 1)
    assert crew.hear(0) is True
    one.acquire()
    former = signal.signal(signal.SIGALRM, lambda *_: one.release())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        killer = threading.Timer(0.1, crew.start, (0, "acquire", 0))
        killer.start()
        # The other one gets what the handler has given back, and nobody reports anything.
        assert two.acquire(0.4) is False
        assert crew.hear(0) is True
    finally:
        signal.signal(signal.SIGALRM, former)
        killer.join()
    crew.end()

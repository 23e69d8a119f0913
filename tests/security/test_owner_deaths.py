"""Who hears that a holder was killed: the next one, also when an heir dies on his way in; and readers meanwhile."""

import os
import signal

import pytest

from tests.core.crew import Child
from tests.security import faces, programs
from tests.security.test_with_harness import GATES, KINDS, RECOVERY, SOON, functions
from tests.store import crash_sweep, stores
from XME import Security, testing
from XME._core import layout, ofd
from XME._core.guarded import Guarded
from XME.testing import LockSpec, Op, _crash_sweep

ADMIN = Security.ADMIN
HEIR = _crash_sweep.Scene("acquire", Op.ACQUIRE, _crash_sweep.DEAD)


@pytest.fixture
def lock():
    made = Security.Security()
    made.MuteTime(0.001)
    return made


def die_holding(lock):
    with Child(programs.hold, lock, ADMIN) as child:
        assert child.hear() == "held"
        child.kill()
        return child.pid


def _inherit_and_die(pipe, lock, number):
    """Be killed before the n-th store on the way in; tell of each."""
    at, kill = lock._guarded, crash_sweep.killer(number)

    def tell(what):
        pipe.send(what)
        kill(what)

    stores._tell, stores._look = tell, None
    at.words, at._signature = stores.watched(at.words), stores.watched(at._signature)
    with lock.holding(ADMIN):
        pipe.send("entered")
        os.kill(os.getpid(), signal.SIGKILL)


def inherit_and_die(lock, number):
    """Return his pid, and before which store he was killed."""
    with Child(_inherit_and_die, lock, number) as child:
        assert child.join() == -signal.SIGKILL
        told = []
        while child.pipe.poll():
            try:
                told.append(child.pipe.recv())
            except EOFError:
                break
        return child.pid, told[-1]


def test_a_death_is_told_wherever_the_heir_is_killed(lock):
    places, told = [], []
    while "entered" not in places:
        dead = die_holding(lock)
        heir, place = inherit_and_die(lock, len(places) + 1)
        places.append(place)
        with lock.holding(ADMIN, 5) as held:
            told.append({dead: "the dead one", heir: "the heir", 0: "somebody"}[held.owner_died.pid])
            assert str(held.owner_died)
        with lock.holding(ADMIN) as held:
            assert held.owner_died is None
    # Counted, signed (the tag last), since when; then he holds it.
    assert told == ["the dead one"] * 2 + ["somebody"] * 3 + ["the heir"] * 2, list(zip(places, told, strict=True))


def test_a_death_is_told_although_the_dead_ones_number_is_being_given_again(lock, monkeypatch):
    domain = lock._guarded.domain
    dead = die_holding(lock)
    number = next(k for k in range(domain.capacity) if domain.identity(k).pid == dead)
    fd = os.open(f"/proc/self/fd/{domain.fd}", os.O_RDWR)
    inherit = Guarded._inherit

    def inherit_later(at):
        # As one who joins has it before he has written his row; the mutex was recovered before that.
        assert ofd.try_lock(fd, layout.LEASE_AT + number)
        assert not domain.is_dead(number, domain.incarnation_of(number))
        return inherit(at)

    monkeypatch.setattr(Guarded, "_inherit", inherit_later)
    try:
        with lock.holding(ADMIN, 5) as held:
            assert held.owner_died.pid == dead
    finally:
        os.close(fd)


def test_readers_hear_of_a_dead_writer_until_the_next_one_writes(lock):
    dead = die_holding(lock)
    for _ in range(2):
        with lock.reading("reader") as shared:
            assert shared.owner_died.pid == dead
            with lock.reading("reader") as again:
                assert again.owner_died is None
    with lock.holding(ADMIN) as held:
        assert held.owner_died.pid == dead
        with lock.reading("reader") as shared:
            assert shared.owner_died is None
    with lock.reading("reader") as shared:
        assert shared.owner_died is None
    assert lock.statistics().owner_deaths == 1


def test_publishing_a_lock_keeps_the_death(lock):
    die_holding(lock)
    lock.publish(f"death-{os.getpid()}")
    with lock.reading("reader") as shared:
        assert shared.owner_died.operator == "somebody"
    with lock.holding(ADMIN) as held:
        assert held.owner_died.operator == "somebody"
    with lock.holding(ADMIN) as held:
        assert held.owner_died is None
    assert lock.statistics().owner_deaths == 1


def test_who_acquires_and_cannot_hear_of_a_death_ends_it(lock):
    die_holding(lock)
    assert lock.acquire(ADMIN)
    assert lock.release(ADMIN)
    with lock.holding(ADMIN) as held:
        assert held.owner_died is None


def sweep(kind):
    faces.set_up(kind, ["a", "b", "c"])
    spec = LockSpec.mutex(depth=3, reentrant=True, on_crash="notifies", **SOON)
    report = testing.crash_sweep(faces.make_told, spec, start_method="fork", gates=GATES)
    report.raise_if_failed()
    assert functions(report.places[str(HEIR)]) >= RECOVERY


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_next_one_hears_of_a_kill_at_any_line(kind):
    sweep(kind)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_next_one_hears_of_a_kill_at_any_line_of_an_heir(monkeypatch):
    monkeypatch.setattr(_crash_sweep, "scenes_for", lambda spec, phases: [HEIR])
    sweep(Security.MUTEX)

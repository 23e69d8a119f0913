"""Killed before any store of a change, one leaves the old or the new settings whole, and they can be changed again."""

import os
import signal

import pytest

import XME
from tests.core.crew import Child
from tests.store import crash_sweep, stores
from XME import Security
from XME._core import sweep
from XME._core.settings import decoded, short
from XME._security.gate import key_of

CHANGES = {
    "update_lock": lambda lock: lock.update_lock(Security.SPIN),
    "authorize": lambda lock: lock.authorize("a", "b"),
    "registe": lambda lock: lock.registe("a"),
    "WaitTime": lambda lock: lock.WaitTime(3),
    "DeadLockFun": lambda lock: lock.DeadLockFun(acquire=dict),
}


def watched(lock, tell):
    """Let all stores for its settings tell, in a forked child."""
    stores._tell, stores._look = tell, None
    settings = lock._guarded.settings
    settings._data, settings.word = stores.watched(settings._data), stores.watched(settings.word)


def _change_and_die(pipe, lock, change, number):
    kill = crash_sweep.killer(number)

    def tell(what):
        pipe.send(what)
        kill(what)

    watched(lock, tell)
    change(lock)
    tell("changed")
    os.kill(os.getpid(), signal.SIGKILL)


def killed(function, *args):
    """Run it in a process that is killed; returns the last that it said."""
    with Child(function, *args) as child:
        assert child.join() == -signal.SIGKILL, child.hear()
        said = None
        while child.pipe.poll():
            try:
                said = child.pipe.recv()
            except EOFError:
                break
        return said


def settings_of(lock):
    return decoded(*lock._guarded.settings.read()).changed(generation=0)


@pytest.mark.parametrize("name", CHANGES)
def test_settings_are_the_old_or_the_new_ones_and_can_be_changed(name):
    change = CHANGES[name]
    lock = Security.Security(Security.MUTEX)
    # Both records have been used.
    lock.WaitTime(1)
    lock.authorize("c")
    old = settings_of(lock)
    place, places, are_new = None, [], []
    while place != "changed":
        place = killed(_change_and_die, lock, change, len(places) + 1)
        places.append(place)
        new = settings_of(lock)
        are_new.append(new != old)
        # The next one finds them whole, takes and gives the lock, and changes them: another one first, then the same.
        lock.MuteTime(0.02)
        assert settings_of(lock) == new.changed(mute_s=0.02)
        assert lock.acquire(lock.ADMIN, 1) is lock.release(lock.ADMIN) is True
        change(lock)
        changed = settings_of(lock)
        if are_new[-1]:
            assert changed == new.changed(mute_s=0.02)
        lock._change(lambda _now: old)
        assert changed != settings_of(lock) == old
    # Two halves of a record, then the word.
    assert are_new == [False] * 3 + [True], list(zip(places, are_new, strict=True))


def _publish_and_die(pipe, lock, name, number):
    kill = crash_sweep.killer(number)

    def tell(what):
        pipe.send(what)
        kill(what)

    stores.watch(lock._guarded.domain, tell)
    watched(lock, tell)
    lock.publish(name)
    tell("changed")
    os.kill(os.getpid(), signal.SIGKILL)


def holds_alone(lock, other):
    """Both are the same lock."""
    with lock.holding(lock.ADMIN, 5), pytest.raises(XME.Deadlock), other.holding("x", 0.01):
        pass
    with lock.holding(lock.ADMIN, 5):
        pass


@pytest.fixture
def swept():
    """What the killed ones had begun to make is cleared away by whoever sweeps."""
    yield
    sweep.sweep_dead_domains()


@pytest.mark.long
@pytest.mark.usefixtures("swept")
def test_a_lock_whose_publisher_was_killed_can_be_had_and_published():
    place, number = None, 0
    while place != "changed":
        number += 1
        lock, name = Security.Security(Security.MUTEX), f"kill-{os.getpid()}-{number}"
        lock.authorize("a")
        before = settings_of(lock)
        place = killed(_publish_and_die, lock, name, number)
        try:
            with lock.holding(lock.ADMIN, 5) as held:
                assert held.owner_died is None
            lock.publish(name)
            assert settings_of(lock) == before
            assert short(key_of("a")) in settings_of(lock).authorised
            holds_alone(lock, XME.attach(name))
        except BaseException as error:
            error.add_note(f"killed before store {number}: {place}")
            raise
    assert number > 20

"""The harness knows XME's own Security without being told how it is taken."""

import signal

import pytest

from tests.core.crew import Child
from tests.security import programs
from tests.security.test_security import InThread
from XME import Security
from XME.errors import LockTestFailed, NotAuthorised
from XME.testing import LockSpec, adapt, check_lock

KINDS = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
SOON = {"recover_s": 5.0, "stuck_s": 5.0}
FEW = {"start_method": "fork", "workers": 3, "rounds": 10}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_taken_tried_and_given_back(kind):
    lock = Security.Security(kind)
    # Neither what the object is set to nor what its DeadLockFun gives is an answer of the adapted lock.
    lock.WaitTime(0.01)
    lock.DeadLockFun(acquire=lambda: True, release=lambda: True)
    adapted, other = adapt(lock), InThread()
    for timeout_s in (None, 0, 0.05):
        assert adapted.acquire(timeout_s) is True
        assert lock.statistics().holder.operator == "ADMIN"
        assert other.do(adapted.acquire, 0) is False
        assert other.do(adapted.acquire, 0.01) is False
        with pytest.raises(RuntimeError, match="does not hold"):
            other.do(adapted.release)
        adapted.release()
        assert lock.statistics().holder is None
    assert (adapted.take_read is not None) == (kind == Security.READWRITE)
    other.end()


def test_its_readers_share():
    lock = Security.Security()
    adapted, other = adapt(lock), InThread()
    assert adapted.acquire_read(None) is other.do(adapted.acquire_read, 0) is True
    assert lock.statistics().reading == 2
    adapted.release_read()
    assert adapted.acquire(0) is False
    other.do(adapted.release_read)
    with pytest.raises(RuntimeError, match="does not hold"):
        adapted.release_read()
    assert adapted.acquire(0) is True
    assert other.do(adapted.acquire_read, 0) is False
    adapted.release()
    other.end()


def told_of_a_death(lock):
    adapted = adapt(lock)
    with Child(programs.hold, lock, Security.ADMIN) as child:
        assert child.hear() == "held"
        child.signal(signal.SIGKILL)
        assert adapted.acquire(10)
        assert adapted.owner_died
    adapted.release()
    return adapted


def test_it_says_who_died_and_raises_what_is_no_refusal():
    lock = Security.Security(Security.MUTEX)
    adapted = told_of_a_death(lock)
    assert adapted.acquire(0)
    assert not adapted.owner_died
    adapted.release()
    lock.update_lock(Security.READWRITE)
    lock.registe("somebody else")
    with pytest.raises(NotAuthorised, match="registe"):
        adapted.acquire(None)


def test_who_reads_after_one_who_was_told_is_not_told_again():
    adapted = told_of_a_death(Security.Security())
    assert adapted.acquire_read(None)
    assert not adapted.owner_died
    adapted.release_read()


# Of a dead holder the next one hears, of a dead reader nobody has to.
@pytest.mark.long
@pytest.mark.parametrize(
    ("promise", "on_crash"),
    [("reader_writer", "recovers"), ("reentrant_mutex", "notifies")],
)
def test_check_lock_takes_the_class_itself(promise, on_crash):
    spec = getattr(LockSpec, promise)(on_crash=on_crash, owner_only=True, **SOON)
    report = check_lock(Security.Security, spec, handed_over=True, **FEW)
    report.raise_if_failed()
    assert "CrashRecovery" in report.checked


def test_between_threads_it_is_one_by_itself():
    check_lock(Security.Security, LockSpec.mutex(between="threads", **SOON), **FEW).raise_if_failed()


def test_one_each_is_refused():
    with pytest.raises(LockTestFailed, match=r"made a Security of its own, .* handed_over=True"):
        check_lock(Security.Security, LockSpec.mutex(), **FEW)

"""Nobody cries wolf: locks of others pass the promises that they make, and adapt() knows their faces."""

import threading
import time

import fasteners
import portalocker
import pytest

from tests.testing import locks
from XME.testing import LockSpec, Room, adapt, check_lock
from XME.testing._stage import SETTLE_S

FEW = {"start_method": "fork", "workers": 3, "rounds": 15}
SOON = {"stuck_s": 0.5, "recover_s": 1.0}
THREADS = {"between": "threads", **SOON}
STAYS = {"on_crash": "stays_locked", **SOON}

PASS = {
    "threading.Lock": (threading.Lock, LockSpec.mutex(owner_only=False, **THREADS), {}),
    "threading.RLock": (threading.RLock, LockSpec.reentrant_mutex(4, owner_only=True, **THREADS), {}),
    "threading.BoundedSemaphore": (locks.thread_semaphore, LockSpec.permits_of(3, **THREADS), {}),
    "multiprocessing.Lock": (locks.mp_lock, LockSpec.mutex(**STAYS), {"handed_over": True}),
    "multiprocessing.RLock": (
        locks.mp_rlock, LockSpec.reentrant_mutex(4, owner_only=True, **STAYS), {"handed_over": True},
    ),
    "multiprocessing.BoundedSemaphore": (locks.mp_semaphore, LockSpec.permits_of(2, **SOON), {"handed_over": True}),
    "posix_ipc.Semaphore": (
        locks.posix_semaphore, LockSpec.mutex(**STAYS), {"cleanup": locks.remove_posix_semaphore},
    ),
    "filelock.FileLock": (locks.file_lock, LockSpec.mutex(on_crash="recovers", **SOON), {}),
    "told how": (locks.told_how, LockSpec.mutex(**THREADS), {}),
    "XME's mutex": (
        locks.xme_mutex, LockSpec.reentrant_mutex(4, owner_only=True, on_crash="recovers", **SOON),
        {"handed_over": True},
    ),
}  # fmt: skip


# Of each kind one or two by default; the drills take a second or two each.
LONGER = {"threading.BoundedSemaphore", "multiprocessing.BoundedSemaphore", "multiprocessing.Lock", "told how"}


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONGER else name for name in PASS]
)
def test_a_lock_keeps_what_it_promises(name):
    make_lock, spec, options = PASS[name]
    check_lock(make_lock, spec, **FEW, **options).raise_if_failed()


BROKEN = {
    "it dies with its holder": (
        locks.mp_lock, LockSpec.mutex(on_crash="recovers", **SOON), {"handed_over": True}, "CrashRecovery",
    ),
    "anybody releases it": (
        locks.mp_lock, LockSpec.mutex(owner_only=True, **SOON), {"handed_over": True}, "OwnerOnly",
    ),
    "it may not be taken again": (threading.Lock, LockSpec.reentrant_mutex(2, **THREADS), {}, "Reentrancy"),
    "nobody unlinks it": (
        locks.forgets_to_unlink, LockSpec.mutex(**SOON), {"cleanup": None}, "NoLeak",
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("promise", BROKEN)
def test_and_is_caught_at_what_it_does_not(promise):
    make_lock, spec, options, checker = BROKEN[promise]
    report = check_lock(make_lock, spec, **FEW, **options)
    assert report.broke(checker), str(report)


class OnlyBlocking:
    def acquire(self, blocking=True):
        return blocking

    def release(self):
        pass


class AsRedis:
    def acquire(self, sleep=None, blocking=None, blocking_timeout=None, token=None):
        self.called = (sleep, blocking, blocking_timeout, token)
        return True

    def release(self):
        pass


def test_what_cannot_be_given_a_limit_is_not_asked_to_keep_one():
    adapted = adapt(OnlyBlocking())
    assert (adapted.tries, adapted.waits, adapted.acquire(0)) == (True, False, False)
    with pytest.raises(TypeError, match="cannot wait with a limit"):
        adapted.acquire(0.1)


def test_redis_has_a_name_of_its_own_for_a_limit():
    lock = AsRedis()
    adapted = adapt(lock)
    asked = {}
    for timeout_s in (None, 0, 0.1):
        assert adapted.acquire(timeout_s)
        asked[timeout_s] = lock.called
    assert (adapted.tries, adapted.waits) == (True, True)
    assert asked == {None: (None,) * 4, 0: (None, False, None, None), 0.1: (None, None, 0.1, None)}


def of_required(room):
    return [threading.Lock(), threading.BoundedSemaphore(1), locks.mp_lock(), locks.file_lock(room)]


def of_fasteners(room):
    return [
        fasteners.InterProcessLock(room.path("b")), fasteners.InterProcessReaderWriterLock(room.path("c")),
        fasteners.ReaderWriterLock(),
    ]  # fmt: skip


def of_portalocker(room):
    return [portalocker.Lock(room.path("d"), timeout=0.1)]


def test_whoever_is_slow_in_his_section_is_not_hurried():
    def look(_lock):
        time.sleep(3 * SETTLE_S)

    report = check_lock(locks.mp_lock, LockSpec.mutex(), handed_over=True, verify=look, **FEW | {"rounds": 1})
    assert report.ok, report


@pytest.mark.parametrize("make", [of_required, of_fasteners, of_portalocker])
def test_every_kind_is_taken_tried_and_given_back(make, tmp_path):
    for lock in make(Room(str(tmp_path), "xtfaces", 0, 0)):
        adapted = adapt(lock)
        for timeout_s in [None, *([0] * adapted.tries), *([0.05] * adapted.waits)]:
            assert adapted.acquire(timeout_s), (lock, timeout_s)
            adapted.release()
        if adapted.take_read is not None:
            assert adapted.acquire_read(None)
            adapted.release_read()

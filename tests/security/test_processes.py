"""A Security between processes: every start method, unrelated programs, forks, and the deaths of holders."""

import multiprocessing
import os
import pickle
import signal
import threading
import time

import pytest

import XME
from tests.core.crew import Child
from tests.helpers import run_python, xme_names
from tests.security import programs
from XME import Security
from XME._core import program, sweep
from XME.errors import ContainerGone, DomainEnded, MutexError, NameTaken, NameUnknown

EXCLUDING = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
ADMIN = Security.ADMIN
# What a recovery may take on a loaded machine; the storm measures it.
HAD_AGAIN_S = 2.0


def run_all(method, function, args, count):
    context = multiprocessing.get_context(method)
    crew = [context.Process(target=function, args=args) for _ in range(count)]
    for process in crew:
        process.start()
    for process in crew:
        process.join(50)
    assert [process.exitcode for process in crew] == [0] * count


@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_the_manuals_example_by_four_processes(kind):
    lock, values = Security.Security(kind), XME.xmem_list([])
    run_all("fork", programs.append, (lock, values, 100, lock.ADMIN), 4)
    assert len(values) == 400


@pytest.mark.long
@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_the_manuals_example_at_its_full_size(kind, start_method):
    lock, values = Security.Security(kind), XME.xmem_list([])
    run_all(start_method, programs.append, (lock, values, 1000, lock.ADMIN), 4)
    assert len(values) == 4000


@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_nothing_is_lost_between_processes(kind):
    lock, board = Security.Security(kind), XME.xmem_array(1, dtype="i8")
    run_all("fork", programs.count_up, (lock, board, 300, ADMIN), 3)
    assert board[0] == 900


def test_every_start_method_means_the_same_lock(start_method):
    lock, board = Security.Security(Security.MUTEX), XME.xmem_array(1, dtype="i8")
    run_all(start_method, programs.count_up, (lock, board, 100, "me"), 2)
    assert board[0] == 200


# -- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_for_all_processes(start_method):
    lock = Security.Security(Security.AUTHORISATION)
    with Child(programs.serve, lock, method=start_method) as child:
        for order, answer in [
            (("acquire", 0, "x"), Security.DEADLOCKMARK_ONLOCK),
            (("authorize", 0, "x"), None),
            (("update_lock", 0, Security.MUTEX), None),
            (("WaitTime", 0, 0.02), None),
            (("DeadLockFun", 0, programs.serve.__name__.upper), None),
        ]:
            child.tell(order)
            assert child.hear() == answer
        assert lock.statistics().type is Security.MUTEX
        assert lock.acquire("anybody")
        child.tell(("acquire", 0, "y"))
        assert child.hear() == "SERVE"
        assert lock.release("anybody")
        lock.update_lock(Security.AUTHORISATION)
        child.tell(("acquire", 0, "x"))
        assert child.hear() is True
        assert "held by 'x' in process" in repr(lock)
        assert f"pid {child.pid}" in repr(lock)
        assert lock.acquire("x") == "SERVE"
        child.tell(("release", 0, "x"))
        assert child.hear() is True


def test_changes_at_the_same_time_are_all_there():
    lock = Security.Security(Security.AUTHORISATION)
    run_all("fork", _authorize_many, (lock,), 3)
    allowed = [n for n in range(60) if lock.acquire(n) and lock.release(n)]
    assert allowed == list(range(60))


def _authorize_many(lock):
    for n in range(60):
        lock.authorize(n)


@pytest.mark.long
@pytest.mark.parametrize("kills", [40])
def test_a_kill_in_a_change_leaves_the_settings_whole(kills):
    lock = Security.Security(Security.AUTHORISATION)
    for n in range(kills):
        child = multiprocessing.get_context("fork").Process(target=_change_for_ever, args=(lock,))
        child.start()
        time.sleep(0.002 + n * 0.0005)
        child.kill()
        child.join()
        lock.authorize(("mine", n))
    lock.update_lock(Security.AUTHORISATION)
    lock.WaitTime(0)
    assert all(lock.acquire(("mine", n)) and lock.release(("mine", n)) for n in range(kills))


def _change_for_ever(lock):
    while True:
        for kind in EXCLUDING:
            lock.update_lock(kind)
            lock.WaitTime(0.01 * kind)


# -- deaths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_the_next_holder_hears_once_who_died(kind):
    lock = Security.Security(kind)
    with Child(programs.hold, lock, ADMIN) as child:
        assert child.hear() == "held"
        child.kill()
        began = time.monotonic()
        with lock.holding(ADMIN) as held:
            assert time.monotonic() - began < HAD_AGAIN_S
            assert held.owner_died.pid == child.pid
            assert held.owner_died.operator == "ADMIN"
            assert held.owner_died.since <= time.time()
    with lock.holding(ADMIN) as held:
        assert held.owner_died is None
    assert lock.statistics().owner_deaths == 1


def test_a_dead_reader_stops_no_writer():
    lock = Security.Security()
    with Child(programs.hold, lock, "reader", True) as child:
        assert child.hear() == "held"
        assert lock.acquire(ADMIN, 0.05) == Security.DEADLOCKMARK_ONLOCK
        child.kill()
        began = time.monotonic()
        assert lock.acquire(ADMIN)
        assert time.monotonic() - began < HAD_AGAIN_S
        assert lock.release(ADMIN)


def test_a_stopped_holder_keeps_what_it_has():
    lock = Security.Security(Security.MUTEX)
    with Child(programs.hold, lock, "x") as child:
        assert child.hear() == "held"
        child.stop()
        assert lock.acquire("y", 0.3) == Security.DEADLOCKMARK_ONLOCK
        child.signal(signal.SIGCONT)
        child.tell()
        assert child.hear() == "released"
    with lock.holding("y", 5) as held:
        assert held.owner_died is None


def test_a_holder_that_was_interrupted_on_his_way_in_is_no_death(monkeypatch):
    lock = Security.Security(Security.MUTEX)
    assert lock.acquire("x")
    assert lock.release("x")

    def strike():
        raise KeyboardInterrupt

    guarded = lock._guarded
    with monkeypatch.context() as patch:
        patch.setattr("XME._core.guarded.time.time_ns", strike)
        lock.update_lock(Security.MUTEX)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire("x")
    assert not guarded.mutex.held
    with lock.holding("y", 5) as held:
        assert held.owner_died is None


# -- forks -------------------------------------------------------------------------------------------------------


def test_what_is_held_at_a_fork_is_not_the_childs():
    lock = Security.Security()
    answers, theirs = os.pipe()
    with lock.holding(ADMIN):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                marks = [lock.release(ADMIN) == Security.DEADLOCKMARK_UNLOCK, lock.try_acquire(ADMIN) is False]
                code = 0 if all(marks) else 2
            finally:
                os.write(theirs, bytes([code]))
                # The parent's block is left here as well, which does nothing.
                lock_left = _leave(lock)
                os._exit(code if lock_left else 3)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(answers, 1) == b"\0"
        assert lock._mutex.held
    assert lock.statistics().holder is None
    os.close(answers)
    os.close(theirs)


def _leave(lock):
    held = lock.holding(ADMIN)
    held._pid = os.getppid()
    held.__exit__(None, None, None)
    return lock.statistics().holder is not None


def test_a_forks_child_reads_on_its_own():
    lock = Security.Security()
    assert lock.acquire_read("me")
    with Child(programs.serve, lock) as child:
        child.tell(("release_read", 0, "me"))
        assert child.hear() == Security.DEADLOCKMARK_UNLOCK
        child.tell(("acquire_read", 0, "me"))
        assert child.hear() is True
        assert lock.statistics().reading == 2
        assert lock.release_read("me")
        assert lock.acquire(ADMIN, 0.05) == Security.DEADLOCKMARK_ONLOCK
        child.tell(("release_read", 0, "me"))
        assert child.hear() is True
    assert lock.acquire(ADMIN, 5)
    assert lock.release(ADMIN)


# -- as an argument and as a global of XME's functions -----------------------------------------------------------


def test_it_travels_as_an_argument_and_in_arrays(start_method):
    lock, board = Security.Security(Security.MUTEX), XME.xmem_array(2, dtype="i8")
    with XME.XME(programs.add_under, pnum=2, do_with_log=False, start_method=start_method) as xme:
        kinds = xme.fun(lock, board, XME.Array(range(4)))
        assert kinds == (Security.MUTEX,) * 4
        assert board[0] == 200
        assert xme.fun(XME.Array([lock, lock]), board, 0) == (Security.MUTEX,) * 2
    assert board[0] == 300


MAIN = """
import XME
import XME.Security as Security

sec = Security.Security(LockType=Security.MUTEX)
board = XME.xmem_array(1, dtype="i8")

def f(n):
    for _ in range(50):
        if sec.acquire(sec.ADMIN):
            board[0] += 1
        sec.release(sec.ADMIN)

if __name__ == "__main__":
    with XME.XME(f, pnum=2, do_with_log=False, start_method={method!r}) as xme:
        xme.fun(XME.Array(range(8)))
    print(board[0], sec)
"""


@pytest.mark.long
def test_it_is_one_lock_as_a_global_of_the_main_module(start_method):
    done = run_python(MAIN.format(method=start_method))
    assert done.stdout == "400 <Security MUTEX, free>\n", done.stderr
    # The fork server imports the main module too, and ends without its end handlers: the next program sweeps that.
    sweep.sweep_dead_domains()


# -- public names ------------------------------------------------------------------------------------------------

ATTACHER = """
import sys, XME
from XME import Security
lock = XME.attach("security-test")
print(lock.try_acquire("stranger"), lock.name, flush=True)
lock.update_lock(Security.SPIN)
"""


def test_unrelated_programs_share_a_published_lock():
    lock = Security.Security(Security.MUTEX)
    elsewhere = pickle.loads(pickle.dumps(lock))
    assert lock.publish("security-test") is lock
    assert lock.name == elsewhere.name == "security-test"
    with lock.holding("me"):
        done = run_python(ATTACHER)
        assert done.stdout == "False security-test\n", done.stderr
        assert elsewhere.try_acquire("you") is False
    assert run_python(ATTACHER).stdout == "True security-test\n"
    assert elsewhere.statistics().type is Security.SPIN
    assert lock.publish("security-test") is lock
    with pytest.raises(ValueError, match="published as 'security-test' already"):
        lock.publish("security-test-2")
    with pytest.raises(NameTaken):
        Security.Security().publish("security-test")
    # It lives while somebody has it.
    del lock
    with elsewhere.holding("me"):
        pass
    del elsewhere
    with pytest.raises(NameUnknown):
        XME.attach("security-test")


def test_handles_in_other_processes_follow_a_lock_that_is_published():
    lock = Security.Security(Security.MUTEX)
    with Child(programs.serve, lock) as child:
        child.tell(("acquire", 0, "theirs"))
        assert child.hear() is True
        publisher = threading.Thread(target=lock.publish, args=("security-follow",))
        publisher.start()
        # Not while somebody has it.
        publisher.join(0.1)
        assert publisher.is_alive()
        child.tell(("release", 0, "theirs"))
        assert child.hear() is True
        publisher.join(10)
        assert not publisher.is_alive()
        child.tell(("acquire", 0, "theirs"))
        assert child.hear() is True
        assert lock.name == "security-follow"
        assert lock.try_acquire("mine") is False
        child.tell(("release", 0, "theirs"))
        assert child.hear() is True
        assert lock.try_acquire("mine") is True
        assert lock.release("mine")


def test_who_has_it_cannot_publish_it():
    lock = Security.Security()
    with lock.holding(ADMIN), pytest.raises(MutexError, match="give it back first"):
        lock.publish("security-held")
    with lock.reading("me"), pytest.raises(MutexError, match="give it back first"):
        lock.publish("security-held")
    with pytest.raises(TypeError):
        lock.publish(3)


def test_a_publisher_that_is_killed_on_the_way_leaves_the_lock_usable():
    lock = Security.Security(Security.MUTEX)
    pickle.dumps(lock)
    pid = os.fork()
    if pid == 0:
        from XME._core import registry

        registry.add = lambda _entry: os.kill(os.getpid(), signal.SIGKILL)
        lock.publish("security-killed")
    os.waitpid(pid, 0)
    with lock.holding("me", 10):
        assert lock.name is None
    lock.publish("security-killed")
    assert lock.name == "security-killed"


# -- the end -----------------------------------------------------------------------------------------------------

ORPHAN = """
import os, sys, time
from XME import Security
from XME.errors import DomainEnded
lock = Security.Security(Security.MUTEX)
assert lock.acquire("parent")
if os.fork() == 0:
    try:
        lock.acquire("child")
        text = "held"
    except DomainEnded as error:
        text = type(error).__name__
    try:
        lock.update_lock(Security.SPIN)
    except DomainEnded as error:
        text += " " + type(error).__name__
    with open(sys.argv[1], "w") as file:
        file.write(text)
    # As the last one of the domain it takes its file away.
    sys.exit()
time.sleep(0.2)
"""


def test_a_lock_of_a_domain_that_has_ended_says_so(tmp_path):
    run_python(ORPHAN, tmp_path / "said")
    assert (tmp_path / "said").read_text() == "DomainEnded DomainEnded"


def test_a_lock_that_nobody_else_knows_goes_with_its_last_handle():
    lock = Security.Security()
    data = pickle.dumps(Security.Security())
    assert isinstance(pickle.loads(data), Security.Security)
    place = lock._guarded.domain.id, lock._guarded.serial
    del lock
    Security.Security()
    with pytest.raises((ContainerGone, DomainEnded)):
        Security._restored(*place, None)


def test_many_locks_leave_nothing():
    def ours():
        mine = program.program_domain().id
        return sum(mine in name for name in xme_names())

    # What other tests have dropped goes now, and not meanwhile.
    program.program_domain().names.tidy()
    before = ours()
    locks = [Security.Security() for _ in range(50)]
    assert ours() >= before + 150
    del locks
    Security.Security()
    assert ours() < before + 50

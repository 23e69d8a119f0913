"""The mutex between real processes: killed, stopped, forked and interrupted ones."""

import contextlib
import gc
import os
import pickle
import signal
import threading
import time

import pytest

from tests.core.crew import PATIENCE_S, Child, hold, want
from XME._core import mutex as mutex_module
from XME._core import program, recovery, segment, semaphore, shared_mutex
from XME._core.ledger import Kind
from XME._core.program import program_domain
from XME.errors import MutexError

# What a recovery may take on a loaded machine; the storm measures it.
HAD_AGAIN_S = 2.0
SOME_SLICES_S = 0.2


@pytest.fixture(params=["timed wait", "no timed wait"])
def mutex(request, monkeypatch):
    """A mutex, with the timed wait of the C library and without it and the semaphore's value (as on macOS)."""
    if request.param == "no timed wait":
        monkeypatch.setattr(semaphore, "HAS_TIMED_WAIT", False)
        monkeypatch.setattr(semaphore, "HAS_VALUE", False)
    return shared_mutex.create()


def can_be_had(mutex):
    took = time.monotonic()
    assert mutex.acquire(HAD_AGAIN_S)
    mutex.release()
    return time.monotonic() - took


@contextlib.contextmanager
def held_by_a_child(mutex):
    with Child(hold, mutex) as holder:
        assert holder.hear() == "held"
        yield holder


# -- the contract ------------------------------------------------------------------------------------------------


def test_one_holds_and_the_next_gets_it(mutex):
    with held_by_a_child(mutex) as holder, Child(want, mutex) as waiter:
        assert waiter.hear() == "wanting"
        assert waiter.is_silent(SOME_SLICES_S)
        holder.tell()
        assert holder.hear() == "released"
        assert waiter.hear()[0] is True


def test_a_time_limit_is_kept_and_counted_once(mutex):
    with held_by_a_child(mutex) as holder:
        began = time.monotonic()
        assert not mutex.acquire(0)
        assert time.monotonic() - began < 1.0
        began = time.monotonic()
        assert not mutex.acquire(1.0)
        assert 0.99 < time.monotonic() - began < 1.9
        holder.tell()
        holder.hear()
    can_be_had(mutex)


def test_it_is_reentrant(mutex):
    with mutex, mutex:
        assert mutex.held
        with Child(want, mutex, 0) as other:
            other.hear()
            assert other.hear()[0] is False
    assert not mutex.held
    can_be_had(mutex)


def test_a_stranger_cannot_release(mutex):
    with pytest.raises(MutexError, match="does not hold"):
        mutex.release()
    errors = []

    def stranger():
        try:
            mutex.release()
        except MutexError as error:
            errors.append(error)

    with mutex:
        thread = threading.Thread(target=stranger)
        thread.start()
        thread.join(PATIENCE_S)
        assert len(errors) == 1
        assert mutex.held


def test_threads_of_one_process_exclude_each_other(mutex):
    count = 0

    def work():
        nonlocal count
        for _ in range(300):
            with mutex:
                seen = count
                if seen % 50 == 0:
                    time.sleep(0)
                count = seen + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert count == 1200


def _count(pipe, mutex, words, rounds):
    for _ in range(rounds):
        with mutex:
            words[0] += 1
    pipe.send("done")


def test_processes_exclude_each_other(mutex):
    words = segment.create(program_domain(), 64, Kind.CONTAINER).words()
    with Child(_count, mutex, words, 2000) as first, Child(_count, mutex, words, 2000) as second:
        assert [first.hear(), second.hear()] == ["done", "done"]
    assert words[0] == 4000


# -- death -------------------------------------------------------------------------------------------------------


def test_a_killed_holder_leaves_it_to_the_next(mutex):
    with held_by_a_child(mutex) as holder:
        holder.kill()
        can_be_had(mutex)
    assert mutex.recoveries == 1


def test_a_waiter_gets_what_a_killed_holder_had(mutex):
    with held_by_a_child(mutex) as holder, Child(want, mutex) as waiter:
        assert waiter.hear() == "wanting"
        holder.kill()
        got, took = waiter.hear()
        assert got
        assert took < HAD_AGAIN_S


def _die_in(pipe, mutex, method):
    """Stand still inside a step of a recovery until killed."""

    def stand(*_args):
        pipe.send("standing")
        pipe.recv()

    if method == "drain_stores":
        recovery.drain_stores = stand
    else:
        setattr(mutex_module.RobustMutex, method, stand)
    mutex.acquire()


@pytest.mark.parametrize("method", ["drain_stores", "_await_movers", "_take_stock", "_clear"])
def test_a_recoverer_killed_in_recovery_is_succeeded(mutex, method):
    with held_by_a_child(mutex) as holder:
        holder.kill()
    with Child(_die_in, mutex, method) as recoverer:
        assert recoverer.hear() == "standing"
        # A living recoverer is not interfered with.
        assert not mutex.acquire(SOME_SLICES_S)
        recoverer.kill()
        can_be_had(mutex)
    assert mutex._words[0] % 2 == 0


def test_a_number_used_again_with_its_word_not_idle(mutex):
    with held_by_a_child(mutex) as holder:
        holder.kill()
    number = next(k for k in range(mutex._domain.capacity) if mutex._words[1 + k])
    with Child(hold, mutex) as successor:
        assert successor.hear() == "held"
        assert mutex._words[1 + number] & recovery.STATE_MASK == recovery.HOLDING
        assert mutex._domain.is_alive(number)
        assert not mutex.acquire(SOME_SLICES_S)
        successor.tell()
        successor.hear()
    can_be_had(mutex)


# -- stopped -----------------------------------------------------------------------------------------------------


def test_a_stopped_holder_loses_nothing(mutex):
    with held_by_a_child(mutex) as holder:
        holder.stop()
        assert not mutex.acquire(SOME_SLICES_S)
        holder.signal(signal.SIGCONT)
        holder.tell()
        assert holder.hear() == "released"
        can_be_had(mutex)
    assert mutex.recoveries == 0


def test_a_stopped_waiter_keeps_nobody(mutex):
    with held_by_a_child(mutex) as holder, Child(want, mutex) as waiter:
        assert waiter.hear() == "wanting"
        waiter.stop()
        holder.tell()
        assert holder.hear() == "released"
        for _ in range(20):
            can_be_had(mutex)
        waiter.signal(signal.SIGCONT)
        assert waiter.hear()[0] is True


def _stop_in_trying(pipe, mutex):
    mutex._learn(mutex._words[0])
    mutex._words[mutex._mine] = mutex._trying
    pipe.send("trying")
    pipe.recv()
    mutex._words[mutex._mine] = 0
    pipe.send("gone")
    pipe.recv()


def _joined(pipe, mutex, function):
    mutex._party.require()
    function(pipe, mutex)


def test_recovery_waits_for_a_stopped_one_on_its_way_in_but_a_time_limit_ends_the_wait(mutex):
    with Child(hold, mutex) as holder, Child(_joined, mutex, _stop_in_trying) as mover:
        assert holder.hear() == "held"
        assert mover.hear() == "trying"
        mover.stop()
        holder.kill()
        began = time.monotonic()
        assert not mutex.acquire(SOME_SLICES_S)
        assert time.monotonic() - began < HAD_AGAIN_S
        mover.signal(signal.SIGCONT)
        mover.tell()
        assert mover.hear() == "gone"
        can_be_had(mutex)


# -- fork --------------------------------------------------------------------------------------------------------


def _leave_the_parents_block(pipe, mutex):
    # As if the fork had happened inside the block: leaving it is not this process's business.
    mutex.release()
    pipe.send(mutex.held)
    with pytest.raises(MutexError):
        mutex.release()
    pipe.send(mutex.acquire(SOME_SLICES_S))
    pipe.send(mutex.acquire(PATIENCE_S))
    mutex.release()
    pipe.send("done")


def test_a_forked_child_holds_nothing_of_its_parent(mutex):
    with mutex:
        child = Child(_leave_the_parents_block, mutex)
        assert child.hear() is False
        assert child.hear() is False
        assert mutex.held
    with child:
        assert child.hear() is True
        assert child.hear() == "done"


def _say_held(pipe, mutex):
    pipe.send(mutex.held)
    pipe.send(mutex.acquire(0))


def test_a_thread_that_forks_while_another_holds_it(mutex):
    held, enough = threading.Event(), threading.Event()

    def holder():
        with mutex:
            held.set()
            enough.wait(PATIENCE_S)

    thread = threading.Thread(target=holder)
    thread.start()
    assert held.wait(PATIENCE_S)
    with Child(_say_held, mutex) as child:
        assert [child.hear(), child.hear()] == [False, False]
    enough.set()
    thread.join(PATIENCE_S)
    can_be_had(mutex)


def test_it_pickles_under_every_start_method(start_method):
    mutex = shared_mutex.create()
    assert pickle.loads(pickle.dumps(mutex)) is mutex
    with mutex, Child(want, mutex, method=start_method) as waiter:
        assert waiter.hear(30.0) == "wanting"
        assert waiter.is_silent(SOME_SLICES_S)
        mutex.release()
        assert waiter.hear()[0] is True
        mutex.acquire()


# -- the same thread again ---------------------------------------------------------------------------------------


class Dropping:
    """Its finalizer uses the very mutex in whose critical section the garbage collector finds it."""

    def __init__(self, mutex, seen):
        self.me, self.mutex, self.seen = self, mutex, seen

    def __del__(self):
        with self.mutex:
            self.seen.append(self.mutex.held)


def test_a_finalizer_inside_the_critical_section(mutex):
    domain = program_domain()
    seen = []
    with mutex:
        Dropping(mutex, seen)
        shared_mutex.create()
        dropped = segment.create(domain, 64, Kind.CONTAINER)
        segment.remember(dropped)
        name = dropped.name
        del dropped
        gc.collect()
        assert seen == [True]
        # The finalizer left a note and unlinked nothing; the next ordinary operation acts on it.
        assert os.path.exists(f"/dev/shm/{name}")
        segment.create(domain, 64, Kind.CONTAINER).unlink()
    assert not os.path.exists(f"/dev/shm/{name}")
    can_be_had(mutex)


def test_a_finalizer_in_the_middle_of_the_ledgers_lock():
    domain = program_domain()
    dropped = segment.create(domain, 64, Kind.CONTAINER)
    segment.remember(dropped)
    with domain.lock, domain.names._lock:
        del dropped
        gc.collect()
    domain.names.tidy()


def test_a_signal_handler_that_takes_what_its_thread_is_taking(mutex, monkeypatch):
    caught = []

    def handler(*_args):
        try:
            mutex.acquire()
        except MutexError as error:
            caught.append(error)

    mutex.acquire()
    mutex.release()
    monkeypatch.setattr(mutex, "_grab", _signalled(mutex._grab))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with mutex:
            pass
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGUSR1, before)
    assert len(caught) == 1
    assert "signal handler" in str(caught[0])
    can_be_had(mutex)


def _signalled(grab):
    def signalled(*args):
        os.kill(os.getpid(), signal.SIGUSR1)
        return grab(*args)

    return signalled


def _wait_with_alarms(pipe, mutex):
    signal.signal(signal.SIGALRM, lambda *_args: None)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    pipe.send("wanting")
    mutex.acquire()
    signal.setitimer(signal.ITIMER_REAL, 0)
    mutex.release()
    pipe.send(mutex.recoveries)


def test_a_signal_whose_handler_returns_is_no_reason_to_give_up(mutex):
    with held_by_a_child(mutex) as holder, Child(_wait_with_alarms, mutex) as waiter:
        assert waiter.hear() == "wanting"
        assert waiter.is_silent(SOME_SLICES_S)
        holder.tell()
        assert holder.hear() == "released"
        assert waiter.hear() == 0


def test_a_mutex_dropped_leaves_no_mapping():
    def mappings():
        gc.collect()
        with open("/proc/self/maps", encoding="utf-8") as file:
            return sum("xm" in line for line in file)

    for _ in range(3):
        shared_mutex.create().acquire()
    before = mappings()
    for _ in range(100):
        mutex = shared_mutex.create()
        mutex.acquire()
        assert not _in_a_thread(mutex.acquire, 0.001)
        mutex.release()
        del mutex
    assert mappings() <= before + 2


def _in_a_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join(PATIENCE_S)
    return result[0]




# -- leaving a domain --------------------------------------------------------------------------------------------


def _leave_while_a_thread_holds(pipe, mutex):
    held = threading.Event()

    def holder():
        with mutex:
            held.set()
            pipe.recv()

    threading.Thread(target=holder, daemon=True).start()
    held.wait(PATIENCE_S)
    program.leave_all()
    pipe.send("left")
    # The thread goes on until the process is gone.
    threading.Event().wait()


def test_a_process_that_leaves_keeps_what_a_thread_of_it_still_holds(mutex):
    """At a program's exit daemon threads run on: a lock is not free before they are gone."""
    with Child(_leave_while_a_thread_holds, mutex) as child:
        assert child.hear() == "left"
        assert not mutex.acquire(SOME_SLICES_S)
        child.kill()
        can_be_had(mutex)


def _leave_and_come_back(pipe, mutex):
    mutex.acquire()
    number = mutex._domain.number
    program.leave(mutex._domain)
    pipe.send(number)
    pipe.recv()
    # What was held is not held any more, and leaving its block does nothing.
    mutex.release()
    pipe.send(mutex.held)
    pipe.recv()
    pipe.send(mutex.acquire(PATIENCE_S))
    pipe.send(mutex._domain.number)
    pipe.recv()
    mutex.release()


def test_a_handle_of_a_domain_that_was_left_joins_it_anew(mutex):
    with Child(_leave_and_come_back, mutex) as child:
        number = child.hear()
        can_be_had(mutex)
        with held_by_a_child(mutex) as heir:
            assert mutex._words[1 + number] & recovery.STATE_MASK == recovery.HOLDING
            child.tell()
            assert child.hear() is False
            assert not mutex.acquire(0)
            child.tell()
            assert child.is_silent(SOME_SLICES_S)
            heir.tell()
            assert heir.hear() == "released"
            assert child.hear() is True
            assert child.hear() != number
            child.tell()
    can_be_had(mutex)

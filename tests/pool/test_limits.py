"""Time limits, stopped workers, Ctrl-C: a call ends when it should, alone, and the next one works."""

import functools
import os
import signal
import threading
import time

import psutil
import pytest

from tests.core import test_mutex_interrupts
from tests.helpers import wait_until
from tests.pool import rows
from tests.pool.rows import call, failure_of, shared_counts
from XME._core import mutex
from XME._core.handles import handles
from XME._pool import board, tables
from XME.ArrayOperator import Array
from XME.errors import RowTimeout
from XME.Executor import Executor


@pytest.mark.long
def test_a_call_that_is_late_gives_what_it_has(start_method):
    flags = shared_counts(4)
    with Executor(2, start_method=start_method) as executor:
        # Until somebody is there: it is not the start that is to be late.
        assert call(executor, rows.square, 3) == (9,)
        limit = 2.0
        before = time.monotonic()
        error = failure_of(executor, rows.wait_for, flags, Array(range(3)), Array([0, 0, 1]), timeout=limit)

        assert time.monotonic() - before < limit + 5
        assert isinstance(error, RowTimeout)
        assert (error.timeout, error.rows, error.results) == (limit, (2,), {0: 0, 1: 0})
        assert call(executor, rows.square, Array(range(5))) == (0, 1, 4, 9, 16)


def test_a_late_call_ends_its_workers_and_no_others():
    flags = shared_counts(4)
    found = []
    with Executor(3, start_method="fork") as executor:
        other = threading.Thread(
            target=lambda: found.append(call(executor, rows.announce_and_wait, flags, Array([0, 1]), 3))
        )
        other.start()
        busy = wait_until(lambda: [int(flags[k]) for k in (0, 1)] if flags[0] and flags[1] else None)
        error = failure_of(executor, rows.announce_and_wait, flags, 2, 3, timeout=0.3)
        late = int(flags[2])
        flags[3] = 1
        other.join(rows.LIMIT_S)

        assert isinstance(error, RowTimeout)
        assert not psutil.pid_exists(late)
        assert found == [(1, 1)]
        assert all(psutil.pid_exists(pid) for pid in busy)


def test_a_limit_that_is_over_at_once():
    with Executor(1, start_method="fork") as executor:
        error = failure_of(executor, rows.nap, Array([0.0, 30.0]), timeout=0.0)

        assert isinstance(error, RowTimeout)
        assert 1 in error.rows
        assert call(executor, rows.square, 3) == (9,)


def test_a_limit_counts_while_the_board_is_full():
    flags = shared_counts(1)
    with Executor(1, start_method="fork") as executor:
        waiting = [executor.map(rows.wait_for, [flags], [0]) for _ in range(56)]
        error = failure_of(executor, rows.square, 3, timeout=0.2)
        flags[0] = 1

        assert isinstance(error, RowTimeout)
        assert [list(results) for results in waiting] == [[1]] * 56


# -- workers that are stopped ------------------------------------------------------------------------------------------


def stop_in_release(path):
    """Make the first worker stop while it holds the board's mutex."""
    real = mutex.RobustMutex.release

    def release(self):
        if rows.first(path):
            os.kill(os.getpid(), signal.SIGSTOP)
        real(self)

    mutex.RobustMutex.release = release


def _mutexes():
    return [handle for handle in list(handles) if isinstance(handle, mutex.RobustMutex)]


def stop_behind_grab(path):
    """Make the first worker stop when it has the semaphore's permit, and before its word says so."""
    for handle in _mutexes():
        handle._grab = functools.partial(_grab_and_stop, handle._grab, path)


def _grab_and_stop(grab, path, timeout):
    grab(timeout)
    if rows.first(path):
        os.kill(os.getpid(), signal.SIGSTOP)


def stop_behind_post(path):
    """Make the first worker stop when it has given the permit back, and before its word says so."""
    for handle in _mutexes():
        handle._post = functools.partial(_post_and_stop, handle._post, path)


def _post_and_stop(post, path):
    post()
    if rows.first(path):
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.long
@pytest.mark.parametrize("stop", [stop_in_release, stop_behind_grab, stop_behind_post])
def test_a_stopped_worker_holds_up_no_time_limit(tmp_path, stop):
    with Executor(2, start_method="fork", initializer=stop, initargs=(str(tmp_path / "first"),)) as executor:
        before = time.monotonic()
        # The workers must have begun by then, also on a slow machine.
        error = failure_of(executor, rows.square, Array(range(100)), timeout=3.0)

        assert time.monotonic() - before < 10
        # Whom the limit killed had not begun the rows of his claim: nobody died on one.
        assert isinstance(error, RowTimeout)
        assert call(executor, rows.square, Array(range(100))) == tuple(n * n for n in range(100))


def test_a_stopped_worker_that_goes_on_has_lost_nothing(tmp_path):
    path = str(tmp_path / "first")
    with Executor(2, start_method="fork", initializer=stop_in_release, initargs=(path,)) as executor:
        future = executor.submit(rows.square, 7)
        pids = [member.process.pid for member in executor._engine.crew.members.values()]
        stopped = wait_until(lambda: [p for p in pids if psutil.Process(p).status() == psutil.STATUS_STOPPED])
        assert not future.done()
        os.kill(stopped[0], signal.SIGCONT)

        assert future.result(rows.LIMIT_S) == 49


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------

INTERACTIVE = """
import os, sys, time
import XME
from XME._core import program

def long(row):
    time.sleep(60)

def quick(row):
    return row + 1

if __name__ == "__main__":
    method = sys.argv[1]
    xme, other = XME.XME(long, start_method=method, pnum=2), XME.XME(quick, start_method=method, pnum=2)
    warm = sys.argv[2] == "warm"
    if warm:
        print(other.fun(XME.Array([1, 2])))
    for _ in range(2):
        try:
            print("ready", program.program_domain().id)
            xme.fun(XME.Array(range(4)))
        except KeyboardInterrupt:
            print("interrupted")
    print(other.fun(XME.Array([1, 2])))
"""


@pytest.mark.parametrize("to_all", [True, False], ids=["the whole group", "the parent"])
def test_ctrl_c_in_the_middle_of_a_call(start_method, to_all):
    with rows.program(INTERACTIVE, start_method, "cold") as process:
        for _ in range(2):
            domain = process.stdout.readline().split()[1]
            wait_until(lambda: rows.workers_of(process.pid, but=(process.pid,)))
            (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"

        assert process.stdout.readline() == "(2, 3)\n"
        assert process.wait(rows.LIMIT_S) == 0
        rows.await_nothing_left(process.pid, domain)


FUTURES = """
import sys, time
from XME._core import program
from XME.Executor import Executor

def long():
    time.sleep(60)

if __name__ == "__main__":
    executor = Executor(2, start_method=sys.argv[1])
    if sys.argv[2] == "with":
        with executor:
            futures = [executor.submit(long) for _ in range(4)]
            print("ready", program.program_domain().id)
            futures[0].result()
    futures = [executor.submit(long) for _ in range(4)]
    print("ready", program.program_domain().id)
    futures[0].result()
"""


@pytest.mark.parametrize("how", ["with", "without"])
def test_ctrl_c_ends_a_program_that_waits_for_futures(how):
    with rows.program(FUTURES, "fork", how) as process:
        domain = process.stdout.readline().split()[1]
        wait_until(lambda: rows.workers_of(process.pid, but=(process.pid,)))
        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(20) != 0
        rows.await_nothing_left(process.pid, domain)


def interrupt_after(delay_s, executor):
    """Begin a call, and let a Ctrl-C strike it; True if it did."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay_s)
            call(executor, rows.square, Array(range(300)))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    return False


def test_an_interrupt_at_any_moment_of_a_call_leaves_the_pool_whole():
    """Timers of many lengths strike everywhere: in the sending, the starting, the waiting, the clearing away."""
    old = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = 0
    try:
        with Executor(2, start_method="fork") as executor:
            call(executor, rows.square, Array(range(300)))
            for k in range(1, 60):
                interrupted += interrupt_after(k * 4e-5, executor)
                assert call(executor, rows.square, Array(range(50))) == tuple(n * n for n in range(50))
            engine = executor._engine
            assert interrupted
            assert engine.tables.have_room()
            assert engine.running == []
            assert len(engine.tables._free_slots) > 60
    finally:
        signal.signal(signal.SIGALRM, old)


@pytest.mark.long
def test_an_interrupt_at_any_instruction_of_the_boards_tables(monkeypatch):
    monkeypatch.setattr(test_mutex_interrupts, "FILES", {tables.__file__})
    with Executor(2, start_method="fork") as executor:
        call(executor, rows.square, Array(range(300)))
        engine = executor._engine

        def act(_engine):
            call(executor, rows.square, Array(range(300)))

        def check(_engine, place):
            assert call(executor, rows.square, Array(range(50))) == tuple(n * n for n in range(50)), place
            assert engine.running == [], place
            assert len(engine.tables._free_slots) == board.TABLES, place

        assert test_mutex_interrupts.each_instruction(lambda: engine, act, check) > 200

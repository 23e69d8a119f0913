"""After any number of calls and executors: descriptors, mappings, names, threads, memory are where they began."""

import gc
import threading

import numpy as np
import psutil
import pytest

import XME
from tests.helpers import children, wait_until
from tests.pool import rows
from XME._core import program
from XME.ArrayOperator import Array
from XME.errors import UnshareableArgument
from XME.Executor import Executor


def mappings():
    """Mappings of shared memory in this process, by file."""
    with open("/proc/self/maps") as file:
        return sum("/dev/shm/" in line for line in file)


def state():
    """What may not grow."""
    gc.collect()
    me = psutil.Process()
    return {
        "descriptors": me.num_fds(),
        "mappings": mappings(),
        "names": len(rows.names_of(program.program_domain().id)),
        "threads": threading.active_count(),
        "private MB": me.memory_full_info().uss >> 20,
    }


def assert_no_growth(before, after, **allowed):
    grown = {key: (before[key], after[key]) for key in before if after[key] > before[key] + allowed.get(key, 0)}
    assert not grown


# A worker's result segments have 16 MB, and one that is not quite empty counts as its reader's.
CHUNK_MB = 20


def one_call(executor, k):
    kind = k % 4
    if kind == 0:
        assert rows.call(executor, rows.square, Array(range(10))) == tuple(n * n for n in range(10))
    elif kind == 1:
        array = np.full(20_000, k, dtype=np.int64)
        assert rows.call(executor, np.sum, array) == (k * 20_000,)
    elif kind == 2:
        assert rows.call(executor, np.full, Array([20_000] * 2), k)[1][-1] == k
    else:
        assert executor.submit(rows.text_of, k).result(rows.LIMIT_S) == f"row {k}"


def run_calls(executor, count):
    for k in range(count):
        one_call(executor, k)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(400)
def test_calls_leave_nothing_behind(count):
    with Executor(2, start_method="fork") as executor:
        run_calls(executor, 200)
        executor.clean()
        before = state()
        workers = worker_state(executor)
        run_calls(executor, count)
        executor.clean()

        assert_no_growth(before, state(), **{"private MB": CHUNK_MB, "mappings": 3, "descriptors": 3, "names": 3})
        assert_no_growth(workers, worker_state(executor), **{"private MB": 2 * CHUNK_MB, "descriptors": 6})


def worker_state(executor):
    found = [psutil.Process(member.process.pid) for member in executor._engine.crew.members.values()]
    return {
        "descriptors": sum(worker.num_fds() for worker in found),
        "private MB": sum(worker.memory_full_info().uss >> 20 for worker in found),
    }


@pytest.mark.long
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_objects_that_are_dropped_leave_no_process(method):
    count = 200 if method == "fork" else 8
    XME.XME(rows.square, pnum=1, start_method=method).fun(1)
    before = state()
    for k in range(count):
        assert XME.XME(rows.square, pnum=2, start_method=method).fun(Array([k, 2])) == (k * k, 4)
    gc.collect()

    wait_until(lambda: not children())
    # Those that took longer to end than a finalizer may wait are reaped by the next start of a process.
    with XME.XME(rows.square, pnum=1, start_method=method) as last:
        last.fun(1)
        wait_until(lambda: not zombies())
    assert_no_growth(before, state(), descriptors=4, mappings=4, names=8, **{"private MB": 8})


def zombies():
    return [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def names():
    return rows.names_of(program.program_domain().id)


def test_maps_that_cannot_begin_leave_no_name():
    with Executor(1, start_method="fork") as executor:
        assert list(executor.map(rows.square, [3])) == [9]
        before = names()
        for _ in range(5):
            with pytest.raises(UnshareableArgument):
                executor.map(rows.square, [threading.Lock()])

        assert names() == before
        assert list(executor.map(rows.square, [3])) == [9]


def test_a_map_that_is_interrupted_when_it_is_on_the_board_leaves_nothing(monkeypatch):
    def interrupted(_rows):
        raise KeyboardInterrupt

    with Executor(1, start_method="fork") as executor:
        assert list(executor.map(rows.square, range(100))) == [n * n for n in range(100)]
        before = names()
        engine = executor._engine
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(engine, "_wake", interrupted)
            executor.map(rows.square, range(100))
        wait_until(lambda: engine.watch() or not engine.running)

        assert names() == before
        assert list(executor.map(rows.square, range(100))) == [n * n for n in range(100)]
        assert names() == before


@pytest.mark.parametrize("end", [Executor.shutdown, lambda executor: executor.shutdown(wait=False)])
def test_the_end_of_an_executor_with_futures_leaves_no_name(end):
    with Executor(1, start_method="fork") as first:
        assert first.submit(rows.square, 3).result(rows.LIMIT_S) == 9
    before = names()
    for _ in range(3):
        executor = Executor(1, start_method="fork")
        assert executor.submit(rows.square, 3).result(rows.LIMIT_S) == 9
        end(executor)

    # What is only dropped leaves its names to the next operation.
    wait_until(lambda: program.program_domain().names.tidy() or names() == before)


def test_futures_that_never_pause_do_not_pile_up_results():
    with Executor(2, start_method="fork") as executor:
        window = [executor.submit(np.full, 100_000, k) for k in range(8)]
        before = None
        for k in range(400):
            window.append(executor.submit(np.full, 100_000, k))
            window.pop(0).result(rows.LIMIT_S)
            if k == 150:
                before = state()
        after = state()

    assert_no_growth(before, after, mappings=12, descriptors=12, names=6, **{"private MB": 8})


def test_posts_do_not_pile_up():
    with Executor(2, start_method="fork") as executor:
        for _ in range(300):
            rows.call(executor, rows.square, Array(range(4)))
        engine = executor._engine
        assert engine.crew.board.wake._raw.value < 5000
        assert all(engine.crew.board.waiter(serial)._raw.value < 20 for serial in engine.waiters._free)

"""Segments used again: the second call has the same memory, and nobody who can still see a segment sees it change.

In each test of the second kind a witness keeps what it was given and is asked again and again, while calls of the same
shape go by, whether a byte has changed.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest

import XME
from tests.helpers import wait_until, xme_names

SIZE = 50_000
CALLS = 12


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def pool(request):
    with XME.Executor.Executor(2, start_method=request.param) as made:
        yield made


def run(pool, function, *args, **kwargs):
    return XME.XME(function, executor=pool).fun(*args, **kwargs)


def warm_of(pool):
    return pool._dispatcher().warm


def inodes(pool):
    """The segments of call arguments that are kept, by inode."""
    warm = warm_of(pool)
    warm.review()
    kept = [*warm._free, *(used for _, used in warm._cooling)]
    return {os.stat(f"/dev/shm/{used.name.lstrip('/')}").st_ino: used.name for used in kept}


def hammer(pool):
    """Calls of the same shape with other content, in which every worker takes part."""
    for k in range(CALLS):
        assert set(run(pool, first_and_last, XME.Array(range(8)), np.full(SIZE, 1000.0 + k))) == {(1000.0 + k,) * 2}


def first_and_last(_row, array):
    return array[0], array[-1]


def total(array):
    return array.sum()


# -- used again ----------------------------------------------------------------------------------------------


def test_the_next_call_of_that_shape_has_the_same_memory_under_another_name(pool):
    run(pool, total, np.full(SIZE, 1.0))
    wait_until(lambda: (warm_of(pool).review(), warm_of(pool)._free)[1])
    first = inodes(pool)

    assert run(pool, total, np.full(SIZE, 2.0)) == (2.0 * SIZE,)

    wait_until(lambda: (warm_of(pool).review(), warm_of(pool)._free)[1])
    second = inodes(pool)
    assert set(first) == set(second)
    assert not set(first.values()) & set(second.values())
    assert not set(first.values()) & xme_names()


def test_a_smaller_array_uses_it_too_and_a_much_smaller_one_does_not(pool):
    run(pool, total, np.full(SIZE, 1.0))
    wait_until(lambda: (warm_of(pool).review(), warm_of(pool)._free)[1])
    before = set(inodes(pool))

    assert run(pool, total, np.full(SIZE * 2 // 3, 2.0)) == (2.0 * (SIZE * 2 // 3),)
    assert set(inodes(pool)) == before
    run(pool, total, np.full(SIZE // 4, 2.0))
    assert len(inodes(pool)) == 2


def test_clean_and_close_leave_none(pool):
    names = xme_names()
    run(pool, total, np.full(SIZE, 1.0))
    wait_until(lambda: (warm_of(pool).review(), warm_of(pool)._free)[1])
    kept = set(inodes(pool).values())

    pool.clean()

    assert not kept & xme_names()
    pool.shutdown()
    assert not {name for name in xme_names() - names if name in kept}


def test_calls_of_many_shapes_keep_few_segments(pool):
    for k in range(100):
        run(pool, total, np.ones(10_000 + 1_000 * k))

    assert len(inodes(pool)) <= 64


# -- the witnesses -------------------------------------------------------------------------------------------

kept = []


def keep(array):
    kept.append(array)
    return os.getpid()


def keep_in_cycle(array):
    loop = [array]
    loop.append(loop)
    gc.disable()
    kept.append(id(loop))
    kept.append(memoryview(array))
    return os.getpid()


def keep_in_closure(array):
    kept.append(lambda: array)
    return os.getpid()


def keep_in_generator(array):
    def values():
        while True:
            yield array

    generator = values()
    next(generator)
    kept.append(generator)
    return os.getpid()


def keep_in_thread(array):
    ready, wanted = threading.Event(), threading.Event()

    def hold():
        ready.set()
        wanted.wait()
        kept.append(array)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    ready.wait()
    kept.append((wanted, thread))
    return os.getpid()


def keep_a_slice(array):
    kept.append(array[3:7].reshape(2, 2).T)
    return os.getpid()


def keep_a_buffer(array):
    kept.append(memoryview(array)[5:9])
    return os.getpid()


def keep_by_ctypes(array):
    kept.append(array.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))
    return os.getpid()


def keep_in_exception(array):
    try:
        raise LookupError(array[0])
    except LookupError as error:
        kept.append(error)
    return os.getpid()


def keep_default(array):
    def function(held=array):
        return held

    kept.append(function)
    return os.getpid()


def seen():
    """All values that the witnesses of this process see now."""
    found = []
    for witness in kept:
        if isinstance(witness, tuple):
            witness[0].set()
            witness[1].join()
        elif isinstance(witness, int):
            continue
        elif isinstance(witness, LookupError):
            found.append(witness.__traceback__.tb_frame.f_locals["array"])
        elif callable(witness):
            found.append(witness())
        elif hasattr(witness, "send"):
            found.append(next(witness))
        elif isinstance(witness, np.ndarray | memoryview):
            found.append(witness)
        else:
            found.append([witness[k] for k in range(SIZE)])
    return {float(value) for part in found for value in np.asarray(part).ravel()}


def ask(_row):
    return os.getpid(), seen()


KEEPERS = [
    keep, keep_in_cycle, keep_in_closure, keep_in_generator, keep_in_thread, keep_a_slice, keep_a_buffer,
    keep_by_ctypes,
    keep_in_exception, keep_default,
]  # fmt: skip


@pytest.mark.parametrize("keeper", KEEPERS, ids=lambda function: function.__name__)
def test_what_a_function_keeps_never_changes(pool, keeper):
    (pid,) = run(pool, keeper, np.full(SIZE, 7.0))

    hammer(pool)

    answers = {found for found_pid, found in ((p, frozenset(s)) for p, s in asked(pool)) if found_pid == pid}
    assert answers == {frozenset({7.0})}


def asked(pool):
    """Ask until both workers have answered."""
    answers = []
    deadline = time.monotonic() + 10
    while len({pid for pid, _ in answers}) < 2 and time.monotonic() < deadline:
        answers += run(pool, ask, XME.Array(range(8)))
    return answers


def test_split_parts_that_a_function_keeps_never_change(pool):
    (pid, *_) = run(pool, keep, XME.Array(np.full((3, 200_000), 7.0)))
    for k in range(CALLS):
        run(pool, total, XME.Array(np.full((3, 200_000), float(k))))

    assert {float(v) for p, found in asked(pool) for v in found} == {7.0}
    assert pid


def make_part_dirty_and_keep(array):
    array[0] = 9.0
    kept.append(array)
    return os.getpid()


def test_a_private_part_keeps_what_was_written_and_what_was_not(pool):
    run(pool, make_part_dirty_and_keep, XME.Array(np.full((1, 200_000), 7.0)))
    for k in range(CALLS):
        run(pool, total, XME.Array(np.full((1, 200_000), float(k))))

    assert {float(v) for p, found in asked(pool) for v in found} == {7.0, 9.0}


def hand_back(array):
    return array


def test_a_row_that_returns_its_view_returns_a_copy(pool):
    (result,) = run(pool, hand_back, np.full(SIZE, 7.0))

    hammer(pool)

    assert set(result.tolist()) == {7.0}


def store_in_shared(array, shared):
    shared[:] = array


def test_a_view_that_is_put_into_a_shared_array_is_a_copy(pool):
    shared = XME.xmem_array(SIZE)
    run(pool, store_in_shared, np.full(SIZE, 7.0), shared)

    hammer(pool)

    assert (shared == 7.0).all()


# -- children of workers -------------------------------------------------------------------------------------


def fork_with(array, path):
    """Leave a child that looks at the array whenever a file appears, and writes what it sees."""
    pid = os.fork()
    if pid:
        return os.getpid(), pid
    with contextlib.suppress(BaseException):
        watch(array, path)
    os._exit(0)


def watch(array, path):
    parent, deadline = os.getppid(), time.monotonic() + 20
    with open(path + ".ready", "w"):
        pass
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.002)
    with open(path + ".part", "w") as file:
        file.write(repr((sorted(set(array.tolist())), parent)))
    os.rename(path + ".part", path + ".seen")


def answer_of(path):
    with open(path, "w"):
        pass
    wait_until(lambda: os.path.exists(path + ".seen"))
    with open(path + ".seen") as file:
        return eval(file.read())[0]


def test_a_forked_child_of_a_worker_sees_its_array_unchanged(pool, tmp_path):
    path = str(tmp_path / "now")
    run(pool, fork_with, np.full(SIZE, 7.0), path)
    wait_until(lambda: os.path.exists(path + ".ready"))

    hammer(pool)

    assert answer_of(path) == [7.0]


def test_a_forked_child_of_a_killed_worker_sees_its_array_unchanged(pool, tmp_path):
    path = str(tmp_path / "now")
    ((worker, _),) = run(pool, fork_with, np.full(SIZE, 7.0), path)
    wait_until(lambda: os.path.exists(path + ".ready"))
    os.kill(worker, signal.SIGKILL)

    hammer(pool)

    assert answer_of(path) == [7.0]


def fork_by_multiprocessing(array, path):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=watch, args=(array, path))
    process.start()
    kept.append(process)
    return process.pid


def test_a_multiprocessing_child_of_a_worker_sees_its_array_unchanged(pool, tmp_path):
    path = str(tmp_path / "now")
    run(pool, fork_by_multiprocessing, np.full(SIZE, 7.0), path)
    wait_until(lambda: os.path.exists(path + ".ready"))

    hammer(pool)

    assert answer_of(path) == [7.0]


inner = []


def use_inside(array):
    xme = XME.XME(keep, start_method="fork", pnum=1)
    inner.append(xme)
    return os.getpid(), xme.fun(array)


def ask_inside(_row):
    return os.getpid(), [xme.fun and XME.XME(ask, executor=xme._executor).fun(0) for xme in inner]


def test_a_worker_of_a_worker_sees_its_array_unchanged(pool):
    run(pool, use_inside, np.full(SIZE, 7.0))

    hammer(pool)

    def answer():
        found = [values for _, inside in run(pool, ask_inside, XME.Array(range(4))) for ((_, values),) in inside]
        return set().union(*found)

    assert wait_until(answer) == {7.0}


# -- stopped and killed workers ------------------------------------------------------------------------------


def attach_slowly(array, started):
    with open(started, "w"):
        pass
    time.sleep(0)
    return float(array[0]), float(array[-1])


class StopsHere:
    """Stops its process when it is unpickled: after the call was claimed, before the array behind it is mapped."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return stop_here, (self.marker,)


def stop_here(marker):
    with contextlib.suppress(FileExistsError):
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGSTOP)
    return marker


def stopped_child():
    return next((p for p in psutil.Process().children(recursive=True) if p.status() == psutil.STATUS_STOPPED), None)


def test_a_worker_that_is_stopped_between_claim_and_attach_sees_its_own_array(pool, tmp_path):
    marker = str(tmp_path / "stopped")
    results = []
    caller = threading.Thread(
        target=lambda: results.append(
            run(pool, lambda _m, a: (a.min(), a.max()), StopsHere(marker), np.full(SIZE, 7.0))
        )
    )
    caller.start()
    stopped = wait_until(stopped_child)
    try:
        hammer(pool)
    finally:
        stopped.resume()
    caller.join(20)

    assert results == [((7.0, 7.0),)]


def die_with(array):
    os.kill(os.getpid(), signal.SIGKILL)
    return array


def test_memory_that_a_killed_worker_had_mapped_is_not_used_again(pool):
    with pytest.raises(XME.WorkerDied):
        run(pool, die_with, np.full(SIZE, 7.0))
    dead = set(inodes(pool))

    hammer(pool)

    assert not dead & set(inodes(pool)) or not dead


def die_or_hang(row, array, path):
    if row == 0:
        return fork_with(array, path)
    wait_until(lambda: os.path.exists(path + ".ready"))
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def test_a_call_whose_worker_died_while_another_forked(pool, tmp_path):
    path = str(tmp_path / "now")
    with pytest.raises(XME.WorkerDied):
        run(pool, die_or_hang, XME.Array(range(2)), np.full(SIZE, 7.0), path)

    hammer(pool)

    assert answer_of(path) == [7.0]


def test_a_timed_out_call_gives_nothing_back_too_early(pool, tmp_path):
    path = str(tmp_path / "now")
    # It is not the start that is to be late.
    run(pool, total, np.ones(3))

    xme = XME.XME(hang_after_fork, executor=pool, timeout=2.0)
    with pytest.raises(XME.RowTimeout):
        xme.fun(np.full(SIZE, 7.0), path)
    hammer(pool)

    assert answer_of(path) == [7.0]


def hang_after_fork(array, path):
    fork_with(array, path)
    threading.Event().wait()

"""The contract of concurrent.futures, as its own tests have it; cancel is True only if nothing ran."""

import asyncio
import concurrent.futures as cf
import gc
import itertools
import multiprocessing
import os
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

from tests.helpers import wait_until
from tests.pool import rows
from XME._core import program
from XME.errors import UnshareableArgument, WorkerDied, WorkerTraceback
from XME.Executor import Executor

LIMIT_S = rows.LIMIT_S


@pytest.fixture(scope="module")
def executor():
    with Executor(2, start_method="fork") as shared:
        yield shared


class Gate:
    """Keeps an executor's workers busy until it is opened."""

    def __init__(self, executor, count=2):
        self.flags = rows.shared_counts(count + 1)
        self.count = count
        self.futures = [executor.submit(rows.announce_and_wait, self.flags, k, count) for k in range(count)]
        wait_until(lambda: all(self.flags[:count]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flags[self.count] = 1
        cf.wait(self.futures, LIMIT_S)


def test_it_is_an_executor_and_its_futures_are_futures(executor):
    future = executor.submit(pow, 2, exp=10)

    assert isinstance(executor, cf.Executor)
    assert isinstance(future, cf.Future)
    assert future.result(LIMIT_S) == 1024
    assert (future.done(), future.running(), future.cancelled(), future.cancel()) == (True, False, False, False)


def test_an_exception_has_the_workers_traceback_as_its_cause(executor):
    error = executor.submit(rows.fail_on, 3, 3).exception(LIMIT_S)

    assert (type(error), error.args) == (ValueError, ("not 3",))
    assert isinstance(error.__cause__, WorkerTraceback)
    assert "in fail_on" in str(error.__cause__)


def test_what_cannot_travel_is_the_futures_exception(executor):
    with open(os.devnull) as file:
        future = executor.submit(len, file)
        others = [executor.submit(rows.square, k) for k in range(5)]

        assert isinstance(future.exception(LIMIT_S), UnshareableArgument)
        assert [other.result(LIMIT_S) for other in others] == [0, 1, 4, 9, 16]


def test_one_bad_row_in_a_batch_spoils_no_other(executor):
    with Gate(executor), open(os.devnull) as file:
        futures = [executor.submit(rows.square, k) for k in range(30)]
        bad = executor.submit(len, file)
        futures += [executor.submit(rows.square, k) for k in range(30, 60)]

    assert [future.result(LIMIT_S) for future in futures] == [k * k for k in range(60)]
    assert isinstance(bad.exception(LIMIT_S), UnshareableArgument)


def test_cancel_is_true_only_if_the_row_never_runs(executor):
    counts = rows.shared_counts(200)
    with Gate(executor) as gate:
        futures = [executor.submit(rows.count_row, k, counts) for k in range(200)]
        cancelled = [future.cancel() for future in futures[::2]]
        running = gate.futures[0]

        assert all(cancelled)
        assert all(future.cancel() for future in futures[::2])
        assert (running.cancel(), running.running(), running.done()) == (False, True, False)
        assert not futures[1].running()
    assert [future.result(LIMIT_S) for future in futures[1::2]] == [10 * k for k in range(1, 200, 2)]
    assert counts.tolist() == [k % 2 for k in range(200)]
    with pytest.raises(cf.CancelledError):
        futures[0].result()


def test_cancel_against_the_claim(executor):
    """Two threads cancel while the workers claim: what was cancelled has not run, what was not has."""
    counts = rows.shared_counts(600)
    futures = [executor.submit(rows.count_row, k, counts) for k in range(600)]
    answers = [[False] * 600, [False] * 600]

    def cancel(which):
        for k in range(0, 600, 3):
            answers[which][599 - k] = futures[599 - k].cancel()

    threads = [threading.Thread(target=cancel, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    cf.wait(futures, LIMIT_S)

    assert answers[0] == answers[1]
    assert counts.tolist() == [0 if cancelled else 1 for cancelled in answers[0]]
    assert [future.cancelled() for future in futures] == answers[0]


def test_callbacks_run_once_and_may_use_the_executor(executor):
    found, again = [], []
    future = executor.submit(rows.square, 3)
    future.add_done_callback(lambda done: again.append(executor.submit(rows.square, done.result())))
    future.add_done_callback(found.append)

    wait_until(lambda: again and found)
    assert again[0].result(LIMIT_S) == 81
    assert found == [future]


def test_callbacks_of_a_cancelled_future(executor):
    found = []
    with Gate(executor):
        future = executor.submit(rows.square, 3)
        future.add_done_callback(found.append)
        assert future.cancel()
        assert found == [future]


def test_as_completed_and_wait(executor):
    with Gate(executor) as gate:
        later = [executor.submit(rows.square, k) for k in range(10)]
        done, not_done = cf.wait([*gate.futures, *later], timeout=0.05)
        assert (done, len(not_done)) == (set(), 12)
        assert later[3].cancel()
        assert cf.wait(later, LIMIT_S, cf.FIRST_COMPLETED).done == {later[3]}
    results = {future.result() for future in cf.as_completed(later, LIMIT_S) if not future.cancelled()}

    assert results == {k * k for k in range(10) if k != 3}


def test_wait_for_the_first_exception(executor):
    flags = rows.shared_counts(1)
    waits = executor.submit(rows.wait_for, flags, 0)
    fails = executor.submit(rows.fail_on, 1, 1)
    done, not_done = cf.wait([waits, fails], LIMIT_S, cf.FIRST_EXCEPTION)
    flags[0] = 1

    assert (done, not_done) == ({fails}, {waits})


def test_a_result_that_is_late(executor):
    with Gate(executor) as gate, pytest.raises(TimeoutError):
        gate.futures[0].result(0.01)


def test_five_thousand_futures(executor):
    futures = [executor.submit(rows.square, k) for k in range(5000)]

    assert [future.result(LIMIT_S) for future in futures] == [k * k for k in range(5000)]


def test_eight_threads_at_once(executor):
    found = {}

    def use(thread):
        futures = [executor.submit(rows.square, thread + k) for k in range(40)]
        mapped = list(executor.map(rows.text_of, range(thread, thread + 40)))
        run = rows.call(executor, rows.square, rows.Array(range(thread, thread + 40)))
        found[thread] = [future.result(LIMIT_S) for future in futures], mapped, run

    threads = [threading.Thread(target=use, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)

    for k in range(8):
        squares = [(k + n) ** 2 for n in range(40)]
        assert found[k] == (squares, [f"row {k + n}" for n in range(40)], tuple(squares))


def test_asyncio_runs_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, rows.square, k) for k in range(20)))

    assert asyncio.run(main()) == [k * k for k in range(20)]


# -- map ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000, 1 << 32, 1 << 48, (1 << 64) + 1, np.int32(7)])
def test_map_keeps_the_order(executor, chunksize):
    # With a limit, so that a fault makes no test hang.
    found = executor.map(pow, range(50), [2] * 60, chunksize=chunksize, timeout=LIMIT_S)

    assert list(found) == [k * k for k in range(50)]


def test_map_of_nothing_and_of_generators(executor):
    assert list(executor.map(rows.square, [])) == []
    assert list(executor.map(rows.square, (k for k in range(3)))) == [0, 1, 4]
    assert list(executor.map(rows.text_of, {"a": 1, "b": 2})) == ["row a", "row b"]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"chunksize": 0}, ValueError, "chunksize is None or a whole number of rows, at least 1, not 0"),
        ({"chunksize": "3"}, TypeError, "chunksize is None or a whole number of rows, at least 1, not '3'"),
        ({"chunksize": 1.5}, TypeError, "chunksize"),
        ({"chunksize": True}, TypeError, "chunksize"),
        ({"buffersize": -1}, ValueError, "buffersize is None or a whole number of rows, at least 1, not -1"),
        ({"timeout": "1"}, TypeError, "timeout is None or the seconds .*, not '1'"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"chunk_size": 3}, TypeError, "no option 'chunk_size': .* timeout, chunksize, buffersize"),
    ],
)
def test_map_refuses_options_that_make_no_sense(executor, options, kind, said):
    with pytest.raises(kind, match=said):
        executor.map(rows.square, (pytest.fail("it was begun") for _ in range(1)), **options)


def test_map_with_a_buffer_takes_no_more_than_that_ahead(executor):
    taken = []
    numbers = (taken.append(k) or k for k in itertools.count())
    results = executor.map(pow, numbers, itertools.repeat(2), buffersize=3)

    assert len(taken) == 3
    for k in range(20):
        assert next(results) == k * k
        assert len(taken) == k + 4
    results.close()
    assert list(executor.map(pow, range(2), range(5), buffersize=10)) == [1, 1]
    assert list(executor.map(pow, [], buffersize=1)) == []


def test_map_with_a_buffer_says_which_row_was_late_or_failed(executor):
    flags = rows.shared_counts(1)
    late = executor.map(rows.wait_for, [flags], [0], timeout=0.1, buffersize=1)
    with pytest.raises(TimeoutError, match="row 0 was not done in time"):
        next(late)
    flags[0] = 1
    failing = executor.map(rows.fail_on, itertools.count(), itertools.repeat(2), buffersize=2)

    assert [next(failing), next(failing)] == [0, 1]
    with pytest.raises(ValueError, match="not 2"):
        next(failing)


def test_map_raises_at_the_row_that_failed(executor):
    results = executor.map(rows.fail_on, range(6), [3] * 6)

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="not 3"):
        next(results)
    assert list(results) == []


def test_a_map_that_is_late_says_so_at_once(executor):
    flags = rows.shared_counts(1)
    # It is not the start that is to be late.
    assert rows.call(executor, rows.square, rows.Array(range(2))) == (0, 1)
    before = time.monotonic()
    results = executor.map(rows.wait_for, [flags] * 3, [0] * 3, [0, 1, 1], timeout=1.0)
    assert next(results) == 0
    with pytest.raises(TimeoutError):
        next(results)
    assert time.monotonic() - before < 5
    flags[0] = 1

    assert executor.submit(rows.square, 5).result(LIMIT_S) == 25


def test_a_map_that_nobody_asks_runs_to_its_end():
    counts = rows.shared_counts(50)
    with Executor(2, start_method="fork") as executor:
        executor.map(rows.count_row, range(50), [counts] * 50)

    assert counts.tolist() == [1] * 50


def test_a_map_that_was_given_up_begins_nothing_more():
    counts = rows.shared_counts(1000)
    flags = rows.shared_counts(1)
    with Executor(1, start_method="fork") as executor:
        results = executor.map(count_and_wait, range(1000), [counts] * 1000, [flags] * 1000)
        assert next(results) == 0
        wait_until(lambda: counts[1])
        del results
        executor._engine.watch()
        flags[0] = 1

    assert 2 <= sum(counts) < 1000
    assert max(counts) == 1


def count_and_wait(row, counts, flags):
    counts[row] += 1
    return rows.wait_for(flags, 0) if row else 0


def test_results_of_a_map_outlive_its_executor():
    with Executor(2, start_method="fork") as executor:
        results = executor.map(rows.text_of, range(100))
        assert next(results) == "row 0"
    assert list(results) == [f"row {k}" for k in range(1, 100)]

    results = Executor(2, start_method="fork").map(rows.text_of, range(100))
    gc.collect()
    assert list(results) == [f"row {k}" for k in range(100)]


def test_an_abandoned_large_result_is_unlinked():
    with Executor(1, start_method="fork") as executor:
        list(executor.map(rows.square, range(3)))
        executor.clean()
        before = len(names_here())
        results = executor.map(bytes, [8 << 20] * 3)
        next(results)
        results.close()
        executor._engine.drain()

        assert len(names_here()) <= before + 1


def names_here():
    return rows.names_of(program.program_domain().id)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_shutdown_waits_and_then_refuses():
    counts = rows.shared_counts(40)
    executor = Executor(2, start_method="fork")
    futures = [executor.submit(rows.count_row, k, counts) for k in range(40)]
    executor.shutdown()

    assert counts.tolist() == [1] * 40
    assert all(future.done() for future in futures)
    executor.shutdown()
    for use in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1]), lambda: rows.call(executor, abs, 1)):
        with pytest.raises(RuntimeError, match="shutdown"):
            use()


def test_shutdown_without_waiting_still_finishes():
    flags = rows.shared_counts(1)
    executor = Executor(1, start_method="fork")
    futures = [executor.submit(rows.wait_for, flags, 0) for _ in range(3)]
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    flags[0] = 1

    assert [future.result(LIMIT_S) for future in futures] == [1] * 3


def test_shutdown_may_cancel_what_has_not_begun():
    counts = rows.shared_counts(100)
    executor = Executor(2, start_method="fork")
    with Gate(executor) as gate:
        futures = [executor.submit(rows.count_row, k, counts) for k in range(100)]
        ends = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
        ends.start()
        wait_until(lambda: all(future.cancelled() for future in futures))
    ends.join(LIMIT_S)

    assert not ends.is_alive()
    assert [future.result(0) for future in gate.futures] == [1, 1]
    assert sum(counts) == 0


def test_submitting_against_the_shutdown_loses_nothing():
    """Each submit either raises, or its future ends."""
    for _ in range(5):
        executor = Executor(2, start_method="fork")
        futures = [executor.submit(rows.square, 0)]

        def submit(executor=executor, futures=futures):
            try:
                while True:
                    futures.append(executor.submit(rows.square, 1))
            except RuntimeError:
                return

        thread = threading.Thread(target=submit)
        thread.start()
        futures[0].result(LIMIT_S)
        executor.shutdown()
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert {future.result(LIMIT_S) for future in futures} <= {0, 1}


def test_an_executor_that_is_dropped_finishes_its_futures():
    executor = Executor(2, start_method="fork")
    futures = [executor.submit(rows.square, k) for k in range(50)]
    pids = [member.process.pid for member in executor._engine.crew.members.values()]
    gone = weakref.ref(executor)
    del executor
    gc.collect()

    assert gone() is None
    assert [future.result(LIMIT_S) for future in futures] == [k * k for k in range(50)]
    wait_until(lambda: not any(is_there(pid) for pid in pids))


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_executor_does_not_pickle(executor):
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(executor)
    assert isinstance(executor.submit(repr, executor).exception(LIMIT_S), UnshareableArgument)


# -- options -----------------------------------------------------------------------------------------------------------

_given = None


def remember(*values):
    global _given
    _given = values


def recall(_row=None):
    return _given


@pytest.mark.long
def test_the_initializer_runs_in_every_worker(start_method):
    with Executor(2, start_method=start_method, initializer=remember, initargs=(1, "two")) as executor:
        assert set(executor.map(recall, range(20))) == {(1, "two")}


def add_under_lock(_row):
    lock, value = _given
    with lock:
        value.value += 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_initializer_may_be_given_locks_and_values(method):
    context = multiprocessing.get_context(method)
    value = context.Value("i", 0, lock=False)
    with Executor(2, mp_context=context, initializer=remember, initargs=(context.Lock(), value)) as executor:
        list(executor.map(add_under_lock, range(50)))

    assert value.value == 50


@pytest.mark.parametrize("limit", [1, 3])
def test_a_worker_is_replaced_after_so_many_rows(limit):
    with Executor(2, start_method="fork", max_tasks_per_child=limit) as executor:
        pids = list(executor.map(rows.pid_of, range(12)))
        again = [future.result(LIMIT_S) for future in [executor.submit(rows.pid_of) for _ in range(6)]]

    assert max(pids.count(pid) for pid in pids) <= limit
    assert max((pids + again).count(pid) for pid in again) <= limit


def test_replacing_workers_while_others_die_loses_no_row():
    counts = rows.shared_counts(30)
    with Executor(2, start_method="fork", max_tasks_per_child=2) as executor:
        error = rows.failure_of(executor, rows.dies_on, rows.Array(range(30)), 7, "exit 0", counts)

        assert isinstance(error, WorkerDied)
        assert error.results == {row: row * 10 for row in range(30) if row != 7}
        assert counts.tolist() == [1] * 30


def leave_a_thread(_row):
    gate = threading.Event()
    threading.Thread(target=gate.wait, args=(60,)).start()


@pytest.mark.slow
def test_a_worker_that_does_not_end_is_replaced_all_the_same():
    with Executor(1, start_method="fork", max_tasks_per_child=1) as executor:
        assert list(executor.map(leave_a_thread, range(4))) == [None] * 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, ValueError), ({"max_workers": "2"}, TypeError), ({"max_workers": True}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError), ({"initializer": 3}, TypeError), ({"start_method": "x"}, ValueError),
        ({"start_method": "fork", "mp_context": multiprocessing.get_context("fork")}, ValueError),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options, error):
    with pytest.raises(error):
        Executor(**options)

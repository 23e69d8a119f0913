"""A worker that dies fails the one row that it was on, wherever death strikes; everything else goes on."""

import functools
import os
import signal
import sys
import threading
import types

import pytest

from tests.helpers import wait_until
from tests.pool import rows
from tests.pool.rows import DEATHS, call, failure_of, shared_counts
from XME._core import mutex
from XME._pool import arena
from XME.ArrayOperator import Array
from XME.errors import CrewFailed, DomainFull, RemoteError, RowErrors, WorkerDied
from XME.Executor import Executor

ROWS = 12


def assert_only_one_row_failed(error, bad, exitcode, counts, function="dies_on"):
    assert isinstance(error, WorkerDied)
    assert (error.row, error.function, error.exitcode) == (bad, function, exitcode)
    assert str(error.pid) in str(error)
    assert function in str(error)
    assert f"row {bad};" in str(error)
    assert error.results == {row: row * 10 for row in range(ROWS) if row != bad}
    assert counts.tolist() == [1] * ROWS


def assert_goes_on(executor):
    assert call(executor, rows.square, Array(range(20))) == tuple(n * n for n in range(20))


@pytest.mark.parametrize("how", DEATHS)
def test_a_death_fails_the_one_row_that_it_was_on(how):
    counts = shared_counts(ROWS)
    with Executor(2, start_method="fork") as executor:
        error = failure_of(executor, rows.dies_on, Array(range(ROWS)), 5, how, counts)

        assert_only_one_row_failed(error, 5, DEATHS[how][1], counts)
        assert_goes_on(executor)


def test_a_death_is_one_row_under_every_start_method(start_method):
    counts = shared_counts(ROWS)
    with Executor(2, start_method=start_method) as executor:
        error = failure_of(executor, rows.dies_on, Array(range(ROWS)), 0, "SIGKILL", counts)

        assert_only_one_row_failed(error, 0, -signal.SIGKILL, counts)
        assert_goes_on(executor)


def test_what_only_looks_like_a_death_is_the_rows_exception():
    def ends(row):
        if row == 1:
            sys.exit("over")
        if row == 2:
            raise MemoryError
        return row

    with Executor(2, start_method="fork") as executor:
        error = failure_of(executor, ends, Array(range(4)))

        assert isinstance(error, RowErrors)
        assert {row: type(found) for row, found in error.failures.items()} == {1: RemoteError, 2: MemoryError}
        assert error.results == {0: 0, 3: 3}


def test_a_recursion_without_end_is_an_exception_or_a_death():
    with Executor(1, start_method="fork") as executor:
        error = failure_of(executor, rows.recurse_in_c)

        assert isinstance(error, (RecursionError, WorkerDied, MemoryError))
        assert_goes_on(executor)


def test_a_kill_from_outside_is_that_row(start_method):
    flags = shared_counts(3)
    with Executor(2, start_method=start_method) as executor:
        future = executor.submit(rows.announce_and_wait, flags, 0, 2)
        other = executor.submit(rows.announce_and_wait, flags, 1, 2)
        victim = wait_until(lambda: int(flags[0]))
        wait_until(lambda: flags[1])
        os.kill(victim, signal.SIGKILL)
        error = future.exception(rows.LIMIT_S)
        flags[2] = 1

        assert isinstance(error, WorkerDied)
        assert (error.pid, error.exitcode) == (victim, -signal.SIGKILL)
        assert other.result(rows.LIMIT_S) == 1


def test_one_retry_gives_the_right_answer_when_the_death_happens_once():
    counts = shared_counts(ROWS)
    with Executor(2, start_method="fork") as executor:
        found = call(executor, rows.dies_on, Array(range(ROWS)), 5, "SIGKILL", counts, retries=1)

        assert found == tuple(row * 10 for row in range(ROWS))
        assert counts.tolist() == [2 if row == 5 else 1 for row in range(ROWS)]


def test_retries_that_are_used_up_are_a_death():
    counts = shared_counts(ROWS)
    with Executor(2, start_method="fork") as executor:
        error = failure_of(executor, rows.dies_on, Array(range(ROWS)), 5, "exit 3", counts, 99, retries=2)

        assert isinstance(error, WorkerDied)
        assert error.row == 5
        assert counts.tolist() == [3 if row == 5 else 1 for row in range(ROWS)]


@pytest.mark.long
def test_more_deaths_than_the_board_has_slots():
    count = 80
    counts = shared_counts(count)
    with Executor(4, start_method="fork") as executor:
        assert call(executor, rows.dies_once, Array(range(count)), counts, retries=1) == tuple(range(0, 10 * count, 10))
        assert counts.tolist() == [2] * count
        assert_goes_on(executor)


def test_a_death_in_one_threads_call_is_none_in_anothers():
    counts = shared_counts(ROWS)
    found = {}

    def other(executor):
        found["rows"] = [call(executor, rows.square, Array(range(200))) for _ in range(20)]

    with Executor(2, start_method="fork") as executor:
        thread = threading.Thread(target=other, args=(executor,))
        thread.start()
        errors = [failure_of(executor, rows.dies_on, Array(range(ROWS)), 5, "exit 3", counts, 99) for _ in range(3)]
        thread.join(rows.LIMIT_S)

        assert [type(error) for error in errors] == [WorkerDied] * 3
        assert counts.tolist() == [3] * ROWS
        assert found["rows"] == [tuple(n * n for n in range(200))] * 20


# -- at the start ------------------------------------------------------------------------------------------------------


def test_an_initializer_that_kills_is_a_crew_that_failed(start_method):
    with Executor(2, start_method=start_method, initializer=rows.kill_myself) as executor:
        error = failure_of(executor, rows.square, Array(range(3)))

        assert isinstance(error, CrewFailed)
        assert error.exitcode == -signal.SIGKILL
        assert error.deaths >= 3


def test_an_initializer_that_fails_says_why():
    with Executor(2, start_method="fork", initializer=rows.fails, initargs=("no such database",)) as executor:
        future = executor.submit(rows.square, 3)

        assert isinstance(future.exception(rows.LIMIT_S), CrewFailed)
        assert "no such database" in str(future.exception())
        assert "no such database" in str(failure_of(executor, rows.square, Array(range(3))))


NOBODY = [DomainFull.of("other", 2), OSError("no process to be had")]


def last_of_all(executor, monkeypatch, error):
    """From now on no worker can be started."""

    def fail(_wanted):
        if not executor._engine.crew.members:
            raise error

    monkeypatch.setattr(executor._engine.crew, "staff", fail)


@pytest.mark.parametrize("reason", NOBODY)
def test_a_call_whose_last_worker_dies_has_what_was_done(monkeypatch, reason):
    counts = shared_counts(ROWS)
    with Executor(1, start_method="fork") as executor:
        call(executor, rows.square, 3)
        last_of_all(executor, monkeypatch, reason)
        error = failure_of(executor, rows.dies_on, Array(range(ROWS)), 1, "exit 3", counts)

        assert error is reason
        assert error.results == {0: 0}
        assert isinstance(error.failures.pop(1), WorkerDied)
        assert error.failures == dict.fromkeys(range(2, ROWS), reason)
        assert sum(counts) == 2
        assert failure_of(executor, rows.square, 3) is reason


@pytest.mark.parametrize("reason", NOBODY)
def test_an_executor_whose_last_worker_dies_ends_all_the_same(monkeypatch, reason):
    counts = shared_counts(3)
    with Executor(1, start_method="fork") as executor:
        call(executor, rows.square, 3)
        last_of_all(executor, monkeypatch, reason)
        results = executor.map(rows.dies_on, range(3), [1] * 3, ["exit 3"] * 3, [counts] * 3)

    assert next(results) == 0
    with pytest.raises(WorkerDied):
        next(results)
    assert executor._engine._closed


def test_a_row_may_raise_what_a_crew_may_fail_with():
    with Executor(1, start_method="fork") as executor:
        error = failure_of(executor, raise_for, Array([FileNotFoundError(2, "no"), CrewFailed("of my own")]))

        assert isinstance(error, RowErrors)


def raise_for(error):
    raise error


def test_killed_idle_workers_are_no_failed_starts():
    with Executor(4, start_method="fork") as executor:
        call(executor, rows.nap, Array([0.05] * 8))
        crew = executor._engine.crew
        wait_until(lambda: all(crew.board.worker(member.index)[9] for member in crew.members.values()))
        for member in crew.members.values():
            os.kill(member.process.pid, signal.SIGKILL)

        assert_goes_on(executor)


def test_a_module_that_workers_cannot_import_fails_its_rows_only():
    module = types.ModuleType("nowhere_to_be_found")
    exec("def function(row):\n    return row", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        with Executor(1, start_method="spawn") as executor:
            error = failure_of(executor, module.function, Array(range(2)))

            assert isinstance(error, RowErrors)
            assert {type(found) for found in error.failures.values()} == {ModuleNotFoundError}
            assert_goes_on(executor)
    finally:
        del sys.modules[module.__name__]


# -- between the result and its tag, in a claim ------------------------------------------------------------------------


def die_after_put(path):
    """Make the first worker that stores "row 5" die when that is written and not yet told."""
    real = arena.Arena.put

    def put(self, value):
        place = real(self, value)
        if value == "row 5" and rows.first(path):
            os._exit(7)
        return place

    arena.Arena.put = put


def test_a_death_between_the_result_and_its_tag(tmp_path):
    with Executor(2, start_method="fork", initializer=die_after_put, initargs=(str(tmp_path / "a"),)) as executor:
        error = failure_of(executor, rows.text_of, Array(range(ROWS)))

        assert isinstance(error, WorkerDied)
        assert (error.row, error.exitcode) == (5, 7)
        assert error.results == {row: f"row {row}" for row in range(ROWS) if row != 5}

    with Executor(2, start_method="fork", initializer=die_after_put, initargs=(str(tmp_path / "b"),)) as executor:
        assert call(executor, rows.text_of, Array(range(ROWS)), retries=1) == tuple(f"row {k}" for k in range(ROWS))


def act_at_release(path, number, act, *, before):
    """Make the first worker do something around its n-th release of the board's mutex: its n-th claim."""
    real = mutex.RobustMutex.release
    count = 0

    def release(self):
        nonlocal count
        count += 1
        if count == number and before and rows.first(path):
            act()
        real(self)
        if count == number and not before and rows.first(path):
            act()

    mutex.RobustMutex.release = release


@pytest.mark.parametrize("before", [True, False], ids=["in the mutex", "behind it"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_death_in_a_claim_fails_no_more_than_one_row(tmp_path, number, before):
    counts = shared_counts(40)
    arrange = functools.partial(act_at_release, str(tmp_path / "first"), number, rows.kill_myself, before=before)
    with Executor(2, start_method="fork", initializer=arrange) as executor:
        try:
            found = dict(enumerate(call(executor, rows.count_row, Array(range(40)), counts)))
        except WorkerDied as error:
            # It cannot always be known whether the first row of the claim had begun.
            found = {**error.results, error.row: error.row * 10}

        assert found == {row: row * 10 for row in range(40)}
        assert max(counts) == 1
        assert_goes_on(executor)

"""The guard's row runs beside the others, in a process of its own, and its death is its own."""

import signal

import pytest

import XME
from tests.pool import rows
from tests.pool.rows import call, failure_of, shared_counts
from XME.ArrayOperator import Array, Entry
from XME.errors import RowErrors, RowTimeout, WorkerDied
from XME.Executor import Executor


def guard(function, *args):
    return Entry(function, args, {}, 1)


def open_gate(flags, place):
    flags[place] = 1
    return "opened"


def test_the_guard_runs_beside_and_has_a_process_of_its_own(start_method):
    flags = shared_counts(3)
    with Executor(1, start_method=start_method) as executor:
        # The only worker is busy until the guard has run.
        found = call(executor, rows.wait_for, flags, Array([0, 0]), guard=guard(open_gate, flags, 0))
        pids = call(executor, rows.pid_of, Array(range(4)), guard=guard(rows.pid_of))

    assert found == (1, 1, "opened")
    assert pids[-1] not in pids[:-1]


def test_a_guard_alone_and_through_the_front():
    with XME.XME(rows.square, rows.text_of, pnum=1, start_method="fork") as xme:
        assert xme.gfun(Array([1, 2, 3]), garg=["g"]) == (("row g",), (1, 4, 9))


def test_a_guard_that_dies_is_its_row():
    with Executor(2, start_method="fork") as executor:
        error = failure_of(executor, rows.square, Array(range(5)), guard=guard(rows.kill_myself))

        assert isinstance(error, WorkerDied)
        assert (error.row, error.function, error.exitcode) == (5, "kill_myself", -signal.SIGKILL)
        assert error.results == {k: k * k for k in range(5)}
        assert call(executor, rows.square, Array(range(3)), guard=guard(rows.square, 9)) == (0, 1, 4, 81)


def test_a_guard_that_died_is_run_again_while_the_others_wait_for_it():
    flags, counts = shared_counts(1), shared_counts(1)
    with Executor(1, start_method="fork") as executor:
        found = call(
            executor, rows.wait_for, flags, Array([0]), guard=guard(die_then_open, flags, counts), retries=1, timeout=20
        )

    assert found == (1, "opened")


def die_then_open(flags, counts):
    counts[0] += 1
    if counts[0] == 1:
        rows.kill_myself()
    return open_gate(flags, 0)


def test_a_guard_that_fails_beside_a_row_that_fails():
    with Executor(1, start_method="fork") as executor:
        error = failure_of(executor, rows.fail_on, Array(range(3)), 1, guard=guard(rows.fails, "the guard"))

    assert isinstance(error, RowErrors)
    assert {row: str(found) for row, found in error.failures.items()} == {1: "not 1", 3: "the guard"}
    assert error.results == {0: 0, 2: 2}


@pytest.mark.long
@pytest.mark.parametrize("late", ["guard", "function"])
def test_a_limit_ends_both(late):
    flags = shared_counts(1)
    with Executor(1, start_method="fork") as executor:
        # It is not the start that is to be late.
        assert call(executor, rows.square, Array([3]), guard=guard(rows.square, 2)) == (9, 4)
        waits, runs = (guard(rows.wait_for, flags, 0), rows.square), (guard(rows.square, 2), None)
        if late == "guard":
            error = failure_of(executor, waits[1], Array([3]), guard=waits[0], timeout=2.0)
            assert (error.rows, error.results) == ((1,), {0: 9})
        else:
            error = failure_of(executor, rows.wait_for, flags, Array([0]), guard=runs[0], timeout=2.0)
            assert (error.rows, error.results) == ((0,), {1: 4})

        assert isinstance(error, RowTimeout)
        assert call(executor, rows.square, Array([3]), guard=guard(rows.square, 2)) == (9, 4)


def test_the_guards_process_gets_the_initializer():
    with Executor(1, start_method="fork", initializer=leave_word, initargs=("here",)) as executor:
        assert call(executor, read_word, Array([0]), guard=guard(read_word, 0)) == ("here", "here")


_word = None


def leave_word(word):
    global _word
    _word = word


def read_word(_row):
    return _word

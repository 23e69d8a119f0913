"""Executors that were dropped with work to do: each is closed at last, and what befalls it is no other's trouble."""

import gc

import pytest

from tests.helpers import run_python, wait_until
from tests.pool import rows
from XME._pool import leftovers
from XME.Executor import Executor


@pytest.fixture
def left():
    """The dispatcher of an executor that was dropped with a call that still runs, and that call's gate."""
    leftovers.tend(wait=True)
    flags = rows.shared_counts(1)
    executor = Executor(1, start_method="fork")
    engine = executor._dispatcher()
    executor.map(rows.wait_for, [flags], [0])
    del executor
    gc.collect()
    assert list(leftovers._left) == [engine]
    yield engine
    flags[0] = 1
    wait_until(lambda: leftovers.tend() or not leftovers._left)


def failing(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize("what", ["watch", "close"])
def test_who_uses_another_executor_does_not_hear_of_it(left, monkeypatch, what):
    running, error = left.running, OSError("no process to be had")
    with monkeypatch.context() as patch, Executor(1, start_method="fork") as other:
        if what == "close":
            patch.setattr(left, "running", [])
        patch.setattr(left, what, failing(error))
        assert list(other.map(rows.square, [3])) == [9]
        assert list(leftovers._left) == [left]

        patch.setattr(left, "running", running)


@pytest.mark.parametrize("what", ["watch", "close"])
def test_a_ctrl_c_loses_none(left, monkeypatch, what):
    with monkeypatch.context() as patch:
        if what == "close":
            patch.setattr(left, "running", [])
        patch.setattr(left, what, failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            leftovers.tend()

    assert list(leftovers._left) == [left]


AT_THE_END = """
import gc, time
from XME._pool import dispatch
from XME.Executor import Executor

def fails(_self):
    dispatch.Dispatcher.close = close
    raise OSError("once")

if __name__ == "__main__":
    close = dispatch.Dispatcher.close
    kept = [Executor(1, start_method="fork") for _ in range(2)]
    for executor in kept:
        executor.map(time.sleep, [0.1])
    del executor
    DROPPED
    gc.collect()
    dispatch.Dispatcher.close = fails
"""


@pytest.mark.parametrize("dropped", ["kept.clear()", ""], ids=["dropped", "in use"])
def test_one_that_cannot_be_closed_at_the_end_is_told_of_and_hinders_no_other(dropped):
    done = run_python(AT_THE_END.replace("DROPPED", dropped), timeout_s=15)

    assert (done.stdout, done.returncode) == ("", 0)
    assert "OSError: once" in done.stderr

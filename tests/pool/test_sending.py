"""While a call's arguments are being sent: other threads, errors and a Ctrl-C lose nothing and hang nothing."""

import collections
import itertools
import threading

import numpy as np
import pytest

from tests.core import test_mutex_interrupts
from tests.helpers import wait_until
from tests.pool import rows
from XME._core import program
from XME._pool import dispatch, futures
from XME.ArrayOperator import Array
from XME.errors import RowTimeout, UnshareableArgument
from XME.Executor import Executor

LARGE = 100_000


@pytest.fixture
def executor():
    with Executor(1, start_method="fork") as made:
        yield made


def send_large(executor):
    assert list(executor.map(len, [np.ones(LARGE)])) == [LARGE]


class Pause:
    """An argument that takes its time to be pickled."""

    def __init__(self):
        self.reached, self.over = threading.Event(), threading.Event()

    def __reduce__(self):
        self.reached.set()
        self.over.wait(rows.LIMIT_S)
        return int, ()


class Announcing:
    """A lock that tells when somebody wants it."""

    def __init__(self, lock):
        self.lock, self.wanted = lock, threading.Event()

    def __enter__(self):
        self.wanted.set()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_who_submits_while_another_sends_holds_up_nobody(executor, monkeypatch):
    """Above all not the other, who may want the dispatcher's lock before he has sent all."""
    send_large(executor)
    engine, pause, futures_made = executor._engine, Pause(), []
    sender = threading.Thread(target=lambda: list(executor.map(int, [pause])), daemon=True)
    submitter = threading.Thread(target=lambda: futures_made.append(executor.submit(abs, -1)), daemon=True)
    sender.start()
    assert pause.reached.wait(rows.LIMIT_S)
    with monkeypatch.context() as patch:
        sending = Announcing(engine.sending)
        patch.setattr(engine, "sending", sending)
        submitter.start()
        assert sending.wanted.wait(rows.LIMIT_S)
        free = engine.lock.acquire(timeout=3)
    if free:
        engine.lock.release()
    pause.over.set()
    for thread in (sender, submitter):
        thread.join(rows.LIMIT_S)

    assert free
    assert futures_made[0].result(rows.LIMIT_S) == 1


def test_memory_whose_fate_a_ctrl_c_has_cut_short_is_given_back(executor, monkeypatch):
    send_large(executor)
    engine = executor._engine
    wait_until(lambda: not engine.running and engine.warm._cooling)
    let_go = engine.warm._state

    def interrupted(call):
        wait_until(lambda: let_go(call).name == "YES")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine.warm, "_state", interrupted)
        send_large(executor)

    send_large(executor)


# -- what ends between the sending and the board -----------------------------------------------------------------------


def names():
    return rows.names_of(program.program_domain().id)


@pytest.mark.parametrize(
    ("answer", "error"), [(KeyboardInterrupt, KeyboardInterrupt), (RuntimeError, RuntimeError), (None, RowTimeout)]
)
def test_a_call_that_ends_when_its_arguments_are_sent_gives_their_memory_back(executor, monkeypatch, answer, error):
    rows.call(executor, rows.square, 3)
    engine, before, sent = executor._engine, names(), []
    send = dispatch.send

    def send_and_note(*args):
        found = send(*args)
        sent.extend(found.segments)
        return found

    def find_no_slot(_deadline):
        if sent and answer is not None:
            raise answer
        return not sent

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(dispatch, "send", send_and_note)
        patch.setattr(engine, "_await_slot", find_no_slot)
        rows.call(executor, len, np.ones(LARGE))

    assert names() == before
    assert [used.map.closed for used in sent] == [True]
    assert rows.call(executor, rows.square, Array(range(3))) == (0, 1, 4)


def test_a_ctrl_c_when_a_call_ends_leaves_its_memory_to_the_next_call(executor, monkeypatch):
    def interrupted(_calls):
        raise KeyboardInterrupt

    assert rows.call(executor, len, np.ones(LARGE)) == (LARGE,)
    executor.clean()
    before = names()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(executor._engine._ended, "add", interrupted)
        rows.call(executor, len, np.ones(LARGE))
    assert names() > before
    assert rows.call(executor, rows.square, 3) == (9,)
    executor.clean()

    assert names() == before


@pytest.mark.parametrize("where", ["_replace_workers", "_wake"])
def test_a_submit_that_a_ctrl_c_strikes_on_the_board_runs_its_row_once(executor, monkeypatch, where):
    counts = rows.shared_counts(3)
    executor.submit(rows.count_row, 0, counts).result(rows.LIMIT_S)
    engine = executor._engine

    def interrupted(*_):
        wait_until(lambda: counts[1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, where, interrupted)
        executor.submit(rows.count_row, 1, counts)

    assert executor.submit(rows.count_row, 2, counts).result(rows.LIMIT_S) == 20
    wait_until(lambda: not engine.running)
    assert counts.tolist() == [1, 1, 1]


def test_an_interrupt_at_any_instruction_of_the_futures_of_a_submit(executor, monkeypatch):
    """Whatever it strikes, no future of an earlier submit is lost, no row runs twice, and no call stays."""
    monkeypatch.setattr(test_mutex_interrupts, "FILES", {futures.__file__})
    counts, number = rows.shared_counts(2000), itertools.count()
    executor.submit(rows.count_row, next(number), counts).result(rows.LIMIT_S)
    engine = executor._engine

    def one_waits():
        """A row that found no room on the board, as there is little."""
        with monkeypatch.context() as patch:
            patch.setattr(futures, "_TABLES", 0)
            with engine.lock:
                return executor.submit(rows.count_row, next(number), counts), engine

    def act(_):
        executor.submit(rows.count_row, next(number), counts)

    def check(prepared, place):
        assert executor.submit(rows.count_row, row := next(number), counts).result(rows.LIMIT_S) == 10 * row, place
        assert prepared[0].result(rows.LIMIT_S), place
        wait_until(lambda: not engine.running)

    assert test_mutex_interrupts.each_instruction(one_waits, act, check) > 150
    assert max(counts) == 1


class Asks:
    """An argument that looks, when it is pickled, whether its executor is thought to be idle."""

    said = []

    def __init__(self, executor):
        self.executor = executor

    def __reduce__(self):
        self.said.append(self.executor._engine.runner.idle)
        return int, ()


def test_who_is_sending_is_not_idle(executor, monkeypatch):
    """Else a dropped executor would end its workers under rows that were submitted."""
    monkeypatch.setattr(Asks, "said", [])
    assert executor.submit(abs, Asks(executor)).result() == 0
    assert Asks.said == [False]
    wait_until(lambda: executor._engine.runner.idle)


class Struck(collections.deque):
    """What is decided, and something that happens as soon as the first is there."""

    def append(self, pair):
        super().append(pair)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()


def strike(monkeypatch, executor, happens):
    """Let something happen as soon as an outcome is decided."""
    assert executor.submit(abs, -1).result() == 1
    runner = executor._engine.runner
    wait_until(lambda: runner.idle)
    decided = Struck()
    decided.happens = happens
    monkeypatch.setattr(runner, "_resolved", decided)
    return runner


def test_a_row_that_cannot_be_sent_may_be_told_of_before_submit_returns(executor, monkeypatch):
    def tell():
        runner._settle()

    runner = strike(monkeypatch, executor, tell)
    with pytest.raises(UnshareableArgument):
        executor.submit(abs, threading.Lock()).result()


def test_a_ctrl_c_at_a_row_that_cannot_be_sent_fails_no_other(executor, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    runner = strike(monkeypatch, executor, interrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(abs, threading.Lock())
    assert executor.submit(abs, -2).result() == 2
    wait_until(lambda: runner.idle)
    assert executor.submit(abs, -3).result() == 3

"""While a call's arguments are being sent: other threads, errors and a Ctrl-C lose nothing and hang nothing."""

import operator
import threading

import numpy as np
import pytest

from tests.helpers import wait_until
from tests.pool import rows
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


def test_who_sends_a_large_argument_waits_for_nobody_who_waits_for_that(executor):
    """Which is what `submit` does: it has the lock that the look for memory to use again wants."""
    send_large(executor)
    engine, pause = executor._engine, Pause()
    sender = threading.Thread(target=lambda: list(executor.map(operator.is_, [pause], [np.ones(LARGE)])), daemon=True)
    sender.start()
    assert pause.reached.wait(rows.LIMIT_S)
    with engine.lock:
        pause.over.set()
        sent = engine._sending.acquire(timeout=3)
        if sent:
            engine._sending.release()
    sender.join(rows.LIMIT_S)

    assert sent


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

"""Messages between processes: every start method, forks, unrelated programs, and writers who are killed."""

import multiprocessing
import os
import signal
import time

import XME
from tests.core.crew import Child
from tests.helpers import run_python, wait_until
from tests.monitor import programs
from XME import Security
from XME._monitor.watching import SLICE_S
from XME.errors import BadMessage, ShortLived
from XME.Monitor import Monitor

ADMIN = Security.ADMIN
# How long anything may take on a loaded machine.
PATIENCE_S = 20.0


def test_wait_in_one_process_while_another_updates(start_method):
    board = XME.xmem_object("board", Monitor, security=Security.Security())
    with Child(programs.wait_for, board, ("a",), 30.0, method=start_method) as waiter:
        assert waiter.hear() == "waits"
        assert board.update({"other": 1}, ADMIN) is True
        assert board.update({"a": 1}) == Security.DEADLOCKMARK_ONLOCK
        began = time.monotonic()
        assert board.update({"a": 1}, ADMIN) is True
        answer, when = waiter.hear()
    assert answer is True
    assert began <= when


def test_a_security_held_outside_while_a_third_updates(start_method):
    """The one who waits for the Security holds nothing that a reader, a waiter or the holder needs."""
    security = Security.Security(Security.MUTEX)
    board = XME.xmem_object("board", Monitor, security=security)
    board.update({"a": 0})
    with (
        Child(programs.hold, security, "me", method=start_method) as holder,
        Child(programs.serve, board, method=start_method) as third,
        Child(programs.wait_for, board, ("a",), 30.0, method=start_method) as waiter,
    ):
        assert holder.hear() == "held"
        assert waiter.hear() == "waits"
        third.tell(("update", ({"a": 1}, "third"), {}))
        wait_until(lambda: security.statistics().waiting)
        assert board.get() == {"a": 0}
        assert board.wait("a", timeout=0.01) is False
        holder.tell("go on")
        assert third.hear() is True
        assert waiter.hear()[0] is True
        third.tell(None)
    assert board.get() == {"a": 1}


def test_processes_share_one_board_and_lose_nothing(start_method):
    board = XME.xmem_object("board", Monitor, security=Security.Security(Security.MUTEX))
    context = multiprocessing.get_context(start_method)
    crew = [context.Process(target=programs.update_often, args=(board, name, 50)) for name in "xy"]
    for process in crew:
        process.start()
    for process in crew:
        process.join(50)
    assert [process.exitcode for process in crew] == [0] * 2
    assert board.get("x", "y") == {"x": 49, "y": 49}


def test_a_private_one_is_shared_with_a_forks_child():
    board = Monitor()
    board.update({"a": [1]})
    pid = os.fork()
    if not pid:
        os._exit(0 if board.update({"b": board["a"]}) is True else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert board.get() == {"a": [1], "b": [1]}


def test_it_is_an_argument_of_rows():
    board = Monitor()
    with XME.XME(lambda mon, row: mon.update({row: row * row}), pnum=2, do_with_log=False) as xme:
        assert xme.fun(board, XME.Array(range(5))) == (True,) * 5
    assert board.get() == {row: row * row for row in range(5)}


def test_a_writer_who_is_killed_before_he_wakes_anybody_delays_a_waiter_by_a_slice():
    board = Monitor()
    with Child(programs.wait_for, board, ("a",), 30.0, method="fork") as waiter:
        assert waiter.hear() == "waits"
        killed = multiprocessing.get_context("fork").Process(
            target=programs.update_and_be_killed, args=(board, {"a": 1, "b": 2})
        )
        killed.start()
        killed.join(PATIENCE_S)
        gone = time.monotonic()
        answer, when = waiter.hear()
    assert killed.exitcode == -signal.SIGKILL
    assert answer is True
    # It sleeps for a slice; the rest is for a loaded machine.
    assert when - gone < SLICE_S + 5
    assert board.get() == {"a": 1, "b": 2}


def test_whoever_is_killed_in_the_middle_of_an_update_leaves_all_of_it_or_nothing():
    board = XME.xmem_object("board", Monitor, security=Security.Security(Security.MUTEX))
    context = multiprocessing.get_context("fork")
    for turn in range(12):
        name = f"w{turn % 3}"
        writer = context.Process(target=programs.write_for_ever, args=(board, name))
        writer.start()
        moment = board.moment
        assert board.wait(f"{name}-a", since=moment, timeout=PATIENCE_S)
        writer.kill()
        writer.join(PATIENCE_S)
        assert board.update({"alive": turn}, ADMIN) is True
        messages = board.get()
        assert messages.pop("alive") == turn
        assert all(messages[f"{key[:-2]}-b"] == -value for key, value in messages.items() if key.endswith("-a"))


READER = """
import sys
import XME
board = XME.attach("monitor-unrelated")
assert board.get("question") == {"x": [1, (2, 3)]}, board
print(repr(board.update({"answer": 1})), board.update({"answer": 42}, Operator=XME.Security.ADMIN))
"""


def test_unrelated_programs_find_it_by_its_name():
    board = XME.xmem_object("board", Monitor, security=Security.Security())
    board.publish("monitor-unrelated")
    moment = board.moment
    board.update({"question": {"x": [1, (2, 3)]}}, ADMIN)
    done = run_python(READER)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "'Onlock failure: illegal operator or deadlock!' True\n"
    assert board.wait("answer", since=moment, timeout=PATIENCE_S)
    assert board["answer"] == 42


def test_errors_pickle():
    import pickle

    for error in (BadMessage.of("it is cut"), ShortLived.of("a", "b")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))

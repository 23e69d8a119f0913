"""The parent is killed: no worker and no name stays. Nested crews, forks, programs that just end."""

import os
import signal
import time

import psutil
import pytest

from tests.helpers import PATIENCE_S, run_python, wait_until
from tests.pool import rows
from tests.pool.rows import call, program
from XME._core import sweep
from XME._core.domain import inspect
from XME.ArrayOperator import Array
from XME.Executor import Executor

# A worker has two seconds; a loaded machine gets as many again.
AFTER_KILL_S = 4.0

PROGRAM = """
import os, sys, threading, time
import numpy
import XME
from XME._core import program
from XME.Executor import Executor

def nap(seconds):
    time.sleep(seconds)

def large(row):
    return numpy.full(1 << 20, row)

def nest(row):
    with Executor(1, start_method=sys.argv[1]) as executor:
        future = executor.submit(nap, 60)
        while not future.running():
            time.sleep(0.001)
        os.write(1, b"ready\\n")
        future.result()

def hold(shared):
    with shared.atomic():
        os.write(1, b"ready\\n")
        time.sleep(60)

def forever(executor, function, *columns):
    while True:
        list(executor.map(function, *columns))

if __name__ == "__main__":
    executor = Executor(2, start_method=sys.argv[1])
    print("domain", program.program_domain().id)
    what = sys.argv[2]
    if what == "starting":
        executor.submit(nap, 60)
        print("ready")
        time.sleep(60)
    elif what == "idle":
        list(executor.map(abs, range(10)))
        print("ready")
        time.sleep(60)
    elif what == "in a call":
        future = executor.submit(nap, 60)
        while not future.running():
            time.sleep(0.001)
        print("ready")
        future.result()
    elif what == "results":
        list(executor.map(large, range(4)))
        print("ready")
        forever(executor, large, range(20))
    elif what == "in a transaction":
        executor.submit(hold, XME.xmem_dict()).result()
    elif what == "nested":
        executor.submit(nest, 0).result()
"""


def kill_program(method, what):
    with program(PROGRAM, method, what) as process:
        domain = process.stdout.readline().split()[1]
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait(5)
        # Who cannot leave has a new Python sweep for him, whose start a loaded machine draws out.
        limit = PATIENCE_S if what == "in a transaction" else AFTER_KILL_S
        rows.await_nothing_left(process.pid, domain, limit)


@pytest.mark.parametrize("what", ["starting", "idle", "in a call", "in a transaction", "results", "nested"])
def test_nothing_is_left_of_a_parent_that_is_killed(what):
    kill_program("fork", what)


@pytest.mark.long
@pytest.mark.parametrize("what", ["starting", "in a call", "in a transaction", "nested"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_nothing_is_left_under_the_other_start_methods(method, what):
    kill_program(method, what)


def has_a_worker(domain_id):
    view = inspect(domain_id)
    try:
        return len(view.living()) > 1
    finally:
        view.close_view()


def kill_after(process, delay_ms):
    time.sleep(delay_ms / 1000)
    process.send_signal(signal.SIGKILL)
    process.wait(5)


def nothing_is_left_when_killed(method, delay_ms):
    with program(PROGRAM, method, "results") as process:
        domain = process.stdout.readline().split()[1]
        wait_until(lambda: has_a_worker(domain), poll_s=0.0005)
        kill_after(process, delay_ms)
        rows.await_nothing_left(process.pid, domain)


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", range(0, 400, 10))
def test_nothing_is_left_whenever_the_parent_is_killed(start_method, delay_ms):
    nothing_is_left_when_killed(start_method, delay_ms)


@pytest.mark.long
@pytest.mark.parametrize("delay_ms", [0, 3, 20, 70, 200])
def test_nothing_is_left_at_some_moments(delay_ms):
    nothing_is_left_when_killed("fork", delay_ms)


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [0, 1, 2, 5, 10, 20, 50, 100])
def test_who_is_killed_before_a_worker_has_come_is_swept_by_the_next_program(start_method, delay_ms):
    with program(PROGRAM, start_method, "results") as process:
        domain = process.stdout.readline().split()[1]
        kill_after(process, delay_ms)
        wait_until(lambda: not rows.members(process.pid))
        # There was nobody, or nobody who had got as far as to know the domain; if there was, this finds nothing.
        sweep.sweep_dead_domains()
        assert not rows.names_of(domain)


def nested_sum(row):
    with Executor(2, start_method="fork") as executor:
        return sum(call(executor, rows.square, Array(range(row))))


def test_a_row_may_have_workers_of_its_own(start_method):
    with Executor(2, start_method=start_method) as executor:
        assert call(executor, nested_sum, Array([3, 4, 5])) == (5, 14, 30)


def test_the_nested_crew_goes_with_its_worker():
    flags = rows.shared_counts(2)
    with Executor(1, start_method="fork") as executor:
        future = executor.submit(nest_and_wait, flags)
        grandchild = wait_until(lambda: int(flags[0]))
        future_worker = psutil.Process(grandchild).ppid()
        os.kill(future_worker, signal.SIGKILL)

        assert type(future.exception(rows.LIMIT_S)).__name__ == "WorkerDied"
        wait_until(lambda: not psutil.pid_exists(grandchild), AFTER_KILL_S)


def nest_and_wait(flags):
    with Executor(1, start_method="fork") as executor:
        executor.submit(rows.announce_and_wait, flags, 0, 1).result()


def test_a_fork_of_the_parent_harms_nothing():
    with Executor(2, start_method="fork") as executor:
        call(executor, rows.square, Array(range(4)))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                executor.submit(rows.square, 3)
            except RuntimeError as error:
                code = 0 if "process that was forked" in str(error) else 2
            finally:
                executor.shutdown()
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert call(executor, rows.square, Array(range(4))) == (0, 1, 4, 9)


FORKING = """
import os, sys
import XME
from XME.Executor import Executor

if __name__ == "__main__":
    executor = Executor(2, start_method="fork")
    xme = XME.XME(abs, start_method="fork")
    print(list(executor.map(abs, range(-4, 0))), xme.fun(XME.Array([-1, -2])))
    if os.fork() == 0:
        print("child", xme.fun(XME.Array([-3, -4])))
        sys.exit(0)
    os.wait()
    print(list(executor.map(abs, range(-4, 0))), xme.fun(XME.Array([-1, -2])))
"""


def test_a_childs_exit_leaves_the_parents_crew_alone():
    done = run_python(FORKING, env={"PYTHONPATH": os.pathsep.join(p for p in __import__("sys").path if p)})

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == lines[2] == "[4, 3, 2, 1] (1, 2)"
    assert lines[1] == "child (3, 4)"


REAPING = """
import os, signal, sys, time
from XME.Executor import Executor
from XME.errors import WorkerDied

def die(row):
    if row == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return row

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Executor(2, start_method="fork") as executor:
        try:
            list(executor.map(die, range(8)))
        except WorkerDied as error:
            print("died", error.exitcode)
        print(list(executor.map(abs, range(-3, 0))))
"""


def test_a_program_that_reaps_its_children_itself_still_learns_of_deaths():
    done = run_python(REAPING, env={"PYTHONPATH": os.pathsep.join(p for p in __import__("sys").path if p)})

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["died None", "[3, 2, 1]"]


@pytest.mark.long
def test_a_fork_server_that_dies_takes_no_row_along():
    from multiprocessing import forkserver

    flags = rows.shared_counts(2)
    with Executor(1, start_method="forkserver") as executor:
        future = executor.submit(rows.announce_and_wait, flags, 0, 1)
        worker = wait_until(lambda: int(flags[0]))
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)

        assert type(future.exception(rows.LIMIT_S)).__name__ == "WorkerDied"
        assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE
        assert call(executor, rows.square, Array(range(4))) == (0, 1, 4, 9)


def test_a_fork_server_that_is_just_going_is_waited_for(monkeypatch):
    """Its socket refuses, and multiprocessing starts no other one before it has gone."""
    from multiprocessing import context, forkserver

    refused = []

    def launch(process):
        if len(refused) < 5:
            refused.append(process)
            raise ConnectionRefusedError
        return popen(process)

    popen = context.ForkServerProcess._Popen
    monkeypatch.setattr(context.ForkServerProcess, "_Popen", staticmethod(launch))
    with Executor(1, start_method="forkserver") as executor:
        assert call(executor, rows.square, Array(range(4))) == (0, 1, 4, 9)
    assert len(refused) == 5

    monkeypatch.setattr(context.ForkServerProcess, "_Popen", staticmethod(popen))
    for _ in range(3):
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        with Executor(1, start_method="forkserver") as executor:
            assert call(executor, rows.square, Array(range(2))) == (0, 1)


ENDING = """
import sys, threading, time
import XME
from XME._core import program
from XME.Executor import Executor

def report(text):
    time.sleep(0.01)
    with open(sys.argv[2], "a") as file:
        file.write(text)

if __name__ == "__main__":
    executor = Executor(2, start_method="fork")
    how = sys.argv[1]
    if how == "futures":
        for _ in range(20):
            executor.submit(report, "x")
    elif how == "map":
        executor.map(report, "x" * 20)
    elif how == "dropped":
        Executor(2, start_method="fork").map(report, "x" * 20)
    elif how == "thread":
        begun = threading.Event()

        def use():
            results = executor.map(report, "x" * 20)
            begun.set()
            list(results)

        threading.Thread(target=use).start()
        begun.wait()
    elif how == "no wait":
        for _ in range(20):
            executor.submit(report, "x")
        executor.shutdown(wait=False)
"""


@pytest.mark.parametrize("how", ["futures", "map", "dropped", "thread", "no wait"])
def test_a_program_that_ends_has_run_what_it_submitted(tmp_path, how):
    path = tmp_path / "done"
    done = run_python(ENDING, how, path, env={"PYTHONPATH": os.pathsep.join(p for p in __import__("sys").path if p)})

    assert done.returncode == 0, done.stderr
    assert path.read_text() == "x" * 20

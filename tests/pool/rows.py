"""Functions that rows of the pool's tests run, ways to die in them, and how the tests call them."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import XME
from tests.helpers import PATIENCE_S, SHARED_MEMORY, wait_until
from XME.ArrayOperator import Array, Entry, ExecutionTable

LIMIT_S = 40.0


def call(executor, function, *args, retries=0, timeout=LIMIT_S, guard=None):
    """Run one function over its Arrays, with a limit, so that no fault of the pool makes a test hang."""
    rows = max((len(arg) for arg in args if isinstance(arg, Array)), default=1)
    entry = Entry(function, args, {}, rows)
    return executor.execute(ExecutionTable((entry,), guard=guard, timeout=timeout, retries=retries))


def failure_of(executor, function, *args, **options):
    """Run a call that must fail, and return its exception."""
    try:
        result = call(executor, function, *args, **options)
    except Exception as error:
        return error
    raise AssertionError(f"did not fail: {result}")


def shared_counts(count):
    """Make numbers that every worker sees."""
    return XME.xmem_array((count,), dtype="int64")


# -- rows --------------------------------------------------------------------------------------------------------------


def square(number):
    return number * number


def text_of(number):
    return f"row {number}"


def fail_on(number, bad):
    if number == bad:
        message = f"not {number}"
        raise ValueError(message)
    return number


def pid_of(_row=None):
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)
    return seconds


def wait_for(flags, place, value=1):
    """Return as soon as a shared number is set: a gate, and not a guess."""
    deadline = time.monotonic() + LIMIT_S
    while flags[place] != value:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)
    return int(value)


def announce_and_wait(flags, place, gate):
    flags[place] = os.getpid()
    return wait_for(flags, gate)


def count_row(row, counts):
    counts[row] += 1
    return row * 10


def dies_on(row, bad, how, counts, times=1):
    """Count an execution, and die on one row so many times."""
    counts[row] += 1
    if row == bad and counts[row] <= times:
        DEATHS[how][0]()
    return row * 10


def dies_once(row, counts):
    counts[row] += 1
    if counts[row] == 1:
        os._exit(1)
    return row * 10


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def recurse_in_c(depth=0):
    faulthandler.disable()
    sys.setrecursionlimit(1 << 30)
    return max([depth], key=lambda _: recurse_in_c(depth + 1))


# How to die, and with which exit code.
DEATHS = {
    "SIGKILL": (kill_myself, -signal.SIGKILL),
    "exit 3": (lambda: os._exit(3), 3),
    "exit 0": (lambda: os._exit(0), 0),
    "segfault": (lambda: (faulthandler.disable(), ctypes.string_at(0)), -signal.SIGSEGV),
    "abort": (lambda: (faulthandler.disable(), os.abort()), -signal.SIGABRT),
}


# -- in a worker, by its initializer -----------------------------------------------------------------------------------


def first(path):
    """True for the first process that asks."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def do_nothing():
    pass


def fails(text):
    raise RuntimeError(text)


# -- programs ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def program(text, *args):
    """Run a program in a session of its own; yields the process, whose standard output is a pipe of lines."""
    with tempfile.TemporaryDirectory(prefix="program-") as folder:
        script = Path(folder, "program.py")
        script.write_text(text, encoding="utf-8")
        with Path(folder, "errors").open("wb+") as errors:
            process = subprocess.Popen(
                [sys.executable, "-u", str(script), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=errors, text=True, start_new_session=True, cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            try:
                yield process
            finally:
                session_pids = members(process.pid)
                for pid in session_pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait(PATIENCE_S)
                process.stdout.close()
                errors.seek(0)
                sys.stderr.write(errors.read().decode(errors="replace"))


def members(session):
    """Living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


_HELPERS = ("resource_tracker", "forkserver")


def workers_of(session, but=()):
    """Living processes of a session that are no helpers of multiprocessing's."""
    found = []
    for pid in members(session):
        with contextlib.suppress(psutil.Error):
            command = " ".join(psutil.Process(pid).cmdline())
            is_helper = "resource_tracker" in command
            if pid not in but and not is_helper:
                found.append(pid)
    return found


def names_of(domain_id):
    """The names in shared memory that belong to a domain."""
    return {name for name in os.listdir(SHARED_MEMORY) if domain_id in name}


def await_nothing_left(session, domain_id, timeout_s=PATIENCE_S):
    """Wait until no process of a session and no name of its domain is left."""
    try:
        wait_until(lambda: not members(session) and not names_of(domain_id), timeout_s)
    except AssertionError:
        raise AssertionError(f"left: {members(session)} {names_of(domain_id)}") from None

"""Nothing may be left behind: no garbage after a test, no process after the session, no name after this program."""

import atexit
import gc
import os
import sys
import time

import pytest

from tests.helpers import PATIENCE_S, children, describe, end_processes, wait_until, xme_names

# A name in shared memory or the pid of a child, and the test after which it was there first.
_first_seen: dict[str | int, str] = {}
_names_before = xme_names()
_pid = os.getpid()


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request):
    """Run the test once for each way to start a process."""
    return request.param


@pytest.fixture(autouse=True)
def _collect_garbage(request):
    """Run finalizers inside the test whose objects they belong to, and note what is new after it, to be able to say."""
    yield
    gc.collect()
    # What survives its test belongs to its module or to the session: later collections need not look at it again.
    gc.freeze()
    for found in (xme_names() - _names_before) | _child_pids():
        _first_seen.setdefault(found, request.node.nodeid)


def _child_pids():
    """The kernel's own list: asking every process for its parent, as psutil does, would take longer than most tests."""
    with open(f"/proc/self/task/{_pid}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left():
    """End what still runs after the last test, and fail the run with its name."""
    yield
    gc.unfreeze()
    gc.collect()
    try:
        wait_until(lambda: not children())
        return
    except AssertionError:
        left = children()
    lines = [f"{describe(process)}, {_since(process.pid)}" for process in left]
    end_processes(left)
    pytest.fail("processes are left after the last test:\n" + "\n".join(lines), pytrace=False)


def _since(found):
    return f"first seen after {_first_seen.get(found, 'the last test')}"


@atexit.register
def _no_name_is_left():
    """Look again when this program's own domain has ended: XME's handler is registered later, so it has run before."""
    if os.getpid() != _pid:
        return
    deadline = time.monotonic() + PATIENCE_S
    while left := {name for name in xme_names() - _names_before if not _is_in_use(name)}:
        if time.monotonic() > deadline:
            _fail_at_exit(left)
        time.sleep(0.02)


def _is_in_use(name):
    """True if the name is another living program's: no child of ours is left that could still use one of ours."""
    # Not above: this module's handler must be registered before multiprocessing's, to run after it.
    from XME._core import names, sweep

    parsed = names.parse(name.removeprefix("sem."))
    if parsed is None:
        return False
    with sweep.looking_at(parsed[0]) as domain:
        return domain is not None and any(domain.identity(number).pid != _pid for number in domain.living())


def _fail_at_exit(left):
    lines = [f"  {name}, {_since(name)}" for name in sorted(left)]
    print("FAILED: names are left in shared memory:", *lines, sep="\n", file=sys.stderr, flush=True)
    sys.stdout.flush()
    # Nothing but this can change the exit code of a program that is already ending.
    os._exit(1)

"""Nothing may be left behind: no garbage after a test, no process after the session, no name after this program.

The tests run in processes of pytest-xdist's, each of which looks after its own children and at what has appeared in
shared memory; when they have gone, the controller looks there again. With `-n 0` one program does it all.
"""

import atexit
import faulthandler
import gc
import multiprocessing.util
import os
import signal
import sys
import tempfile
import time

import hypothesis
import pytest

from tests.helpers import PATIENCE_S, children, describe, end_processes, wait_until, xme_names
from tests.turns import Turns
from XME._core import names, registry, sweep

# A name in shared memory or the pid of a child, and the test after which it was there first.
_first_seen: dict[str | int, str] = {}
_names_before = xme_names()
_pid = os.getpid()
_turns: Turns | None = None

# Unbuffered, lines of several processes are garbled; without bytecode every start of a Python compiles XME again.
for _variable in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(_variable, None)
sys.dont_write_bytecode = False
# What a script starts in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Three processes share two cores: how long an example took says nothing.
hypothesis.settings.register_profile("loaded", deadline=None)
if "CI" not in os.environ:
    hypothesis.settings.load_profile("loaded")


# -- one program or several ----------------------------------------------------------------------------------------


def pytest_configure(config):
    """Register the look at the end: behind the handlers in which XME leaves its domains."""
    global _turns
    if hasattr(config, "workerinput"):
        _turns = Turns(config.workerinput["turns"])
    else:
        # The last to be registered is the first to run, and a plugin may have imported multiprocessing already.
        atexit.unregister(multiprocessing.util._exit_function)
        atexit.register(_no_name_is_left)
        atexit.register(multiprocessing.util._exit_function)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Give every process of a run the same locks."""
    folder = getattr(node.config, "turns", None)
    if folder is None:
        folder = node.config.turns = tempfile.TemporaryDirectory(prefix="turns-")
        node.config.add_cleanup(folder.cleanup)
    node.workerinput["turns"] = folder.name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Wait for the test's turn, outside of its time limit."""
    if _turns is None:
        return (yield)
    _turns.begin(alone=_wants_to_be_alone(item))
    try:
        return (yield)
    finally:
        if nextitem is None or not _wants_to_be_alone(nextitem):
            _turns.end()


def _wants_to_be_alone(item):
    return item.get_closest_marker("alone") is not None


def pytest_sessionfinish(session):
    """Tell the controller what this process knows of names that the controller may find."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["first_seen"] = {
            found: test for found, test in _first_seen.items() if isinstance(found, str)
        }


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Keep what a process of the run has told at its end; one that crashed has told nothing."""
    for name, test in getattr(node, "workeroutput", {}).get("first_seen", {}).items():
        _first_seen.setdefault(name, test)


# -- each test -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request):
    """Run the test once for each way to start a process."""
    return request.param


@pytest.fixture(autouse=True)
def _dumped_only_if_it_hangs(request):
    """No stacks of what may take long: they are read while the thread runs, and that has ended the process."""
    own_limit = request.node.get_closest_marker("timeout")
    if own_limit is not None and own_limit.args[0] > float(request.config.getini("faulthandler_timeout")):
        faulthandler.cancel_dump_traceback_later()


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


# -- the end -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left():
    """End what still runs after the last test, and fail the run with its name; the same for names of the dead."""
    yield
    gc.unfreeze()
    gc.collect()
    _no_process_is_left()
    left = _staying_names(ours_too=False)
    if left:
        pytest.fail("names of the dead are left after the last test:\n" + _lines(left), pytrace=False)


def _no_process_is_left():
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


def _lines(found):
    return "\n".join(f"  {name}, {_since(name)}" for name in sorted(found))


def _staying_names(*, ours_too):
    """Names that are new and stay though no living program uses them; ours count only when our use should be over."""
    left = _unused(xme_names() - _names_before, ours_too)
    deadline = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        # What other programs make meanwhile is theirs to remove.
        left = _unused(left & xme_names(), ours_too)
    return left


def _unused(found, ours_too):
    if not found:
        return found
    published = {names.public_file(entry.name) for entry in registry.entries() if registry.is_alive(entry)}
    parsed = {name: names.parse(name.removeprefix("sem.")) for name in found - published}
    return {name for name, known in parsed.items() if not _is_in_use(known, ours_too)}


def _is_in_use(parsed, ours_too):
    """True if the domain of a name has a living participant; with `ours_too`, another than this process."""
    if parsed is None:
        return False
    if names.name_of(parsed[0], names.DOMAIN_SERIAL) in _names_before:
        # A program that was there before us, perhaps of another version: its domain then tells us nothing.
        return True
    with sweep.looking_at(parsed[0]) as domain:
        if domain is None:
            return False
        return any(not ours_too or domain.identity(number).pid != _pid for number in domain.living())


def _no_name_is_left():
    """Look again when this program's own domain has ended, and the domains of all processes of the run."""
    if os.getpid() == _pid and (left := _staying_names(ours_too=True)):
        print("FAILED: names are left in shared memory:", _lines(left), sep="\n", file=sys.stderr, flush=True)
        sys.stdout.flush()
        # Nothing but this can change the exit code of a program that is already ending.
        os._exit(1)

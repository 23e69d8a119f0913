"""The two services and their guard, as a newcomer runs them."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT, run_python

EXAMPLE = ROOT / "examples" / "counter_service.py"
TOTALS = r"sold (\d+), returned (\d+), the shop says \((\d+), (\d+), (-?\d+)\)\n"
GUARD = r"the guard is pid (\d+)\n"
SERVED = r"(seller|returns): the first 100 orders are done\n"


def check(output):
    sold, returned, *shop = map(int, re.search(TOTALS, output).groups())
    assert shop == [sold, returned, returned - sold]
    return sold, returned


@contextlib.contextmanager
def serving():
    """The program in a session of its own, as in a terminal of its own; says what it is."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            assert process.stdout.readline().startswith("serving")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(process, *patterns):
    """Read until a line of each pattern has come; returns the matches."""
    found = {}
    while len(found) < len(patterns):
        line = process.stdout.readline()
        assert line, "it has ended"
        for pattern in patterns:
            if match := re.search(pattern, line):
                found.setdefault(pattern, match)
    return [found[pattern] for pattern in patterns]


def test_the_services_end_after_their_orders():
    done = run_python(EXAMPLE, "--orders", 300)

    assert (done.returncode, done.stderr) == (0, "")
    assert check(done.stdout) == (300, 300)


def test_a_ctrl_c_ends_them_cleanly():
    """All processes of a terminal get it, here as long as a key that is held down gives it: to the very end."""
    with serving() as process:
        wait_for(process, SERVED)
        os.killpg(process.pid, signal.SIGINT)
        # Its workers may keep the pipes open for a moment longer.
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=40)
        assert (process.returncode, errors) == (0, "")
        assert max(check(output)) >= 100


@pytest.mark.long
def test_a_killed_guard_loses_nothing():
    with serving() as process:
        (guard,) = wait_for(process, GUARD)
        for _ in range(2):
            os.kill(int(guard[1]), signal.SIGKILL)
            # Its successor has settled what it was on, and the services go on.
            (guard,) = wait_for(process, GUARD)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=40)
        assert (process.returncode, errors) == (0, "")
        assert min(check(output)) > 0

"""The two services and their guard, as a newcomer runs them."""

import os
import re
import signal
import subprocess
import sys

from tests.helpers import ROOT, run_python

EXAMPLE = ROOT / "examples" / "counter_service.py"
TOTALS = r"sold (\d+), returned (\d+), the shop says \((\d+), (\d+), (-?\d+)\)\n"


def check(output):
    sold, returned, *shop = map(int, re.search(TOTALS, output).groups())
    assert shop == [sold, returned, returned - sold]
    return sold, returned


def test_the_services_end_after_their_orders():
    done = run_python(EXAMPLE, "--orders", 300)

    assert (done.returncode, done.stderr) == (0, "")
    assert check(done.stdout) == (300, 300)


def test_a_ctrl_c_ends_them_cleanly():
    """All processes of a terminal get it."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline().startswith("serving")
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=40)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    check(output)

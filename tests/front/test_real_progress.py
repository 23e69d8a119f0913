"""progress=True in a terminal: a bar that ends full, results beside it, and nothing where there is no terminal."""

import os
import pty
import subprocess
import sys

from tests.helpers import run_python

PROGRAM = """
import sys
import XME

def square(k):
    return k * k

if __name__ == "__main__":
    with XME.XME(square, start_method=sys.argv[1], progress=True) as xme:
        print(sum(xme.fun(xme.Array(range(1000)))))
"""


def run_in_terminal(path, *args):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(path), *args], stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(follower)
    seen = b""
    try:
        while chunk := _read(leader):
            seen += chunk
        return seen.decode(), process.wait(20)
    finally:
        process.kill()
        process.wait(10)
        os.close(leader)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:
        # Linux says so when the last one who had the terminal open has ended.
        return b""


def test_a_bar_is_drawn_in_a_terminal(start_method, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    seen, code = run_in_terminal(path, start_method)

    assert code == 0
    assert "332833500" in seen
    assert "1000/1000" in seen


def test_no_bar_where_there_is_no_terminal():
    done = run_python(PROGRAM, "fork")

    assert (done.stdout, done.returncode) == ("332833500\n", 0)
    assert "\x1b" not in done.stderr

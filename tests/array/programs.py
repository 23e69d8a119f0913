"""A program of its own that does what it is told: for tests in which unrelated programs share memory."""

import contextlib
import json
import select
import subprocess
import sys

_LOOP = """
import json, sys
import numpy as np
from XME._containers.by_name import attach
from XME._containers.shared_array import xmem_array
here = globals()
for line in sys.stdin:
    code, is_question = json.loads(line)
    try:
        answer = [True, eval(code, here) if is_question else exec(code, here)]
    except BaseException as error:
        answer = [False, [type(error).__name__, str(error)]]
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """What was raised in the program; args are the class's name and the text."""


class Program:
    """One Python process in a session of its own; ``with`` ends it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )

    def _send(self, code, is_question):
        self.process.stdin.write(json.dumps([code, is_question]) + "\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 30)[0], f"no answer to {code}"
        line = self.process.stdout.readline()
        assert line, f"the program ended at {code}"
        is_good, answer = json.loads(line)
        if not is_good:
            raise Refused(*answer)
        return answer

    def do(self, code):
        """Run statements."""
        self._send(code, False)

    def ask(self, code):
        """Return an expression's value."""
        return self._send(code, True)

    @property
    def pid(self):
        return self.process.pid

    def end(self):
        """Let it end as programs do."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def kill(self):
        """End it as kill -9 does."""
        self.process.kill()
        self.end()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

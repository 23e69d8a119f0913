"""Turns: tests that run side by side share a machine's shared memory, and some of them want it for themselves.

A program that starts sweeps what dead programs have left, and `python -m XME clean` does so at any time: a test that
looks at what is left of the dead must not have another program start beside it. Such tests are marked `alone`.
"""

import fcntl
import os
from pathlib import Path


class Turns:
    """Two locks that all of a run's processes have in common; `begin` and `end` stand around each test."""

    def __init__(self, folder):
        # Who wants the room for himself waits in the door, and nobody overtakes him there.
        self._door, self._room = (os.open(Path(folder, name), os.O_RDWR | os.O_CREAT) for name in ("door", "room"))
        self._is_alone = False

    def begin(self, alone):
        """Wait until this test may run; one that wants to be alone after another goes on in its turn."""
        if self._is_alone and alone:
            return
        self.end()
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        self._is_alone = alone

    def end(self):
        """Let others have their turn; unlocked by hand, because forked children keep what they inherited open."""
        fcntl.flock(self._room, fcntl.LOCK_UN)
        self._is_alone = False

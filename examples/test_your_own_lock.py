"""Test your own lock: does it keep what it promises, also when its holder is killed?

    python examples/test_your_own_lock.py
    python -m pytest examples/test_your_own_lock.py

The lock is one that many of us have written: a file that exists while somebody holds it, with his pid inside, so that
the next one can break the lock of a dead holder. In everyday use nothing is wrong with it. Killed at the right line,
its holder leaves it locked for ever; the harness names the line, and shows what happened. Beside it stands a lock of
the kernel, which frees it whatever happens to the holder.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from XME.testing import LockSpec, Report, Room, check_lock, crash_sweep

PROMISES = LockSpec.mutex(on_crash="recovers", recover_s=0.5)
# Workers that are forked start far faster; spawn and forkserver are tested in the same way.
HOW = {"start_method": "fork"}


class LockFile:
    """A file with a pid: there while it is held."""

    def __init__(self, room: Room) -> None:
        """All workers of a run get the same room."""
        self.path = Path(room.path("lock.pid"))

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it: None waits for ever, 0 only tries."""
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self.break_if_dead()
                if limit is not None and time.monotonic() >= limit:
                    return False
                time.sleep(0.001)
                continue
            os.write(fd, str(os.getpid()).encode())
            os.close(fd)
            return True

    def break_if_dead(self) -> None:
        """Remove the file if its pid is nobody's."""
        try:
            pid = self.path.read_text()
            if pid and not Path("/proc", pid).exists():
                self.path.unlink()
        except FileNotFoundError:
            pass

    def release(self) -> None:
        """Give it back."""
        self.path.unlink()


class KernelLock:
    """A lock of the kernel on a file: it goes with whoever has it."""

    def __init__(self, room: Room) -> None:
        """Open the file."""
        self.fd = os.open(room.path("lock"), os.O_RDWR | os.O_CREAT)

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it: None waits for ever, 0 only tries."""
        if timeout_s is None:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            return True
        limit = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= limit:
                    return False
                time.sleep(0.001)
            else:
                return True

    def release(self) -> None:
        """Give it back."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)


# -- with pytest: the fixture comes with XME -------------------------------------------------------------------------


def test_the_kernels_lock_survives_a_kill_at_every_line(lock_checker):
    lock_checker.crash_sweep(KernelLock, PROMISES, **HOW)


def test_the_lock_file_excludes_in_everyday_use(lock_checker):
    lock_checker.check(LockFile, LockSpec.mutex(), workers=3, rounds=50, **HOW)


# -- and as a program --------------------------------------------------------------------------------------------------


def tell(what: str, report: Report) -> None:
    """Print what was tested and what was found."""
    print(f"== {what}\n{report}\n")


def main() -> int:
    """Test both; the exit code is 0 if each does what this file says of it."""
    everyday = check_lock(LockFile, LockSpec.mutex(), workers=3, rounds=50, **HOW)
    tell("the lock file, 3 workers at full speed, nobody is killed", everyday)
    killed = crash_sweep(LockFile, PROMISES, **HOW)
    tell("the lock file, its holder killed at every line", killed)
    kernel = crash_sweep(KernelLock, PROMISES, **HOW)
    tell("the kernel's lock, its holder killed at every line", kernel)
    return 0 if everyday.ok and killed.broke("CrashRecovery") and kernel.ok else 1


if __name__ == "__main__":
    sys.exit(main())

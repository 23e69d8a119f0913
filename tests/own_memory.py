"""A /dev/shm of its own for each process of a run, where the system lets a program mount one (root, usually).

Then no test sees what another one shares, nor what other programs on the machine do. What is still there when a
process has ended is told through a file, because its /dev/shm goes with it.
"""

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_UNENDED = "a process of the run has not come to its end"


def enter():
    """Mount a new /dev/shm that only this process and its children see; False if that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = os.statvfs("/dev/shm")
    options = f"size={size.f_blocks * size.f_frsize},mode=1777".encode()
    return (
        libc.unshare(_CLONE_NEWNS) == 0
        and libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0
        and libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options) == 0
    )


class Report:
    """What a process of the run has left when it ended."""

    def __init__(self, folder, worker):
        self._path = Path(folder, f"left-{worker}")
        self._path.write_text(_UNENDED, encoding="utf-8")

    def tell(self, lines):
        """Say what is left, "" for nothing."""
        self._path.write_text(lines, encoding="utf-8")


def reports(folder):
    """Return what processes of the run have said that is something."""
    return [text for path in sorted(Path(folder).glob("left-*")) if (text := path.read_text(encoding="utf-8"))]

"""Byte-range locks that the kernel frees when their last owner is gone.

They are open-file-description locks (fcntl(2), F_OFD_SETLK): tied to one ``open()``, not to the process, so closing
another descriptor of the same file does not drop them, and F_OFD_GETLK asks without taking anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")
_CONTENDED = frozenset({errno.EAGAIN, errno.EACCES})


def _flock(kind: int, offset: int, count: int = 1) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, offset, count, 0)


def try_lock(fd: int, offset: int) -> bool:
    """Take the byte at `offset` if nobody else has it; True if it is ours now."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, offset))
    except OSError as error:
        if error.errno in _CONTENDED:
            return False
        raise
    return True


def lock(fd: int, offset: int) -> None:
    """Take the byte at `offset`, waiting for whoever has it; the kernel frees a dead owner's."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _flock(fcntl.F_WRLCK, offset))


def unlock(fd: int, offset: int) -> None:
    """Give the byte at `offset` back; nothing happens if it was not ours."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, offset))
    except OSError as error:
        # Closing the descriptor has freed it already.
        if error.errno != errno.EBADF:
            raise


def is_locked(fd: int, offset: int) -> bool:
    """True if another open file description has the byte at `offset`; takes nothing."""
    return is_any_locked(fd, offset, 1)


def is_any_locked(fd: int, offset: int, count: int) -> bool:
    """True if another open file description has one of `count` bytes from `offset` on; takes nothing."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, offset, count))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def locked(fd: int, offset: int, count: int) -> list[int]:
    """Return which of `count` bytes from `offset` on another open file description has; takes nothing.

    One question more than twice as many as there are: the kernel names one lock in a range, and not the first.
    """
    if count <= 0:
        return []
    kind, _, start, length, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, offset, count)))
    if kind == fcntl.F_UNLCK:
        return []
    end = offset + count if not length else min(start + length, offset + count)
    start = max(start, offset)
    before = locked(fd, offset, start - offset)
    return [*before, *range(start, end), *locked(fd, end, offset + count - end)]

"""Waiting for a word of shared memory to change, without a semaphore: Linux's futex.

A waiter leaves nothing in shared memory, so there is nothing to clean up after one that is killed, and whoever changes
the word need not know whether anybody waits. Where there is no futex (macOS), a waiter looks again and again, with
longer and longer pauses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from typing import Any

_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_WAIT, _WAKE = 0, 1
_EVERYBODY = 0x7FFFFFFF
_PAUSE_FIRST_S = 20e-6
_PAUSE_LAST_S = 2e-3
_LOW_HALF = 0 if sys.byteorder == "little" else 4

_number = _NUMBERS.get(os.uname().machine, 0) if sys.platform == "linux" else 0
# False where there is none.
HAS_FUTEX = bool(_number)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


# CDLL lets other threads run during a call.
_syscall = ctypes.CDLL(None, use_errno=True).syscall


class Word:
    """The low half of an 8-byte word of shared memory; keeps the memory mapped."""

    __slots__ = ("_half", "_pointer")

    def __init__(self, words: memoryview, index: int) -> None:
        """Bind to a word of a writable view of words."""
        self._half = ctypes.c_uint32.from_buffer(words, 8 * index + _LOW_HALF)
        self._pointer: Any = ctypes.byref(self._half)

    def wake(self) -> None:
        """Wake all who wait for the word to change; called after it has changed (1 us)."""
        if HAS_FUTEX:
            _syscall(_number, self._pointer, _WAKE, _EVERYBODY, None, None, 0)

    def wait(self, known: int, seconds: float) -> None:
        """Return when the word may have changed, at once if it is not `known` any more, and at the latest in `seconds`.

        Who is killed between his store and his `wake` wakes nobody, so no wait should be long.
        """
        known &= 0xFFFFFFFF
        if HAS_FUTEX:
            nanoseconds = max(0, int(seconds * 1e9))
            limit = _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
            failed = _syscall(_number, self._pointer, _WAIT, known, ctypes.byref(limit), None, 0)
            if not failed or ctypes.get_errno() in {errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT}:
                return
        self._poll(known, seconds)

    def _poll(self, known: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        pause = _PAUSE_FIRST_S
        while self._half.value == known and (left := end - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, _PAUSE_LAST_S)

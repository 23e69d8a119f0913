"""One named semaphore.

posix_ipc's is the fastest that Python reaches (a pair costs about 0.1 us), so its own bound methods are the fast
path. Two things are done by hand. Making: sem_open makes a temporary file first, which a kill would leave behind under
a name that nobody can attribute; here the same bytes (sem_init's) go into a file without a name, which is then linked.
Waiting: sem_timedwait counts the wall clock, which can be set back; sem_clockwait counts the monotonic one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

import posix_ipc

from XME._core import memory, names
from XME.errors import ContainerGone

Busy = posix_ipc.BusyError

_libc = ctypes.CDLL(None, use_errno=True)
# False where the number of permits cannot be read (macOS).
HAS_VALUE: bool = posix_ipc.SEMAPHORE_VALUE_SUPPORTED
# False where the C library has no timed wait on the monotonic clock (macOS has no timed wait at all): then `wait`
# tries again and again, with longer and longer pauses.
HAS_TIMED_WAIT = hasattr(_libc, "sem_clockwait")
_CLOCK_MONOTONIC = 1
_SEM_BYTES = 32
_PAUSE_FIRST_S = 20e-6
_PAUSE_LAST_S = 2e-3


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


_libc.sem_open.restype = ctypes.c_void_p
_libc.sem_open.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.sem_init.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
if HAS_TIMED_WAIT:
    _libc.sem_clockwait.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec))


class Semaphore:
    """A counting semaphore between processes, opened by name.

    Attributes:
        acquire: posix_ipc's; ``acquire(0)`` takes a permit or raises `Busy` (0.1 us).
        release: posix_ipc's; adds a permit and wakes a waiter.
    """

    __slots__ = ("__weakref__", "_address", "_raw", "acquire", "name", "release")

    def __init__(self, name: str) -> None:
        """Open an existing semaphore.

        Raises:
            ContainerGone: there is none of that name.
        """
        self.name = name
        try:
            self._raw = posix_ipc.Semaphore(f"/{name}")
        except posix_ipc.ExistentialError:
            raise ContainerGone.of(name, "its semaphore was unlinked") from None
        self._address: int | None = None
        self.acquire = self._raw.acquire
        self.release = self._raw.release

    @classmethod
    def create(cls, name: str, value: int) -> Semaphore:
        """Make a new semaphore (see make), and open it."""
        cls.make(name, value)
        return cls(name)

    @staticmethod
    def make(name: str, value: int) -> None:
        """Make a new semaphore with `value` permits, whole or not at all.

        Raises:
            SharedMemoryFull: there is no room for its 32 bytes.
            NameTaken: the name exists.
        """
        buffer = ctypes.create_string_buffer(_SEM_BYTES)
        _libc.sem_init(buffer, 1, value)
        fd = memory.new_file()
        try:
            with memory.room_for(_SEM_BYTES):
                os.pwrite(fd, buffer.raw, 0)
            memory.link(fd, names.semaphore_path(name))
        finally:
            os.close(fd)

    def is_free(self) -> bool:
        """True if there seems to be a permit; where the system does not tell (macOS), always."""
        return not HAS_VALUE or self._raw.value > 0

    def hint(self) -> None:
        """Add a permit unless there is one: for waiters who look again by themselves."""
        if not HAS_VALUE or self._raw.value == 0:
            self.release()

    def spin(self, seconds: float) -> bool:
        """Look for a permit for a moment without sleeping; True if it was taken."""
        end = time.perf_counter() + seconds
        while True:
            if self.is_free():
                try:
                    self.acquire(0)
                except Busy:
                    pass
                else:
                    return True
            if time.perf_counter() > end:
                return False

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for a permit; True if it was taken. A signal may end the wait early."""
        if not HAS_TIMED_WAIT:
            return self._poll(seconds)
        if self._address is None:
            self._address = _libc.sem_open(f"/{self.name}".encode(), 0) or None
            if self._address is None:
                # The name is gone, and so is whoever could post.
                return self._poll(seconds)
        end = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(seconds * 1e9)
        until = _Timespec(end // 1_000_000_000, end % 1_000_000_000)
        return bool(_libc.sem_clockwait(self._address, _CLOCK_MONOTONIC, ctypes.byref(until)) == 0)

    def _poll(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        pause = _PAUSE_FIRST_S
        while True:
            try:
                self.acquire(0)
            except Busy:
                if time.monotonic() >= end:
                    return False
            else:
                return True
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(2 * pause, _PAUSE_LAST_S)

    def drain(self) -> None:
        """Take every permit there is."""
        try:
            while True:
                self.acquire(0)
        except Busy:
            return

    def close(self) -> None:
        """Let the semaphore's mapping go; the name stays."""
        self._raw.close()
        if self._address is not None:
            _libc.sem_close(ctypes.c_void_p(self._address))
            self._address = None

    def __del__(self) -> None:
        # posix_ipc does not close what is collected, and every semaphore is a mapping: thousands of dropped containers
        # would use up vm.max_map_count. Nobody waits here: who waits has a reference.
        with contextlib.suppress(Exception):
            self.close()

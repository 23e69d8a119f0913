"""Locks that leave something behind, each in a way of its own; what has a name is named after LEFT, to be removed."""

import fcntl
import mmap
import os

import posix_ipc

from XME.testing._broken import Kernel

# Forked workers inherit it: what another run of these tests makes at the same time has another name.
MINE = f"xmeleaky{os.getpid()}-"
LEFT = f"/dev/shm/{MINE}"
SEMAPHORES = f"{MINE}sem-"


def leave_a_segment():
    """As a program does that forgets it: made, unmapped, and never unlinked."""
    path = f"{LEFT}{os.urandom(8).hex()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.ftruncate(fd, 4096)
    mapped = mmap.mmap(fd, 4096)
    os.close(fd)
    mapped.close()


class SegmentsByRelease(Kernel):
    def release(self):
        super().release()
        leave_a_segment()


class SemaphoresByRelease(Kernel):
    def release(self):
        super().release()
        posix_ipc.Semaphore(f"/{SEMAPHORES}{os.urandom(8).hex()}", posix_ipc.O_CREX).close()


class SegmentByClose(Kernel):
    def close(self):
        super().close()
        leave_a_segment()


class DescriptorsByClose(Kernel):
    def close(self):
        super().close()
        for _ in range(20):
            os.open(os.devnull, os.O_RDONLY)


class DescriptorByThirdRelease(Kernel):
    released = 0

    def release(self):
        super().release()
        DescriptorByThirdRelease.released += 1
        if not self.released % 3:
            os.open(os.devnull, os.O_RDONLY)


class OwnFileStaysOpen(Kernel):
    def close(self):
        self._fd = os.dup(self._fd)
        super().close()
        os.open(self._room.path("guard"), os.O_RDONLY)


class MappingsByRelease(Kernel):
    kept = []

    def release(self):
        super().release()
        with open("/proc/self/exe", "rb") as file:
            self.kept.append(mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ))


class KilledInItsSegment(Kernel):
    """Every holder has a segment that only he removes."""

    def acquire(self, timeout_s):
        got = super().acquire(timeout_s)
        if got:
            self.path = f"{LEFT}{os.urandom(8).hex()}"
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(fd, 4096)
            self.segment = mmap.mmap(fd, 4096)
            os.close(fd)
        return got

    def release(self):
        os.unlink(self.path)
        self.segment.close()
        super().release()


class HandedOver:
    """A lock of which each process opens the file itself, and which leaves something with each release."""

    waits = False

    def __init__(self, path, leave):
        self._path, self._leave = path, leave
        self._fds = {}

    def acquire(self, timeout_s):
        if os.getpid() not in self._fds:
            self._fds[os.getpid()] = os.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._fds[os.getpid()], fcntl.LOCK_EX | (fcntl.LOCK_NB if timeout_s == 0 else 0))
        except BlockingIOError:
            return False
        return True

    def release(self):
        fcntl.flock(self._fds[os.getpid()], fcntl.LOCK_UN)
        self._leave()


# -- right ones ------------------------------------------------------------------------------------------------------


class OpensOnce(Kernel):
    """A process opens some files once and keeps them, whichever lock is the first."""

    shared = []

    def __init__(self, room):
        super().__init__(room)
        while len(self.shared) < 12:
            self.shared.append(os.open(os.devnull, os.O_RDONLY))


class GivesBackWhenClosed(Kernel):
    """One descriptor and one segment more a round, and all are gone when it is closed."""

    def __init__(self, room):
        super().__init__(room)
        self.opened, self.paths = [], []

    def release(self):
        super().release()
        self.opened.append(os.open(os.devnull, os.O_RDONLY))
        self.paths.append(f"{LEFT}{os.urandom(8).hex()}")
        os.close(os.open(self.paths[-1], os.O_RDWR | os.O_CREAT, 0o600))

    def close(self):
        super().close()
        for fd in self.opened:
            os.close(fd)
        for path in self.paths:
            os.unlink(path)


class CannotBeClosed:
    """A file as long as its process lives, for each lock that it makes."""

    def __init__(self, room):
        self._inner = Kernel(room)
        self.acquire, self.release = self._take, self._inner.release

    def _take(self, timeout_s):
        return self._inner.acquire(timeout_s)

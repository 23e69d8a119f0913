"""Makers of locks that workers import: of the standard library, and of what the project depends on anyway."""

import fcntl
import multiprocessing
import os
import threading
import time

import filelock
import posix_ipc

from XME._core import shared_mutex
from XME.testing import adapt
from XME.testing._broken import CheckThenSet, Owned, OwnerWrittenLate


def mp_lock():
    return multiprocessing.get_context("spawn").Lock()


def mp_rlock():
    return multiprocessing.get_context("spawn").RLock()


def mp_semaphore():
    return multiprocessing.get_context("spawn").BoundedSemaphore(2)


def thread_semaphore():
    return threading.BoundedSemaphore(3)


def xme_mutex(room):
    return shared_mutex.create()


def file_lock(room):
    return filelock.FileLock(room.path("a.lock"))


def thread_local_file_lock(room):
    return filelock.FileLock(room.path("a.lock"), thread_local=False)


def posix_semaphore(room):
    return posix_ipc.Semaphore("/" + room.name, posix_ipc.O_CREAT, initial_value=1)


def posix_semaphore_of_two(room):
    return posix_ipc.Semaphore("/" + room.name, posix_ipc.O_CREAT, initial_value=2)


def remove_posix_semaphore(room):
    posix_ipc.Semaphore("/" + room.name).unlink()


def forgets_to_unlink(room):
    return posix_semaphore(room)


class OnlyCallables:
    """What adapt() does not know: it must be told how."""

    def __init__(self):
        self._lock = threading.Lock()

    def lock(self):
        self._lock.acquire()

    def unlock(self):
        self._lock.release()


def told_how():
    mine = OnlyCallables()
    return adapt(mine, acquire=lambda _: mine.lock(), release=mine.unlock, tries=False, waits=False)


class Slots:
    """Right, with three permits: each is a file that the kernel unlocks when its holder dies."""

    def __init__(self, room):
        self._free = [os.open(room.path(f"slot{k}"), os.O_RDWR | os.O_CREAT, 0o600) for k in range(3)]
        self._held = []

    def _take(self):
        for fd in self._free:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            self._held.append(fd)
            self._free.remove(fd)
            return True
        return False

    def acquire(self, timeout_s):
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._take():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.0005)
        return True

    def release(self):
        self._free.append(self._held.pop())
        fcntl.flock(self._free[-1], fcntl.LOCK_UN)

    def close(self):
        for fd in self._free + self._held:
            os.close(fd)


class ToldSlots(Slots):
    """It also tells who gets a permit whose holder died: each holder writes that he is there, and crosses it out."""

    owner_died = False

    def _take(self):
        taken = super()._take()
        if taken:
            self.owner_died = os.pread(self._held[-1], 1, 0) == b"x"
            os.pwrite(self._held[-1], b"x", 0)
        return taken

    def release(self):
        os.pwrite(self._held[-1], b" ", 0)
        super().release()


def fails(*_):
    raise OSError("no such lock")


# -- broken behind a loop, and within one ------------------------------------------------------------------------------


class LoopsFirst(OwnerWrittenLate):
    """An ordinary loop, and what is broken comes after it."""

    def _take(self):
        for turn in range(6):
            self._take_breath(turn)
        return super()._take()

    def _take_breath(self, turn):
        pass


class LoopsInside(OwnerWrittenLate):
    """Flag and owner are written by one line: whoever is killed between its two turns has left it locked."""

    def _set_flag(self):
        with self.atomic():
            if self.words[0]:
                return False
            for number, word in enumerate((1, self.me)):
                self.words[number] = word
            return True


# -- broken for those who do more than take it two at a time ---------------------------------------------------------


class TryLies(Owned):
    """Who only tries is told that he has it."""

    def acquire(self, timeout_s):
        return timeout_s == 0 or super().acquire(timeout_s)


class WaitLies(Owned):
    """So is who waits with a limit."""

    def acquire(self, timeout_s):
        return bool(timeout_s) or super().acquire(timeout_s)


class ThirdComesIn(Owned):
    """Who finds that two are there already, one inside and one waiting, is let in."""

    def acquire(self, timeout_s):
        with self.atomic():
            self.words[1] += 1
            count = self.words[1]
        taken = count == 3 or super().acquire(timeout_s)
        if not taken:
            self.words[1] -= 1
        return taken

    def release(self):
        with self.atomic():
            self.words[1] -= 1
            self.words[0] = 0


# -- broken, and never twice in the same way ---------------------------------------------------------------------------


class Moody(CheckThenSet):
    """It looks whether it is free, takes a way that nobody can foresee, and then takes it."""

    def take(self):
        if self.words[0]:
            return False
        dice = os.urandom(2)
        # Fewer turns than those that are taken for waiting.
        for turn in range(dice[0] % 11):
            self._dither(turn)
        for turn in range(dice[1] % 11):
            self._dawdle(turn)
        self.words[0] = self.me
        return True

    def _dither(self, turn):
        pass

    def _dawdle(self, turn):
        pass

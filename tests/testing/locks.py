"""Makers of locks that workers import: of the standard library, and of what the project depends on anyway."""

import multiprocessing
import threading

import filelock
import posix_ipc

from XME._core import shared_mutex
from XME.testing import adapt


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


def fails():
    raise OSError("no such lock")

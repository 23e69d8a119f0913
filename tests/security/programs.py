"""What children of the tests run: functions that every start method finds."""

import os
import signal
import threading
import time

from XME import Security
from XME.errors import XMEError


def hold(pipe, lock, operator, shared=False):
    """Take the lock, say so, and give it back when told."""
    acquire, release = (lock.acquire_read, lock.release_read) if shared else (lock.acquire, lock.release)
    assert acquire(operator) is True
    pipe.send("held")
    pipe.recv()
    assert release(operator) is True
    pipe.send("released")


def serve(pipe, *locks):
    """Do what is asked: (name of a method, index of the lock, arguments); the answer is the result or the error."""
    while True:
        order = pipe.recv()
        if order is None:
            return
        name, index, *args = order
        try:
            pipe.send(getattr(locks[index], name)(*args))
        except XMEError as error:
            pipe.send(error)


def obey(pipe, lock):
    """Call functions of this module with the lock, as told: (name, arguments)."""
    while True:
        name, *args = pipe.recv()
        pipe.send(globals()[name](lock, *args))


def take_and_give(lock, operator, shared, wait):
    """Take it and give it back; returns what came of both, and how long the first took."""
    acquire, release = (lock.acquire_read, lock.release_read) if shared else (lock.acquire, lock.release)
    began = time.monotonic()
    answer = acquire(operator, wait)
    took = time.monotonic() - began
    return answer, release(operator) if answer is True else None, took


def intrude(lock, operator):
    """Try to take what another one has, and to give it back for him."""
    return lock.try_acquire(operator), lock.release(operator, 0)


def change(lock, name, value):
    """Change a setting."""
    getattr(lock, name)(value)


def take_in_threads(pipe, lock, operator, count, limit_s=None):
    """Take it once in each of so many threads; then say what they got."""
    answers = []

    def take():
        answers.append(lock.acquire(operator, limit_s) is True)
        if answers[-1]:
            lock.release(operator)

    threads = [threading.Thread(target=take, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(answers)


def append(lock, values, count, operator):
    """The manual's example."""
    for _ in range(count):
        if lock.acquire(operator):
            values.append(0)
        lock.release(operator)


def count_up(lock, board, count, operator):
    """Add to an unguarded counter."""
    for _ in range(count):
        with lock.holding(operator):
            board[0] += 1


def die_holding(lock, operator):
    """Be killed with the lock held."""
    assert lock.acquire(operator) is True
    os.kill(os.getpid(), signal.SIGKILL)


GLOBAL = None


def use_global(_row):
    """Use the module-level lock that the parent has made before the workers."""
    with GLOBAL.holding(Security.ADMIN):
        return repr(GLOBAL).split(",")[0]


def add_under(lock, board, _row):
    """One row of a call: the lock is a common argument."""
    for _ in range(50):
        with lock.holding(lock.ADMIN):
            board[0] += 1
    return lock.statistics().type

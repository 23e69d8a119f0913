"""A Security as the harness of XME.testing takes it; the worker of the run chooses the operator."""

from XME import Security
from XME.errors import LockTimeout, MutexError
from XME.testing import adapt

# What forked workers find: the lock, and whom they are, in order.
LOCK = None
OPERATORS = ()


class Face:
    """Takes it by acquire and release."""

    def __init__(self, lock, operator):
        self.lock = lock
        self.operator = operator

    def acquire(self, timeout_s):
        if timeout_s == 0:
            return self.lock.try_acquire(self.operator)
        return self.lock.acquire(self.operator, timeout_s) is True

    def release(self):
        if self.lock.release(self.operator) is not True:
            raise MutexError("not the holder")

    def acquire_read(self, timeout_s):
        # WaitTime 0 is no limit, so to try is to wait for a moment.
        return self.lock.acquire_read(self.operator, timeout_s or (None if timeout_s is None else 1e-6)) is True

    def release_read(self):
        if self.lock.release_read(self.operator) is not True:
            raise MutexError("no reader")


class Told:
    """Takes it by holding(), which says who died."""

    tries = False

    def __init__(self, lock, operator):
        self.lock = lock
        self.operator = operator
        self.blocks = []
        self.owner_died = False

    def acquire(self, timeout_s):
        block = self.lock.holding(self.operator, timeout_s)
        try:
            block.__enter__()
        except LockTimeout:
            return False
        self.blocks.append(block)
        self.owner_died = block.owner_died is not None
        return True

    def release(self):
        self.blocks.pop().__exit__(None, None, None)


def make_face(room):
    return adapt(Face(LOCK, OPERATORS[room.worker % len(OPERATORS)]))


def make_told(room):
    return Told(LOCK, OPERATORS[room.worker % len(OPERATORS)])


def set_up(kind, operators):
    """Make the lock that the next workers find, for operators who may all have it."""
    global LOCK, OPERATORS
    LOCK = Security.Security(kind)
    LOCK.MuteTime(0.02)
    LOCK.authorize(*operators)
    LOCK.registe(operators[0])
    OPERATORS = operators if kind != Security.READWRITE else operators[:1]


def settle(room):
    """Recover what somebody who was killed in this run has left: the lock outlives the run, and his death does not.

    Who only tries it is refused while another recovers it, and in the next run's history nobody would have held it.
    """
    if LOCK.acquire(OPERATORS[0], 1) is True:
        LOCK.release(OPERATORS[0])

"""A Security as the harness of XME.testing takes it; the worker of the run chooses the operator."""

from XME import Security
from XME.errors import LockTimeout, MutexError
from XME.testing import adapt

# What forked workers find: the lock, and whom they are, in order.
LOCK = None
OPERATORS = ()
# One who may not have it, among those who try; None where everybody may.
STRANGER = None


class Face:
    """Takes it by acquire and release; a stranger may try first each time, and gets the marks."""

    def __init__(self, lock, operator):
        self.lock = lock
        self.operator = operator

    def acquire(self, timeout_s):
        self.intrude()
        if timeout_s == 0:
            return self.lock.try_acquire(self.operator)
        # Whatever the object's own limit is.
        return self.lock.acquire(self.operator, timeout_s or 0) is True

    def intrude(self):
        if STRANGER is not None:
            answers = (
                self.lock.try_acquire(STRANGER), self.lock.acquire(STRANGER, 0), self.lock.release(STRANGER, 0)
            )  # fmt: skip
            if answers != (False, Security.DEADLOCKMARK_ONLOCK, Security.DEADLOCKMARK_UNLOCK):
                raise AssertionError(f"a stranger got {answers}")

    def release(self):
        if self.lock.release(self.operator, 0) is not True:
            raise MutexError("not the holder")

    def acquire_read(self, timeout_s):
        # WaitTime 0 is no limit, so to try is to wait for a moment.
        return self.lock.acquire_read(self.operator, 0 if timeout_s is None else timeout_s or 1e-6) is True

    def release_read(self):
        if self.lock.release_read(self.operator, 0) is not True:
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


def set_up(kind, operators, wait_s=0, stranger=None):
    """Make the lock that the next workers find, for operators who may all have it, and a stranger who may not."""
    global LOCK, OPERATORS, STRANGER
    LOCK = Security.Security(kind)
    LOCK.MuteTime(0.02)
    LOCK.WaitTime(wait_s)
    LOCK.authorize(*operators)
    LOCK.registe(operators[0])
    OPERATORS = operators if kind != Security.READWRITE else operators[:1]
    STRANGER = stranger if kind in {Security.AUTHORISATION, Security.READWRITE} else None


def settle(room):
    """Recover what somebody who was killed in this run has left: the lock outlives the run, and his death does not.

    Who only tries it is refused while another recovers it, and in the next run's history nobody would have held it.
    """
    if LOCK.acquire(OPERATORS[0], 1) is True:
        LOCK.release(OPERATORS[0])

"""One contender of the Security storm: as a writer or a reader, until it is killed, it leaves witnesses."""

from __future__ import annotations

import ctypes
import inspect
import os
import random
import signal
import time
from typing import Any

from benchmarks.storm import contender as c
from XME import Security
from XME._core import rwlock
from XME._core.rwlock import RobustRWLock

R_READER = 3
BESIDE = 4
VIOLATIONS = {**c.VIOLATIONS, BESIDE: "wrote while a living process was reading, or read while one was writing"}

# A reader that does not say so; and the mutex's own fault.
FAULTS = {
    "flag": [("                self._flag[0] = READING\n", "")],
    "epoch": c.FAULTS["epoch"],
}


def plant(fault: str) -> None:
    """Replace methods in this process by copies with a fault; the text to replace must be there."""
    if fault == "epoch":
        c.plant(fault)
        return
    text = inspect.getsource(rwlock)
    for old, new in FAULTS[fault]:
        if text.count(old) != 1:
            msg = f"the text that the fault {fault!r} replaces is there {text.count(old)} times:\n{old}"
            raise RuntimeError(msg)
        text = text.replace(old, new)
    copy: dict[str, Any] = {"__name__": "planted"}
    exec(compile(text, "<planted>", "exec"), copy)
    RobustRWLock.acquire_read = copy["RobustRWLock"].acquire_read  # type: ignore[method-assign]


def live(lock: Security.Security, board: memoryview, slot: int, seed: int, fault: str | None) -> None:
    """Contend until killed; never returns."""
    ctypes.CDLL(None).prctl(c._PR_SET_PDEATHSIG, signal.SIGKILL)
    if fault is not None:
        plant(fault)
    dice = random.Random(seed)
    row = c.HEAD + slot * c.ROW
    board[row + R_READER] = 0
    c._tell_recovery(board, row)
    mutex = lock._mutex
    mutex._words = c._Delaying(mutex._words, dice)
    mutex._grab = c._slowed(mutex._grab, dice)
    mutex._post = c._slowed(mutex._post, dice)
    drained = lock._lock._drained
    lock._lock._drained = _Drained(drained, dice)
    shares = lock.statistics().type is Security.READWRITE
    while True:
        if shares and dice.random() < 0.5:
            _read(lock, board, row, dice)
        else:
            _write(lock, board, row, dice)
        board[row + c.R_PHASE] = c.AWAY
        if dice.random() < 0.5:
            time.sleep(dice.random() * 0.0005)


class _Drained:
    """The hint, with delays."""

    def __init__(self, semaphore: Any, dice: random.Random) -> None:
        self.wait = c._slowed(semaphore.wait, dice)
        self.hint = c._slowed(semaphore.hint, dice)


def _write(lock: Security.Security, board: memoryview, row: int, dice: random.Random) -> None:
    me = os.getpid()
    board[row + c.R_PHASE] = c.ACQUIRE
    _must(lock.acquire(lock.ADMIN))
    board[row + c.R_PHASE] = c.SECTION
    _look_for_readers(board, me)
    c._be_inside(board, row, me, dice)
    _look_for_readers(board, me)
    board[row + c.R_PHASE] = c.RELEASE
    _must(lock.release(lock.ADMIN))


def _look_for_readers(board: memoryview, me: int) -> None:
    for at in range(c.HEAD + R_READER, len(board), c.ROW):
        if board[at] and c._lives(board[at]) and board[at]:
            c._complain(board, BESIDE, me)


def _read(lock: Security.Security, board: memoryview, row: int, dice: random.Random) -> None:
    me = os.getpid()
    board[row + c.R_PHASE] = c.ACQUIRE
    _must(lock.acquire_read("reader"))
    board[row + R_READER] = me
    board[row + c.R_PHASE] = c.SECTION
    before = board[c.COUNTER]
    board[row + c.R_ENTERED] = time.monotonic_ns()
    if dice.random() < 0.3:
        time.sleep(dice.random() * 0.0004)
    inside = board[c.OCCUPANT]
    if board[c.COUNTER] != before or (inside and c._lives(inside)):
        c._complain(board, BESIDE, me)
    board[row + R_READER] = 0
    board[row + c.R_PHASE] = c.RELEASE
    _must(lock.release_read("reader"))


def _must(answer: Any) -> None:
    if answer is not True:
        msg = f"{answer!r}, where only True can be"
        raise AssertionError(msg)

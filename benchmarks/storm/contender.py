"""One contender of the mutex storm: takes and releases the mutex until it is killed, and leaves witnesses.

Delays at random places make rare moments common; they change no order of the protocol's steps.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import random
import signal
import time
from typing import Any

from XME._core import mutex as mutex_module
from XME._core import participant
from XME._core.mutex import RobustMutex
from XME._core.recovery import STATE_MASK, TRYING

AWAY, ACQUIRE, SECTION, RELEASE, RECOVERY = range(5)
PHASES = ("away", "acquire", "section", "release", "recovery")

# The shared board, 8-byte words: the head, then a row for each slot.
COUNTER, OCCUPANT, VIOLATION, VIOLATOR, HEAD = 0, 1, 2, 3, 8
R_PHASE, R_COUNTED, R_ENTERED, ROW = 0, 1, 2, 8
STOLEN, NOT_ALONE, OVERTAKEN = 1, 2, 3
VIOLATIONS = {
    STOLEN: "entered while a living process was inside",
    NOT_ALONE: "found another one's mark at the end of its own section",
    OVERTAKEN: "the unguarded counter was changed inside its own section",
}

_PR_SET_PDEATHSIG = 1

# The look at the epoch between TRYING and the semaphore, as the mutex has it on its short and on its long way.
FAULTS = {
    "epoch": [
        ("                words[mine] = self._trying\n                if words[0] == epoch:\n",
         "                words[mine] = self._trying\n                if True:\n"),
        (("                if words[EPOCH] != epoch:\n                    words[mine] = IDLE\n"
          "                    continue\n"), ""),
    ],
}  # fmt: skip


def plant(fault: str) -> None:
    """Replace methods of RobustMutex in this process by copies with a fault; the text to replace must be there."""
    text = inspect.getsource(mutex_module)
    for old, new in FAULTS[fault]:
        if text.count(old) != 1:
            msg = f"the text that the fault {fault!r} replaces is there {text.count(old)} times:\n{old}"
            raise RuntimeError(msg)
        text = text.replace(old, new)
    copy: dict[str, Any] = {"__name__": "planted"}
    exec(compile(text, "<planted>", "exec"), copy)
    for name in ("acquire", "_take_slowly"):
        method = getattr(copy["RobustMutex"], name)
        setattr(RobustMutex, name, method)


class _Delaying:
    """The mutex's words, with a delay now and then between the look at the epoch and the store of TRYING."""

    def __init__(self, words: Any, dice: random.Random) -> None:
        self._words = words
        self._dice = dice

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: Any) -> Any:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        if value & STATE_MASK == TRYING and index and self._dice.random() < 0.03:
            time.sleep(self._dice.random() * 0.05)
        self._words[index] = value


def _slowed(operation: Any, dice: random.Random) -> Any:
    def slowed(*args: Any) -> Any:
        if dice.random() < 0.3:
            time.sleep(dice.random() * 0.0003)
        result = operation(*args)
        if dice.random() < 0.3:
            time.sleep(dice.random() * 0.0003)
        return result

    return slowed


def _tell_recovery(board: memoryview, row: int) -> None:
    """Let the phase word say RECOVERY from where something is found to be recovered until the lock is free."""
    begin, wait, free = RobustMutex._begin_recovery, RobustMutex._await_movers, RobustMutex._free_recovery_lock

    def begin_told(self: Any, epoch: int) -> int:
        board[row + R_PHASE] = RECOVERY
        return begin(self, epoch)

    def await_told(self: Any, deadline: float | None) -> None:
        # Also where a dead recoverer's work is finished.
        board[row + R_PHASE] = RECOVERY
        wait(self, deadline)

    def free_told(self: Any) -> None:
        free(self)
        board[row + R_PHASE] = ACQUIRE

    told = {"_begin_recovery": begin_told, "_await_movers": await_told, "_free_recovery_lock": free_told}
    for name, method in told.items():
        setattr(RobustMutex, name, method)


def live(mutex: RobustMutex, board: memoryview, slot: int, seed: int, fault: str | None) -> None:
    """Contend until killed; never returns."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if fault is not None:
        plant(fault)
    dice = random.Random(seed)
    row = HEAD + slot * ROW
    _tell_recovery(board, row)
    mutex._words = _Delaying(mutex._words, dice)
    mutex._grab = _slowed(mutex._grab, dice)
    mutex._post = _slowed(mutex._post, dice)
    me = os.getpid()
    while True:
        board[row + R_PHASE] = ACQUIRE
        mutex.acquire()
        board[row + R_PHASE] = SECTION
        _be_inside(board, row, me, dice)
        board[row + R_PHASE] = RELEASE
        mutex.release()
        board[row + R_PHASE] = AWAY
        if dice.random() < 0.5:
            time.sleep(dice.random() * 0.0005)


def _be_inside(board: memoryview, row: int, me: int, dice: random.Random) -> None:
    before = board[OCCUPANT]
    if before and _lives(before):
        _complain(board, STOLEN, me)
    board[OCCUPANT] = me
    board[row + R_ENTERED] = time.monotonic_ns()
    count = board[COUNTER]
    if dice.random() < 0.3:
        time.sleep(dice.random() * 0.0004)
    if board[COUNTER] != count:
        _complain(board, OVERTAKEN, me)
    board[COUNTER] = count + 1
    board[row + R_COUNTED] += 1
    if board[OCCUPANT] != me:
        _complain(board, NOT_ALONE, me)
    board[OCCUPANT] = 0


def _lives(pid: int) -> bool:
    stat = participant.read_stat(pid)
    return stat is not None and stat[0] not in "ZXx"


def _complain(board: memoryview, what: int, who: int) -> None:
    board[VIOLATOR] = who
    board[VIOLATION] = what

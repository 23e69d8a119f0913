"""The guard storm: guard, callers, writers and readers of messages are killed, and every call is accounted for.

A caller appends two calls in turn: a method of a shared object, and a function that counts in a plain array. Both know
the caller's slot and number, so whoever runs them sees gaps, repetitions and a wrong order at once. Now and then he
appends a method that raises, and fetches that. At the end what is left is run, and for acknowledged (append has
returned), reported (GuardDied), failed and executed calls it must be that

    methods     acknowledged <= executed <= acknowledged + callers killed
    functions   acknowledged - reported <= executed <= acknowledged + callers killed
    failed      within callers killed of the acknowledged ones that raise: fetched by their callers, or left
    reported    <= guards killed, and functions only

Each update of a message sets two, and whoever reads them, be it the updater, another one or a reader, must find two of
one update.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import time
from typing import Any

from benchmarks.storm import contender as c
from XME import CallErrors, XMEGuard, XMEManager, xmem_array, xmem_object
from XME._containers.object_numbered import Numbered
from XME._core import program
from XME._manager.buffer import CallBuffer
from XME.errors import GuardDied
from XME.Monitor import Monitor

CALLERS, WRITERS, READERS, SLOTS = 3, 2, 1, 256
# What the rows of the board count, for each caller's slot.
ACKED_METHODS, ACKED_FUNCTIONS, EXECUTED_FUNCTIONS, LAST_FUNCTION, WRONG, ACKED_FAILING, FETCHED, TORN = range(8)
GET_EVERY, FAIL_EVERY = 100, 30


class Refused(Exception):
    """What the method that raises raises."""


class Ledger:
    """What the methods change: one number a slot, so that each commit is a small one."""

    def __init__(self) -> None:
        self.count = self.wrong = 0
        for slot in range(CALLERS):
            setattr(self, f"last{slot}", 0)

    def note(self, slot: int, word: int) -> int:
        """Count the call that is due: the next of this life of the caller, or the first of a later one."""
        last = getattr(self, f"last{slot}")
        is_next = word == last + 1 or (word >> 32 > last >> 32 and word & 0xFFFFFFFF == 1)
        self.wrong += not is_next
        self.count += 1
        setattr(self, f"last{slot}", word)
        return word


    def refuse(self, word: int) -> None:
        """Change what is looked at later, and raise: nothing of it may stay."""
        self.wrong += 1
        raise Refused(word)


def mark(board: Any, slot: int, word: int) -> None:
    """Count a call of a function; one that was reported may be missing."""
    if word <= board[slot, LAST_FUNCTION]:
        board[slot, WRONG] += 1
    board[slot, LAST_FUNCTION] = word
    board[slot, EXECUTED_FUNCTIONS] += 1


def _rerun(self: Any, number: int, done: Any) -> None:
    self._run_one(number, done)


def _forget(*_args: Any) -> None:
    """Settle nothing and say nothing."""


def _without_number(self: Any, function: Any, kwargs: Any, _number: bytes, keep: Any) -> Any:
    return _call(self, function, kwargs, b"", keep)


def _one_by_one(self: Any, newmessage: Any, Operator: Any = "Undef") -> Any:
    for key, value in newmessage.items():
        _update(self, {key: value}, Operator=Operator)
    return True


_call, _update = Numbered.call, Monitor.update
# A call that was begun is run again; it is dropped silently; a commit that does not say of which call it is; a failure
# that nobody keeps; messages of one update that are set one after the other.
FAULTS: dict[str, Any] = {
    "rerun": (CallBuffer, "_settle", _rerun),
    "silent": (CallBuffer, "_settle", _forget),
    "nonumber": (Numbered, "call", _without_number),
    "nofailure": (CallBuffer, "_fail", _forget),
    "torn": (Monitor, "update", _one_by_one),
}


def guard(manager: Any, _board: Any, _slot: int, _life: int) -> None:
    """Run calls until killed."""
    XMEGuard(ExitTime=0, VerboseTime=0).Guard(manager)


def call(manager: Any, board: Any, slot: int, life: int) -> None:
    """Append calls until killed, or told to stop."""
    ledger = manager.get_table("ledger")
    word = life << 32
    while not board[CALLERS, 0]:
        word += 1
        manager.append(ledger.note, slot, slot=slot, word=word)
        board[slot, ACKED_METHODS] += 1
        manager.append(mark, ("function", slot), board=board, slot=slot, word=word)
        board[slot, ACKED_FUNCTIONS] += 1
        if word % GET_EVERY == 0 and manager.get(slot) != word:
            board[slot, WRONG] += 1
        if word % FAIL_EVERY == 0:
            manager.append(ledger.refuse, ("refused", slot), word=word)
            board[slot, ACKED_FAILING] += 1
            _fetch(manager, board, slot, word)


def _fetch(manager: Any, board: Any, slot: int, word: int) -> None:
    """Get what has failed, also what an earlier life of this caller has left."""
    try:
        manager.get(("refused", slot))
    except (Refused, CallErrors) as raised:
        errors = raised.exceptions if isinstance(raised, CallErrors) else [raised]
        board[slot, FETCHED] += len(errors)
        board[slot, WRONG] += errors[-1].args != (word,)
    else:
        board[slot, WRONG] += 1


def write(manager: Any, board: Any, slot: int, life: int) -> None:
    """Write messages until killed, or told to stop, and read between each two; all writers write the same two."""
    number = life << 32
    while not board[CALLERS, 0]:
        number += 1
        manager.update_msg({"one": (slot, number), "two": (slot, number)})
        _read(manager, board)


def read(manager: Any, board: Any, _slot: int, _life: int) -> None:
    """Read messages until killed, or told to stop."""
    while not board[CALLERS, 0]:
        _read(manager, board)


def _read(manager: Any, board: Any) -> None:
    messages = manager.get_msg()
    if messages["one"] != messages["two"]:
        board[0, TORN] += 1


class Storm:
    """The controller."""

    def __init__(self, seed: int, fault: str | None) -> None:
        self.dice = random.Random(seed)
        self.fault = fault
        self.ledger = xmem_object("ledger", Ledger)
        self.board = xmem_array((CALLERS + 1, 8), "int64")
        self.manager = XMEManager({"ledger": self.ledger}, slots=SLOTS)
        self.manager.update_msg({"one": 0, "two": 0})
        self.kinds = [guard, *[call] * CALLERS, *[write] * WRITERS, *[read] * READERS]
        self.pids: list[int] = [0] * len(self.kinds)
        self.killed = {"guard": 0, "call": 0, "write": 0, "read": 0}
        self.gave_up = self.lives = 0

    def start(self, place: int) -> None:
        """Start who belongs to a place."""
        kind = self.kinds[place]
        self.lives += 1
        pid = os.fork()
        if not pid:
            ctypes.CDLL(None).prctl(c._PR_SET_PDEATHSIG, signal.SIGKILL)
            code = 1
            try:
                if self.fault is not None:
                    setattr(*FAULTS[self.fault])
                kind(self.manager, self.board, place - self.kinds.index(kind), self.lives)
                code = 0
            finally:
                # A guard whose predecessors never came to run a call gives up, which gfun would tell its caller.
                if not code:
                    program.leave_all()
                os._exit(code)
        self.pids[place] = pid

    def rage(self, seconds: float) -> None:
        """Kill for so long, the guard as often as all others together."""
        end = time.monotonic() + seconds
        for place in range(len(self.kinds)):
            self.start(place)
        while time.monotonic() < end:
            time.sleep(self.dice.uniform(0.002, 0.08))
            place = 0 if self.dice.random() < 0.5 else self.dice.randrange(1, len(self.kinds))
            os.kill(self.pids[place], signal.SIGKILL)
            _, status = os.waitpid(self.pids[place], 0)
            if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                self.killed[self.kinds[place].__name__] += 1
            else:
                self.gave_up += 1
            self.manager.begin_guarded(self, beside=False)
            self.start(place)

    def calm(self) -> list[str]:
        """Let everybody end, run what is left, and return what is wrong."""
        self.board[CALLERS, 0] = 1
        for place in range(1, len(self.kinds)):
            os.waitpid(self.pids[place], 0)
        os.kill(self.pids[0], signal.SIGKILL)
        os.waitpid(self.pids[0], 0)
        self.killed["guard"] += 1
        if self.fault in {"rerun", "silent"}:
            guard_settle = FAULTS[str(self.fault)]
            setattr(*guard_settle)
        while self.manager.len():
            self.manager._buffer.run(SLOTS)
        failed = self.manager._buffer.take_failures()
        self.left = [name for _, name, error in failed if isinstance(error, Refused)]
        self.reported = [(name, error) for _, name, error in failed if not isinstance(error, Refused)]
        return [text for text in self._look() if text]

    def _look(self) -> list[str]:
        acked = self.board[:CALLERS].sum(axis=0)
        methods, functions, executed = acked[ACKED_METHODS], acked[ACKED_FUNCTIONS], acked[EXECUTED_FUNCTIONS]
        lost, count = self.killed["call"], self.ledger.count
        failing, failed = acked[ACKED_FAILING], acked[FETCHED] + len(self.left)
        self.counts = {
            "methods": (int(methods), count), "functions": (int(functions), int(executed)),
            "failed": (int(failing), int(failed)), "reported": len(self.reported),
        }  # fmt: skip
        strange = [error for _, error in self.reported if not isinstance(error, GuardDied)]
        wrong = [name for name, _ in self.reported if name != "mark"]
        return [
            f"{acked[WRONG]} functions or results out of order" if acked[WRONG] else "",
            f"{self.ledger.wrong} methods out of order" if self.ledger.wrong else "",
            "" if methods <= count <= methods + lost else f"{methods} methods acknowledged, {count} executed",
            "" if functions - len(self.reported) <= executed <= functions + lost
            else f"{functions} functions acknowledged, {len(self.reported)} reported, {executed} executed",
            "" if failing - lost <= failed <= failing + lost else f"{failing} that raise acknowledged, {failed} failed",
            f"{acked[TORN]} times messages of two updates" if acked[TORN] else "",
            f"{len(strange)} strange failures, the first {strange[0]!r}" if strange else "",
            f"reported: {wrong[0]}, which is not a function" if wrong else "",
            "" if len(self.reported) <= self.killed["guard"] else "more reports than guards were killed",
        ]  # fmt: skip


def run(minutes: float, seed: int, fault: str | None) -> dict[str, Any]:
    """Run the storm and return its counts and violations."""
    storm = Storm(seed, fault)
    began = time.monotonic()
    try:
        storm.rage(60 * minutes)
        violations = storm.calm()
    finally:
        for pid in storm.pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return {
        "seconds": time.monotonic() - began, "seed": seed, "kills": sum(storm.killed.values()),
        "killed_in": storm.killed, "gave_up": storm.gave_up, **storm.counts, "violations": violations,
    }  # fmt: skip

"""The controller's side of the workers: starting, waiting, killing, and ending them all.

Every worker leads a session of its own. It ends by the ladder: asked, then SIGTERM, then SIGCONT and SIGKILL to its
whole session, so that nothing which its lock may have started outlives it.
"""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from XME.errors import LockTestFailed
from XME.testing import _gates, _worker
from XME.testing._event import Event, Kind, Op

PATIENCE_S = 20.0
_LADDER_S = 1.0
_SPIN_S = 0.3


class State(enum.Enum):
    """What a worker is doing, as far as the controller knows."""

    IDLE = "idle"
    RUNNING = "running"
    PARKED = "parked"
    BLOCKED = "blocked"
    DEAD = "dead"


@dataclass(eq=False)
class Hand:
    """One worker, as the controller holds it."""

    worker: int
    life: int
    process: Any
    pipe: Connection
    tid: int = 0
    state: State = State.IDLE
    place: str = ""
    is_idle: bool = False
    gates: int = 0
    answer: tuple[Kind, str] | None = None
    op: Op | None = None
    can: tuple[bool, bool, bool] = (True, True, False)
    closes: bool = False

    @property
    def pid(self) -> int:
        """The pid of its process."""
        return int(self.process.pid)

    def send(self, *command: Any) -> None:
        """Give it a command."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(command)

    def perform(self, op: Op, timeout_s: float | None, mode: _gates.Mode, inside: Any = None) -> None:
        """Let it begin an operation."""
        self.op, self.answer, self.state, self.gates = op, None, State.RUNNING, 0
        self.send("op", op, timeout_s, mode, inside)

    def go_on(self, mode: _gates.Mode) -> None:
        """Let it through the gate where it stands."""
        self.state = State.RUNNING
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(mode)

    def hear(self, timeout_s: float) -> tuple[Any, ...] | None:
        """Take its next message, if one comes in time; None also if it is dead."""
        try:
            if not self.pipe.poll(timeout_s):
                return None
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.state = State.DEAD
            return None
        self._note(message)
        return message

    def _note(self, message: tuple[Any, ...]) -> None:
        if message[0] == "gate":
            _, self.gates, self.place, self.is_idle = message
            self.state = State.PARKED
        elif message[0] == "done":
            self.answer = message[1:]
            self.state = State.IDLE

    def is_asleep(self) -> bool:
        """True if the kernel says that it sleeps; where nothing can be known, True."""
        try:
            with open(f"/proc/{self.pid}/task/{self.tid or self.pid}/stat", encoding="ascii", errors="replace") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return True
        return state in {"S", "D", "T", "t"}

    def settle(self, settle_s: float) -> None:
        """Wait until it stops at a gate, is done, or has slept for so long that it must be waiting for somebody.

        Some locks wait without sleeping: who runs for very long without an end is taken to wait as well.
        """
        asleep_since = None
        spins_from = time.monotonic() + max(_SPIN_S, 10 * settle_s)
        while self.state is State.RUNNING:
            if self.hear(min(settle_s, 0.002)) is not None:
                return
            now = time.monotonic()
            if not self.is_asleep():
                asleep_since = None
            elif asleep_since is None:
                asleep_since = now
            elif now - asleep_since >= settle_s:
                self.state = State.BLOCKED
            if now > spins_from:
                self.state = State.BLOCKED


@dataclass
class Crew:
    """All workers of a test, over many runs."""

    make_lock: Callable[..., Any]
    workers: int
    start_method: str
    threads: bool
    gates: tuple[str, ...] = ()
    verify: Callable[[Any], None] | None = None
    lock: Any = None
    hands: dict[int, Hand] = field(default_factory=dict)
    sessions: list[int] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    _lives: dict[int, int] = field(default_factory=dict)

    def start(self, workers: Iterable[int]) -> None:
        """Start these workers; threads all live in one process."""
        wanted = tuple(workers)
        groups = [wanted] if self.threads and wanted else [(worker,) for worker in wanted]
        for group in groups:
            self._start_process(group)

    def _start_process(self, group: tuple[int, ...]) -> None:
        context = multiprocessing.get_context(self.start_method)
        pairs = [context.Pipe() for _ in group]
        life = self._lives.get(group[0], 0)
        alone = None if self.threads or self.lock is not None else self.start_method
        job = _worker.Job(self.make_lock, group, life, os.getpid(), self.lock, self.gates, self.verify, alone)
        process: Any = context.Process(  # type: ignore[attr-defined] # each real context has it
            target=_worker.main, args=(job, [theirs for _, theirs in pairs]), name=f"lock worker {group[0]}"
        )
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
            # What cannot travel to a new process says so in many ways.
            raise LockTestFailed.of(group[0], f"it cannot be started by {self.start_method}: {error}") from error
        self.sessions.append(process.pid)
        for worker, (mine, theirs) in zip(group, pairs, strict=True):
            theirs.close()
            self._lives[worker] = life
            self.hands[worker] = Hand(worker, life, process, mine)

    def begin(self, hand: Hand, setup: _worker.Setup) -> None:
        """Let a worker make or open the lock of a run.

        Raises:
            LockTestFailed: it cannot.
        """
        hand.send("begin", setup)
        message = hand.hear(PATIENCE_S)
        if message is None or message[0] != "ready":
            said = message[1] if message else "it ended or hangs in make_lock()"
            raise LockTestFailed.of(hand.worker, said)
        hand.state, hand.op, hand.answer = State.IDLE, None, None
        hand.can, hand.tid, hand.closes = message[1:4], message[4], message[5]

    def kill(self, worker: int, events: list[Event]) -> None:
        """Kill a worker as hard as can be, and note when."""
        hand = self.hands[worker]
        events.append(_note(hand, Op.KILL_SENT))
        # What it has mapped is no longer to be seen when it is dead, and looking must not let it run on.
        _signal(hand.pid, signal.SIGSTOP)
        self.seen |= _worker.shared_names(hand.pid)
        # Together with what the lock may have started in it.
        _kill_session(hand.process.pid)
        hand.process.join(PATIENCE_S)
        events.append(_note(hand, Op.REAPED))
        hand.state = State.DEAD
        hand.pipe.close()

    def revive(self, worker: int, setup: _worker.Setup) -> Hand:
        """Start the next life of a dead worker."""
        self._lives[worker] = self.hands[worker].life + 1
        self._start_process((worker,))
        self.begin(self.hands[worker], setup)
        return self.hands[worker]

    def forget_lives(self) -> None:
        """A new run begins: replace the dead and let everybody be born once."""
        self._lives.clear()
        for worker, hand in list(self.hands.items()):
            if hand.life or hand.state is not State.IDLE:
                self._end([hand])
                del self.hands[worker]

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        self._end(list(self.hands.values()))
        self.hands.clear()

    def _end(self, hands: list[Hand]) -> None:
        processes = {hand.process.pid: hand.process for hand in hands}
        asked = [hand for hand in hands if hand.state is State.IDLE]
        for hand in asked:
            hand.send("exit")
        patient = {hand.process.pid for hand in asked}
        limit = time.monotonic() + _LADDER_S
        _wait_all([process for pid, process in processes.items() if pid in patient], limit)
        for pid, process in processes.items():
            if process.exitcode is None:
                _signal(pid, signal.SIGTERM, signal.SIGCONT)
        _wait_all(list(processes.values()), time.monotonic() + _LADDER_S / 2)
        for pid, process in processes.items():
            if process.exitcode is None:
                _kill_session(pid)
                process.join(PATIENCE_S)
            process.close()
        for hand in hands:
            hand.pipe.close()

    def names_left(self, before: set[str]) -> list[str]:
        """Name what workers had mapped and nobody of this program needs, if it is still there; after close()."""
        limit = time.monotonic() + _LADDER_S
        while True:
            mine = _worker.shared_names() | self.own | before
            seen = set(map(_worker.top_name, self.seen)) - set(map(_worker.top_name, mine))
            left = sorted(name for name in seen if os.path.exists(name))
            # The trackers of workers that have ended may still be removing what those forgot.
            if not left or time.monotonic() > limit:
                return left
            time.sleep(0.02)

    def outlived(self) -> list[str]:
        """End and name what is still there of sessions whose leader is gone."""
        found = []
        sessions = set(self.sessions) - {hand.process.pid for hand in self.hands.values()}
        for pid, name in _members(sessions):
            found.append(f"process {pid} ({name}) in the session of a worker that has ended")
            _signal(pid, signal.SIGCONT, signal.SIGKILL)
        return found


def _note(hand: Hand, op: Op) -> Event:
    return Event(time.monotonic_ns(), hand.worker, hand.life, hand.tid, op, 0, Kind.OK)


def _signal(pid: int, *signals: signal.Signals) -> None:
    for number in signals:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _kill_session(pid: int) -> None:
    _signal(pid, signal.SIGKILL)
    # Its pid is still its own, reaped or not, as long as anybody of the session lives; nobody does: no such group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _wait_all(processes: list[Any], deadline: float) -> None:
    left = [process.sentinel for process in processes if process.exitcode is None]
    while left and (rest := deadline - time.monotonic()) > 0:
        for sentinel in wait(left, rest):
            left.remove(sentinel)


def _members(sessions: set[int]) -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc") if sessions and os.path.isdir("/proc/self") else ():
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    head, _, rest = file.read().rpartition(")")
                state, _, _, session = rest.split()[:4]
                # A leader that lives is somebody else's, to whom the number of ours was given again.
                gone = not os.path.exists(f"/proc/{session}")
                if gone and int(session) in sessions and state not in {"Z", "X"}:
                    found.append((int(name), head.partition("(")[2]))
    return found

"""One run of one lock: its room, its workers, and the history that is left of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any

from XME.errors import LockTestFailed
from XME.testing import _gates
from XME.testing._actor import BOARD_BYTES, Board
from XME.testing._checks import COUNTED
from XME.testing._crew import PATIENCE_S, Crew, Hand, State
from XME.testing._event import TAKING, Event, Kind, Op
from XME.testing._history import History
from XME.testing._recorder import make_file, read_file
from XME.testing._room import Room, make_in
from XME.testing._spec import LockSpec
from XME.testing._worker import SHARED_MEMORY, Setup, names_now

# A lock that looks for its turn by polling does so at least this often.
SETTLE_S = 0.03
_RECORDS = 2048
_MANY = 16
_RECORDS_A_ROUND = 8
RELEASE_OF = {Op.ACQUIRE: Op.RELEASE, Op.ACQUIRE_READ: Op.RELEASE_READ}


def records_for(rounds: int) -> int:
    """Return how many records a worker's history needs that takes the lock so often and gives it back."""
    return max(_RECORDS, 64 + _RECORDS_A_ROUND * rounds)


class Stage:
    """Where workers meet a lock, one operation at a time or all at once."""

    def __init__(
        self, crew: Crew, spec: LockSpec, *, records: int = _RECORDS, settle_s: float = SETTLE_S,
        cleanup: Callable[[Room], None] | None = None, handed_over: bool = False,
    ) -> None:  # fmt: skip
        self.crew = crew
        self.spec = spec
        self.settle_s = settle_s
        self.events: list[Event] = []
        self._cleanup = cleanup
        self._records = records
        self._handed_over = handed_over
        self._is_stuck = False
        # By worker, what it had more after the lock was closed than before it was made.
        self.left_open: dict[int, dict[str, int]] = {}

    # -- begin and end ---------------------------------------------------------------------------------------------

    def open(self, workers: int | None = None, *, stepped: bool = True) -> None:
        """Make the room, and let the workers make or open the lock."""
        count = self.crew.workers if workers is None else workers
        folder = tempfile.mkdtemp(prefix="xmelock-")
        # Short, since a name of a semaphore on macOS has 30 characters at most.
        self.room = Room(folder, "xt" + os.path.basename(folder).rpartition("-")[2], -1, 0)
        for worker in range(count):
            make_file(self.room.path(f"w{worker}"), self._records)
        with open(self.room.path("board"), "xb") as file:
            file.truncate(BOARD_BYTES)
        self.board = Board(self.room.path("board"))
        self.stepped = stepped
        self._staff(count)
        self._is_stuck = False

    def _staff(self, count: int) -> None:
        crew = self.crew
        if self._handed_over:
            # What travels with the start of a process cannot be handed to one that runs.
            crew.close()
            before = names_now()
            crew.lock = make_in(crew.make_lock, self.room)
            # What this program makes for its workers may live as long as the program does.
            crew.own |= names_now() - before
        crew.forget_lives()
        crew.start(worker for worker in range(crew.workers) if worker not in crew.hands)
        self.hands = [crew.hands[worker] for worker in range(count)]
        for hand in self.hands:
            crew.begin(hand, self._setup(hand))

    def _setup(self, hand: Hand) -> Setup:
        room = Room(self.room.folder, self.room.name, hand.worker, hand.life)
        return Setup(room, self.stepped, self.spec.read_write)

    def close(self) -> History:
        """End the run, read what it left, and take the room away."""
        end_ns = time.monotonic_ns()
        self._nobody_ended_by_himself()
        sections = self.board.sections
        events = [*self._finish_workers(end_ns), *self.events]
        for worker in range(len(self.hands)):
            events += read_file(self.room.path(f"w{worker}"))
        events.append(Event(end_ns, 0, 0, 0, Op.END, 0, Kind.OK, f"{COUNTED}{sections}"))
        self.board.close()
        self._leave_room()
        events += [Event(end_ns, 0, 0, 0, Op.LEFT, 0, Kind.OK, text) for text in self._left()]
        return History.of([e for e in events if e.time_ns <= end_ns], end_ns, permits=not self.spec.excludes)

    def _nobody_ended_by_himself(self) -> None:
        killed = {event.owner for event in self.events if event.op is Op.KILL_SENT}
        for hand in self.hands:
            if hand.state is State.DEAD and (hand.worker, hand.life) not in killed:
                hand.process.join(1.0)
                reason = f"it ended by itself in {hand.op.name.lower() if hand.op else 'nothing'}"
                raise LockTestFailed.of(hand.worker, f"{reason}, exit code {hand.process.exitcode}")

    def abandon(self) -> None:
        """End the run without looking at it."""
        self.crew.close()
        with contextlib.suppress(ValueError):
            self.board.close()
        self._leave_room()
        self._left()

    def _leave_room(self) -> None:
        if self._handed_over:
            self.crew.close()
            close = getattr(self.crew.lock, "close", None)
            self.crew.lock = None
            if callable(close):
                close()
        if self._cleanup is not None:
            self._cleanup(self.room)
        shutil.rmtree(self.room.folder, ignore_errors=True)

    def _finish_workers(self, now: int) -> Iterator[Event]:
        """Close the lock in all who are idle; the others are ended as hard as is needed."""
        idle = [hand for hand in self.hands if hand.state is State.IDLE]
        for hand in idle:
            hand.send("end")
        for hand in idle:
            message = hand.hear(PATIENCE_S)
            if message is None:
                hand.state = State.RUNNING
                continue
            _, names, left, rounds = message
            self.crew.seen |= set(names)
            for text in self._left_open(hand, left, rounds) if left else ():
                yield Event(now, hand.worker, hand.life, 0, Op.LEFT, 0, Kind.OK, text)

    def _left_open(self, hand: Hand, left: tuple[list[str], int, int], rounds: int) -> Iterator[str]:
        files, descriptors, mappings = left
        self.left_open[hand.worker] = {"descriptors": descriptors, "mappings": mappings}
        for name in files:
            yield f"{name} is open in worker {hand.worker} after the lock was closed"
        # Some things a process opens once for itself: fewer are judged where one worker uses the lock again and again.
        if rounds and descriptors > _MANY:
            yield f"{descriptors} descriptors more in worker {hand.worker} after {rounds} rounds"

    def _left(self) -> list[str]:
        found = self.crew.outlived()
        # A name that workers had mapped, with the room's own name in it: nobody else can have made it.
        for name in sorted(name for name in names_now() if self.room.name in name.removeprefix(SHARED_MEMORY)):
            with contextlib.suppress(OSError):
                os.unlink(name)
            found.append(f"the name {name}")
        return found

    # -- one operation at a time -----------------------------------------------------------------------------------

    def do(
        self, worker: int, op: Op, timeout_s: float | None = None, *, mode: _gates.Mode = _gates.FREE
    ) -> Kind | None:
        """Let a worker do something; None if it waits, also in what it did before, or stands at a gate."""
        hand = self.hands[worker]
        # It may only have been slow, and what it says of that must not be taken for the answer to this.
        if hand.state is State.BLOCKED and not self.wait_for(worker, self.patience_s):
            return None
        inside = (self.how(op), 0.0) if op is Op.SECTION else None
        hand.perform(op, timeout_s, mode, inside)
        settle = self.settle_s
        if timeout_s:
            # It is to run out, not to be taken for one who waits for ever.
            settle = timeout_s + self.spec.stuck_s
        hand.settle(settle)
        return self.answer(worker)

    def how(self, op: Op) -> str:
        """Say how a section is walked through by one who holds it alone."""
        del op
        return "write" if self.spec.excludes else "shared"

    def answer(self, worker: int) -> Kind | None:
        """Return what its last operation said; None if it has not ended."""
        hand = self.hands[worker]
        return None if hand.answer is None else hand.answer[0]

    def take(self, worker: int, op: Op = Op.ACQUIRE, limit_s: float | None = None) -> Kind | None:
        """Let a worker acquire and wait for it, as long as the lock is given time to be stuck."""
        if self.do(worker, op) is None:
            self.wait_for(worker, self.patience_s if limit_s is None else limit_s)
        return self.answer(worker)

    @property
    def patience_s(self) -> float:
        """How long nothing must happen before that is taken for a fault."""
        if self._is_stuck:
            # It has been seen once that nothing comes; what follows is only to be written down.
            return 0.05
        recovery = self.spec.recover_s if self.spec.survives else 0.0
        return 0.2 + max(self.spec.stuck_s, recovery, self.spec.max_wait_s or 0.0)

    def wait_for(self, worker: int, limit_s: float) -> bool:
        """Wait until a worker's operation has ended; False if it has not."""
        hand = self.hands[worker]
        hand.hear(limit_s)
        if hand.answer is None and limit_s >= self.patience_s:
            self._is_stuck = True
        return hand.answer is not None

    def kill(self, worker: int) -> None:
        """Kill a worker."""
        self.crew.kill(worker, self.events)

    def revive(self, worker: int) -> None:
        """Start its next life."""
        hand = self.hands[worker]
        self.hands[worker] = self.crew.revive(worker, self._setup_next(hand))

    def _setup_next(self, hand: Hand) -> Setup:
        room = Room(self.room.folder, self.room.name, hand.worker, hand.life + 1)
        return Setup(room, self.stepped, self.spec.read_write)

    def drain(self) -> None:
        """Let whoever gets the lock pass through and give it back, until nobody waits or nothing moves."""
        limit = time.monotonic() + self.patience_s
        served: set[int] = set()
        while time.monotonic() < limit:
            waiting = [hand for hand in self.hands if hand.state in {State.BLOCKED, State.RUNNING}]
            ready = [h for h in self.hands if h.state is State.IDLE and self._has_taken(h) and h.worker not in served]
            if not ready and not waiting:
                return
            if not ready:
                self.hear_any(waiting, limit)
                continue
            for hand in ready:
                served.add(hand.worker)
                self.pass_through(hand.worker)
            limit = time.monotonic() + self.patience_s
        self._is_stuck = True

    def _has_taken(self, hand: Hand) -> bool:
        return hand.op in TAKING and hand.answer is not None and hand.answer[0] is Kind.OK

    def hear_any(self, waiting: list[Hand], limit: float) -> None:
        """Take the next message of whoever speaks first; returns at the limit at the latest."""
        pipes: list[Any] = [hand.pipe for hand in waiting]
        heard = wait(pipes, max(0.0, limit - time.monotonic()))
        for hand in waiting:
            if hand.pipe in heard:
                hand.hear(0)

    def pass_through(self, worker: int) -> None:
        """Let a worker who has it walk through a section and give it back."""
        op = self.hands[worker].op
        assert op in TAKING
        if op is Op.ACQUIRE:
            self.do(worker, Op.SECTION)
        self.do(worker, RELEASE_OF[op])

    def stop(self, worker: int) -> None:
        """Stop a worker by SIGSTOP."""
        self._sent(worker, Op.STOPPED, signal.SIGSTOP)

    def cont(self, worker: int) -> None:
        """Let it go on."""
        self._sent(worker, Op.CONTINUED, signal.SIGCONT)

    def _sent(self, worker: int, op: Op, number: signal.Signals) -> None:
        hand = self.hands[worker]
        before = time.monotonic_ns()
        os.kill(hand.pid, number)
        # The span of a stop is the longest that it can have been.
        moment = before if op is Op.STOPPED else time.monotonic_ns()
        self.events.append(Event(moment, worker, hand.life, hand.tid, op, 0, Kind.OK))

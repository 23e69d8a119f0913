"""The crew: the workers of one executor, as their parent sees them: started when needed, watched, replaced.

A death is proved first (the process was reaped), then its claims are read; only then does a successor start. Workers
that die one after the other before they could claim anything are not replaced for ever (CrewFailed).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from XME._core import participant
from XME._core.domain import Domain
from XME._pool import board as b
from XME._pool import starting, worker
from XME._pool.arena import ArenaReader
from XME._pool.inherited import Inheritance
from XME._pool.interrupts import interrupts_held
from XME._pool.warm import LetGo
from XME._store import codec
from XME.errors import CrewFailed, DomainFull

_FUTILE_DEATHS = 3
# How long a worker that was told to end, terminated, killed may take for each.
_END_S = 5.0
_REAP_S = 0.2
# What multiprocessing says of a process whose fork server has died.
_FORKSERVER_DIED = 255
_COUNTED = (b.S_ROWS, b.S_CLAIMS, b.S_WORKING, b.S_WAITING, b.S_SHARED, b.S_PICKLED)


@dataclass(slots=True, eq=False)
class Member:
    """A worker: its process, slot on the board, serial number in the crew, and generation."""

    process: Any
    index: int
    serial: int
    generation: int
    who: participant.Identity | None
    # It was there when the caller gave up a call (Ctrl-C): should it die now, that says nothing about the crew.
    pardoned: bool = False
    # It was not found any more, but its exit code has not come yet.
    missed: bool = False
    # It was killed while it had the board's mutex, and so before it began the rows of its last claim.
    was_claiming: bool = False
    # When it was first seen to have retired, if its place was wanted.
    retired_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that is proved dead: who it was and how it ended (negative: a signal).

    Attributes:
        began: False if it died while claiming, and so before it began the first row of its last claim.
    """

    serial: int
    pid: int
    exitcode: int | None
    reason: str
    began: bool


class Crew:
    """Starts, watches and replaces up to `size` workers."""

    def __init__(
        self, domain: Domain, size: int, context: Any, initializer: tuple[Any, tuple[Any, ...]] | None,
        max_rows: int | None,
    ) -> None:  # fmt: skip
        self.domain = domain
        self.size = size
        # Twice as many slots as workers: a new generation starts while the old one finishes.
        self.board, self._serials = b.create(domain, 2 * size)
        self.arenas = ArenaReader(domain)
        self.inheritance = Inheritance(context.get_start_method())
        self.members: dict[int, Member] = {}
        self.totals: dict[int, list[int]] = {}
        self._context = context
        # Its arguments may be multiprocessing's own locks and queues, as with the standard library's executors.
        self._initargs = initializer
        self._initializer = None
        if initializer is not None:
            self._initializer = codec.encode(initializer, self.inheritance.reducers())
        self._max_rows = max_rows
        self._free_slots = list(range(2 * size - 1, -1, -1))
        self._next_serial = 1
        self._futile = 0
        self._lost_calls: list[tuple[int, int]] = []

    # -- starting --------------------------------------------------------------------------------------------------

    def staff(self, wanted: int) -> None:
        """Have at least `wanted` workers (but no more than there is room for) of the present generation.

        Raises:
            DomainFull: nobody is there, and the domain holds no more processes.
        """
        generation = self.inheritance.generation
        for member in self.members.values():
            if member.generation < generation:
                self.board.worker(member.index)[b.S_END] = 1
        able = sum(
            member.generation == generation and not self._has_retired(member) for member in self.members.values()
        )
        missing = min(wanted, self.size) - able
        if missing <= 0:
            return
        room = self._room()
        if not able and room <= 0:
            self._require_members()
        for _ in range(min(missing, room)):
            if not self._free_slots:
                self._end_lingering()
                return
            self._start(generation)

    def _room(self) -> int:
        """Return how many more processes the domain holds; those that have been started and not come yet count."""
        coming = sum(not self.board.worker(member.index)[b.S_INCARNATION] for member in self.members.values())
        return self.domain.capacity - len(self.domain.living()) - coming

    def _require_members(self) -> None:
        """The domain is full, and nobody of the present generation is there: wait only for members that will go."""
        if not self.members:
            raise DomainFull.of(self.domain.id, self.domain.capacity)
        self._end_lingering(_END_S)

    def _has_retired(self, member: Member) -> bool:
        return bool(self.board.worker(member.index)[b.S_RETIRED])

    def _end_lingering(self, patience_s: float = 0.0) -> None:
        """Kill those that have retired and do not end: a thread that a function left running keeps their slots."""
        now = time.monotonic()
        for member in self.members.values():
            if self._has_retired(member):
                member.retired_at = min(member.retired_at, now)
        self.kill({serial for serial, member in self.members.items() if member.retired_at <= now - patience_s})

    def _start(self, generation: int) -> None:
        from XME._pool.cores import available_cores  # asked for when there is something to share

        starting.refuse_while_importing()
        index = self._free_slots.pop()
        serial = self._next_serial
        self._next_serial += 1
        slot = self.board.worker(index)
        for k in range(b.WORKER_WORDS):
            slot[k] = 0
        self.board.set_reason(index, "")
        setup = worker.Setup(
            domain_id=self.domain.id,
            serials=self._serials,
            workers=2 * self.size,
            slot=index,
            serial=serial,
            generation=generation,
            parent=participant.myself(),
            cores=max(1, available_cores() // self.size),
            initializer=self._initializer,
            max_rows=self._max_rows,
            inherited=self.inheritance.objects(),
        )
        process = self._context.Process(target=worker.main, args=(setup,), name=f"XME-worker-{serial}", daemon=False)
        # A worker that nobody knows of could claim rows and die unnoticed: between its start and its entry, no Ctrl-C.
        with interrupts_held():
            try:
                starting.start(process)
            except BaseException:
                self._free_slots.append(index)
                raise
            self.members[serial] = Member(process, index, serial, generation, participant.identity_of(process.pid))

    # -- watching --------------------------------------------------------------------------------------------------

    def bury(self) -> list[Death]:
        """Return the workers that have died since the last call; those that retired in order are not among them.

        Raises:
            CrewFailed: so many in a row died before they could do anything.
        """
        deaths = []
        for member in list(self.members.values()):
            exitcode = member.process.exitcode
            if exitcode is None and not self._is_gone(member):
                continue
            if exitcode == _FORKSERVER_DIED:
                self._make_sure(member)
            death = self._settle(member, exitcode)
            if death is not None:
                deaths.append(death)
        return deaths

    @staticmethod
    def _is_gone(member: Member) -> bool:
        """True if there is no such process though nobody told us its exit code: the program reaps children itself."""
        if member.who is not None and participant.identity_of(member.who.pid) == member.who:
            return False
        # A fork server tells the exit code a moment after the process has gone.
        missed, member.missed = member.missed, True
        return missed

    def _make_sure(self, member: Member) -> None:
        """Let no worker live on whose death was only heard of: its fork server was killed, and it perhaps was not."""
        while member.who is not None and participant.is_found_alive(member.who):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.who.pid, signal.SIGKILL)
            time.sleep(_REAP_S / 100)

    def futile(self) -> CrewFailed | None:
        """Return the error if the crew has given up, and let it try again."""
        if self._futile < _FUTILE_DEATHS:
            return None
        deaths, self._futile = self._futile, 0
        return CrewFailed.of(deaths, self._last_exitcode, self._last_reason)

    _last_exitcode: int | None = None
    _last_reason = ""

    def _settle(self, member: Member, exitcode: int | None) -> Death | None:
        slot = self.board.worker(member.index)
        words = slot.tolist()
        retired = bool(words[b.S_RETIRED]) and exitcode in (0, None)
        claiming = member.was_claiming or (
            bool(words[b.S_INCARNATION])
            and self.board.mutex.is_in_hands_of(words[b.S_NUMBER], words[b.S_INCARNATION])
        )
        # What it had mapped, a child that it forked may still see.
        if words[b.S_CALL]:
            self._lost_calls.append((words[b.S_CALL], words[b.S_CALL]))
        if words[b.S_DIRTY_LOW]:
            self._lost_calls.append((words[b.S_DIRTY_LOW], words[b.S_DIRTY_HIGH]))
        if words[b.S_INCARNATION]:
            self.arenas.adopt_all(words[b.S_NUMBER], words[b.S_INCARNATION])
        self.totals[member.serial] = [words[k] for k in _COUNTED]
        del self.members[member.serial]
        reason = self.board.reason(member.index)
        self._free_slots.append(member.index)
        member.process.join()
        pid = member.process.pid
        with contextlib.suppress(ValueError):
            member.process.close()
        if retired:
            return None
        # Who has once waited for work had started well.
        useless = not (words[b.S_CLAIMS] or words[b.S_CALL] or words[b.S_WAITING])
        # Another crew was faster; that says nothing while somebody else is here to do the work.
        refused = bool(words[b.S_REFUSED]) and bool(self.members)
        if not (member.pardoned or refused):
            self._futile = self._futile + 1 if useless else 0
        self._last_exitcode, self._last_reason = exitcode, reason
        return Death(member.serial, pid, exitcode, reason, not claiming)

    def pardon(self) -> None:
        """Do not count the deaths of those that are there now: a Ctrl-C also kills who has not quite started."""
        for member in self.members.values():
            member.pardoned = True

    def kill(self, serials: set[int]) -> None:
        """Kill some workers and wait until they are dead."""
        doomed = [self.members[serial] for serial in serials if serial in self.members]
        for member in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.process.pid, signal.SIGKILL)
        for member in doomed:
            member.process.join()

    def kill_mutex_holder(self) -> None:
        """Kill who keeps the board's mutex for longer than anybody may: who holds it, else who is on his way in or out.

        A stopped process may have the semaphore's permit before or after its word says so. Nobody there runs a row.
        """
        mutex = self.board.mutex
        near = [
            (serial, *self.board.worker(member.index)[b.S_INCARNATION : b.S_NUMBER + 1])
            for serial, member in self.members.items()
        ]
        users = [(serial, number) for serial, incarnation, number in near if mutex.is_in_hands_of(number, incarnation)]
        holders = set(mutex.holders())
        doomed = {serial for serial, number in users if number in holders} or {serial for serial, _ in users}
        self.kill(doomed)
        # Looked at now: who recovers the mutex clears its word.
        for serial, incarnation, number in near:
            if serial in doomed and mutex.is_in_hands_of(number, incarnation):
                self.members[serial].was_claiming = True

    # -- what is known of a call -------------------------------------------------------------------------------------

    def let_go(self, calls: range) -> LetGo:
        """Say whether every worker has let go of the arguments of some calls, none of which can be claimed any more."""
        for low, high in self._lost_calls:
            if calls.start <= high and low < calls.stop:
                return LetGo.NEVER
        for member in list(self.members.values()):
            slot = self.board.worker(member.index)
            if slot[b.S_CALL] in calls:
                return LetGo.NOT_YET
            low, high = slot[b.S_DIRTY_LOW], slot[b.S_DIRTY_HIGH]
            if low and calls.start <= high and low < calls.stop:
                return LetGo.NOT_YET
        return LetGo.YES

    def is_leaving(self, going_on: list[range]) -> bool:
        """True if a worker is still on its way out of a call, all of whose outcomes are there."""
        on = {self.board.worker(member.index)[b.S_CALL] for member in list(self.members.values())} - {0}
        return any(not any(call in ids for ids in going_on) for call in on)

    def current_arenas(self) -> set[int]:
        """Return the segments that workers are writing results to."""
        return {self.board.worker(member.index)[b.S_ARENA] for member in self.members.values()}

    def counts(self) -> dict[int, list[int]]:
        """Return for each worker that ever was: rows, claims, ns working, ns waiting, bytes shared, bytes pickled."""
        living = {
            serial: [self.board.worker(member.index)[k] for k in _COUNTED] for serial, member in self.members.items()
        }
        return {**self.totals, **living}

    # -- the end -----------------------------------------------------------------------------------------------------

    def tell_to_end(self) -> None:
        """Tell every worker to end when idle; does nothing that a finalizer may not do."""
        self.board.words[b.W_STOP] = 1
        for _ in range(len(self.members)):
            self.board.wake.release()

    def end(self) -> None:
        """End every worker: told to, else terminated, else killed; then unlink the crew's names."""
        self.tell_to_end()
        members = list(self.members.values())
        for step in (None, "terminate", "kill"):
            deadline = time.monotonic() + _END_S
            for member in members:
                if step is not None and member.process.is_alive():
                    getattr(member.process, step)()
                member.process.join(max(0.0, deadline - time.monotonic()))
            if not any(member.process.is_alive() for member in members):
                break
        self.bury()
        self.unlink()

    def unlink(self) -> None:
        """Unlink the crew's names; who still has them open ends by himself."""
        for serial in self._serials:
            self.domain.names.unlink(serial)

    def reap_soon(self) -> None:
        """Give workers that were told to end a moment to do so, so that they do not stay as zombies; for finalizers."""
        deadline = time.monotonic() + _REAP_S
        for member in list(self.members.values()):
            # Another thread may have buried it meanwhile, or the finalizer has interrupted an import that join needs.
            with contextlib.suppress(ValueError, ImportError):
                member.process.join(max(0.0, deadline - time.monotonic()))

    def note_drop(self) -> None:
        """Leave word that the crew's names are to be unlinked; for finalizers."""
        for serial in self._serials:
            self.domain.names.note_drop(serial, always=True)

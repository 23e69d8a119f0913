"""The crew: the workers of one executor, as their parent sees them: started when needed, watched, replaced.

A death is proved first (the process was reaped), then its claims are read; only then does a successor start. Workers
that die one after the other before they could claim anything are not replaced for ever (CrewFailed).
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from XME._core import participant
from XME._core.domain import Domain
from XME._pool import board as b
from XME._pool import worker
from XME._pool.arena import ArenaReader
from XME._pool.inherited import Inheritance
from XME._pool.warm import LetGo
from XME.errors import CrewFailed

_FUTILE_DEATHS = 3
# How long a worker that was told to end, terminated, killed may take for each.
_END_S = 5.0
_REAP_S = 0.2
_COUNTED = (b.S_ROWS, b.S_CLAIMS, b.S_WORKING, b.S_WAITING, b.S_SHARED, b.S_PICKLED)


@dataclass(slots=True, eq=False)
class Member:
    """A worker: its process, slot on the board, serial number in the crew, and generation."""

    process: Any
    index: int
    serial: int
    generation: int


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that is proved dead: who it was and how it ended (negative: a signal)."""

    serial: int
    pid: int
    exitcode: int | None
    reason: str


class Crew:
    """Starts, watches and replaces up to `size` workers."""

    def __init__(self, domain: Domain, size: int, context: Any, initializer: bytes | None, max_rows: int | None) -> None:
        self.domain = domain
        self.size = size
        # Twice as many slots as workers: a new generation starts while the old one finishes.
        self.board, self._serials = b.create(domain, 2 * size)
        self.arenas = ArenaReader(domain)
        self.inheritance = Inheritance(context.get_start_method())
        self.members: dict[int, Member] = {}
        self.totals: dict[int, list[int]] = {}
        self._context = context
        self._initializer = initializer
        self._max_rows = max_rows
        self._free_slots = list(range(2 * size - 1, -1, -1))
        self._next_serial = 1
        self._futile = 0
        self._lost_calls: list[tuple[int, int]] = []

    # -- starting --------------------------------------------------------------------------------------------------

    def staff(self, wanted: int) -> None:
        """Have at least `wanted` workers (but no more than there is room for) of the present generation.

        Raises:
            CrewFailed: workers keep dying before they can do anything.
        """
        generation = self.inheritance.generation
        for member in self.members.values():
            if member.generation < generation:
                self.board.worker(member.index)[b.S_END] = 1
        able = sum(member.generation == generation for member in self.members.values())
        for _ in range(min(wanted, self.size) - able):
            if not self._free_slots:
                return
            self._start(generation)

    def _start(self, generation: int) -> None:
        from XME._pool.cores import available_cores  # noqa: PLC0415 - asked for when there is something to share

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
            index=index,
            serial=serial,
            generation=generation,
            parent=participant.myself(),
            cores=max(1, available_cores() // self.size),
            initializer=self._initializer,
            max_rows=self._max_rows,
            inherited=self.inheritance.objects(),
        )
        process = self._context.Process(target=worker.main, args=(setup,), name=f"XME-worker-{serial}", daemon=False)
        try:
            process.start()
        except BaseException:
            self._free_slots.append(index)
            raise
        self.members[serial] = Member(process, index, serial, generation)

    # -- watching --------------------------------------------------------------------------------------------------

    def bury(self) -> list[Death]:
        """Return the workers that have died since the last call; those that retired in order are not among them.

        Raises:
            CrewFailed: so many in a row died before they could do anything.
        """
        deaths = []
        for member in list(self.members.values()):
            exitcode = member.process.exitcode
            if exitcode is None:
                continue
            death = self._settle(member, exitcode)
            if death is not None:
                deaths.append(death)
        return deaths

    def futile(self) -> CrewFailed | None:
        """Return the error if the crew has given up, and let it try again."""
        if self._futile < _FUTILE_DEATHS:
            return None
        deaths, self._futile = self._futile, 0
        return CrewFailed.of(deaths, self._last_exitcode, self._last_reason)

    _last_exitcode: int | None = None
    _last_reason = ""

    def _settle(self, member: Member, exitcode: int) -> Death | None:
        slot = self.board.worker(member.index)
        words = slot.tolist()
        retired = bool(words[b.S_RETIRED]) and exitcode == 0
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
        member.process.close()
        if retired:
            return None
        idle = not words[b.S_CLAIMS]
        self._futile = self._futile + 1 if idle and not words[b.S_CALL] else 0
        self._last_exitcode, self._last_reason = exitcode, reason
        return Death(member.serial, pid, exitcode, reason)

    def kill(self, serials: set[int]) -> None:
        """Kill some workers and wait until they are dead."""
        doomed = [self.members[serial] for serial in serials if serial in self.members]
        for member in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.process.pid, signal.SIGKILL)
        for member in doomed:
            member.process.join()

    def kill_mutex_holder(self) -> None:
        """Kill the worker that holds the board's mutex for longer than anybody may (it is stopped)."""
        holders = self.board.mutex.holders()
        slots = {self.board.worker(member.index)[b.S_NUMBER]: serial for serial, member in self.members.items()}
        self.kill({slots[number] for number in holders if number in slots})

    # -- what is known of a call -------------------------------------------------------------------------------------

    def let_go(self, calls: range) -> LetGo:
        """Say whether every worker has let go of the arguments of some calls, none of which can be claimed any more."""
        for low, high in self._lost_calls:
            if calls.start <= high and low < calls.stop:
                return LetGo.NEVER
        for member in self.members.values():
            slot = self.board.worker(member.index)
            if slot[b.S_CALL] in calls:
                return LetGo.NOT_YET
            low, high = slot[b.S_DIRTY_LOW], slot[b.S_DIRTY_HIGH]
            if low and calls.start <= high and low < calls.stop:
                return LetGo.NOT_YET
        return LetGo.YES

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
            member.process.join(max(0.0, deadline - time.monotonic()))

    def note_drop(self) -> None:
        """Leave word that the crew's names are to be unlinked; for finalizers."""
        for serial in self._serials:
            self.domain.names.note_drop(serial, always=True)


def context_of(start_method: str | None) -> Any:
    """Return multiprocessing's context for a start method, None for the platform's default.

    Raises:
        ValueError: there is no such start method.
    """
    try:
        context = multiprocessing.get_context(start_method)
    except ValueError:
        known = ", ".join(map(repr, multiprocessing.get_all_start_methods()))
        msg = f"start_method must be None or one of {known}, not {start_method!r}"
        raise ValueError(msg) from None
    if context.get_start_method() == "forkserver":
        _preload(context)
    return context


def _preload(context: Any) -> None:
    """Let the fork server import once what every worker needs, unless the user has said what it is to import."""
    server = importlib.import_module("multiprocessing.forkserver")._forkserver
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        context.set_forkserver_preload(["__main__", "XME._pool.worker", "cloudpickle"])

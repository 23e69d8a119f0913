"""The dispatcher: puts calls on the board, watches the crew, takes outcomes.

    caller                          board (shared memory)                     workers
    ------                          ---------------------                     -------
    payload, table  ------------->  slot: head, claims, values, tags  <-----  claim rows under the mutex, one store
    post the wake semaphore                                                   run; result whole, then the row's tag
    wait on a semaphore of its own  <---------------------------------------  post it when nothing is left to claim
    read tags and values; results in arenas are views
    each slice: deaths proved, their rows given back or WorkerDied; a further post

Several threads may call at once; what they share of the crew is behind one lock of this process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from XME._core.domain import Domain
from XME._pool import board as b
from XME._pool import table as t
from XME._pool import warm
from XME._pool.calls import PENDING, Part, RunningCall
from XME._pool.crew import Crew
from XME._pool.payload import Sent, send
from XME._pool.shelf import Shelf
from XME.ArrayOperator import Entry, ExecutionTable

# How long a caller sleeps before it looks for deaths, should no post come.
SLICE_S = 0.05
# Slots that only a running call may take, for rows that a death gave back.
_RESERVED_SLOTS = 8
# How long an abort waits for the board's mutex before it kills who holds it.
_MUTEX_S = 0.25
# How long a caller looks for the end of a short call before it sleeps.
_SPIN_S = 60e-6 if (os.cpu_count() or 1) > 1 else 0.0


class Dispatcher:
    """Runs calls on one crew."""

    def __init__(self, domain: Domain, crew: Crew) -> None:
        self.domain = domain
        self.crew = crew
        self.shelf = Shelf(domain, crew.inheritance)
        self._finished: dict[int, range] = {}
        self.warm = warm.WarmSegments(domain, self._let_go)
        self.lock = threading.RLock()
        self._sending = threading.RLock()
        self._slot_freed = threading.Condition(self.lock)
        self._free_slots = list(range(b.TABLES - 1, -1, -1))
        self._free_waiters: list[int] = []
        self.running: list[RunningCall] = []
        self.pickled = 0
        self.shared = 0
        # The thread that resolves futures, if there are any.
        self.runner: Any = None

    # -- waiters -----------------------------------------------------------------------------------------------------

    def take_waiter(self) -> int:
        """Return the serial number of a semaphore that nobody else waits on."""
        with self.lock:
            if self._free_waiters:
                return self._free_waiters.pop()
        serial, semaphore = b.new_semaphore(self.domain, 0)
        semaphore.close()
        return serial

    def return_waiter(self, serial: int) -> None:
        """Give a waiter back; a post that comes late is a spurious wake-up of the next one."""
        with self.lock:
            self._free_waiters.append(serial)

    # -- beginning ---------------------------------------------------------------------------------------------------

    def begin(self, table: ExecutionTable, entries: tuple[Entry, ...], waiter: int, *, name: Callable[[int], str],
              limit: int = 0, post_each: bool = False, wait_for_slot: bool = True) -> RunningCall | None:  # fmt: skip
        """Put a call on the board.

        Args:
            table: for its log and retries.
            entries: whose rows are run.
            waiter: the semaphore that workers post.
            name: the function's name for each row, for messages.
            limit: rows a claim at most, 0 for as many as is good.
            post_each: post after every claim, not only at the end.
            wait_for_slot: wait while too many calls run; else None is returned then.

        Raises:
            UnshareableArgument, SharedMemoryFull, CrewFailed.
        """
        with self.lock:
            if not wait_for_slot and len(self._free_slots) <= _RESERVED_SLOTS:
                return None
        # Copying a large argument takes long; other threads' calls go on meanwhile.
        with self._sending:
            sent = send(table, entries, self.shelf, self.warm, self.crew.inheritance)
        with self.lock:
            self._await_slot()
            self.pickled += len(sent.data)
            self.shared += sent.shared
            flags = limit | sent.generation << 32 | (t.POST_EACH if post_each else 0)
            count = sum(entry.rows for entry in entries)
            call = RunningCall(count, name, table.retries, waiter, (0, 0, 0), flags, sent.segments, sent.keeps)
            try:
                self._publish(call, count, None, sent)
                self.running.append(call)
                self.crew.staff(self._useful_workers())
            except BaseException:
                self.finish(call)
                raise
        self._wake(count)
        return call

    def _await_slot(self) -> None:
        while len(self._free_slots) <= _RESERVED_SLOTS:
            self._slot_freed.wait(SLICE_S)
            self.watch()

    def _useful_workers(self) -> int:
        return sum(call.claimable() for call in self.running) if len(self.running) < 2 else self.crew.size  # noqa: PLR2004

    def _wake(self, rows: int) -> None:
        for _ in range(min(rows, self.crew.size)):
            self.crew.board.wake.release()

    def _publish(self, call: RunningCall, rows: int, row_map: list[int] | None, sent: Sent | None) -> None:
        """Fill a slot of the board; its call id is stored last, and makes it visible."""
        board = self.crew.board
        nbytes = t.table_bytes(rows, rows, mapped=row_map is not None)
        payload = b"" if sent is None else sent.data
        slot = self._free_slots.pop()
        memory = None
        try:
            if nbytes + len(payload) > b.SMALL_TABLE_BYTES:
                memory = self.warm.blank(nbytes + len(payload))
                data, base, serial = memory.data, 0, memory.serial
            else:
                data, serial = board.small_table(slot), 0
                base = board.layout.tables_at + slot * b.SMALL_TABLE_BYTES
                data[:nbytes] = bytes(nbytes)
            if sent is not None:
                data[nbytes : nbytes + len(payload)] = payload
                call.payload = (serial, base + nbytes, len(payload))
            call_id = self._write_head(call, slot, rows, serial, mapped=row_map is not None)
            part = Part(t.Table(call_id, slot, board.head(slot), data), memory, row_map)
            if row_map is not None and part.table.row_map is not None:
                for k, row in enumerate(row_map):
                    part.table.row_map[k] = row
        except BaseException:
            self._free_slots.append(slot)
            if memory is not None:
                memory.unlink()
            raise
        call.parts.append(part)
        call.ids = range(call.ids.start if call.parts[1:] else call_id, call_id + 1)
        board.ids[slot] = call_id

    def _write_head(self, call: RunningCall, slot: int, rows: int, serial: int, *, mapped: bool) -> int:
        words = self.crew.board.words
        call_id = words[b.W_LAST_CALL] + 1
        words[b.W_LAST_CALL] = call_id
        head = self.crew.board.head(slot)
        head[t.H_ROWS] = head[t.H_CLAIMS] = rows
        head[t.H_SEGMENT] = serial
        head[t.H_PAYLOAD], head[t.H_PAYLOAD_AT], head[t.H_PAYLOAD_BYTES] = call.payload
        head[t.H_FLAGS] = call.flags | (t.MAPPED if mapped else 0)
        head[t.H_WAITER] = call.waiter
        return int(call_id)

    def warm_up(self, call: RunningCall) -> None:
        """While the workers run: map the pages of new argument segments, which makes the next call's copy fast."""
        for used in call.segments:
            warm.populate(used)

    # -- watching ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look for deaths; their rows are given back or fail, and a successor starts.

        If the crew has given up, every running call fails with the reason.
        """
        with self.lock:
            for death in self.crew.bury():
                for call in self.running:
                    again = call.bury(death)
                    if again and not call.cancelled:
                        self._publish(call, len(again), again, None)
            failed = self.crew.futile()
            if failed is not None:
                for call in self.running:
                    self._close_tables(call)
                    self._kill_workers_of(call)
                    call.give_up(lambda _row: failed)
                return
            wanted = sum(call.claimable() for call in self.running)
            if wanted:
                self.crew.staff(self._useful_workers())
        if wanted:
            self._wake(wanted)

    # -- the end -----------------------------------------------------------------------------------------------------

    def abort(self, call: RunningCall, error: Callable[[int], BaseException]) -> None:
        """End a call now: nothing more is claimed, workers that are on its rows are killed, the rest gets an error.

        A row is given the error only after its worker is proved dead, so a result that came first stands.
        """
        with self.lock:
            call.cancelled = True
            self._close_tables(call)
            self._kill_workers_of(call)
            call.give_up(error)

    def _close_tables(self, call: RunningCall) -> None:
        mutex = self.crew.board.mutex
        while not mutex.acquire(_MUTEX_S):
            self.crew.kill_mutex_holder()
        try:
            for part in call.parts:
                cursor, place = part.table.cursor()
                if cursor < part.table.rows:
                    part.table.claim(place, part.table.rows, t.PARENT)
        finally:
            mutex.release()

    def _kill_workers_of(self, call: RunningCall) -> None:
        self.crew.kill({serial for serial in self.crew.members if call.unfinished_of(serial)})
        for death in self.crew.bury():
            for other in self.running:
                if other is not call:
                    again = other.bury(death)
                    if again:
                        self._publish(other, len(again), again, None)

    def finish(self, call: RunningCall) -> None:
        """Take a call off the board; its argument segments cool until all workers have let go."""
        with self.lock:
            self._clear_slots(call)
            for part in call.parts:
                part.table.release()
                if part.memory is not None:
                    part.memory.unlink()
                    part.memory.close()
                self._free_slots.append(part.table.slot)
            if call in self.running:
                self.running.remove(call)
            if call.segments:
                self._finished[call.ids.start] = call.ids
                self.warm.take_back(call.segments, call.ids.start)
            if not self.running:
                self.crew.arenas.forget(self.crew.current_arenas())
            call.parts = []
            self._slot_freed.notify_all()

    def _clear_slots(self, call: RunningCall) -> None:
        ids = self.crew.board.ids
        mutex = self.crew.board.mutex
        # Under the mutex, so that nobody is between reading the id and claiming; a stopped worker must not hold us up.
        while not mutex.acquire(_MUTEX_S):
            self.crew.kill_mutex_holder()
        try:
            for part in call.parts:
                if ids[part.table.slot] == part.table.call:
                    ids[part.table.slot] = 0
        finally:
            mutex.release()

    def _let_go(self, first_call: int) -> warm.LetGo:
        # Under the lock: between a death's burial and its being noted, nothing would speak against using it again.
        with self.lock:
            state = self.crew.let_go(self._finished[first_call])
            if state is not warm.LetGo.NOT_YET:
                del self._finished[first_call]
            return state

    def take(self, word: int) -> Any:
        """Return a result by the word that finds it."""
        return self.crew.arenas.take(word)

    def outcome(self, call: RunningCall, row: int) -> tuple[Any] | None:
        """Return the outcome of one row of a running call in a tuple, or None if there is none yet."""
        with self.lock:
            found = call.outcome(row, self.crew.arenas.take)
            return None if found is PENDING else (found,)

    def ready(self, call: RunningCall, first: int) -> list[Any]:
        """Return the outcomes of the rows from `first` up to the first that has none yet."""
        with self.lock:
            return call.ready(first, self.crew.arenas.take)

    def collect(self, call: RunningCall) -> list[Any]:
        """Return the outcomes of a call that is done."""
        with self.lock:
            return call.outcomes(self.crew.arenas.take)

    def wait(self, call: RunningCall, deadline: float | None, progress: Callable[[int], None] | None = None) -> bool:
        """Wait until every row has an outcome (True) or the monotonic clock passes `deadline` (False)."""
        waiter = self.crew.board.waiter(call.waiter)
        look_at = time.monotonic() + SLICE_S
        waiter.spin(_SPIN_S)
        while not call.done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            left = look_at - now
            if left > 0:
                waiter.wait(left if deadline is None else min(left, deadline - now))
            if time.monotonic() >= look_at:
                self.watch()
                look_at = time.monotonic() + SLICE_S
            if progress is not None:
                progress(call.done_count())
        return True

    def wait_once(self, call: RunningCall, deadline: float | None) -> bool:
        """Sleep until something may have changed (True) or the time is over (False)."""
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return False
        left = SLICE_S if deadline is None else min(SLICE_S, deadline - now)
        if self.crew.board.waiter(call.waiter).spin(_SPIN_S):
            return True
        if not self.crew.board.waiter(call.waiter).wait(left):
            self.watch()
        return True

    # -- the end of the dispatcher -------------------------------------------------------------------------------------

    def abandon(self, call: RunningCall) -> None:
        """Take a call off the board whose outcomes nobody wants any more; what is running is waited for."""
        with self.lock:
            call.cancelled = True
            self._close_tables(call)
        while not self._only_parent_owes(call):
            self.wait_once(call, None)
        with self.lock:
            call.give_up(lambda _row: InterruptedError())
            self.finish(call)
            self.return_waiter(call.waiter)

    def _only_parent_owes(self, call: RunningCall) -> bool:
        with self.lock:
            return not any(call.unfinished_of(serial) for serial in self.crew.members)

    def clean(self) -> None:
        """Unlink warm segments, and forget the functions."""
        with self.lock:
            self.warm.drop_all()
            self.shelf.clear()

    def drop(self) -> None:
        """Nobody wants this any more: let what was submitted finish, then end; takes no lock, for finalizers."""
        if self.runner is not None and not self.runner.idle:
            self.runner.close(then=self.close)
            return
        if self.runner is not None:
            self.runner.close()
        self.crew.tell_to_end()
        self.crew.note_drop()
        for serial in self._free_waiters:
            self.domain.names.note_drop(serial, always=True)
        self.crew.reap_soon()

    def close(self) -> None:
        """End the crew and unlink everything."""
        self.crew.end()
        with self.lock:
            self.clean()
            for serial in self._free_waiters:
                self.domain.names.unlink(serial)
            self._free_waiters.clear()
            self.crew.arenas.forget(set())

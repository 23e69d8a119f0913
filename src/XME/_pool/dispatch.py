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

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from XME._core.domain import Domain
from XME._pool import board as b
from XME._pool import leftovers
from XME._pool import table as t
from XME._pool.calls import PENDING, RunningCall
from XME._pool.cores import affine_cores
from XME._pool.crew import Crew
from XME._pool.ended import EndedCalls
from XME._pool.payload import Sent, send
from XME._pool.places import Places
from XME._pool.posts import Posts
from XME._pool.shelf import Shelf
from XME._pool.tables import Tables, unread_places
from XME._pool.waiters import Waiters
from XME._pool.warm import WarmSegments
from XME.ArrayOperator import Entry, ExecutionTable
from XME.errors import DomainFull

# How long a caller sleeps before it looks for deaths, should no post come.
SLICE_S = 0.05
# A worker counts what it did after its last outcome is there: so long that is waited for, and looked at so often.
_COUNTED_S = 0.5
_COUNTED_LOOK_S = 0.0002
# How long a caller looks for the end of a short call before it sleeps, if the workers have other cores.
_SPIN_S = 100e-6


class Dispatcher:
    """Runs calls on one crew."""

    def __init__(self, domain: Domain, crew: Crew) -> None:
        self.domain = domain
        self.crew = crew
        self.shelf = Shelf(domain, crew.inheritance)
        self.lock = threading.RLock()
        self._ended = EndedCalls(crew, self.lock)
        self.warm = WarmSegments(domain, self._ended.state)
        # Taken before the lock, never after it.
        self.sending = threading.RLock()
        self._slot_freed = threading.Condition(self.lock)
        self.tables = Tables(crew, self.warm)
        self.waiters = Waiters(domain, crew.board)
        self.running: list[RunningCall] = []
        self.pickled = 0
        self.shared = 0
        # The thread that resolves futures, if there are any.
        self.runner: Any = None
        # Calls whose iterators were collected, and whether what is not claimed is to be run; finalizers append here.
        self.orphans: deque[tuple[RunningCall, bool]] = deque()
        self._abandoned: list[RunningCall] = []
        self._closed = False
        # True once its executor is gone.
        self.dropped = False
        self._wake = Posts(crew.board.wake, crew.size).send
        self._spin_s = _SPIN_S if affine_cores() > 1 else 0.0

    # -- beginning ---------------------------------------------------------------------------------------------------

    def begin(self, table: ExecutionTable, entries: tuple[Entry, ...], waiter: int, *, name: Callable[[int], str],
              keep: Callable[[RunningCall], None], limit: int = 0, post_each: bool = False,
              deadline: float | None = None) -> RunningCall | None:  # fmt: skip
        """Put a call on the board.

        Args:
            table: for its log and retries.
            entries: whose rows are run.
            waiter: the semaphore that workers post.
            name: the function's name for each row, for messages.
            keep: is given the call before it is on the board. A failing call is finished here, unless a Ctrl-C strikes
                when it is on the board: then the keeper finds it unfinished.
            limit: rows a claim at most, 0 for as many as is good.
            post_each: post after every claim, not only at the end.
            deadline: until when to wait while too many calls run (monotonic clock); then None is returned.

        Raises:
            UnshareableArgument, SharedMemoryFull, CrewFailed, DomainFull.
        """
        leftovers.tend()
        self._adopt_orphans()
        if not self._await_slot(deadline):
            return None
        # Copying a large argument takes long: other threads' calls go on meanwhile, unless it is that of a `submit`.
        places, call = Places(self.warm), None
        try:
            with self.sending:
                sent = send(table, entries, self.shelf, places, self.crew.inheritance)
            with self.lock:
                if not self._await_slot(deadline):
                    places.unlink()
                    return None
                flags = limit | sent.generation << 32 | (t.POST_EACH if post_each else 0)
                count = sum(entry.rows for entry in entries)
                call = RunningCall(count, name, table.retries, waiter, (0, 0, 0), flags, sent.segments, sent.keeps)
                self._show(call, sent, keep)
        except BaseException:
            if call is None or not (call.finished or call in self.running):
                places.unlink()
            raise
        self._wake(count)
        return call

    def _show(self, call: RunningCall, sent: Sent, keep: Callable[[RunningCall], None]) -> None:
        try:
            self.running.append(call)
            keep(call)
            self.tables.publish(call, call.count, None, sent)
            self.pickled += len(sent.data)
            self.shared += sent.shared
            self._replace_workers()
        except BaseException as error:
            # A Ctrl-C is not the rows' affair: workers may be on them already.
            if isinstance(error, Exception) or not self.tables.show(call):
                self._end_now(call, lambda _row: InterruptedError())
                self.finish(call)
            raise

    def _await_slot(self, deadline: float | None) -> bool:
        with self.lock:
            # Not `while` with a condition, whose jump back Python 3.13 leaves out of what a `with` block covers.
            while True:
                if self.tables.have_room() or self._closed:
                    break
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._slot_freed.wait(SLICE_S)
                self.watch()
            if self._closed:
                msg = "cannot schedule new work after shutdown: make another Executor"
                raise RuntimeError(msg)
        return True

    def _useful_workers(self) -> int:
        return sum(call.claimable() for call in self.running) if len(self.running) < 2 else self.crew.size

    def warm_up(self, call: RunningCall) -> None:
        """While the workers run: map the pages of new argument segments, which makes the next call's copy fast."""
        for used in call.segments:
            self.warm.populate(used)

    # -- watching ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look for deaths; their rows are given back or fail, and a successor starts.

        If the crew has given up, or nobody is left and nobody can start, every running call fails with the reason.
        """
        self._adopt_orphans()
        with self.lock:
            self._bury()
            failed = self.crew.futile()
            if failed is not None:
                self._give_up(failed)
            wanted = sum(call.claimable() for call in self.running)
            if wanted:
                try:
                    self._replace_workers()
                except (DomainFull, OSError) as error:
                    self._give_up(error)
            self._end_abandoned()
        if wanted:
            self._wake(wanted)

    def _give_up(self, reason: BaseException) -> None:
        for call in self.running:
            call.given_up = reason
            self._end_now(call, lambda _row: reason)

    def _bury(self, but: RunningCall | None = None) -> None:
        """Settle what the dead have claimed; of calls that go on, the rows that are to run again get a table."""
        for death in self.crew.bury():
            for call in self.running:
                if call is not but:
                    call.bury(death)
        for call in self.running:
            if call.waiting and not call.cancelled:
                self.tables.place_waiting(call)

    def _replace_workers(self) -> None:
        try:
            self.crew.staff(self._useful_workers())
        except OSError:
            # No memory or no pid for another process: who is there does the work.
            if not self.crew.members:
                raise

    # -- the end -----------------------------------------------------------------------------------------------------

    def abort(self, call: RunningCall, error: Callable[[int], BaseException]) -> None:
        """End a call now: nothing more is claimed, workers that are on its rows are killed, the rest gets an error.

        A row is given the error only after its worker is proved dead, so a result that came first stands.
        """
        with self.lock:
            if not call.finished:
                self._end_now(call, error)

    def abort_all(self, error: Callable[[int], BaseException]) -> None:
        """End every call now."""
        with self.lock:
            for call in list(self.running):
                self._end_now(call, error)

    def _end_now(self, call: RunningCall, error: Callable[[int], BaseException]) -> None:
        call.cancelled = True
        self.crew.pardon()
        self.tables.close(call)
        # Who died by himself has died on his row; whom we kill is late.
        self._bury()
        self.crew.kill({serial for serial in self.crew.members if call.unfinished_of(serial)})
        self._bury(but=call)
        call.give_up(error)

    def finish(self, call: RunningCall) -> None:
        """Take a call off the board; its argument segments cool until all workers have let go."""
        with self.lock:
            if call.finished:
                return
            if not call.collected:
                self.crew.arenas.discard(unread_places(call))
            self.tables.take_off(call)
            if call.segments:
                self._ended.add(call.ids)
                self.warm.take_back(call.segments, call.ids.start)
            # Not before: until here a Ctrl-C leaves the call to be ended once more.
            if call in self.running:
                self.running.remove(call)
            call.finished = True
            self._forget_results()
            if self._closed:
                self.warm.drop_all()
            self._slot_freed.notify_all()

    def _forget_results(self) -> None:
        """Drop the mappings of results in which nothing that is still to be taken can lie."""
        arenas, board = self.crew.arenas, self.crew.board
        arenas.retire(self.crew.current_arenas(), board.words[b.W_LAST_CALL])
        arenas.forget_before(min((call.ids.start for call in self.running), default=board.words[b.W_LAST_CALL] + 1))

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
            found = call.outcomes(self.crew.arenas.take)
            call.collected = True
            return found

    def counts(self) -> dict[int, list[int]]:
        """Return what each worker that ever was has done (see Crew.counts), the rows of every ended call among it."""
        deadline = time.monotonic() + _COUNTED_S
        while True:
            with self.lock:
                going_on = [call.ids for call in self.running if not call.done()]
                if not self.crew.is_leaving(going_on) or time.monotonic() >= deadline:
                    return self.crew.counts()
            time.sleep(_COUNTED_LOOK_S)

    def wait(self, call: RunningCall, deadline: float | None, progress: Callable[[int], None] | None = None,
             others: Iterable[Dispatcher] = ()) -> bool:  # fmt: skip
        """Wait until every row has an outcome (True) or the monotonic clock passes `deadline` (False).

        Deaths are looked for meanwhile, also in the crews of `others`, who work beside this one.
        """
        waiter = self.crew.board.waiter(call.waiter)
        look_at = time.monotonic() + SLICE_S
        waiter.spin(self._spin_s)
        while not call.done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            left = look_at - now
            if left > 0:
                waiter.wait(left if deadline is None else min(left, deadline - now))
            if time.monotonic() >= look_at:
                for place in (self, *others):
                    place.watch()
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
        if self.crew.board.waiter(call.waiter).spin(self._spin_s):
            return True
        if not self.crew.board.waiter(call.waiter).wait(left):
            self.watch()
        return True

    # -- the end of the dispatcher -------------------------------------------------------------------------------------

    # What nobody waits for any more goes on: as concurrent.futures has it, what was begun is not broken off.

    def abandon(self, call: RunningCall, *, close: bool) -> None:
        """Let a call end by itself, its outcomes unread; with `close`, what nobody has claimed is never run."""
        with self.lock:
            if close:
                call.cancelled = True
                self.tables.close(call)
            self._abandoned.append(call)
            self._end_abandoned()

    def _adopt_orphans(self) -> None:
        """Abandon the calls whose iterators were dropped; a finalizer could only leave word."""
        while self.orphans:
            try:
                call, close = self.orphans.popleft()
            except IndexError:
                return
            self.abandon(call, close=close)

    def _end_abandoned(self) -> None:
        for call in [call for call in self._abandoned if self._is_over(call)]:
            self._abandoned.remove(call)
            call.give_up(lambda _row: InterruptedError())
            self.finish(call)
            self.waiters.give(call.waiter)

    def _is_over(self, call: RunningCall) -> bool:
        """True if no row of a call runs or will run."""
        return call.done() or (
            call.cancelled and not any(call.unfinished_of(serial) for serial in self.crew.members)
        )

    def clean(self) -> None:
        """Unlink warm segments, and forget the functions."""
        with self.sending, self.lock:
            self.warm.drop_all()
            self.shelf.clear()

    def drop(self) -> None:
        """Nobody wants this any more: let what was submitted finish, then end; takes no lock, for finalizers."""
        self.dropped = True
        if self.runner is not None and not self.runner.idle:
            self.runner.close(then=self.close)
            return
        if self.runner is not None:
            self.runner.close()
        if self.running or self.orphans:
            leftovers.keep(self)
            return
        self.crew.tell_to_end()
        self.crew.note_drop()
        self.waiters.note_drop()
        self.crew.reap_soon()

    def drain(self) -> None:
        """Wait until no row runs or will run; results that somebody still wants stay."""
        while True:
            self.watch()
            with self.lock:
                busy = next((call for call in self.running if not self._is_over(call)), None)
            if busy is None:
                return
            self.wait_once(busy, None)

    def close(self) -> None:
        """Finish what runs, end the crew and unlink everything."""
        self.drain()
        with self.lock:
            self._closed = True
            self.crew.end()
            self._end_abandoned()
            self.waiters.close()
            self._forget_results()
        self.clean()

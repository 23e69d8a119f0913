"""Futures over the dispatcher: rows that were submitted one by one, and a thread that resolves them.

`submit` puts a row on the board at once while few tables are there; later rows are gathered into tables of many. The
thread sleeps on one semaphore that workers post after each claim, looks which rows have an outcome, and resolves their
futures. It is started with the first row and ends when there is nothing left after a shutdown.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import repeat, starmap
from typing import Any

from XME._core.semaphore import Semaphore
from XME._pool import table as t
from XME._pool.calls import Failure, RunningCall
from XME._pool.dispatch import SLICE_S, Dispatcher
from XME.ArrayOperator import Entry, ExecutionTable, name_of

# So many tables of futures are on the board at once; what comes beyond waits and is gathered.
_TABLES = 8
_BATCH = 512


class RowFuture(Future[Any]):
    """A future of one row; it can be cancelled until a worker has claimed the row."""

    def __init__(self, runner: FutureRunner, entry: Entry) -> None:
        super().__init__()
        self._runner = runner
        self.entry: Entry | None = entry
        self.place: tuple[RunningCall, int] | None = None
        # Decided under the dispatcher's lock, before the future itself says so.
        self.withdrawn = False

    def cancel(self) -> bool:
        """Cancel the row; False if a worker has claimed it already (then it runs, or has run)."""
        with self._runner.dispatcher.lock:
            is_first = not self.withdrawn
            if is_first:
                if self.done() or super().running() or self.is_decided:
                    return False
                if self.place is not None and not self._runner.cancel_row(*self.place):
                    return False
                self.withdrawn = True
                self.place = self.entry = None
        # Not under the lock: this runs the future's callbacks. Also for who comes second: told that it is cancelled, he
        # must find it so. Waiters of concurrent.futures are woken by the other, which may be done once only.
        super().cancel()
        if is_first:
            self.set_running_or_notify_cancel()
        return True

    @property
    def is_decided(self) -> bool:
        """True if it waits no more and is on no board: its outcome, or that it is cancelled, is told soon."""
        return self.entry is None and self.place is None

    def running(self) -> bool:
        """True if a worker has claimed the row and it has no result yet."""
        with self._runner.dispatcher.lock:
            if self.done():
                return False
            if self.place is None:
                return super().running()
            call, row = self.place
            return bool(call.parts) and call.parts[0].table.is_claimed(row)


def _waiting(batch: list[RowFuture]) -> list[RowFuture]:
    # What is on the board, has failed or is cancelled has no entry any more. A function, because Python 3.13 leaves a
    # comprehension's jump back out of what a `try` around it covers.
    return [future for future in batch if future.entry is not None]


class FutureRunner:
    """Submits rows and resolves their futures."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self._waiter = dispatcher.waiters.take_for_good()
        self._pending: deque[RowFuture] = deque()
        self._active: list[tuple[RunningCall, list[RowFuture | None]]] = []
        # What is just being put on the board, by one who may be in the middle of putting another one there.
        self._taken: list[list[RowFuture]] = []
        # Decided, and to be told as soon as nobody holds the lock.
        self._resolved: deque[tuple[RowFuture, Any]] = deque()
        # put() of a SimpleQueue may be called by a finalizer in the middle of anything.
        self._events: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._then: Callable[[], None] | None = None

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowFuture:
        """Return the future of one call."""
        future = RowFuture(self, Entry(function, args, kwargs, rows=1))
        with self.dispatcher.lock:
            if self._closing:
                msg = "cannot schedule new futures after shutdown: make another Executor"
                raise RuntimeError(msg)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, daemon=True, name="XME-executor")
                self._thread.start()
            self._pending.append(future)
        self._pump()
        if self._resolved:
            # It is the thread that tells: once that has ended, which shutdown waits for, every future is done.
            self.dispatcher.crew.board.waiter(self._waiter).release()
        if self._events.empty():
            self._events.put(None)
        return future

    def cancel_row(self, call: RunningCall, row: int) -> bool:
        """Cancel a row on the board; under the dispatcher's lock."""
        return bool(call.parts) and self.dispatcher.tables.cancel(call, row)

    def _pump(self) -> None:
        """Put waiting rows on the board, while there is room; not under the dispatcher's lock."""
        if self._pending and len(self._active) < _TABLES:
            with self.dispatcher.sending, self.dispatcher.lock:
                self._fill()

    def _fill(self) -> None:
        while self._pending and len(self._active) < _TABLES:
            batch: list[RowFuture] = []
            self._taken.append(batch)
            try:
                # In one call of C code: a Ctrl-C, which is the submitter's, must not strike with one in nobody's hands.
                batch.extend(starmap(self._pending.popleft, repeat((), min(len(self._pending), _BATCH))))
                if not self._begin(_waiting(batch)):
                    return
            finally:
                self._pending.extendleft(reversed(_waiting(batch)))
                batch.clear()
                self._taken[:] = filter(None, self._taken)

    def _begin(self, batch: list[RowFuture]) -> bool:
        """Put rows on the board; False if there is no room for one of them."""
        entries = tuple(future.entry for future in batch if future.entry is not None)
        names = [name_of(entry.function) for entry in entries]
        begun: list[RunningCall] = []
        try:
            if entries and not self.dispatcher.begin(
                ExecutionTable(entries), entries, self._waiter, name=names.__getitem__, keep=begun.append, limit=1,
                post_each=True, deadline=0.0,
            ):  # fmt: skip
                return False
            self._adopt(begun, batch)
        except Exception as error:  # what one row's arguments raise is that row's outcome
            return self._begin_alone(batch, error)
        except BaseException:
            # A Ctrl-C. What is on the board may run already, and a row runs once.
            self._adopt(begun, batch)
            raise
        return True

    def _adopt(self, begun: list[RunningCall], batch: list[RowFuture]) -> None:
        """Note the futures of a call that is on the board; may be done twice."""
        for call in begun:
            if call.finished:
                continue
            if not any(known is call for known, _ in self._active):
                self._active.append((call, list(batch)))
            for row, future in enumerate(batch):
                future.place = call, row
                future.entry = None

    def _begin_alone(self, batch: list[RowFuture], error: BaseException) -> bool:
        """One row's arguments could not be sent: send each alone, and give the culprit its error."""
        if len(batch) > 1:
            return all(self._begin([future]) for future in batch)
        # In this order: a Ctrl-C in between must not leave it in nobody's hands.
        self._resolved.append((batch[0], Failure(error)))
        batch[0].entry = None
        return True

    # -- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        waiter = self.dispatcher.crew.board.waiter(self._waiter)
        while True:
            # Under the lock, so that nothing is submitted between the look and the end.
            with self.dispatcher.lock:
                if self.idle and self._closing:
                    break
            if self.idle:
                self._events.get()
            self._look(waiter)
        if self._then is not None:
            self._then()

    def _look(self, waiter: Semaphore) -> None:
        try:
            if self._active or self._pending:
                if waiter.wait(SLICE_S):
                    # One look sees all that was posted until now.
                    waiter.drain()
                else:
                    self.dispatcher.watch()
            self._resolve()
        except Exception as error:  # whoever waits for a future must not wait for ever
            self._break(error)

    def _resolve(self) -> None:
        with self.dispatcher.lock:
            self._resolved += [pair for call, futures in self._active for pair in self._news(call, futures)]
            over = [call for call, futures in self._active if not any(futures)]
            self._active = [(call, futures) for call, futures in self._active if any(futures)]
            for call in over:
                call.collected = True
                self.dispatcher.finish(call)
        self._settle()
        self._pump()
        self._settle()

    def _break(self, error: BaseException) -> None:
        """Something that all rows need has failed: every row that has no outcome fails with it."""
        with self.dispatcher.lock:
            rows = [future for _, futures in self._active for future in futures if future is not None]
            rows += [future for future in self._pending if not future.withdrawn]
            for call, _ in self._active:
                self.dispatcher.abort(call, lambda _row: error)
                self.dispatcher.finish(call)
            self._active.clear()
            self._pending.clear()
            for future in rows:
                if future.set_running_or_notify_cancel():
                    self._resolved.append((future, Failure(error)))
        self._settle()

    def _settle(self) -> None:
        """Resolve what was decided, outside the lock: a callback may do anything."""
        while self._resolved:
            try:
                future, outcome = self._resolved.popleft()
            except IndexError:
                return
            if future.done():
                # A Ctrl-C had it sent and decided once more.
                continue
            if isinstance(outcome, Failure):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)

    def _news(self, call: RunningCall, futures: list[RowFuture | None]) -> list[tuple[RowFuture, Any]]:
        found = []
        for row, tag in enumerate(bytes(call.parts[0].table.tags)):
            future = futures[row]
            if not tag or future is None:
                continue
            if tag == t.CANCELLED:
                futures[row] = None
                continue
            outcome = self._outcome(call, row)
            if outcome is not None:
                futures[row] = None
                future.place = None
                # From here on it cannot be cancelled.
                future.set_running_or_notify_cancel()
                found.append((future, outcome[0]))
        return found

    def _outcome(self, call: RunningCall, row: int) -> tuple[Any] | None:
        try:
            return self.dispatcher.outcome(call, row)
        except MemoryError as error:
            return (Failure(error),)

    # -- the end -----------------------------------------------------------------------------------------------------

    def cancel_all(self) -> None:
        """Cancel every row that no worker has claimed."""
        with self.dispatcher.lock:
            futures = [*self._pending, *(future for _, row in self._active for future in row if future is not None)]
        for future in futures:
            future.cancel()

    def close(self, then: Callable[[], None] | None = None) -> None:
        """Let the thread end once everything is resolved, and do something then; takes no lock."""
        self._then = then
        self._closing = True
        self._events.put(None)

    def join(self) -> None:
        """Wait until everything is resolved."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def idle(self) -> bool:
        """True if no row waits for its outcome; takes no lock."""
        # In the order in which rows go on, so that none is missed on its way; some go back to the first.
        begins = self._pending or any(_waiting(batch) for batch in list(self._taken))
        return not (begins or self._active or self._resolved or self._pending)

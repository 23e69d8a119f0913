"""The worker pool: a ``concurrent.futures.Executor`` whose tasks are names in shared memory, not payloads in a pipe.

    the caller's process                                     shared memory                  worker processes
    --------------------                                     -------------                  ----------------
    execute(table), submit, map
      |  functions, common arguments once,                   payload
      |  split arguments as columns  -------------------->   segments of large arrays
      |                                                      one execution table a call
      |  wakes the crew (a semaphore)                          claims   <------------------  claim rows themselves, in
      |                                                                                      pieces that shrink towards
      |                                                                                      the end: one 8-byte store
      |                                                        values   <------------------  run it; when its result is
      |  sleeps on a semaphore of its own                      tags     <------------------  whole, its tag: one store
      |  <-------------------------------------------------    (posted when nothing is left to claim)
      v                                                      arenas     <------------------  large results, written once
    results: numbers read in one go, arrays as views

Who does what:

- *the caller* encodes the call, waits, proves deaths (a reaped process) and only then reads what the dead had claimed:
  the one row that it may have begun fails with WorkerDied (or runs again, ``retries``), the others are given back;
- *a worker* needs no message for a task: it claims under a mutex that survives its holder, and lets go of a call's
  arguments when nothing is left; it watches the process that started it and ends with it;
- *the thread "XME-executor"* exists only if futures do, and resolves them.

Posts are hints: everybody who sleeps looks again after a slice.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as _StandardExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from XME._core import program
from XME._core.callable_module import name_the_class
from XME._pool import ending, results, statistics
from XME._pool.calls import Failure, RunningCall, split_outcomes
from XME._pool.cores import available_cores
from XME._pool.crew import Crew
from XME._pool.dispatch import Dispatcher
from XME._pool.foreign import raise_failures
from XME._pool.futures import FutureRunner
from XME._pool.progress import ProgressBar
from XME._pool.starting import context_of
from XME._pool.statistics import Statistics
from XME.ArrayOperator import Array, Entry, ExecutionTable, tells_functions_end
from XME.errors import RowTimeout

__all__ = ["Executor", "Statistics"]


class Executor(_StandardExecutor):
    """Run calls on a crew of worker processes that start once, stay, and are replaced when they die.

    Args:
        max_workers: how many processes; None is as many as there are cores that this process may use.
        start_method: "fork", "spawn" or "forkserver"; None is the platform's default.
        initializer: called in each worker when it starts, with `initargs`.
        initargs: its arguments.
        max_tasks_per_child: a worker is replaced after so many rows; None is never.
        mp_context: a multiprocessing context, instead of `start_method`.

    Raises:
        ValueError, TypeError: an option makes no sense.

    An Executor does not pickle: a function that wants workers of its own makes its own.

    >>> with Executor(max_workers=1) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024
    """

    def __init__(self, max_workers: int | None = None, *, start_method: str | None = None,
                 initializer: Any = None, initargs: tuple[Any, ...] = (),
                 max_tasks_per_child: int | None = None, mp_context: Any = None) -> None:  # fmt: skip
        if mp_context is not None and start_method is not None:
            msg = "give start_method or mp_context, not both"
            raise ValueError(msg)
        if initializer is not None and not callable(initializer):
            msg = f"initializer must be callable, not {initializer!r}"
            raise TypeError(msg)
        self.max_workers = available_cores() if max_workers is None else _count("max_workers", max_workers)
        self._max_rows = None if max_tasks_per_child is None else _count("max_tasks_per_child", max_tasks_per_child)
        self._context = mp_context or context_of(start_method)
        self._initializer = None if initializer is None else (initializer, tuple(initargs))
        self._lock = threading.Lock()
        self._engine: Dispatcher | None = None
        self._runner: FutureRunner | None = None
        self._beside: Executor | None = None
        self._shut = False
        self._pid = os.getpid()

    # -- starting ----------------------------------------------------------------------------------------------------

    def _dispatcher(self) -> Dispatcher:
        if self._shut:
            msg = "cannot schedule new work after shutdown: make another Executor"
            raise RuntimeError(msg)
        if self._pid != os.getpid():
            msg = "this Executor belongs to the process that was forked: make one here"
            raise RuntimeError(msg)
        with self._lock:
            if self._engine is None:
                domain = program.program_domain()
                crew = Crew(domain, self.max_workers, self._context, self._initializer, self._max_rows)
                self._engine = Dispatcher(domain, crew)
                self._finalizer = weakref.finalize(self, _drop, self._engine, os.getpid())
                ending.at_exit(self)
        return self._engine

    # -- calls -------------------------------------------------------------------------------------------------------

    @tells_functions_end
    def execute(self, table: ExecutionTable) -> tuple[Any, ...]:
        """Run every row of an execution table and return their results in row order, the guard's last.

        This is the seam of the manual's own Executor: a subclass that overrides it decides where rows run.
        ``[row.function(*row.args, **row.kwargs) for row in table.rows()]`` is the smallest one.

        Raises:
            the row's own exception: one row failed; its cause is the worker's traceback. It has `.row`, `.results`
                (row -> result of those that finished) and `.failures`.
            RowErrors: several failed.
            RowTimeout: `table.timeout` ran out; workers on unfinished rows were killed.
            WorkerDied: a worker died on its row, and the retries are used up.
            CrewFailed, DomainFull, OSError: nobody could run the rows, or the rest of them: with `.results` and
                `.failures` if that became so in the middle, else nothing was run.
            UnshareableArgument, SharedMemoryFull: nothing was run.
        """
        deadline = None if table.timeout is None else time.monotonic() + table.timeout
        engine = self._dispatcher()
        _end_stale(engine)
        begun: list[tuple[Dispatcher, RunningCall]] = []
        waiters: list[tuple[Dispatcher, int]] = []
        try:
            for place, part, entries, offset in self._divided(table, engine):
                waiter = place.waiters.take()
                waiters.append((place, waiter))
                call = place.begin(
                    part, entries, waiter, name=partial(_name, table, offset), deadline=deadline,
                    keep=partial(_keep, begun, place),
                )  # fmt: skip
                if call is None:
                    raise RowTimeout.of(table.timeout or 0.0, tuple(range(table.row_count)), {})
            outcomes = self._gather(table, begun, deadline)
        finally:
            self._clear_away(begun, waiters)
        return self._answer(table, outcomes, [call for _, call in begun])

    def _clear_away(self, begun: list[tuple[Dispatcher, RunningCall]], waiters: list[tuple[Dispatcher, int]]) -> None:
        """Take calls off the board, what still runs of them included; a second Ctrl-C leaves that to the next call."""
        for place, call in begun:
            if not call.collected:
                place.abort(call, _interrupted)
            place.finish(call)
        while waiters:
            place, waiter = waiters.pop()
            place.waiters.give(waiter)

    def _divided(
        self, table: ExecutionTable, engine: Dispatcher
    ) -> Iterator[tuple[Dispatcher, ExecutionTable, tuple[Entry, ...], int]]:
        if table.guard is not None:
            restarting = replace(table, retries=max(table.retries, table.guard_retries))
            yield self._guard_dispatcher(), restarting, (table.guard,), table.row_count
        if table.row_count:
            yield engine, table, table.entries, 0

    def _guard_dispatcher(self) -> Dispatcher:
        with self._lock:
            if self._beside is None:
                self._beside = Executor(1, mp_context=self._context)
                self._beside._initializer = self._initializer
        return self._beside._dispatcher()

    def _gather(
        self, table: ExecutionTable, begun: list[tuple[Dispatcher, RunningCall]], deadline: float | None
    ) -> list[Any]:
        """Wait for all calls, the functions' before the guard's; returns the outcomes in row order."""
        bar = ProgressBar(table.row_count) if table.progress else None
        outcomes: list[Any] = []
        try:
            for place, call in reversed(begun):
                place.warm_up(call)
                if is_guard := place is (self._beside and self._beside._engine):
                    table.tell_functions_end()
                update = None if bar is None or is_guard else bar.update
                others = [other for other, _ in begun if other is not place]
                if not place.wait(call, deadline, update, others):
                    place.abort(call, lambda _row: _timed_out(table.timeout))
                outcomes += place.collect(call)
            if bar is not None:
                bar.update(table.row_count)
        finally:
            if bar is not None:
                bar.close()
        return outcomes

    def _answer(self, table: ExecutionTable, outcomes: list[Any], calls: list[RunningCall]) -> tuple[Any, ...]:
        if Failure not in set(map(type, outcomes)):
            return tuple(outcomes)
        results, failures = split_outcomes(outcomes)
        # A row may well raise an exception of the same kind.
        given_up = next((call.given_up for call in calls if any(e is call.given_up for e in failures.values())), None)
        if given_up is not None:
            given_up.__dict__.update(results=results, failures=failures)
            raise given_up
        late = tuple(row for row, error in failures.items() if isinstance(error, _TimedOutRow))
        if late:
            raise _timeout_error(table, late, results, failures)
        raise_failures(failures, results)
        raise AssertionError  # raise_failures has raised

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Schedule ``fn(*args, **kwargs)`` and return its future; it can be cancelled until a worker claims it.

        Raises:
            RuntimeError: the executor was shut down.
        """
        engine = self._dispatcher()
        with self._lock:
            if self._runner is None:
                self._runner = engine.runner = FutureRunner(engine)
        return self._runner.submit(fn, args, kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None,
            chunksize: int | None = None, buffersize: int | None = None, **unknown: Any) -> Iterator[Any]:  # fmt: skip
        """Return an iterator over ``fn(*row)`` for the rows of ``zip(*iterables)``, in order; all run at once.

        Args:
            fn: the function.
            iterables: collected at once; sequences and arrays are taken as they are.
            timeout: seconds from now after which ``next`` raises TimeoutError.
            chunksize: at most so many rows a claim; None is guided: large pieces first, small ones towards the end.
            buffersize: only so many rows are taken ahead of the iterator, one a claim (as from Python 3.14 on): for
                iterables without end, or results that would not all find room.
            unknown: nothing.

        Raises:
            TypeError, ValueError: an option makes no sense, or there is none of that name.
        """
        results.check(unknown, timeout, chunksize=chunksize, buffersize=buffersize)
        deadline = None if timeout is None else time.monotonic() + timeout
        if buffersize is not None:
            return results.buffered(partial(self.submit, fn), zip(*iterables, strict=False), buffersize, deadline)
        columns = [Array(values if _is_sequence(values) else list(values)) for values in iterables]
        rows = min(map(len, columns), default=0)
        if rows == 0:
            return iter(())
        # Like zip, the shortest one counts.
        cut = [column if len(column) == rows else Array(column.values[:rows]) for column in columns]
        entry = Entry(fn, tuple(cut), {}, rows)
        return results.begin(self._dispatcher(), entry, chunksize, deadline).rows()

    # -- what is left over -------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Let go of what finished calls have left: warm argument segments, remembered functions."""
        if self._engine is not None:
            self._engine.clean()

    def statistics(self) -> Statistics:
        """Return what has been done so far, as a frozen record."""
        return statistics.of(self._engine)

    def __repr__(self) -> str:
        """Say how many workers there are."""
        running = 0 if self._engine is None else len(self._engine.crew.members)
        state = "shut down" if self._shut else f"{running} running"
        return f"<XME.Executor.Executor max_workers={self.max_workers}, {state}>"

    def __reduce__(self) -> Any:
        """Refuse: a worker that waited for workers of its own crew could wait for ever."""
        msg = "an Executor does not pickle: make one in the function that wants it, or use XME.XME(...) there"
        raise TypeError(msg)

    # -- the end -----------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, finish what was submitted, and end the workers.

        Args:
            wait: return when all is done and every worker has ended; else return at once (safe in a finalizer).
            cancel_futures: cancel the futures that no worker has claimed yet.
        """
        self._shut = True
        if self._engine is None or self._pid != os.getpid():
            return
        if cancel_futures and self._runner is not None and not self._runner.idle:
            self._runner.cancel_all()
        if self._beside is not None:
            self._beside.shutdown(wait)
        if not wait:
            self._engine.drop()
            return
        if self._runner is not None:
            self._runner.close()
            self._runner.join()
        self._engine.close()
        self._finalizer.detach()
        ending.forget(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Shut down and wait; after a Ctrl-C nothing is waited for: what runs is ended."""
        if kind is KeyboardInterrupt:
            self._abort()
        self.shutdown(wait=True)

    def _abort(self) -> None:
        """End everything that runs now, by killing its workers; what was not claimed is cancelled or never runs."""
        if self._engine is None or self._pid != os.getpid():
            return
        if self._runner is not None:
            self._runner.cancel_all()
        if self._beside is not None:
            self._beside._abort()
        self._engine.abort_all(_interrupted)


class _TimedOutRow(TimeoutError):
    """Marks a row that the time limit left unfinished, until the call's one RowTimeout is made."""


def _name(table: ExecutionTable, first: int, row: int) -> str:
    return table.name(first + row)


def _keep(begun: list[tuple[Dispatcher, RunningCall]], place: Dispatcher, call: RunningCall) -> None:
    call.owner = threading.get_ident()
    begun.append((place, call))


def _end_stale(engine: Dispatcher) -> None:
    """End this thread's former calls that a Ctrl-C left on the board: it may strike in a clean-up, or before it."""
    me = threading.get_ident()
    stale = [call for call in list(engine.running) if call.owner == me]
    if not stale or _is_in_execute():
        return
    for call in stale:
        engine.abort(call, _interrupted)
        engine.finish(call)
        engine.waiters.give(call.waiter)


def _is_in_execute() -> bool:
    """True if this thread is in the middle of another `execute`: a signal handler or an argument's pickling runs."""
    frame = inspect.currentframe()
    found = 0
    while frame is not None:
        found += frame.f_code is Executor.execute.__code__
        frame = frame.f_back
    return found > 1


def _timed_out(timeout: float | None) -> BaseException:
    return _TimedOutRow(f"not done after {timeout} s")


def _interrupted(_row: int) -> BaseException:
    return KeyboardInterrupt("the call was interrupted")


def _timeout_error(
    table: ExecutionTable, late: tuple[int, ...], results: dict[int, Any], failures: dict[int, BaseException]
) -> RowTimeout:
    error = RowTimeout.of(table.timeout or 0.0, late, results)
    error.__dict__["failures"] = {row: found for row, found in failures.items() if row not in set(late)}
    return error


def _count(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} must be a whole number, not {value!r}"
        raise TypeError(msg)
    if value < 1:
        msg = f"{what} must be at least 1, not {value}"
        raise ValueError(msg)
    return value


def _is_sequence(values: Any) -> bool:
    return isinstance(values, list | tuple | range | str | bytes) or hasattr(values, "__array_interface__")


def _drop(engine: Dispatcher, pid: int) -> None:
    """An Executor was dropped without shutdown: its workers end; takes no lock, being a finalizer."""
    if pid == os.getpid():
        engine.drop()


name_the_class(__name__, "Executor")

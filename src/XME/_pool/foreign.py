"""Run an execution table on an executor of another library: rows one by one, the same results, the same exceptions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from XME._pool.progress import ProgressBar
from XME.ArrayOperator import Entry, ExecutionTable, call_row, tells_functions_end
from XME.errors import RemoteError, RowErrors, RowTimeout
from XME.Logputter import Logputter


@dataclass(frozen=True)
class ForeignStatistics:
    """What XME knows of the calls that it ran on somebody else's executor."""

    calls: int = 0
    rows: int = 0
    failed_rows: int = 0


def run_row(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], log: Logputter | None) -> Any:
    """Run one row where the executor wants it; print and logobj are made there."""
    return call_row(function, args, kwargs, log)


def slots_of(executor: Any) -> int | None:
    """Give the number of rows that an executor runs at once, or None if it does not say.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> slots_of(ThreadPoolExecutor(3))
    3
    """
    for name in ("max_workers", "_max_workers"):
        slots = getattr(executor, name, None)
        if isinstance(slots, int):
            return slots
    return None


def raise_failures(failures: dict[int, BaseException], results: dict[int, Any]) -> None:
    """Raise what a call's failed rows make: nothing, the one exception itself, or a RowErrors of all.

    Each carries ``results`` (row -> result of the rows that finished) and ``failures`` (row -> exception).
    """
    ordered = {row: _as_exception(failures[row]) for row in sorted(failures)}
    for row, error in ordered.items():
        _attach(error, row=row)
    if len(ordered) == 1:
        ((_, error),) = ordered.items()
        _attach(error, results=results, failures=ordered)
        raise error
    if ordered:
        raise RowErrors.of(ordered, results)


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    # sys.exit() in a row must not end the caller, and an ExceptionGroup takes nothing but Exceptions.
    stand_in = RemoteError(
        f"the function ended with {type(error).__name__}({error}), which ends a program and not a row",
        type_name=type(error).__name__,
        text=str(error),
    )
    stand_in.__cause__ = error
    return stand_in


def _attach(error: Exception, **fields: Any) -> None:
    for name, value in fields.items():
        try:
            setattr(error, name, value)
        except (AttributeError, TypeError):
            # A class with __slots__ or setters of its own: the exception itself matters more than our notes on it.
            continue


class ForeignRunner:
    """Give an executor of another library the ``execute(table)`` that class XME wants."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self._statistics = ForeignStatistics()

    @property
    def max_workers(self) -> int | None:
        """The number of rows that run at once, or None if the executor does not say."""
        return slots_of(self.executor)

    def statistics(self) -> ForeignStatistics:
        """Give the counts since this was made or cleaned."""
        return self._statistics

    def clean(self) -> None:
        """Forget finished calls: the counts begin again."""
        self._statistics = ForeignStatistics()

    @tells_functions_end
    def execute(self, table: ExecutionTable) -> tuple[Any, ...]:
        """Run all rows and give their results in order, the guard's last.

        :raises ValueError: if there is a guard and the executor has fewer than two slots.
        :raises RowTimeout: if the call was not done in time; what had not started is cancelled, the rest goes on.
        """
        slots = self.max_workers
        if table.guard is not None and slots is not None and slots < 2:
            message = f"a guard runs beside the other rows and needs a second slot, and {self.executor!r} has {slots}"
            raise ValueError(message)
        call = _Call(table)
        try:
            call.submit_all(self.executor)
            call.wait()
        finally:
            call.cancel()
            self._count(call)
        raise_failures(call.failures, call.results)
        return tuple(call.results[row] for row in range(call.total))

    def _count(self, call: _Call) -> None:
        old, failed = self._statistics, len(call.failures)
        self._statistics = ForeignStatistics(
            old.calls + 1, old.rows + len(call.results) + failed, old.failed_rows + failed
        )


class _Call:
    """One call on somebody else's executor: its futures, and what has come back."""

    def __init__(self, table: ExecutionTable) -> None:
        self.table = table
        self.total = table.row_count + (table.guard is not None)
        self.results: dict[int, Any] = {}
        self.failures: dict[int, BaseException] = {}
        self._futures: dict[int, Any] = {}
        self._done: SimpleQueue[int] = SimpleQueue()
        self._deadline = None if table.timeout is None else time.monotonic() + table.timeout

    def submit_all(self, executor: Any) -> None:
        # The guard goes first: were it last, the rows that wait for it could fill every slot.
        if self.table.guard is not None:
            self._submit(executor, self.table.row_count, self.table.guard, 0)
        flat = 0
        for entry in self.table.entries:
            for row in range(entry.rows):
                self._submit(executor, flat, entry, row)
                flat += 1

    def _submit(self, executor: Any, flat: int, entry: Entry, row: int) -> None:
        args, kwargs = entry.call(row)
        future = executor.submit(run_row, entry.function, args, kwargs, self.table.log)
        self._futures[flat] = future
        future.add_done_callback(lambda _: self._done.put(flat))

    def wait(self) -> None:
        bar = ProgressBar(self.total) if self.table.progress else None
        try:
            self._tell_functions_end()
            while len(self.results) + len(self.failures) < self.total:
                self._take(self._next())
                self._tell_functions_end()
                if bar is not None:
                    bar.update(len(self.results) + len(self.failures))
        finally:
            if bar is not None:
                bar.close()

    def _tell_functions_end(self) -> None:
        rows = self.table.row_count
        if self.table.guard is not None and sum(row < rows for row in (*self.results, *self.failures)) == rows:
            self.table.tell_functions_end()

    def _next(self) -> int:
        try:
            if self._deadline is None:
                return self._done.get()
            return self._done.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except Empty:
            raise self._timeout() from None

    def _take(self, flat: int) -> None:
        try:
            self.results[flat] = self._futures[flat].result()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failures[flat] = error

    def _timeout(self) -> RowTimeout:
        limit = float(self.table.timeout or 0)
        rows = tuple(row for row in range(self.total) if row not in self.results and row not in self.failures)
        message = (
            f"the call was not done after {limit:g} s: {len(rows)} rows are unfinished; those that had not started "
            "were cancelled, and those that run go on (only XME's own Executor can stop them); .results has the rest"
        )
        failures = {row: _as_exception(error) for row, error in self.failures.items()}
        return RowTimeout(message, timeout=limit, rows=rows, results=dict(self.results), failures=failures)

    def cancel(self) -> None:
        for future in self._futures.values():
            future.cancel()

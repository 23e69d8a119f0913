"""What ``map`` is given, and the iterators that it returns."""

from __future__ import annotations

import math
import operator
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

from XME._pool import leftovers
from XME._pool.calls import Failure, RunningCall
from XME._pool.dispatch import Dispatcher
from XME.ArrayOperator import Entry, ExecutionTable, name_of

_KNOWN = ("timeout", "chunksize", "buffersize")


def check(unknown: Iterable[str], timeout: Any, **counts: Any) -> None:
    """Raise a TypeError or ValueError unless these options of ``map`` make sense; `counts` are None or at least 1."""
    for name in unknown:
        msg = f"map has no option {name!r}: it takes the function, what to run it over, and {', '.join(_KNOWN)}"
        raise TypeError(msg)
    for name, value in counts.items():
        msg = f"{name} is None or a whole number of rows, at least 1, not {value!r}"
        if value is None:
            continue
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(msg)
        if operator.index(value) < 1:
            raise ValueError(msg)
    msg = f"timeout is None or the seconds until the last result is wanted, not {timeout!r}"
    if isinstance(timeout, bool | str) or not (timeout is None or hasattr(timeout, "__float__")):
        raise TypeError(msg)
    if timeout is not None and math.isnan(timeout):
        raise ValueError(msg)


def begin(engine: Dispatcher, entry: Entry, limit: Any, deadline: float | None) -> Results:
    """Put the one entry of a map on the board, at most `limit` rows a claim (None: as many as is good).

    Raises:
        UnshareableArgument, SharedMemoryFull, CrewFailed, DomainFull: nothing is run, and nothing is left behind.
    """
    begun: list[RunningCall] = []
    waiter = engine.waiters.take()
    try:
        engine.begin(
            ExecutionTable((entry,)), (entry,), waiter, name=lambda _row: name_of(entry.function), keep=begun.append,
            # A table's head has little room for it.
            limit=0 if limit is None else min(operator.index(limit), entry.rows),
        )  # fmt: skip
    except BaseException:
        if begun and not begun[0].finished:
            # A Ctrl-C when it was on the board already: the waiter comes back when the workers are off it.
            engine.abandon(begun[0], close=True)
        else:
            engine.waiters.give(waiter)
        raise
    return Results(engine, begun[0], deadline)


def buffered(
    submit: Callable[..., Future[Any]], rows: Iterator[tuple[Any, ...]], size: int, deadline: float | None
) -> Iterator[Any]:
    """Return an iterator over the results of rows of which `size` are ahead of it; the first ones begin now."""
    ahead = deque(submit(*row) for row in islice(rows, size))
    return _ahead(submit, rows, ahead, deadline)


def _ahead(
    submit: Callable[..., Future[Any]], rows: Iterator[tuple[Any, ...]], ahead: deque[Future[Any]],
    deadline: float | None,
) -> Generator[Any, None, None]:  # fmt: skip
    number = 0
    try:
        while ahead:
            try:
                result = ahead[0].result(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                # The row itself may have raised one.
                if ahead[0].done():
                    raise
                raise _late(number) from None
            ahead.popleft()
            for row in islice(rows, 1):
                ahead.append(submit(*row))
            yield result
            number += 1
    finally:
        for future in ahead:
            future.cancel()


def _late(row: int) -> TimeoutError:
    return TimeoutError(f"row {row} was not done in time")


class Results:
    """The results of a map, in order, each as soon as it is there."""

    def __init__(self, engine: Dispatcher, call: RunningCall, deadline: float | None) -> None:
        self._engine = engine
        self._call: RunningCall | None = call
        self._deadline = deadline
        self._row = 0
        self._begun = False
        self._pid = os.getpid()

    def rows(self) -> Generator[Any, None, None]:
        """Yield the results; closing or dropping the generator gives up the rest, if it was begun."""
        self._begun = True
        while self._call is not None:
            found = self._next_ready(self._call)
            if Failure in set(map(type, found)):
                yield from self._up_to_failure(found)
            else:
                # A list's own iterator: several times as fast as anything that looks at each result.
                yield from found

    def _up_to_failure(self, found: list[Any]) -> Iterator[Any]:
        for outcome in found:
            if isinstance(outcome, Failure):
                self.close()
                raise outcome.error
            yield outcome

    def _next_ready(self, call: RunningCall) -> list[Any]:
        """Wait for the next row, and return what is there in one go."""
        while not (found := self._engine.ready(call, self._row)):
            if not self._engine.wait_once(call, self._deadline):
                row = self._row
                self.close()
                raise _late(row)
        self._row += len(found)
        if self._row == call.count:
            self._finish()
        return found

    def _finish(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.collected = True
            self._engine.finish(call)
            self._engine.waiters.give(call.waiter)

    def close(self) -> None:
        """Give up the rest: what nobody has claimed is never run."""
        call, self._call = self._call, None
        if call is not None:
            self._engine.abandon(call, close=True)

    def __del__(self) -> None:
        """Leave the call to the next operation; a finalizer takes no lock. What was never asked for runs to its end."""
        if self._call is not None and self._pid == os.getpid():
            self._engine.orphans.append((self._call, self._begun))
            if self._engine.dropped:
                leftovers.keep(self._engine)

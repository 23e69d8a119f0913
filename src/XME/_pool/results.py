"""The iterator that ``map`` returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from XME._pool import leftovers
from XME._pool.calls import Failure, RunningCall
from XME._pool.dispatch import Dispatcher


class Results(Iterator[Any]):
    """The results of a map, in order, each as soon as it is there."""

    def __init__(self, engine: Dispatcher, call: RunningCall, deadline: float | None) -> None:
        self._engine = engine
        self._call: RunningCall | None = call
        self._deadline = deadline
        self._row = 0
        self._begun = False
        self._pid = os.getpid()
        self._ready: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        self._begun = True
        for outcome in self._ready:
            if isinstance(outcome, Failure):
                self.close()
                raise outcome.error
            return outcome
        self._get_ready()
        return next(self)

    def _get_ready(self) -> None:
        """Wait for the next row, and take what is there in one go; StopIteration when there is no more."""
        call = self._call
        if call is None:
            raise StopIteration
        while not (found := self._engine.ready(call, self._row)):
            if not self._engine.wait_once(call, self._deadline):
                row = self._row
                self.close()
                msg = f"row {row} was not done in time"
                raise TimeoutError(msg)
        self._row += len(found)
        self._ready = iter(found)
        if self._row == call.count:
            self._finish()

    def _finish(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.collected = True
            self._engine.finish(call)
            self._engine.return_waiter(call.waiter)

    def close(self) -> None:
        """Give up the rest: what nobody has claimed is never run."""
        call, self._call = self._call, None
        self._ready = iter(())
        if call is not None:
            self._engine.abandon(call, close=True)

    def __del__(self) -> None:
        """Leave the call to the next operation; a finalizer takes no lock. What was never asked for runs to its end."""
        if self._call is not None and self._pid == os.getpid():
            self._engine.orphans.append((self._call, self._begun))
            leftovers.keep(self._engine)

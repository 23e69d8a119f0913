"""`with container.atomic():` many operations, one commit."""

from __future__ import annotations

import os
from typing import Any, Generic, TypeVar

from XME._containers.home import Home
from XME._containers.struck import straighten

_C = TypeVar("_C", bound=Home)


class Atomic(Generic[_C]):
    """A transaction over one container; see Container.atomic.

    In a fork's child, leaving a block that was entered before the fork does nothing: the transaction is the parent's.
    """

    __slots__ = ("_container", "_levels", "_pids")

    def __init__(self, container: _C) -> None:
        self._container: Any = container
        # Which process has entered, once a level: the same object may be entered again.
        self._pids: list[int] = []
        # How deep the thread was in the mutex, and how many levels the change had, before it was entered.
        self._levels: list[tuple[int, int]] = []

    def __enter__(self) -> _C:
        """Take the container's mutex, and begin or set a savepoint."""
        container: Any = self._container
        depth = container.mutex.depth
        self._levels.append((depth, len(container._marks) if depth else 0))
        self._pids.append(os.getpid())
        try:
            container._begin_with_user_code()
        except BaseException:
            self._pids.pop()
            straighten(container, *self._levels.pop())
            raise
        entered: _C = container
        return entered

    def __exit__(self, kind: object, *exc_info: object) -> None:
        """Commit, or undo what was done since the block was entered."""
        container = self._container
        if self._pids[-1] != os.getpid():
            container.mutex.release()
            del self._levels[-1], self._pids[-1]
            return
        try:
            if kind is None:
                container._end()
            else:
                container._fail()
        except BaseException:
            straighten(container, *self._levels[-1])
            raise
        finally:
            del self._levels[-1], self._pids[-1]

    def __del__(self) -> None:
        """Undo a block that was never left: a Ctrl-C struck between the block and here."""
        pids = getattr(self, "_pids", None)
        if pids and pids[0] == os.getpid():
            straighten(self._container, *self._levels[0])

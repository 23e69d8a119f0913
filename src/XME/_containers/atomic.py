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

    __slots__ = ("_container", "_entered")

    def __init__(self, container: _C) -> None:
        self._container: Any = container
        # Once a level, for the same object may be entered again: which process it was, how deep its thread was in the
        # mutex, how many levels the change had, whether code of the user's ran in it, and how many levels it had then.
        self._entered: list[tuple[int, int, int, bool, int]] = []

    def __enter__(self) -> _C:
        """Take the container's mutex, and begin or set a savepoint."""
        container: Any = self._container
        depth = container.mutex.depth
        levels = len(container._marks) if depth else 0
        is_open = container._is_open
        before = (os.getpid(), depth, levels, is_open)
        self._entered.append((*before, 0))
        try:
            container._begin_with_user_code()
            self._entered[-1] = (*before, len(container._marks))
        except BaseException:
            self._entered.pop()
            straighten(container, depth, levels, is_open)
            raise
        entered: _C = container
        return entered

    def __exit__(self, kind: object, *exc_info: object) -> None:
        """Commit, or undo what was done since the block was entered."""
        container = self._container
        pid, depth, levels, is_open, inside = self._entered[-1]
        try:
            # A Ctrl-C has struck a block inside this one before that could be left. Not `while` with a condition, whose
            # jump back Python 3.13 leaves out of what the handlers cover.
            while True:
                if len(container._marks) <= inside or pid != os.getpid():
                    break
                container._fail()
            if pid != os.getpid():
                container.mutex.release()
            elif kind is None:
                container._end()
            else:
                container._fail()
        except BaseException:
            straighten(container, depth, levels, is_open)
            raise
        finally:
            self._entered.pop()

    def __del__(self) -> None:
        """Undo a block that was never left: a Ctrl-C struck between the block and here."""
        entered = getattr(self, "_entered", None)
        if entered and entered[0][0] == os.getpid():
            straighten(self._container, *entered[0][1:4])

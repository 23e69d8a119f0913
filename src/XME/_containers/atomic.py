"""`with container.atomic():` many operations, one commit."""

from __future__ import annotations

import os
import threading
from typing import Any, Generic, NoReturn, TypeVar

from XME._containers.home import Home
from XME._containers.struck import straighten
from XME.errors import MutexError

_C = TypeVar("_C", bound=Home)


class Atomic(Generic[_C]):
    """A transaction over one container; see Container.atomic.

    In a fork's child, leaving a block that was entered before the fork does nothing: the transaction is the parent's.
    """

    __slots__ = ("_container", "_entered")

    def __init__(self, container: _C) -> None:
        self._container: Any = container
        # Once a level, for the same object may be entered again, also by several threads: which thread and process it
        # was, how deep its thread was in the mutex, how many levels the change had, whether code of the user's ran in
        # it, and how many levels it had then.
        self._entered: list[Any] = []

    def _level(self) -> Any:
        """Return what this thread has entered last, and not left."""
        me = threading.get_ident()
        for level in reversed(self._entered):
            if level[0] == me:
                return level
        return None

    def __enter__(self) -> _C:
        """Take the container's mutex, and begin or set a savepoint."""
        container: Any = self._container
        depth = container.mutex.depth
        levels = len(container._marks) if depth else 0
        is_open = container._is_open
        level = [threading.get_ident(), os.getpid(), depth, levels, is_open, 0]
        self._entered.append(level)
        try:
            container._begin_with_user_code()
            level[-1] = len(container._marks)
        except BaseException:
            self._entered.remove(level)
            straighten(container, depth, levels, is_open)
            raise
        entered: _C = container
        return entered

    def __exit__(self, kind: object, *exc_info: object) -> None:
        """Commit, or undo what was done since the block was entered.

        Raises:
            MutexError: this thread has not entered it, or has left it already; nothing has changed.
        """
        container = self._container
        level = None
        try:
            level = self._level()
            if level is None:
                self._refuse("this thread is not in")
            inside = level[-1]
            is_here = level[1] == os.getpid()
            # A Ctrl-C has struck a block inside this one before that could be left. Not `while` with a condition, whose
            # jump back Python 3.13 leaves out of what the handlers cover.
            while True:
                if len(container._marks) <= inside or not is_here:
                    break
                container._fail()
            if not is_here:
                container.mutex.release()
            elif not container.mutex.held or len(container._marks) < inside:
                self._refuse("has ended already")
            elif kind is None:
                container._end()
            else:
                container._fail()
            self._entered.remove(level)
        except BaseException:
            self._leave(self._level() if level is None else level)
            raise

    def _leave(self, level: Any) -> None:
        """Undo what was done since a level was entered, unless it was left."""
        if level in self._entered:
            straighten(self._container, *level[2:5])
            self._entered.remove(level)

    def _refuse(self, why: str) -> NoReturn:
        msg = (
            f"__exit__() of a transaction of {self._container._called!r} that {why}: a transaction is left once, by "
            "the thread that entered it, as `with container.atomic():` does it"
        )
        raise MutexError(msg)

    def __del__(self) -> None:
        """Undo a block that was never left: a Ctrl-C struck between the block and here."""
        me = threading.get_ident()
        for level in getattr(self, "_entered", ()):
            if level[0] == me and level[1] == os.getpid():
                straighten(self._container, *level[2:5])
                return

"""`with container.atomic():` many operations, one commit."""

from __future__ import annotations

import os
from typing import Any, Generic, TypeVar

from XME._containers.home import Home

_C = TypeVar("_C", bound=Home)


class Atomic(Generic[_C]):
    """A transaction over one container; see Container.atomic.

    In a fork's child, leaving a block that was entered before the fork does nothing: the transaction is the parent's.
    """

    __slots__ = ("_container", "_pids")

    def __init__(self, container: _C) -> None:
        self._container: Any = container
        # Which process has entered, once a level: the same object may be entered again.
        self._pids: list[int] = []

    def __enter__(self) -> _C:
        """Take the container's mutex, and begin or set a savepoint."""
        self._pids.append(os.getpid())
        try:
            self._container._begin_with_user_code()
        except BaseException:
            self._pids.pop()
            raise
        container: _C = self._container
        return container

    def __exit__(self, kind: object, *exc_info: object) -> None:
        """Commit, or undo what was done since the block was entered."""
        container = self._container
        if self._pids.pop() != os.getpid():
            container.mutex.release()
        elif kind is None:
            container._end()
        else:
            container._fail()

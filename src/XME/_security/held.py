"""The context managers of a Security."""

from __future__ import annotations

import os
from typing import Any, Self

from XME._core.guarded_mutex import Holder
from XME._security.gate import Gate
from XME.errors import MutexError


class Held:
    """A lock that a ``with`` block holds; made by `Security.holding` and `Security.reading`.

    Attributes:
        owner_died: the `Holder` whose death left the lock to this one, or None; known inside the block. A block that
            shares the lock finds him too, until somebody has had it alone.
    """

    __slots__ = ("_had", "_operator", "_pid", "_security", "_shared", "_took", "_wait_time", "owner_died")

    def __init__(self, security: Gate, operator: Any, wait_time: float | None, *, shared: bool) -> None:
        self._security = security
        self._operator = operator
        self._wait_time = wait_time
        self._shared = shared
        self._pid = 0
        self._took = False
        self.owner_died: Holder | None = None

    def __enter__(self) -> Self:
        security = self._security
        # It may have been published meanwhile: nobody had it then, here or there.
        security._current()
        self._had = security._levels()
        try:
            error = security._take(self._operator, security._limit(self._wait_time), shared=self._shared)
            if error is None:
                # Under DISABLE it takes nothing, and has nothing to give back when the lock is switched on meanwhile.
                self._took = security._levels() != self._had
                if not self._had[0] and not self._had[3]:
                    self.owner_died = security._heard_of()
                self._pid = os.getpid()
                return self
        except BaseException:
            # Nobody else would: a block that was not entered is not left.
            security._fall_back_to(self._had)
            raise
        raise error

    def __exit__(self, *exc_info: object) -> None:
        try:
            # What was held at a fork is not the child's.
            if self._pid != os.getpid() or not self._took:
                return
            was_held = self._security._give_back(self._operator, None, shared=self._shared)
        except BaseException:
            # Of that death this block has heard.
            if self._security._mutex.held:
                self._security._mutex.died = None
            self._security._fall_back_to(self._had)
            raise
        if not was_held and exc_info[0] is None:
            msg = "the lock of this block was given back inside it: leave that to the block"
            raise MutexError(msg)

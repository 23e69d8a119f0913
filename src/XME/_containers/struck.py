"""A Ctrl-C at any instruction of a method: what it has begun is undone, and the mutex is given back.

try and finally are not enough: an exception may strike between taking the mutex and `try`, or in `finally` before it
is released. So methods know how deep their thread was in the mutex when they were called, and go back there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from XME._containers import flight

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S")


def whole(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Decorate a method that changes a container (0.2 us)."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        depth = self.mutex.depth
        levels = len(self._marks) if depth else 0
        is_open = self._is_open
        mark = flight.making()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            straighten(self, depth, levels, is_open)
            flight.unlink_making(mark)
            raise

    return guarded  # type: ignore[return-value] # the same as the method's, to whoever calls it


def straighten(container: Any, depth: int, levels: int, is_open: bool) -> None:
    """Undo what is left of calls that this thread was in the middle of.

    Args:
        container: what they were of.
        depth: how deep the thread was in the mutex before.
        levels: how many levels the change in progress had then.
        is_open: whether code of the user's was running in it.
    """
    mutex = container.mutex
    if not mutex.held:
        return
    if len(container._marks) > levels or mutex.depth > depth:
        container._straightened()
    while len(container._marks) > levels and mutex.held:
        container._fail()
    if not depth and mutex.held:
        container._change = None
    while mutex.depth > depth:
        mutex.release()
    if depth:
        container._is_open = is_open


def straighten_short(container: Any, busy: Any) -> None:
    """Do the same for a short way, which has no level of its own."""
    mutex = container.mutex
    if mutex.held:
        change = container._change
        levels = 0 if change is None or change is busy else len(container._marks)
        if not levels:
            container._change = None
        while mutex.depth > levels:
            mutex.release()

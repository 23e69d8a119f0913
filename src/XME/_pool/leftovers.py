"""Dispatchers whose executor was dropped while somebody still wanted results, or rows were still to be run.

A finalizer can only leave word; what is here is looked after by the next call of any executor, and at the program's
end.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import starmap
from typing import Any, Protocol


class Leftover(Protocol):
    """What is asked of a dispatcher that is left over."""

    running: list[Any]

    def watch(self) -> None:
        """Look for deaths and for calls that have ended."""

    def close(self) -> None:
        """Finish what runs, end the crew and unlink everything."""


_left: deque[Leftover] = deque()


def keep(found: Leftover) -> None:
    """Remember a dispatcher; for finalizers."""
    if found not in _left:
        _left.append(found)


def tend(*, wait: bool = False) -> None:
    """Close those that have nothing to do any more; with `wait`, all of them, when what they run is done.

    Raises:
        ExceptionGroup: with `wait`, some could not be closed. Without, they only stay for the next time: what befalls
            an executor that was dropped is not the affair of whoever calls another.
    """
    failed: list[Exception] = []
    for _ in range(len(_left)):
        try:
            _tend_one(wait=wait)
        except Exception as error:
            failed.append(error)
    if wait and failed:
        msg = "executors that were dropped could not be closed"
        raise ExceptionGroup(msg, failed)


def _tend_one(*, wait: bool) -> None:
    taken: list[Leftover] = []
    try:
        # Another thread may have been faster.
        with contextlib.suppress(IndexError):
            # In one call of C code: a Ctrl-C must not strike with it in nobody's hands.
            taken.extend(starmap(_left.popleft, [()]))
        if taken and _is_closed(taken[0], wait=wait):
            taken.clear()
    finally:
        for found in taken:
            keep(found)


def _is_closed(found: Leftover, *, wait: bool) -> bool:
    if not wait:
        found.watch()
        if found.running:
            return False
    found.close()
    return True


def forget() -> None:
    """In a fork's child: they are the parent's."""
    _left.clear()

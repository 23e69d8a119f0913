"""Dispatchers whose executor was dropped while somebody still wanted results, or rows were still to be run.

A finalizer can only leave word; what is here is looked after by the next call of any executor, and at the program's
end.
"""

from __future__ import annotations

from collections import deque
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
    """Close those that have nothing to do any more; with `wait`, all of them, when what they run is done."""
    for _ in range(len(_left)):
        try:
            found = _left.popleft()
        except IndexError:
            return
        if not wait:
            found.watch()
        if wait or not found.running:
            found.close()
        else:
            _left.append(found)


def forget() -> None:
    """In a fork's child: they are the parent's."""
    _left.clear()

"""What finalizers have left to be done: they only append to a deque, for one may run inside any critical section."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

_T = TypeVar("_T")


def each(dropped: deque[_T]) -> Iterator[_T]:
    """Yield what was left, the oldest first; each is forgotten when the caller comes back for the next one.

    So what an exception strikes, a Ctrl-C too, is there for the next caller.
    """
    while True:
        try:
            first = dropped[0]
        except IndexError:
            return
        yield first
        # A signal handler, or another thread, may have done it meanwhile.
        with contextlib.suppress(ValueError):
            dropped.remove(first)

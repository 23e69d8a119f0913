"""The end of a program that has executors: what was submitted is finished, and no worker outlives it."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

from XME._core.handles import living
from XME._pool import leftovers

_live: weakref.WeakSet[Any] = weakref.WeakSet()
_ending_of = -1


def at_exit(executor: Any) -> None:
    """Shut an executor down at the program's end."""
    global _ending_of
    _live.add(executor)
    if _ending_of == os.getpid():
        return
    _ending_of = os.getpid()
    # Before threads are joined and before multiprocessing joins the workers, who end only when they are told to.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_end_all)
    multiprocessing.util.Finalize(None, _end_all, exitpriority=100)


def forget(executor: Any) -> None:
    """Do nothing for an executor that was shut down."""
    _live.discard(executor)


def _end_all() -> None:
    # A program that a Ctrl-C ends waits for nothing.
    last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    for executor in living(_live):
        with _failure_said():
            if isinstance(last, KeyboardInterrupt):
                executor._abort()
            executor.shutdown(wait=True)
    with _failure_said():
        leftovers.tend(wait=True)


@contextlib.contextmanager
def _failure_said() -> Iterator[None]:
    try:
        yield
    except Exception:
        # Nobody is left to catch it, and the rest of the program's end must go on.
        traceback.print_exc()


def _after_fork_in_child() -> None:
    _live.clear()
    leftovers.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)

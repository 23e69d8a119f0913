"""Ctrl-C at the wrong moment: what must not be torn in two is done first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a Ctrl-C wait until the block is done; processes that are started in it begin with SIGINT blocked.

    Blocking alone would not do: another thread may take the signal, and Python raises it in the main one. A new
    process is hit by the same Ctrl-C (it goes to the whole terminal) before it can say that it ignores it.
    """
    arrived: list[int] = []
    before: Any = None
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and callable(signal.getsignal(signal.SIGINT)):
        before = signal.signal(signal.SIGINT, lambda signum, _frame: arrived.append(signum))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is not None:
            signal.signal(signal.SIGINT, before)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C in this process from now on, also the one that is waiting; in a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

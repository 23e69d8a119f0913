"""What the workers of every rival run: importable functions, so that all start methods can send them."""

from __future__ import annotations

from typing import Any

import numpy as np

GATE_LIMIT_S = 60.0


def increment(value: int) -> int:
    """Stand for the smallest useful task."""
    return value + 1


def ends(array: Any, row: int) -> tuple[float, float]:
    """Return the first and the last element of an array that was handed over; ``row`` only makes rows differ."""
    del row
    return float(array[0]), float(array[-1])


def make_array(nbytes: int, row: int) -> Any:
    """Return an array of ``nbytes`` bytes that was made here."""
    return np.full(nbytes // 8, float(row))


def meet(names: tuple[str, ...], row: int) -> int:
    """Wait until all rows are here, by one named semaphore a row; returns the worker's pid."""
    import os

    import posix_ipc

    gates = [posix_ipc.Semaphore(name) for name in names]
    for other, gate in enumerate(gates):
        if other != row:
            gate.release()
    for _ in range(len(gates) - 1):
        gates[row].acquire(GATE_LIMIT_S)
    for gate in gates:
        gate.close()
    return os.getpid()


def read_and_stay(array: Any, names: tuple[str, str]) -> float:
    """Read every page of ``array``, report at the first semaphore, and stay until the second one opens."""
    import posix_ipc

    total = float(array[::512].sum())
    ready, go = (posix_ipc.Semaphore(name) for name in names)
    ready.release()
    go.acquire(GATE_LIMIT_S)
    ready.close()
    go.close()
    return total

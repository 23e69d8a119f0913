"""What the two cases of a plain array share: putting 256 MB of it where the workers see it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clock import samples
from benchmarks.crews import start_crew
from benchmarks.work import ends


def _tmpfs() -> str:
    return "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()


def write_into_tmpfs(array: Any) -> None:
    """Write the bytes of ``array`` into a new file of a memory file system, by as few calls as the kernel takes."""
    descriptor, name = tempfile.mkstemp(dir=_tmpfs(), prefix="bench-")
    try:
        Path(name).unlink()
        left = memoryview(array).cast("B")
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def new_array(nbytes: int, value: float) -> Any:
    """Return a plain array whose pages are all there."""
    return np.full(nbytes // 8, value)


def put_samples(rival: str, nbytes: int, calls: int) -> list[float]:
    """Return ms of each of ``calls`` puts of a plain array of ``nbytes``, the first of which finds nothing warm."""
    if rival == "memcpy":
        target = np.zeros(nbytes // 8)
        return _timed(partial(np.copyto, target), nbytes, calls)
    if rival == "write":
        return _timed(write_into_tmpfs, nbytes, calls)
    crew = start_crew(rival)
    try:
        # The function and the way of the call are warm; the memory is not.
        crew.rows(ends, new_array(1 << 16, 0.0), 2)
        return _timed(lambda array: crew.rows(ends, array, 2), nbytes, calls)
    finally:
        crew.close()


def _timed(put: Callable[[Any], Any], nbytes: int, calls: int) -> list[float]:
    found = []
    for number in range(calls):
        # A new array each time: joblib knows one that it has seen, and that is not what is asked here.
        array = new_array(nbytes, float(number))
        found += samples(partial(put, array), 1, scale=1e3, warm_up=0)
    return found

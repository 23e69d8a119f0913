"""Taking samples."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any


def cores() -> int:
    """Return the number of cores that this process may use: every rival gets as many workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def samples(
    function: Callable[[], Any],
    times: int,
    *,
    scale: float = 1e6,
    warm_up: int = 1,
    after: Callable[[], Any] | None = None,
) -> list[float]:
    """Time ``function()`` ``times`` times, after ``warm_up`` calls that do not count.

    ``scale`` turns seconds into the unit of the case (1e6: µs), divided by the tasks in one call. ``after`` runs
    outside the measured time. Results are dropped after the clock stopped: freeing them belongs to nobody's figure.
    """
    found = []
    gc.collect()
    for number in range(-warm_up, times):
        start = perf_counter()
        result = function()
        seconds = perf_counter() - start
        del result
        if after is not None:
            after()
        if number >= 0:
            found.append(seconds * scale)
    return found

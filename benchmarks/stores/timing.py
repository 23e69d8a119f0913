"""As many operations a sample as the clock needs, and as many samples as the time allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks.clock import samples
from benchmarks.registry import Scale, Series

# A sample is long beside the clock and a switch of processes; nobody waits for a million of the slowest operations.
SAMPLE_S, SERIES_S = 0.01, 1.0
MOST_OPERATIONS, FEWEST_SAMPLES = 20_000, 3
# A single try that takes as long is no accident.
SLOW_S = 0.2

Run = Callable[[Any], Any]
Fresh = Callable[[int], Any]


def _seconds(run: Run, work: Any) -> float:
    return samples(partial(run, work), 1, scale=1.0, warm_up=0)[0]


def _count(run: Run, fresh: Fresh, sample_s: float) -> int:
    """Return how many operations take about ``sample_s``; at least one, however slow it is."""
    count = 1
    while count < MOST_OPERATIONS:
        seconds = _seconds(run, fresh(count))
        if sample_s / 4 < seconds < SLOW_S:
            # Once may have been cold, or have lost the processor meanwhile.
            seconds = min(seconds, _seconds(run, fresh(count)), _seconds(run, fresh(count)))
        if seconds > sample_s / 4:
            return max(1, min(MOST_OPERATIONS, int(count * sample_s / seconds)))
        count *= 4
    return MOST_OPERATIONS


def operation_series(run: Run, fresh: Fresh, scale: Scale, label: str = "", **facts: Any) -> Series:
    """Time ``run(fresh(count))`` and return the µs of one of its ``count`` operations.

    ``fresh(count)`` prepares the work of a sample (the keys, say) outside the measured time.
    """
    count = _count(run, fresh, scale.pick(SAMPLE_S, SAMPLE_S / 10))
    wanted, end = scale.pick(25, 5), perf_counter() + scale.pick(SERIES_S, SERIES_S / 5)
    found: list[float] = []
    while len(found) < wanted and (len(found) < FEWEST_SAMPLES or perf_counter() < end):
        found.append(_seconds(run, fresh(count)) * 1e6 / count)
    return Series(found, label, {"operations a sample": count, **facts})

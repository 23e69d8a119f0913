"""The sizes of the cases that ask what size costs, and what they share."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.registry import Scale
from benchmarks.stores.base import Store

FULL = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
QUICK = (10, 1_000)
WORKING_SET = 1_000


def label(count: int) -> str:
    """Name the series of a size."""
    return f"{count:,} keys"


def reach_at_all_sizes(most: float) -> dict[str, float]:
    """Return one figure to reach for every size: it is the point of them all that they make no difference."""
    return {label(count): most for count in FULL}


def sizes(store: Store, scale: Scale) -> Iterator[int]:
    """Give the sizes that this rival is measured at."""
    return (count for count in scale.pick(FULL, QUICK) if count <= store.largest)


def some_numbers(count: int, wanted: int = WORKING_SET) -> list[int]:
    """Return ``wanted`` numbers below ``count``, or all of them, in an order that is random and always the same."""
    return random.Random(1).sample(range(count), min(wanted, count))


def cycled(keys: list[object], wanted: int) -> list[object]:
    """Return ``wanted`` keys, over and over the same."""
    return (keys * (wanted // len(keys) + 1))[:wanted]

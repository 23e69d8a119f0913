"""A dict's key set to another array of 100 MB, where one of that size is already."""

from __future__ import annotations

from benchmarks.cases.big_value import BARE, STORES, set_samples, size_of
from benchmarks.registry import Case, Scale, Series


def _run(rival: str, scale: Scale) -> list[Series]:
    # The second still finds the memory of the first taken, where the new value is made before the old one goes.
    found = set_samples(rival, size_of(scale), scale.pick(9, 4))[2:]
    return [Series(found, facts={"MB": size_of(scale) // 1_000_000})]


CASE = Case(
    "big_set_again",
    "set a dict's key to an array of 100 MB, again and again",
    "ms",
    (*STORES, *BARE),
    _run,
    bound=("memcpy", 1.25),
)

"""A dict's first array of 100 MB: every sample is taken in a fresh process."""

from __future__ import annotations

from benchmarks.cases.big_value import STORES, set_samples, size_of
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, Scale, Series


def _first(rival: str, nbytes: int) -> float:
    return set_samples(rival, nbytes, 1)[0]


def _run(rival: str, scale: Scale) -> list[Series]:
    found = [in_fresh_process(_first, rival, size_of(scale)) for _ in range(scale.pick(5, 2))]
    return [Series(found, facts={"MB": size_of(scale) // 1_000_000})]


CASE = Case(
    "big_set_first",
    "set a dict's key to an array of 100 MB, first time",
    "ms",
    (*STORES, "write"),
    _run,
    bound=("write", 1.0),
)

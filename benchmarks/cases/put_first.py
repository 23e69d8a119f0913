"""A plain array as common argument, for the first time: every sample is taken in a fresh process."""

from __future__ import annotations

from benchmarks.cases.put import put_samples
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, Scale, Series

NBYTES = 256 << 20
RIVALS = ("xme", "write", "joblib", "ray", "pool")


def _first(rival: str, nbytes: int) -> float:
    return put_samples(rival, nbytes, 1)[0]


def _run(rival: str, scale: Scale) -> list[Series]:
    found = [in_fresh_process(_first, rival, NBYTES, limit_s=100) for _ in range(scale.pick(5, 2))]
    return [Series(found, facts={"MiB": NBYTES >> 20, "rows": 2})]


CASE = Case(
    "put_first",
    "a plain array as common argument of a call, first time",
    "ms",
    RIVALS,
    _run,
    bound=("write", 1.0),
    limit_s=300.0,
)

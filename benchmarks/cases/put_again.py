"""A plain array as common argument, when a call with the same shape went before: other content, warm memory."""

from __future__ import annotations

from benchmarks.cases.put import put_samples
from benchmarks.registry import Case, Scale, Series

NBYTES = 256 << 20
RIVALS = ("xme", "memcpy", "write", "joblib", "ray", "pool")


def _run(rival: str, scale: Scale) -> list[Series]:
    return [Series(put_samples(rival, NBYTES, scale.pick(11, 4))[1:], facts={"MiB": NBYTES >> 20, "rows": 2})]


CASE = Case(
    "put_again",
    "a plain array as common argument, second and later calls with its shape",
    "ms",
    RIVALS,
    _run,
    bound=("memcpy", 1.25),
    limit_s=240.0,
)

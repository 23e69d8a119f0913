"""How long until eight rows have an array that their warm workers have never seen?

XME hands over an ``xmem_array`` by its name. The rivals have no such thing: they get a plain array of the same size,
and bring it over in their own way (Pool pickles it for every row, joblib writes a file and maps it, Ray and Dask put it
into a store). A gigabyte for eight rows is beyond most of them, so their largest is 128 MB.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.clock import samples
from benchmarks.crews import start_crew
from benchmarks.registry import Case, Scale, Series, need
from benchmarks.work import ends

ROWS = 8
SIZES = {"1 MB": 1 << 20, "128 MB": 128 << 20, "1 GB": 1 << 30}
RIVALS = ("xme", "pool", "processpool", "mpire", "joblib", "loky", "ray", "dask", "xme331")


def _new_array(rival: str, nbytes: int) -> Any:
    shape = nbytes // 8
    array = need("XME").xmem_array((shape,), dtype="f8") if rival == "xme" else np.empty(shape)
    array[:] = 1.0
    return array


def _one_size(crew: Any, rival: str, nbytes: int, times: int) -> list[float]:
    found = []
    for _ in range(times):
        array = _new_array(rival, nbytes)
        found += samples(lambda array=array: crew.rows(ends, array, ROWS), 1, scale=1e3, warm_up=0)  # type: ignore[misc]
        del array
    return found


def _run(rival: str, scale: Scale) -> list[Series]:
    sizes = SIZES if rival == "xme" else {label: size for label, size in SIZES.items() if size < 1 << 30}
    crew = start_crew(rival)
    try:
        # The function itself travels once, with an array that nobody sees again.
        assert list(crew.rows(ends, _new_array(rival, 1 << 20), ROWS)) == [(1.0, 1.0)] * ROWS
        return [
            Series(_one_size(crew, rival, size, scale.pick(20 if size < 1 << 25 else 5, 2)), label, {"rows": ROWS})
            for label, size in sizes.items()
        ]
    finally:
        crew.close()


CASE = Case(
    "handover",
    "8 rows return first and last element of an array new to their workers",
    "ms",
    RIVALS,
    _run,
    reach={"1 MB": 1.0, "128 MB": 1.0, "1 GB": 1.0},
    limit_s=240.0,
)

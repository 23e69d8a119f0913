"""Arrays of 100 MB as results: made in the worker, read by the caller."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.clock import samples
from benchmarks.crews import Crew, start_crew
from benchmarks.registry import Case, Scale, Series
from benchmarks.work import make_array

NBYTES = 100_000_000
ROWS = 4
RIVALS = ("xme", "local", "pool", "processpool", "mpire", "joblib", "loky", "ray", "dask", "xme331")


def _rows(crew: Crew, count: int) -> Any:
    return crew.rows(make_array, NBYTES, count)


def _locally(count: int) -> Any:
    return [make_array(NBYTES, row) for row in range(count)]


def _check_after_close(kept: Any) -> None:
    """The results belong to the caller: they stay whole when the workers are gone."""
    for row, array in enumerate(kept):
        assert np.asarray(array).nbytes == NBYTES
        assert float(array[0]) == float(array[-1]) == float(row)


def _run(rival: str, scale: Scale) -> list[Series]:
    times = scale.pick(5, 2)
    if rival == "local":
        return [Series(samples(partial(_locally, ROWS), times, scale=1e3 / ROWS), facts={"MB": NBYTES // 10**6})]
    crew = start_crew(rival)
    try:
        found = samples(partial(_rows, crew, ROWS), times, scale=1e3 / ROWS)
        kept = _rows(crew, 2)
    finally:
        crew.close()
    if rival not in ("ray", "xme331"):
        _check_after_close(kept)
    return [Series(found, facts={"MB": NBYTES // 10**6, "rows": ROWS})]


CASE = Case("results", "a row that makes and returns an array of 100 MB", "ms", RIVALS, _run, limit_s=240.0)

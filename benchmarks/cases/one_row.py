"""How long does one call with one row take, when the workers are warm?"""

from __future__ import annotations

from benchmarks.clock import samples
from benchmarks.crews import ALL_CREWS, start_crew
from benchmarks.registry import Case, Scale, Series
from benchmarks.work import increment

CALLS = 1_000


def _run(rival: str, scale: Scale) -> list[Series]:
    crew = start_crew(rival)
    calls = min(scale.pick(CALLS, CALLS // 10), 15 if rival == "xme331" else CALLS)
    try:
        found = samples(lambda: crew.one(increment, 7), calls, warm_up=min(50, calls))
    finally:
        crew.close()
    return [Series(found)]


CASE = Case("one_row", "one call, one row, from call to result", "µs", ALL_CREWS, _run, reach={"": 30.0})

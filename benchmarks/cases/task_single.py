"""What does a task cost when each one is claimed, or sent, by itself?"""

from __future__ import annotations

from benchmarks.clock import samples
from benchmarks.crews import ALL_CREWS, start_crew
from benchmarks.registry import Case, Scale, Series
from benchmarks.work import increment

TASKS = 20_000


def _run(rival: str, scale: Scale) -> list[Series]:
    crew = start_crew(rival)
    count = max(100, int(scale.pick(TASKS, TASKS // 10) * crew.pace))
    try:
        assert list(crew.each(increment, 10)) == list(range(1, 11))
        found = samples(lambda: crew.each(increment, count), scale.pick(10, 3), scale=1e6 / count)
    finally:
        crew.close()
    return [Series(found, facts={"tasks": count})]


CASE = Case("task_single", "a tiny task, one a claim or message", "µs", ALL_CREWS, _run, reach={"": 1.0})

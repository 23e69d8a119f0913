"""What does a task cost when the library groups tasks as it does by default?"""

from __future__ import annotations

from benchmarks.clock import samples
from benchmarks.crews import ALL_CREWS, start_crew
from benchmarks.registry import Case, Scale, Series
from benchmarks.work import increment

TASKS = 1_000_000
# A million of these would take more than ten minutes: they get fewer, and the figure is a task's all the same.
FEWER = {"xme331": 2_000, "joblib": 200_000}


def _run(rival: str, scale: Scale) -> list[Series]:
    crew = start_crew(rival)
    count = min(scale.pick(TASKS, TASKS // 10), FEWER.get(rival, TASKS))
    try:
        result = crew.bulk(increment, 1000)
        assert len(result) == 1000
        assert result[999] == 1000
        found = samples(lambda: crew.bulk(increment, count), scale.pick(7, 3), scale=1e6 / count)
    finally:
        crew.close()
    return [Series(found, facts={"tasks": count})]


CASE = Case("task_guided", "one of many tiny tasks, grouped by default", "µs", ALL_CREWS, _run, reach={"": 0.06})

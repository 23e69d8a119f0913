"""What does a method cost that changes a shared object's state, as one step that nobody can come between?"""

from __future__ import annotations

from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.objects import ALL_OBJECTS, open_object
from benchmarks.stores.timing import operation_series


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_object(rival) as shared:
        found = operation_series(shared.change, int, scale)
        before = shared.state()
        shared.change(3)
        assert shared.state() == before + 3
        return [found]


CASE = Case("object_change", "a method that changes an object's state", "µs", ALL_OBJECTS, _run, reach={"": 3.0})

"""What does a method cost that only reads a shared object's state?"""

from __future__ import annotations

from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.objects import ALL_OBJECTS, open_object
from benchmarks.stores.timing import operation_series


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_object(rival) as shared:
        shared.change(5)
        assert shared.state() == 5
        return [operation_series(shared.read, int, scale)]


CASE = Case("object_read", "a method that only reads an object's state", "µs", ALL_OBJECTS, _run, reach={"": 1.5})

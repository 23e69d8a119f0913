"""What does it cost to get an element of a shared list by its number?"""

from __future__ import annotations

from functools import partial

from benchmarks.cases.sizes import cycled, some_numbers
from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.sequences import ALL_SEQUENCES, open_sequence
from benchmarks.stores.timing import operation_series

LENGTH = 1_000


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_sequence(rival, LENGTH) as sequence:
        numbers = some_numbers(LENGTH)
        return [operation_series(sequence.read, partial(cycled, numbers), scale, length=LENGTH)]


CASE = Case("list_get", "get an element of a list, again", "µs", ALL_SEQUENCES, _run, reach={"": 0.25})

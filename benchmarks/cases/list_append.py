"""What does it cost to append to a shared list? It grows all the time."""

from __future__ import annotations

from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.sequences import ALL_SEQUENCES, open_sequence
from benchmarks.stores.timing import operation_series


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_sequence(rival, 1_000) as sequence:
        return [operation_series(sequence.append, int, scale)]


CASE = Case("list_append", "append to a list", "µs", ALL_SEQUENCES, _run, reach={"": 1.2})

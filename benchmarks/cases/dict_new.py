"""What does it cost to set a key that is not there yet? The dict grows all the time, from a thousand keys on."""

from __future__ import annotations

from functools import partial
from itertools import count as counter
from itertools import islice

from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.catalogue import ALL_STORES, open_store
from benchmarks.stores.timing import operation_series

AT_FIRST = 1_000


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_store(rival) as store:
        # For ten thousand keys more, of the only one who must say it and who pays for it: it does not get that far.
        handle = store.make(AT_FIRST, room=1 << 18)
        numbers = counter(AT_FIRST)

        def new_keys(wanted: int) -> list[object]:
            return [store.key(number) for number in islice(numbers, wanted)]

        found = operation_series(partial(store.write, handle), new_keys, scale)
        last = next(numbers) - 1
        assert store.get(handle, store.key(AT_FIRST)) == 0
        store.get(handle, store.key(last))
        store.drop(handle)
    found.facts["keys at the end"] = last + 1
    return [found]


CASE = Case("dict_new", "set a key that is not there yet", "µs", ALL_STORES, _run)

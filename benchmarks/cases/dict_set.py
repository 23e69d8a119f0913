"""What does it cost to set a key that is there?"""

from __future__ import annotations

from functools import partial

from benchmarks.cases.sizes import cycled, label, reach_at_all_sizes, sizes, some_numbers
from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import ALL_STORES, open_store
from benchmarks.stores.timing import operation_series


def _one_size(store: Store, count: int, scale: Scale) -> Series:
    handle = store.make(count)
    keys = [store.key(number) for number in some_numbers(count)]
    found = operation_series(partial(store.write, handle), partial(cycled, keys), scale, label(count), size=count)
    store.write(handle, keys[:2])
    assert store.get(handle, keys[1]) == 1
    store.drop(handle)
    return found


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_store(rival) as store:
        return [_one_size(store, count, scale) for count in sizes(store, scale)]


CASE = Case("dict_set", "set a key that is there", "µs", ALL_STORES, _run, reach=reach_at_all_sizes(1.5))

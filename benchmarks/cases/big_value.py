"""What the cases of a big value share: an array of 100 MB in a dict, and what the bare memory takes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases.put import new_array, write_into_tmpfs
from benchmarks.clock import samples
from benchmarks.registry import Scale
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import open_store

NBYTES, QUICK_NBYTES = 100_000_000, 1_000_000
BARE = ("write", "memcpy")
# Without UltraDict's other lock and a transaction for all: for one value of this size they make no difference.
STORES = ("xme", "manager", "ultradict", "shared_memory_dict", "lmdb", "diskcache", "redis")


def size_of(scale: Scale) -> int:
    """Return the bytes of the array."""
    return scale.pick(NBYTES, QUICK_NBYTES)


def fill_in(store: Store, handle: Any, nbytes: int) -> None:
    """Put an array of ones into a dict; a keeper does this."""
    store.put_array(handle, store.key(0), new_array(nbytes, 1.0))


def set_samples(rival: str, nbytes: int, calls: int) -> list[float]:
    """Return the ms of each of ``calls`` settings of one key to a new array, the first of which finds nothing warm."""
    if rival == "memcpy":
        return _timed(partial(np.copyto, np.zeros(nbytes // 8)), nbytes, calls)
    if rival == "write":
        return _timed(write_into_tmpfs, nbytes, calls)
    with open_store(rival) as store:
        handle, key = store.make(1, room=nbytes + 4096), store.key(0)
        # The code is warm; the memory is not.
        store.put_array(handle, store.key(1), new_array(80, 0.0))
        found = _timed(lambda array: store.put_array(handle, key, array), nbytes, calls)
        assert store.array_ends(handle, key) == (calls - 1.0, calls - 1.0)
        store.drop(handle)
        return found


def _timed(put: Any, nbytes: int, calls: int) -> list[float]:
    found = []
    for number in range(calls):
        array = new_array(nbytes, float(number))
        found += samples(partial(put, array), 1, scale=1e3, warm_up=0)
    return found

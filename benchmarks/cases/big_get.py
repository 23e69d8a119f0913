"""How long until a process has both ends of an array of 100 MB that another process has put into a dict?"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.cases.big_value import STORES, fill_in, size_of
from benchmarks.clock import samples
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, NotMeasuredError, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import open_store
from benchmarks.stores.keeper import keeper

AGAIN = 5


def _in_child(store: Store, token: Any) -> list[float]:
    """Return the µs of the first time and of some more."""
    handle = store.attach(token)
    assert store.get(handle, store.key(1)) == 1
    call = partial(store.array_ends, handle, store.key(0))
    found = samples(call, 1 + AGAIN, scale=1e6, warm_up=0)
    assert call() == (1.0, 1.0)
    return found


def _run(rival: str, scale: Scale) -> list[Series]:
    nbytes = size_of(scale)
    if rival == "shared_memory_dict":
        raise NotMeasuredError("every access reads the whole dict: the figure is that of its size")
    with open_store(rival, public=True) as store, keeper(rival) as other:
        token = other.make(2, partial(fill_in, nbytes=nbytes))
        answers = [in_fresh_process(_in_child, store, token, method="fork") for _ in range(scale.pick(5, 2))]
    facts = {"MB": nbytes // 1_000_000}
    again = [figure for _, *later in answers for figure in later]
    return [
        Series([first for first, *_ in answers], "first time", facts),
        Series(again, "second time and later", facts),
    ]


CASE = Case(
    "big_get",
    "get both ends of an array of 100 MB in a dict",
    "µs",
    STORES,
    _run,
    reach={"second time and later": 10.0},
)

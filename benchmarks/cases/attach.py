"""How long until a process that has never had a dict has a value out of it? It has the name, and all code is warm."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.cases.sizes import label, reach_at_all_sizes, sizes
from benchmarks.clock import samples
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import ATTACHED_STORES, open_store
from benchmarks.stores.keeper import Keeper, keeper

WARM_KEYS = 10
WARM_UP = 20


def _attach_and_get(store: Store, token: Any, key: Any, kept: list[Any]) -> None:
    handle = store.attach(token)
    store.get(handle, key)
    # Leaving it is not part of it.
    kept.append(handle)


def _in_child(store: Store, warm: Any, token: Any, count: int) -> float:
    kept: list[Any] = []
    # What a child of fork does at its first use of a library is not part of it.
    _attach_and_get(store, warm, store.key(0), kept)
    call = partial(_attach_and_get, store, token, store.key(count // 2), kept)
    return samples(call, 1, scale=1e6, warm_up=0)[0]


def _one_size(store: Store, other: Keeper, warm: Any, count: int, scale: Scale) -> Series:
    token = other.make(count)
    call = partial(in_fresh_process, _in_child, store, warm, token, count, method="fork")
    return Series([call() for _ in range(scale.pick(15, 3))], label(count), {"size": count})


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_store(rival, public=True) as store, keeper(rival) as other, keeper(rival) as another:
        warm = another.make(WARM_KEYS)
        for _ in range(WARM_UP):
            kept: list[Any] = []
            _attach_and_get(store, warm, store.key(1), kept)
            store.detach(kept.pop())
        return [_one_size(store, other, warm, count, scale) for count in sizes(store, scale)]


CASE = Case(
    "attach",
    "from a dict's name to a value of it, in a process new to it",
    "µs",
    ATTACHED_STORES,
    _run,
    reach=reach_at_all_sizes(200.0),
)

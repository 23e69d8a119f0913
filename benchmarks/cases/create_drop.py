"""What does a shared dict cost that is made empty and dropped again?

A Manager is measured twice: with its server there, and as ``Manager().dict()``, which starts one.
"""

from __future__ import annotations

from multiprocessing import Manager

from benchmarks.clock import samples
from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import SINGLE_STORES, open_store


def _own_manager() -> None:
    with Manager() as manager:
        manager.dict()


def _one(store: Store) -> None:
    # The only reference goes with the call: for some that is all of the dropping.
    store.drop(store.make(0))


def _run(rival: str, scale: Scale) -> list[Series]:
    if rival == "manager_new":
        return [Series(samples(_own_manager, scale.pick(30, 5)))]
    with open_store(rival) as store:
        kept = store.make(0)
        found = samples(lambda: _one(store), scale.pick(300, 20), warm_up=10)
        store.drop(kept)
        return [Series(found)]


CASE = Case(
    "create_drop",
    "an empty dict made and dropped",
    "µs",
    (*SINGLE_STORES, "manager_new"),
    _run,
    reach={"": 150.0},
)

"""Which store belongs to which rival."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.stores.base import Store
from benchmarks.stores.databases import LmdbStore, RedisStore
from benchmarks.stores.mappings import (
    DiskcacheStore,
    ManagerDict,
    SharedMemoryDictStore,
    UltraDictStore,
    XmeDict,
)

_STORES: dict[str, Callable[[bool], Store]] = {
    "xme": XmeDict,
    "manager": lambda _: ManagerDict(),
    "ultradict": lambda _: UltraDictStore(shared_lock=False),
    "ultradict_lock": lambda _: UltraDictStore(shared_lock=True),
    "shared_memory_dict": lambda _: SharedMemoryDictStore(),
    "lmdb": lambda _: LmdbStore(),
    "lmdb_whole": lambda _: LmdbStore(whole=True),
    "diskcache": lambda _: DiskcacheStore(),
    "redis": lambda _: RedisStore(),
}

ALL_STORES = tuple(_STORES)
# One transaction for all operations says nothing where there is one operation, or where others want to write.
SINGLE_STORES = tuple(rival for rival in ALL_STORES if rival != "lmdb_whole")
# What an unrelated program attaches; whichever lock UltraDict has, it attaches in the same way.
ATTACHED_STORES = tuple(rival for rival in SINGLE_STORES if rival != "ultradict")


@contextmanager
def open_store(rival: str, *, public: bool = False) -> Iterator[Store]:
    """Give a rival's store; with ``public`` its containers are for other programs too. At the end it is closed."""
    store = _STORES[rival](public)
    try:
        yield store
    finally:
        store.close()

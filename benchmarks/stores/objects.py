"""An object that processes share: one method that changes its state, and one that reads it.

Redis, UltraDict and LMDB have no objects: what they do is the least that keeps such a state right between processes.
"""

# ruff: noqa: D102  # what each method does is said once, by the class that they are derived from
from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.registry import need
from benchmarks.stores.base import memory_folder, unique_name
from benchmarks.stores.databases import RedisServer

_NUMBER = struct.Struct("q")


class V:
    """The manual's example."""

    value = 0

    def add(self, value: int) -> None:
        """Change the state."""
        self.value += value

    def get(self) -> int:
        """Read the state."""
        return self.value


class VManager(BaseManager):
    """A manager that makes such objects in its server."""


VManager.register("V", V)


class Shared:
    """One rival's way to share it; this one has its methods."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def change(self, count: int) -> None:
        """Add one, ``count`` times."""
        handle = self.handle
        for _ in range(count):
            handle.add(1)

    def read(self, count: int) -> None:
        """Read the state ``count`` times."""
        handle = self.handle
        for _ in range(count):
            handle.get()

    def state(self) -> int:
        """Return the state."""
        return int(self.handle.get())


class SharedInUltraDict(Shared):
    """Under its lock, as its documentation shows it."""

    def change(self, count: int) -> None:
        handle = self.handle
        for _ in range(count):
            with handle.lock:
                handle["value"] += 1

    def read(self, count: int) -> None:
        handle = self.handle
        for _ in range(count):
            _ = handle["value"]

    def state(self) -> int:
        return int(self.handle["value"])


class SharedInLmdb(Shared):
    """In a transaction."""

    def change(self, count: int) -> None:
        handle = self.handle
        for _ in range(count):
            with handle.begin(write=True) as transaction:
                value = _NUMBER.unpack(transaction.get(b"value"))[0]
                transaction.put(b"value", _NUMBER.pack(value + 1))

    def read(self, count: int) -> None:
        handle = self.handle
        for _ in range(count):
            with handle.begin() as transaction:
                _NUMBER.unpack(transaction.get(b"value"))

    def state(self) -> int:
        with self.handle.begin() as transaction:
            return int(_NUMBER.unpack(transaction.get(b"value"))[0])


class SharedInRedis(Shared):
    """By the command that adds to a number."""

    def change(self, count: int) -> None:
        client = self.handle
        for _ in range(count):
            client.incrby("value", 1)

    def read(self, count: int) -> None:
        client = self.handle
        for _ in range(count):
            int(client.get("value"))

    def state(self) -> int:
        return int(self.handle.get("value"))


@contextmanager
def _xme() -> Iterator[Shared]:
    yield Shared(need("XME").xmem_object("V", V))


@contextmanager
def _manager() -> Iterator[Shared]:
    with VManager() as manager:
        yield Shared(manager.V())


@contextmanager
def _ultradict_lock() -> Iterator[Shared]:
    need("atomics")
    handle = need("UltraDict").UltraDict({"value": 0}, name=unique_name(), buffer_size=1 << 20, shared_lock=True)
    try:
        yield SharedInUltraDict(handle)
    finally:
        handle.unlink()


@contextmanager
def _lmdb() -> Iterator[Shared]:
    folder = memory_folder()
    try:
        handle = need("lmdb").open(folder, map_size=1 << 26, sync=False, metasync=False, writemap=True)
        with handle.begin(write=True) as transaction:
            transaction.put(b"value", _NUMBER.pack(0))
        yield SharedInLmdb(handle)
        handle.close()
    finally:
        shutil.rmtree(folder)


@contextmanager
def _redis() -> Iterator[Shared]:
    server = RedisServer()
    try:
        client = server.client()
        client.set("value", 0)
        yield SharedInRedis(client)
    finally:
        server.close()


@contextmanager
def _local() -> Iterator[Shared]:
    yield Shared(V())


_OBJECTS: dict[str, Callable[[], Any]] = {
    "xme": _xme,
    "manager": _manager,
    "ultradict_lock": _ultradict_lock,
    "lmdb": _lmdb,
    "redis": _redis,
    "local": _local,
}
ALL_OBJECTS = tuple(_OBJECTS)


@contextmanager
def open_object(rival: str) -> Iterator[Shared]:
    """Give a rival's object; at the end it is gone."""
    with _OBJECTS[rival]() as shared:
        yield shared

"""Shared lists of small integers."""

# ruff: noqa: D102  # what each method does is said once, by the class that they are derived from
from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import Manager
from multiprocessing.shared_memory import ShareableList
from typing import Any

from benchmarks.registry import NotMeasuredError, need
from benchmarks.stores.base import memory_folder, unique_name
from benchmarks.stores.databases import RedisServer


class Sequence:
    """One rival's way to share a list; this one is used like a list."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def read(self, numbers: Iterable[int]) -> None:
        """Get the elements with these numbers."""
        handle = self.handle
        for number in numbers:
            _ = handle[number]

    def append(self, count: int) -> None:
        """Append ``count`` elements, one after the other."""
        handle = self.handle
        for number in range(count):
            handle.append(number)


class FixedSequence(Sequence):
    """A ShareableList never has more elements than at first."""

    def append(self, count: int) -> None:
        del count
        raise NotMeasuredError("a ShareableList cannot grow")


class RedisSequence(Sequence):
    """A list of a Redis server: LINDEX and RPUSH."""

    def __init__(self, client: Any, name: str, count: int) -> None:
        super().__init__(client)
        self._name = name
        client.rpush(name, *range(count))

    def read(self, numbers: Iterable[int]) -> None:
        client, name = self.handle, self._name
        for number in numbers:
            int(client.lindex(name, number))

    def append(self, count: int) -> None:
        client, name = self.handle, self._name
        for number in range(count):
            client.rpush(name, number)


@contextmanager
def _xme(count: int) -> Iterator[Sequence]:
    yield Sequence(need("XME").xmem_list(range(count)))


@contextmanager
def _manager(count: int) -> Iterator[Sequence]:
    with Manager() as manager:
        yield Sequence(manager.list(range(count)))


@contextmanager
def _shareable_list(count: int) -> Iterator[Sequence]:
    handle = ShareableList(range(count), name=unique_name())
    try:
        yield FixedSequence(handle)
    finally:
        handle.shm.close()
        handle.shm.unlink()


@contextmanager
def _diskcache(count: int) -> Iterator[Sequence]:
    folder = memory_folder()
    try:
        yield Sequence(need("diskcache").Deque(range(count), folder))
    finally:
        shutil.rmtree(folder)


@contextmanager
def _redis(count: int) -> Iterator[Sequence]:
    server = RedisServer()
    try:
        yield RedisSequence(server.client(), unique_name(), count)
    finally:
        server.close()


_SEQUENCES: dict[str, Callable[[int], Any]] = {
    "xme": _xme,
    "manager": _manager,
    "shareable_list": _shareable_list,
    "diskcache": _diskcache,
    "redis": _redis,
}
ALL_SEQUENCES = tuple(_SEQUENCES)


@contextmanager
def open_sequence(rival: str, count: int) -> Iterator[Sequence]:
    """Give a rival's list of the numbers below ``count``; at the end it is gone."""
    with _SEQUENCES[rival](count) as sequence:
        yield sequence

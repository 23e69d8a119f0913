"""Stores that are used like a dict: XME, Manager, UltraDict, shared-memory-dict, diskcache."""

# ruff: noqa: D102  # what each method does is said once, by the class that they are derived from
from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from multiprocessing import Manager
from pathlib import Path
from typing import Any

from benchmarks.registry import need
from benchmarks.stores.base import Store, memory_folder, unique_name
from benchmarks.stores.usage import allocated_bytes, own_domains, private_bytes, segment_bytes


class XmeDict(Store):
    """``xmem_dict``; with ``public``, under a name that an unrelated program finds."""

    apart = False

    def __init__(self, public: bool) -> None:
        self._xme = need("XME")
        self._public = public
        self._names: dict[int, str] = {}
        if not hasattr(self._xme, "xmem_dict"):
            raise AttributeError("this XME has no xmem_dict")

    def make(self, count: int, room: int = 0) -> Any:
        del room
        if not self._public:
            return self._xme.xmem_dict(self.items(count))
        name = unique_name()
        handle = self._xme.xmem_dict(self.items(count), name=name)
        self._names[id(handle)] = name
        return handle

    def token(self, handle: Any) -> Any:
        return self._names[id(handle)]

    def attach(self, token: Any) -> Any:
        return self._xme.attach(token)

    def used_bytes(self, handle: Any) -> int:
        del handle
        return sum(segment_bytes(begin) + segment_bytes(f"sem.{begin}") for begin in own_domains())


class ManagerDict(Store):
    """``Manager().dict()``: a dict in a server process."""

    apart = False

    def __init__(self) -> None:
        self._manager: Any = None

    def make(self, count: int, room: int = 0) -> Any:
        del room
        # Who only attaches needs no server of his own.
        self._manager = self._manager or Manager()
        return self._manager.dict(self.items(count))

    def drop(self, handle: Any) -> None:
        handle.clear()

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        del keys
        handle.clear()

    def used_bytes(self, handle: Any) -> int:
        del handle
        return private_bytes(self._manager._process.pid)

    def close(self) -> None:
        if self._manager is not None:
            self._manager.shutdown()


class UltraDictStore(Store):
    """UltraDict: a private dict in every process, kept alike by a stream of changes and dumps of the whole.

    Its documentation says to enlarge the stream where dumps come too often, so the stream holds as much as the dict.
    """

    def __init__(self, shared_lock: bool) -> None:
        self._type = need("UltraDict").UltraDict
        if shared_lock:
            need("atomics")
        self._shared_lock = shared_lock
        self.inherited = not shared_lock

    def make(self, count: int, room: int = 0) -> Any:
        del room
        handle = self._type(
            self.items(count),
            name=unique_name(),
            buffer_size=max(1 << 20, 64 * count),
            shared_lock=self._shared_lock,
            auto_unlink=False,
        )
        # Who attaches loads one dump then, instead of every change since the beginning.
        handle.dump()
        return handle

    def token(self, handle: Any) -> Any:
        return handle.name, handle.buffer_size

    def attach(self, token: Any) -> Any:
        name, buffer_size = token
        return self._type(
            name=name, create=False, buffer_size=buffer_size, shared_lock=self._shared_lock, auto_unlink=False
        )

    def detach(self, handle: Any) -> None:
        handle.close()

    def drop(self, handle: Any) -> None:
        handle.unlink()

    def used_bytes(self, handle: Any) -> int:
        dump = bytes(handle.full_dump_memory_name_remote).decode().strip().strip("\0")
        return sum(segment_bytes(name) for name in {handle.control.name, handle.buffer.name, dump} if name)


class SharedMemoryDictStore(Store):
    """shared-memory-dict: one pickle of the whole dict, read and written anew by every operation."""

    # A million take more than a second for every single operation.
    largest = 100_000
    # Its lock is one of multiprocessing, which only those have who inherit it.
    inherited = True

    def __init__(self) -> None:
        os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
        self._type = need("shared_memory_dict").SharedMemoryDict
        self._sizes: dict[int, tuple[str, int]] = {}

    def make(self, count: int, room: int = 0) -> Any:
        name, size = unique_name(), 4096 + 32 * count + room
        handle = self._type(name, size)
        handle.update(self.items(count))
        self._sizes[id(handle)] = name, size
        return handle

    def token(self, handle: Any) -> Any:
        return self._sizes[id(handle)]

    def attach(self, token: Any) -> Any:
        return self._type(*token)

    def detach(self, handle: Any) -> None:
        handle.cleanup()

    def drop(self, handle: Any) -> None:
        del self._sizes[id(handle)]
        handle.shm.close()
        handle.shm.unlink()

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        del keys
        handle.clear()

    def used_bytes(self, handle: Any) -> int:
        return segment_bytes(handle.shm.name)


class DiskcacheStore(Store):
    """diskcache.Cache with its defaults, in a folder in memory; it never evicts here, as a dict never does."""

    largest = 10_000

    def __init__(self) -> None:
        self._type = need("diskcache").Cache
        self._folders: list[str] = []

    def make(self, count: int, room: int = 0) -> Any:
        del room
        self._folders.append(memory_folder())
        handle = self.attach(self._folders[-1])
        with handle.transact():
            for key, value in self.items(count).items():
                handle[key] = value
        return handle

    def token(self, handle: Any) -> Any:
        return handle.directory

    def attach(self, token: Any) -> Any:
        return self._type(token, eviction_policy="none")

    def detach(self, handle: Any) -> None:
        handle.close()

    def drop(self, handle: Any) -> None:
        handle.close()
        shutil.rmtree(handle.directory)
        self._folders.remove(handle.directory)

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        del keys
        handle.clear()

    def used_bytes(self, handle: Any) -> int:
        return allocated_bytes(Path(handle.directory).rglob("*"))

    def close(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

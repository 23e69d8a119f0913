"""Stores whose users write calls: LMDB and Redis. Keys and values are what these take without a detour."""

# ruff: noqa: D102  # what each method does is said once, by the class that they are derived from
from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np

from benchmarks.registry import NotMeasuredError, need
from benchmarks.stores.base import Store, memory_folder, unique_name
from benchmarks.stores.usage import allocated_bytes

_NUMBER = struct.Struct("q")
_MAP_BYTES = 4 << 30
_CHUNK = 10_000
SERVER_LIMIT_S = 10.0


class LmdbStore(Store):
    """LMDB in a folder in memory, with ``writemap`` and without any sync; a transaction an operation, or one for all.

    One for all is the cheapest that LMDB can do, and no substitute for a dict: its reads show the state of its
    beginning, and its writes are seen at its end, nobody else writing until then.
    """

    def __init__(self, whole: bool = False) -> None:
        self._lmdb = need("lmdb")
        self._whole = whole
        self._folders: list[str] = []

    def key(self, number: int) -> Any:
        return b"key-%d" % number

    def make(self, count: int, room: int = 0) -> Any:
        del room
        self._folders.append(memory_folder())
        handle = self.attach(self._folders[-1])
        with handle.begin(write=True) as transaction:
            for number in range(count):
                transaction.put(self.key(number), _NUMBER.pack(number))
        return handle

    def token(self, handle: Any) -> Any:
        return handle.path()

    def attach(self, token: Any) -> Any:
        return self._lmdb.open(token, map_size=_MAP_BYTES, sync=False, metasync=False, writemap=True)

    def detach(self, handle: Any) -> None:
        handle.close()

    def drop(self, handle: Any) -> None:
        path = handle.path()
        handle.close()
        shutil.rmtree(path)
        self._folders.remove(path)

    def read(self, handle: Any, keys: Iterable[Any]) -> None:
        if self._whole:
            with handle.begin() as transaction:
                for key in keys:
                    _NUMBER.unpack(transaction.get(key))
        else:
            for key in keys:
                with handle.begin() as transaction:
                    _NUMBER.unpack(transaction.get(key))

    def write(self, handle: Any, keys: Iterable[Any]) -> None:
        if self._whole:
            with handle.begin(write=True) as transaction:
                for value, key in enumerate(keys):
                    transaction.put(key, _NUMBER.pack(value))
        else:
            for value, key in enumerate(keys):
                with handle.begin(write=True) as transaction:
                    transaction.put(key, _NUMBER.pack(value))

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        del keys
        with handle.begin(write=True) as transaction:
            transaction.drop(handle.open_db(None, txn=transaction), delete=False)

    def get(self, handle: Any, key: Any) -> Any:
        with handle.begin() as transaction:
            return _NUMBER.unpack(transaction.get(key))[0]

    def put_array(self, handle: Any, key: Any, array: Any) -> None:
        with handle.begin(write=True) as transaction:
            transaction.put(key, array.data)

    # Without a copy, as `buffers=True` has it: then the array must be done with before the transaction ends.
    def array_ends(self, handle: Any, key: Any) -> tuple[float, float]:
        with handle.begin(buffers=True) as transaction:
            array = np.frombuffer(transaction.get(key))
            ends = float(array[0]), float(array[-1])
            del array
            return ends

    def used_bytes(self, handle: Any) -> int:
        return allocated_bytes(Path(handle.path()).iterdir())

    def close(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def start_redis(folder: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a Redis server of our own on a free port of the loopback, keeping nothing; return it and its port.

    Raises:
        NotMeasuredError: when there is none to start, or it does not answer.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise NotMeasuredError("there is no redis-server here; apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"--bind": "127.0.0.1", "--port": str(port), "--save": "", "--appendonly": "no", "--dir": folder}
    command = [program, *(word for pair in options.items() for word in pair)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = monotonic() + SERVER_LIMIT_S
    while server.poll() is None and monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            sleep(0.01)
        else:
            return server, port
    server.kill()
    raise NotMeasuredError(f"redis-server did not answer within {SERVER_LIMIT_S:g} s (code {server.wait()})")


class RedisServer:
    """A server that is started when something is made, and ended with its store."""

    def __init__(self) -> None:
        self._redis = need("redis")
        self._server: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self.port = 0

    def client(self) -> Any:
        """Return a client of the server, which is started if need be."""
        if self._server is None:
            self._folder = memory_folder()
            self._server, self.port = start_redis(self._folder)
        return self.connect(self.port)

    def connect(self, port: int) -> Any:
        """Return a client of the server at this port."""
        return self._redis.Redis(host="127.0.0.1", port=port)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(SERVER_LIMIT_S)
            shutil.rmtree(self._folder, ignore_errors=True)


class RedisStore(Store):
    """A hash of a Redis server: HGET and HSET, a message and an answer for each; a handle is (client, its name)."""

    apart = False

    def __init__(self) -> None:
        self._server = RedisServer()

    def make(self, count: int, room: int = 0) -> Any:
        del room
        client, name = self._server.client(), unique_name()
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(count, start + _CHUNK))
            client.hset(name, mapping={self.key(number): number for number in numbers})
        return client, name

    def token(self, handle: Any) -> Any:
        return self._server.port, handle[1]

    def attach(self, token: Any) -> Any:
        port, name = token
        return self._server.connect(port), name

    def drop(self, handle: Any) -> None:
        client, name = handle
        client.delete(name)

    def read(self, handle: Any, keys: Iterable[Any]) -> None:
        client, name = handle
        for key in keys:
            int(client.hget(name, key))

    def write(self, handle: Any, keys: Iterable[Any]) -> None:
        client, name = handle
        for value, key in enumerate(keys):
            client.hset(name, key, value)

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        del keys
        self.drop(handle)

    def get(self, handle: Any, key: Any) -> Any:
        client, name = handle
        return int(client.hget(name, key))

    def put_array(self, handle: Any, key: Any, array: Any) -> None:
        client, name = handle
        client.hset(name, key, array.data.cast("B"))

    def array_ends(self, handle: Any, key: Any) -> tuple[float, float]:
        client, name = handle
        array = np.frombuffer(client.hget(name, key))
        return float(array[0]), float(array[-1])

    def used_bytes(self, handle: Any) -> int:
        return int(handle[0].info("memory")["used_memory"])

    def close(self) -> None:
        self._server.close()

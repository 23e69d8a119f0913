"""What does a remote call cost on loopback, from the call to its result? The function adds two numbers.

XME's is that of the examples: sealed messages, unique marks, a list of functions. xmlrpc and multiprocessing.connection
send theirs in the clear (the latter with pickle), each over a connection that stays open.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.timing import operation_series

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_KEY = "5a" * 32
_XMLRPC = """
from xmlrpc.server import SimpleXMLRPCServer, SimpleXMLRPCRequestHandler
class Handler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
server = SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False)
server.register_function(lambda a, b: a + b, "add")
print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
"""
_CONNECTION = """
from multiprocessing.connection import Listener
functions = {"add": lambda a, b: a + b}
with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
    print(f"listening on 127.0.0.1:{listener.address[1]}", flush=True)
    connection = listener.accept()
    while True:
        name, args = connection.recv()
        connection.send(functions[name](*args))
"""


@contextmanager
def _server(*command: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=_EXAMPLES,
        env={**os.environ, "XME_KEY": _KEY},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def _xme() -> Iterator[Callable[[int, int], Any]]:
    sys.path.insert(0, str(_EXAMPLES))
    from rpc_client import Client

    with _server("rpc_server.py", "--port", "0") as port:
        client = Client("127.0.0.1", port, key=_KEY)
        yield lambda a, b: client.call("add", a, b)
        client.close()


@contextmanager
def _xmlrpc() -> Iterator[Callable[[int, int], Any]]:
    from xmlrpc.client import ServerProxy

    with _server("-c", _XMLRPC) as port, ServerProxy(f"http://127.0.0.1:{port}") as proxy:
        yield proxy.add


@contextmanager
def _connection() -> Iterator[Callable[[int, int], Any]]:
    from multiprocessing.connection import Client

    with _server("-c", _CONNECTION) as port, Client(("127.0.0.1", port), authkey=b"key") as connection:

        def call(a: int, b: int) -> Any:
            connection.send(("add", (a, b)))
            return connection.recv()

        yield call


_RIVALS = {"xme": _xme, "xmlrpc": _xmlrpc, "mp_connection": _connection}


def _run(rival: str, scale: Scale) -> list[Series]:
    with _RIVALS[rival]() as call:
        assert call(1, 2) == 3

        def run(count: int) -> None:
            for number in range(count):
                call(number, 1)

        return [operation_series(run, int, scale)]


CASE = Case("rpc", "a remote call on loopback", "µs", tuple(_RIVALS), _run, reach={"": 300.0})

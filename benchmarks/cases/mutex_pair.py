"""What does it cost to take and release a lock that nobody else wants?

Only XME's RobustMutex, filelock and fasteners give the lock back when their holder is killed; the others stay locked
for ever.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clock import samples
from benchmarks.gates import gates
from benchmarks.registry import Case, Scale, Series, need

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def make_robust_mutex() -> Any:
    """Make a RobustMutex in a segment of its own: what every container and Security of XME is locked with."""
    return need("XME._core.shared_mutex").create()


@contextmanager
def _xme() -> Iterator[Pair]:
    mutex = make_robust_mutex()
    yield mutex.acquire, mutex.release


@contextmanager
def _posix_ipc() -> Iterator[Pair]:
    with gates(1) as (_, (gate,)):
        gate.release()
        yield gate.acquire, gate.release


@contextmanager
def _multiprocessing(kind: str) -> Iterator[Pair]:
    lock = getattr(multiprocessing, kind)()
    yield lock.acquire, lock.release


@contextmanager
def _file(module: str, kind: str) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as folder:
        lock = getattr(need(module), kind)(str(Path(folder) / "lock"))
        yield lock.acquire, lock.release


@contextmanager
def _manager() -> Iterator[Pair]:
    with multiprocessing.Manager() as manager:
        lock = manager.Lock()
        yield lock.acquire, lock.release


_PAIRS: dict[str, Callable[[], Any]] = {
    "xme": _xme,
    "posix_ipc": _posix_ipc,
    "mp_lock": lambda: _multiprocessing("Lock"),
    "mp_rlock": lambda: _multiprocessing("RLock"),
    "filelock": lambda: _file("filelock", "FileLock"),
    "fasteners": lambda: _file("fasteners", "InterProcessLock"),
    "manager_lock": _manager,
}
SLOW = {"filelock", "fasteners", "manager_lock"}


def _pairs(acquire: Callable[[], Any], release: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        acquire()
        release()


def _run(rival: str, scale: Scale) -> list[Series]:
    count = 1_000 if rival in SLOW else 20_000
    with _PAIRS[rival]() as (acquire, release):
        found = samples(lambda: _pairs(acquire, release, count), scale.pick(25, 5), scale=1e6 / count)
    return [Series(found, facts={"pairs a sample": count})]


CASE = Case("mutex_pair", "acquire and release, uncontended", "µs", tuple(_PAIRS), _run, reach={"": 0.5})

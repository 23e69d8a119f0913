"""What does it cost to take and give back a lock with operators, alone and as a reader, when nobody else wants it?

Beside it are locks that keep less: none but XME's names its holder, says who died, or notices a circle; posix_ipc's and
multiprocessing's stay taken for ever when their holder is killed.
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

# acquire, release, and what they are called with.
Pair = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]


@contextmanager
def _xme() -> Iterator[dict[str, Pair]]:
    module = need("XME.Security")
    pairs: dict[str, Pair] = {}
    for kind in ("MUTEX", "AUTHORISATION", "SPIN", "READWRITE"):
        lock = module.Security(module.LockType[kind])
        pairs[kind] = lock.acquire, lock.release, (lock.ADMIN,)
    pairs["read"] = lock.acquire_read, lock.release_read, (lock.ADMIN,)
    yield pairs


@contextmanager
def _posix_ipc() -> Iterator[dict[str, Pair]]:
    with gates(1) as (_, (gate,)):
        gate.release()
        yield {"": (gate.acquire, gate.release, ())}


@contextmanager
def _mp_rlock() -> Iterator[dict[str, Pair]]:
    lock = multiprocessing.RLock()
    yield {"": (lock.acquire, lock.release, ())}


@contextmanager
def _fasteners() -> Iterator[dict[str, Pair]]:
    module = need("fasteners")
    with tempfile.TemporaryDirectory() as folder:
        alone = module.InterProcessLock(str(Path(folder) / "lock"))
        shared = module.InterProcessReaderWriterLock(str(Path(folder) / "shared"))
        yield {
            "": (alone.acquire, alone.release, ()),
            "read": (shared.acquire_read_lock, shared.release_read_lock, ()),
        }


@contextmanager
def _filelock() -> Iterator[dict[str, Pair]]:
    with tempfile.TemporaryDirectory() as folder:
        lock = need("filelock").FileLock(str(Path(folder) / "lock"))
        yield {"": (lock.acquire, lock.release, ())}


@contextmanager
def _manager() -> Iterator[dict[str, Pair]]:
    with multiprocessing.Manager() as manager:
        lock = manager.Lock()
        yield {"": (lock.acquire, lock.release, ())}


_RIVALS: dict[str, Callable[[], Any]] = {
    "xme": _xme,
    "posix_ipc": _posix_ipc,
    "mp_rlock": _mp_rlock,
    "fasteners": _fasteners,
    "filelock": _filelock,
    "manager_lock": _manager,
}
_SLOW = {"filelock", "fasteners", "manager_lock"}


def _pairs(pair: Pair, count: int) -> None:
    acquire, release, args = pair
    if not args:
        for _ in range(count):
            acquire()
            release()
        return
    (operator,) = args
    for _ in range(count):
        acquire(operator)
        release(operator)


def _run(rival: str, scale: Scale) -> list[Series]:
    count = 1_000 if rival in _SLOW else 20_000
    found = []
    with _RIVALS[rival]() as pairs:
        for label, pair in pairs.items():
            times = samples(lambda pair=pair: _pairs(pair, count), scale.pick(25, 5), scale=1e6 / count)
            found.append(Series(times, label, facts={"pairs a sample": count}))
    return found


CASE = Case(
    "security_pair", "acquire and release of a Security, uncontended", "µs", tuple(_RIVALS), _run,
    reach={"MUTEX": 1.5, "read": 2.0},
)  # fmt: skip

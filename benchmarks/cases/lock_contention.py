"""Processes that all want one lock, all the time: how fast does it go from hand to hand, and does everybody get it?

A sample is the µs from one acquisition to the next, all processes together, over one round. The facts of a series say,
over all of its rounds (ten seconds): the longest wait (ms), the smallest share of a process (1 is an even share), the
longest wait of a writer, how often one reader was let in during a writer's wait (from before its call on, so a writer
that loses its core before it has said that it waits counts too), and the processor seconds burnt in a second by a
waiter while somebody holds the lock for long.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.registry import Case, Scale, Series, need

Pair = tuple[Callable[[], Any], Callable[[], Any]]
_GRACE_S = 20.0


def _security(kind: str) -> Callable[[str], Pair]:
    module = need("XME.Security")
    lock = module.Security(module.LockType[kind.partition(" ")[0]])

    def pair(role: str) -> Pair:
        take, give = (lock.acquire_read, lock.release_read) if role == "read" else (lock.acquire, lock.release)
        return (lambda: take(lock.ADMIN)), (lambda: give(lock.ADMIN))

    return pair


def _multiprocessing(_kind: str) -> Callable[[str], Pair]:
    lock = multiprocessing.get_context("fork").Lock()
    return lambda _role: (lock.acquire, lock.release)


def _file(module: str, name: str, folder: str) -> Callable[[str], Pair]:
    kind = getattr(need(module), name)

    def pair(_role: str) -> Pair:
        # One for each process: the lock is the file.
        lock = kind(str(Path(folder) / "lock"))
        return lock.acquire, lock.release

    return pair


# rival -> (labels with the roles of the processes, what makes the lock)
_TWO, _FOUR = ("write",) * 2, ("write",) * 4
_ALONE = {"2": _TWO, "4": _FOUR}
_TYPES = {
    "MUTEX 2": _TWO, "MUTEX 4": _FOUR, "SPIN 2": _TWO, "SPIN 4": _FOUR,
    "READWRITE 1 writer, 3 readers": ("write", "read", "read", "read"),
    "READWRITE 1 reader": ("read",), "READWRITE 2 readers": ("read", "read"),
}  # fmt: skip


def _work(pair: Callable[[str], Pair], index: int, roles: tuple[str, ...], counts: Any, pipe: Any) -> None:
    acquire, release = pair(roles[index])
    readers = [other for other, role in enumerate(roles) if role == "read"] if roles[index] == "write" else []
    pipe.send(os.getpid())
    while (order := pipe.recv()) is not None:
        start, end = order
        count, longest, let_in = 0, 0.0, []
        while time.monotonic() < start:
            pass
        before = time.monotonic()
        while before < end:
            seen = [counts[reader] for reader in readers]
            acquire()
            got = time.monotonic()
            longest = max(longest, got - before)
            count += 1
            counts[index] += 1
            if readers:
                let_in.append(max(counts[reader] - was for reader, was in zip(readers, seen, strict=True)))
            release()
            before = time.monotonic()
        pipe.send((count, longest, let_in))


class _Crew:
    """The processes of one series."""

    def __init__(self, pair: Callable[[str], Pair], roles: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipes, self.pids = [], []
        counts = context.RawArray("q", len(roles))
        for index in range(len(roles)):
            mine, theirs = context.Pipe()
            context.Process(target=_work, args=(pair, index, roles, counts, theirs), daemon=True).start()
            self.pipes.append(mine)
            self.pids.append(self._hear(mine))

    @staticmethod
    def _hear(pipe: Any) -> Any:
        if not pipe.poll(_GRACE_S):
            raise TimeoutError("a process does not answer")
        return pipe.recv()

    def round(self, seconds: float) -> list[tuple[int, float, list[int]]]:
        """Let all contend for so long; returns each one's (acquisitions, longest wait, readings let in at each)."""
        start = time.monotonic() + 0.05
        for pipe in self.pipes:
            pipe.send((start, start + seconds))
        return [self._hear(pipe) for pipe in self.pipes]

    def burnt(self, acquire: Callable[[], Any], release: Callable[[], Any], seconds: float) -> float:
        """Return the processor seconds that each of them burns in a second while somebody else holds the lock."""
        acquire()
        start = time.monotonic()
        for pipe in self.pipes:
            pipe.send((start, start + 0.1))
        time.sleep(0.2)
        before = [_cpu_seconds(pid) for pid in self.pids]
        time.sleep(seconds)
        after = [_cpu_seconds(pid) for pid in self.pids]
        release()
        for pipe in self.pipes:
            self._hear(pipe)
        return sum(b - a for a, b in zip(before, after, strict=True)) / len(self.pids) / seconds

    def end(self) -> None:
        """Let them end."""
        for pipe in self.pipes:
            pipe.send(None)


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _series(label: str, pair: Callable[[str], Pair], roles: tuple[str, ...], scale: Scale) -> Series:
    crew = _Crew(pair, roles)
    seconds = scale.pick(1.0, 0.2)
    rounds = [crew.round(seconds) for _ in range(scale.pick(10, 3))]
    times = [1e6 * seconds / sum(count for count, _, _ in found) for found in rounds]
    counts = [sum(count for count, _, _ in of_one) for of_one in zip(*rounds, strict=True)]
    longest = [max(wait for _, wait, _ in of_one) for of_one in zip(*rounds, strict=True)]
    facts: dict[str, Any] = {
        "longest wait, ms": round(1000 * max(longest), 2),
        "smallest share": round(min(counts) * len(roles) / sum(counts), 3),
    }
    writers = [wait for wait, role in zip(longest, roles, strict=True) if role == "write"]
    if writers:
        facts["longest wait of a writer, ms"] = round(1000 * max(writers), 2)
        facts["processor seconds a second, waiting"] = round(crew.burnt(*pair("write"), scale.pick(2.0, 0.5)), 4)
    let_in = sorted(number for found in rounds for _, _, numbers in found for number in numbers)
    if let_in:
        middle, most = let_in[len(let_in) // 2], let_in[len(let_in) * 99 // 100]
        facts["readings of one reader while a writer waits, median / 99 %"] = f"{middle} / {most}"
    crew.end()
    return Series(times, label, facts)


def _run(rival: str, scale: Scale) -> list[Series]:
    labels = _TYPES if rival == "xme" else _ALONE
    found = []
    for label, roles in labels.items():
        with tempfile.TemporaryDirectory() as folder:
            make = {
                "xme": _security,
                "mp_lock": _multiprocessing,
                "filelock": lambda _label, folder=folder: _file("filelock", "FileLock", folder),
                "fasteners": lambda _label, folder=folder: _file("fasteners", "InterProcessLock", folder),
            }[rival]
            found.append(_series(label, make(label), roles, scale))
    return found


CASE = Case(
    "lock_contention", "from one acquisition to the next, when all want the lock", "µs",
    ("xme", "mp_lock", "filelock", "fasteners"), _run, limit_s=240.0,
)  # fmt: skip

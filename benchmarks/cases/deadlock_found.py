"""How long after the wait that closes a circle is begun does somebody get the Deadlock?

Processes (or threads) each hold a lock and ask for the next one's, all at once; the time runs from the last one's
asking to the report. Locks are Securities, transactions of a dict, methods of an object. READWRITE: each reads the one
and wants to write the other. Where a reader asks to write what it reads, nobody else takes part. No rival reports:
their processes would wait for ever.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from benchmarks.registry import Case, Scale, Series, need

_GRACE_S = 30.0


class Cell:
    """Runs a function inside its own method."""

    def inside(self, function: Callable[[], Any]) -> Any:
        """Run it."""
        return function()


class _Kind(NamedTuple):
    """A sort of lock: how one is made, and how a function is run with it held, or (wanted) had after waiting."""

    make: Callable[[], Any]
    held: Callable[[Any, Callable[[], Any]], Any]
    wanted: Callable[[Any, Callable[[], Any]], Any]


def _within(block: AbstractContextManager[Any], function: Callable[[], Any]) -> Any:
    with block:
        return function()


def _alone(lock: Any, function: Callable[[], Any]) -> Any:
    return _within(lock.holding(lock.ADMIN), function)


def _shared(lock: Any, function: Callable[[], Any]) -> Any:
    return _within(lock.reading("me"), function)


def _changing(values: Any, function: Callable[[], Any]) -> Any:
    return _within(values.atomic(), function)


def _in_method(cell: Any, function: Callable[[], Any]) -> Any:
    return cell.inside(function)


def _security(kind: str) -> Callable[[], Any]:
    return lambda: need("XME.Security").Security(getattr(need("XME.Security"), kind))


_MUTEX = _Kind(_security("MUTEX"), _alone, _alone)
_READWRITE = _Kind(_security("READWRITE"), _shared, _alone)
_ATOMIC = _Kind(lambda: need("XME").xmem_dict(), _changing, _changing)
_METHODS = _Kind(lambda: need("XME").xmem_object("cell", Cell), _in_method, _in_method)

# Label: (sort of lock, how many take part, threads and not processes). One alone wants what it holds.
_CIRCLES = {
    "2 processes": (_MUTEX, 2, False),
    "3 processes": (_MUTEX, 3, False),
    "4 processes": (_MUTEX, 4, False),
    "2 processes, READWRITE": (_READWRITE, 2, False),
    "2 processes, atomic()": (_ATOMIC, 2, False),
    "2 processes, methods": (_METHODS, 2, False),
    "2 threads": (_MUTEX, 2, True),
    "2 threads, READWRITE": (_READWRITE, 2, True),
    "2 threads, atomic()": (_ATOMIC, 2, True),
    "2 threads, methods": (_METHODS, 2, True),
    "a reader asks to write": (_READWRITE, 1, False),
}


def _work(kind: _Kind, locks: list[Any], me: int, pipe: Any) -> None:
    errors = need("XME.errors")
    mine, wanted = locks[me], locks[(me + 1) % len(locks)]
    times: list[float | None] = []

    def ask() -> None:
        pipe.send("held")
        pipe.recv()
        times[:] = time.monotonic(), None
        try:
            kind.wanted(wanted, lambda: None)
        except errors.Deadlock:
            times[1] = time.monotonic()
            raise

    while pipe.recv():
        try:
            kind.held(mine, ask)
        except errors.Deadlock:
            pass
        pipe.send(tuple(times))


def _hear(pipe: Any) -> Any:
    if not pipe.poll(_GRACE_S):
        raise TimeoutError("a deadlock was not reported")
    return pipe.recv()


def _one(pipes: list[Any]) -> tuple[float, int]:
    """Let all close the circle; returns how long it took to be reported (ms), and how many got the report."""
    for word in (True, "go"):
        for pipe in pipes:
            pipe.send(word)
        if word is True:
            assert [_hear(pipe) for pipe in pipes] == ["held"] * len(pipes)
    answers = [_hear(pipe) for pipe in pipes]
    reports = [told for _, told in answers if told is not None]
    return 1000 * (min(reports) - max(asked for asked, _ in answers)), len(reports)


def _series(label: str, scale: Scale) -> Series:
    kind, count, threads = _CIRCLES[label]
    locks = [kind.make() for _ in range(count)]
    context = multiprocessing.get_context("fork")
    start: Any = threading.Thread if threads else context.Process
    pairs = [context.Pipe() for _ in range(count)]
    crew = [start(target=_work, args=(kind, locks, me, theirs), daemon=True) for me, (_, theirs) in enumerate(pairs)]
    for one in crew:
        one.start()
    pipes = [mine for mine, _ in pairs]
    found = [_one(pipes) for _ in range(scale.pick(40, 8))]
    for pipe, one in zip(pipes, crew, strict=True):
        pipe.send(False)
        one.join(_GRACE_S)
    return Series([ms for ms, _ in found], label, {"most reports of one circle": max(number for _, number in found)})


def _run(_rival: str, scale: Scale) -> list[Series]:
    return [_series(label, scale) for label in _CIRCLES]


CASE = Case(
    "deadlock_found", "from the wait that closes a circle to the Deadlock", "ms", ("xme",), _run,
    reach=dict.fromkeys(_CIRCLES, 200.0),
)  # fmt: skip

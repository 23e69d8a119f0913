"""How long after a call has ended does `get` answer? Each call returns when it ended, and the caller looks then.

The Manager's server answers over a socket, after each call of its object's method.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.registry import Case, Scale, Series, need


class Clock:
    """What is called."""

    turns = 0

    def now(self) -> float:
        """Change something, and return when that was done."""
        self.turns += 1
        return time.monotonic()


def ask(count: int, XMEManager: Any = None) -> list[float]:
    """Append a call and get its result, so often; returns how long after its end each came, in µs."""
    op = XMEManager.AllocOperator()
    clock = XMEManager.get_table("clock")
    found = []
    for _ in range(count):
        XMEManager.append(clock.now, op)
        ended = XMEManager.get(op)
        found.append((time.monotonic() - ended) * 1e6)
        # So that the guard sleeps in between, as it does in a program that does something else.
        time.sleep(0.001)
    return found


def _xme(count: int) -> list[float]:
    module = need("XME")
    guard = module.XMEGuard(ExitTime=0.01, VerboseTime=0)
    with module.XME(ask, guard.Guard, xmemtable={"clock": module.xmem_object("clock", Clock)}) as xme:
        xme.gfun(10)
        found: list[float] = xme.gfun(count)[1][0]
    return found


class _Server(BaseManager):
    pass


_Server.register("Clock", Clock)


def _manager(count: int) -> list[float]:
    found = []
    with _Server(ctx=multiprocessing.get_context("fork")) as server:
        clock = server.Clock()
        for _ in range(count):
            ended = clock.now()
            found.append((time.monotonic() - ended) * 1e6)
            time.sleep(0.001)
    return found


def _run(rival: str, scale: Scale) -> list[Series]:
    count = scale.pick(2_000, 200)
    return [Series({"xme": _xme, "manager": _manager}[rival](count), facts={"calls": count})]


CASE = Case(
    "guard_get", "from a call's end to the return of get, the guard having slept", "µs", ("xme", "manager"), _run,
    reach={"": 100.0},
)  # fmt: skip

"""What does a call cost that many processes append, and that one process runs, in order?

Ten callers at once append calls of the manual's V.add; the time goes from the first append until the last caller has
the result of its last call, and the object's value is checked. The Manager's server runs the same method for ten
processes at once, behind a lock: each caller waits for each of its calls there.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.registry import Case, NotMeasuredError, Scale, Series, need

CALLERS = 10


class V:
    """The manual's own."""

    value = 0

    def add(self, value: int) -> None:
        """Add."""
        self.value += value

    def get(self) -> int:
        """Give the value."""
        return self.value


def append(count: int, XMEManager: Any = None) -> tuple[float, float]:
    """Append calls, wait for the last, and return when that began and ended."""
    op = XMEManager.AllocOperator()
    v = XMEManager.get_table("v")
    began = time.monotonic()
    for _ in range(count):
        XMEManager.append(v.add, op, value=1)
    XMEManager.get(op)
    return began, time.monotonic()


def _checked(value: int, wanted: int) -> None:
    if value != wanted:
        message = f"{wanted} calls were appended, and {value} have counted"
        raise RuntimeError(message)


def _xme(count: int, times: int) -> list[float]:
    xme_module = need("XME")
    guard = xme_module.XMEGuard(ExitTime=0.01, VerboseTime=0)
    v = xme_module.xmem_object("V", V)
    found = []
    with xme_module.Executor.Executor(max_workers=CALLERS) as executor:
        xme = xme_module.XME(append, guard.Guard, executor=executor, xmemtable={"v": v})
        xme.gfun(xme.Array([10] * CALLERS))
        for turn in range(times):
            _, spans = xme.gfun(xme.Array([count] * CALLERS))
            seconds = max(end for _, end in spans) - min(began for began, _ in spans)
            _checked(v.get(), 10 * CALLERS + (turn + 1) * CALLERS * count)
            found.append(seconds * 1e6 / (CALLERS * count))
    return found


def append_and_look(*args: Any, XMEManager: Any = None, print: Any = print) -> float:  # noqa: ARG001 - it counts places
    """Do the same with XME 3.3.1, whose get gives any earlier result: wait until the value is there."""
    XMEManager = args[-2]
    count = args[0]
    op = XMEManager.AllocOperator()
    v = XMEManager.get_table("v")
    wanted = v.get() + count
    began = time.monotonic()
    for _ in range(count):
        XMEManager.append(v.add, op, value=1)
    while v.get() < wanted:
        time.sleep(0.01)
    return (time.monotonic() - began) * 1e6 / count


def _xme331(count: int) -> list[float]:
    old = need("XME")
    guard = old.XMEGuard(ExitTime=1, VerboseTime=0)
    v = old.xmem_object("V", V)
    # Two processes: one caller and the guard. More callers would share the guard's core.
    xme = old.XME(append_and_look, guard.Guard, xmemtable={"v": v}, do_with_log=True, print_in_screen=False)
    result = xme.gfun(count)
    found = [one for one in _flat(result) if isinstance(one, float)]
    if not found:
        raise NotMeasuredError(f"its gfun gave {result!r}")
    return found


def _flat(value: Any) -> list[Any]:
    return [part for one in value for part in _flat(one)] if isinstance(value, list | tuple) else [value]


class _Locked(V):
    def __init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, value: int) -> None:
        with self._lock:
            self.value += value


class _Server(BaseManager):
    pass


_Server.register("V", _Locked)


def _add(v: Any, count: int, go: Any) -> None:
    go.wait()
    for _ in range(count):
        v.add(1)


def _manager(count: int) -> list[float]:
    context = multiprocessing.get_context("fork")
    with _Server(ctx=context) as server:
        v = server.V()
        go = context.Barrier(CALLERS + 1)
        callers = [context.Process(target=_add, args=(v, count, go)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        go.wait()
        began = time.monotonic()
        for caller in callers:
            caller.join()
        seconds = time.monotonic() - began
        _checked(v.get(), CALLERS * count)
    return [seconds * 1e6 / (CALLERS * count)]


def _run(rival: str, scale: Scale) -> list[Series]:
    if rival == "xme":
        count = scale.pick(10_000, 1_000)
        return [Series(_xme(count, 5), facts={"callers": CALLERS, "calls": CALLERS * count})]
    if rival == "manager":
        count = scale.pick(2_000, 300)
        return [Series(_manager(count), facts={"callers": CALLERS, "calls": CALLERS * count})]
    count = scale.pick(60, 20)
    return [Series(_xme331(count), facts={"callers": 1, "calls": count})]


CASE = Case(
    "guard_call", "an appended call of a shared object's method, run by the guard", "µs", ("xme", "manager", "xme331"),
    _run, reach={"": 20.0},
)  # fmt: skip

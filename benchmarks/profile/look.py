"""Taking one operation to pieces: its time, the bytecode instructions that it runs, the functions of C that it calls.

Of an operation of a few microseconds a sampling profiler sees nothing, and a tracing one measures mainly itself. The
number of instructions is exact and the same in every run, and one takes about as long as another: where an operation's
time divided by its instructions is a few tens of nanoseconds, the interpreter is what bounds it. Where it is much more,
the time goes into calls of C, most of them system calls: these are timed one by one.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from types import FrameType
from typing import Any

from benchmarks.table import median

WARM_UP = 3


@dataclass(frozen=True)
class Pieces:
    """One operation, taken to pieces.

    Attributes:
        time_us: median time, nothing watching.
        instructions: bytecode instructions that each function runs in one operation, by its name.
        calls: (how many times in one operation, µs of it) for each function of C, by its name: the median call times
            their number, without what was called from in there, and without what an empty call takes to watch.
    """

    time_us: float
    instructions: dict[str, float]
    calls: dict[str, tuple[float, float]]


def look(operation: Callable[[], Any], times: int) -> Pieces:
    """Run an operation three times ``times`` times: for its time, its instructions, and its calls of C."""
    for _ in range(WARM_UP):
        operation()
    return Pieces(_time(operation, times), _instructions(operation, times), _calls(operation, times))


def _time(operation: Callable[[], Any], times: int) -> float:
    # Many operations at a look at the clock, which itself takes a twentieth of a microsecond.
    together = max(1, times // 20)
    found = []
    for _ in range(times // together):
        before = perf_counter_ns()
        for _ in range(together):
            operation()
        found.append((perf_counter_ns() - before) / together / 1e3)
    return median(found)


def instruction_counter(counts: Counter[str]) -> Callable[[FrameType, str, Any], Any]:
    """Return a trace function that counts the instructions of every Python function that is entered, by its name."""

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        del arg
        if event == "call":
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
        elif event == "opcode":
            counts[frame.f_code.co_qualname] += 1
        return trace

    return trace


def _instructions(operation: Callable[[], Any], times: int) -> dict[str, float]:
    counts: Counter[str] = Counter()
    # From Python 3.12 on, settrace asks for instructions only if some frame has asked for them before.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(instruction_counter(counts))
    try:
        # From 3.13 on, a function's first instructions are run before the interpreter has begun to tell of them.
        operation()
        counts.clear()
        for _ in range(times):
            operation()
    finally:
        sys.settrace(None)
    return {name: count / times for name, count in counts.most_common()}


def _calls(operation: Callable[[], Any], times: int) -> dict[str, tuple[float, float]]:
    nothing = median(_watched(_call_nothing, 1_000)["len"])
    spent = _watched(operation, times)
    return {
        name: (len(found) / times, len(found) / times * max(0.0, median(found) - nothing) / 1e3)
        for name, found in spent.items()
    }


def _call_nothing() -> None:
    len(())


def _watched(operation: Callable[[], Any], times: int) -> dict[str, list[int]]:
    """Return the ns that each call of a function of C took itself, by the function's name."""
    spent: defaultdict[str, list[int]] = defaultdict(list)
    # When what is running now began, and the ns of it that were spent in what it called.
    running: list[list[int]] = []

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        del frame
        if event in ("call", "c_call"):
            running.append([perf_counter_ns(), 0])
        elif running:
            began, inside = running.pop()
            whole = perf_counter_ns() - began
            if running:
                running[-1][1] += whole
            if event != "return":
                spent[_name_of(arg)].append(whole - inside)

    sys.setprofile(profile)
    try:
        for _ in range(times):
            operation()
    finally:
        sys.setprofile(None)
    spent.pop("sys.setprofile", None)
    return spent


def _name_of(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}" if module and module != "builtins" else str(name)

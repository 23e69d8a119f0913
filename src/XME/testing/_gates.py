"""Gates: places in the lock's own code where a worker stops and asks whether it may go on.

Every line of chosen files is one: ``sys.monitoring`` tells of them from Python 3.12 on, ``sys.settrace`` before. So is
every ``time.sleep`` of an operation, and the harness's own probes just before and after each operation. Gates see
lines of Python; what happens inside a call into C is one step.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

FREE = 0
EVERY = -1

_HARNESS = os.path.dirname(os.path.abspath(__file__))
# The broken locks are there to be tested, though they live here.
_ZOO = os.path.join(_HARNESS, "_broken.py")
_SPINS = 12


@dataclass(frozen=True, slots=True)
class Stops:
    """Where a victim stops: at the first visit that is not among those ``done``, up to ``visits`` of each place.

    ``only`` leaves all other places out.
    """

    done: Mapping[str, int] = field(default_factory=dict)
    visits: int = 1
    only: str | None = None

    def wants(self, place: str, visit: int) -> bool:
        """True if the victim stops here."""
        return self.done.get(place, 0) < visit <= self.visits and self.only in {None, place}


# What a gate stops at: nothing (FREE), everything (EVERY), or chosen visits.
Mode = int | Stops


class Gate:
    """One worker's gate: counts the places that it passes, and stops at all of them, at some, or at none."""

    def __init__(self, ask: Callable[[int, str, bool], int]) -> None:
        """``ask(number, place, is_idle)`` blocks until the worker may go on, and returns the new mode."""
        self._ask = ask
        self.mode: Mode = FREE
        self.count = 0
        self._visits: dict[str, int] = {}

    def arm(self, mode: Mode) -> None:
        """Begin an operation."""
        self.mode = mode
        self.count = 0
        self._visits.clear()
        _local.gate = self if mode else None
        if mode and _trace is not None:
            sys.settrace(_trace)

    def disarm(self) -> None:
        """End it; from here on nothing stops."""
        if self.mode and _trace is not None:
            sys.settrace(None)
        self.mode = FREE
        _local.gate = None

    def arrive(self, place: str, is_idle: bool = False) -> None:
        """Stop here, if this is a place to stop at."""
        if not self.mode:
            return
        self.count += 1
        visits = self._visits[place] = self._visits.get(place, 0) + 1
        if isinstance(self.mode, Stops) and not self.mode.wants(place, visits):
            return
        # A loop that comes by so often is waiting for somebody.
        self.mode = self._ask(self.count, place, is_idle or visits % _SPINS == 0)


_local = threading.local()
_prefixes: tuple[str, ...] = ()
_chosen: dict[str, bool] = {}
_trace: Callable[..., Any] | None = None
_real_sleep = time.sleep


def current() -> Gate | None:
    """Return the armed gate of this thread."""
    return getattr(_local, "gate", None)


def _is_chosen(filename: str) -> bool:
    found = _chosen.get(filename)
    if found is None:
        path = os.path.abspath(filename)
        mine = path.startswith(_HARNESS) and path != _ZOO
        found = _chosen[filename] = not mine and path.startswith(_prefixes)
    return found


def _place(code: CodeType, line: int) -> str:
    return f"{os.path.basename(code.co_filename)}:{line}, {code.co_name}"


def _on_line(code: CodeType, line: int) -> Any:
    if not _is_chosen(code.co_filename):
        return sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore] # from Python 3.12 on
    gate = current()
    if gate is not None:
        gate.arrive(_place(code, line))
    return None


def _on_call(frame: FrameType, event: str, _arg: Any) -> Any:
    del event
    return _on_event if _is_chosen(frame.f_code.co_filename) else None


def _on_event(frame: FrameType, event: str, _arg: Any) -> Any:
    if event == "line":
        gate = current()
        if gate is not None:
            gate.arrive(_place(frame.f_code, frame.f_lineno))
    return _on_event


def _sleep(seconds: float) -> None:
    gate = current()
    if gate is None or not gate.mode:
        _real_sleep(seconds)
        return
    if gate.mode == EVERY:
        # Who sleeps lets others go first. A moment passes all the same, so that limits of time end.
        gate.arrive(f"sleep({seconds:g})", is_idle=True)
        _real_sleep(min(seconds, 0.0005))
    else:
        gate.arrive(f"sleep({seconds:g})", is_idle=True)
        _real_sleep(seconds)


def install(prefixes: tuple[str, ...]) -> None:
    """Make gates of all lines in files that begin with one of these paths; in a worker, once or again with others."""
    global _prefixes, _trace
    _prefixes = prefixes
    _chosen.clear()
    time.sleep = _sleep  # type: ignore[assignment] # it stands for a function of C
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is None:
        _trace = _on_call
        return
    tool = next((number for number in (4, 3, 5, 1) if monitoring.get_tool(number) in {None, __name__}), None)
    if tool is None:
        raise RuntimeError("no free tool of sys.monitoring is left: run these workers without coverage or a debugger")
    if monitoring.get_tool(tool) is None:
        monitoring.use_tool_id(tool, __name__)
    monitoring.register_callback(tool, monitoring.events.LINE, _on_line)
    monitoring.set_events(tool, monitoring.events.LINE)
    monitoring.restart_events()


def files_of(lock: Any, more: tuple[str, ...]) -> tuple[str, ...]:
    """Return where a lock's code is: the packages of its classes and of the objects that it is made of.

    The standard library is left out, unless the lock itself comes from there or ``more`` names the module.
    """
    modules = set(more)
    seen: list[Any] = [lock]
    for depth in range(3):
        below = [part for thing in seen for part in _parts(thing)]
        modules |= {name for thing in seen for name in _modules_of(thing)}
        seen = below
        if depth == 0 and not seen:
            break
    return tuple(sorted({path for name in modules if (path := _path_of(name, name in more))}))


def _parts(thing: Any) -> list[Any]:
    found = list(vars(thing).values()) if hasattr(thing, "__dict__") and not isinstance(thing, type) else []
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots if isinstance(slots, (tuple, list)) else ()
        found += [getattr(thing, name, None) for name in names]
    for function in [part for part in (*found, thing) if isinstance(part, (FunctionType, MethodType))]:
        found += [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        found.append(getattr(function, "__self__", None))
    return [part for part in found if part is not None and not isinstance(part, (int, str, bytes, float, type))]


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _modules_of(thing: Any) -> set[str]:
    own = getattr(thing, "__module__", None)
    return {cls.__module__ for cls in type(thing).__mro__} | ({own} if isinstance(own, str) else set())


def _path_of(name: str, wanted: bool) -> str | None:
    root = name.partition(".")[0]
    if not wanted and root in sys.stdlib_module_names:
        return None
    top = sys.modules.get(name if name.startswith(f"{__package__}.") or wanted else root)
    path: str | None = getattr(top, "__file__", None)
    if path is None or not path.endswith(".py"):
        return None
    path = os.path.abspath(path)
    return os.path.dirname(path) + os.sep if os.path.basename(path) == "__init__.py" else path

"""What can happen to a call and its workers."""

from __future__ import annotations

import signal as _signal
from typing import Any

from XME.errors._root import XMEError


class RemoteError(XMEError, RuntimeError):
    """Stands for a worker's exception that does not pickle. Fields: ``type_name``, ``text``."""

    type_name: str
    text: str

    @classmethod
    def of(cls, type_name: str, text: str) -> RemoteError:
        """Make the error from the name of the class and the text of the exception that stayed behind."""
        return cls(f"{type_name}: {text} (an exception that does not pickle, so this one stands for it; give its class "
                   "picklable arguments or a __reduce__)", type_name=type_name, text=text)


class WorkerTraceback(XMEError):
    """The traceback of an exception where it happened, as text; the cause of what the caller gets."""


def _death(exitcode: int | None) -> str:
    if exitcode is None:
        return "for an unknown reason"
    if exitcode >= 0:
        return f"with exit code {exitcode} (os._exit, or a crash of the interpreter)"
    try:
        name = _signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    cause = {
        "SIGKILL": " (kill -9, or the kernel was out of memory)",
        "SIGSEGV": " (a crash in C code: a faulty extension or ctypes)",
        "SIGBUS": " (memory behind a mapping vanished)",
        "SIGABRT": " (C code called abort)",
    }.get(name, "")
    return f"by {name}{cause}"


class WorkerDied(XMEError, RuntimeError):
    """The worker died while on a row. Fields: ``row``, ``function``, ``pid``, ``exitcode`` (negative: a signal)."""

    row: int
    function: str
    pid: int
    exitcode: int | None

    @classmethod
    def of(cls, function: str, row: int, pid: int, exitcode: int | None) -> WorkerDied:
        """Make the error from the function's name, the row, and the worker's pid and exit code."""
        message = (
            f"the worker with pid {pid} died {_death(exitcode)} while it ran {function}, row {row}; the other rows are "
            "not affected, and retries=1 would run this one again (it may have had effects)"
        )
        return cls(message, function=function, row=row, pid=pid, exitcode=exitcode)


class CrewFailed(XMEError, RuntimeError):
    """Workers died one after the other before they could do anything. Fields: ``deaths``, ``exitcode``."""

    deaths: int
    exitcode: int | None

    @classmethod
    def of(cls, deaths: int, exitcode: int | None, reason: str = "") -> CrewFailed:
        """Make the error from the number of deaths in a row, the last exit code, and what a worker still could say."""
        message = (
            f"{deaths} workers in a row died before they could run anything, the last {_death(exitcode)}: "
            + (reason or "look for an initializer that fails, or for a program that has no "
               "`if __name__ == '__main__':` around its calls (needed under spawn and forkserver)")
        )
        return cls(message, deaths=deaths, exitcode=exitcode)


class RowTimeout(XMEError, TimeoutError):
    """A call was not done in time. Fields: ``timeout`` (s), ``rows`` (unfinished), ``results`` (row -> result)."""

    timeout: float
    rows: tuple[int, ...]
    results: dict[int, Any]

    @classmethod
    def of(cls, timeout: float, rows: tuple[int, ...], results: dict[int, Any]) -> RowTimeout:
        """Make the error from the time limit in seconds, the rows it left unfinished, and the finished results."""
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        message = (
            f"the call was not done after {timeout:g} s: {len(rows)} rows are unfinished ({shown}), their workers were "
            "stopped; .results has the rows that finished"
        )
        return cls(message, timeout=timeout, rows=rows, results=results)


class RowErrors(ExceptionGroup):
    """Several rows of a call failed. Fields: ``results`` (row -> result) and ``failures`` (row -> exception)."""

    results: dict[int, Any]
    failures: dict[int, BaseException]

    @classmethod
    def of(cls, failures: dict[int, Exception], results: dict[int, Any]) -> RowErrors:
        """Make the group from the failed and the finished rows."""
        total = len(failures) + len(results)
        group = cls(f"{len(failures)} of {total} rows failed", list(failures.values()))
        group.failures, group.results = dict(failures), results
        return group

    def __reduce__(self) -> Any:
        return _rebuild_group, (self.message, list(self.exceptions), self.__dict__)

    def derive(self, excs: Any) -> RowErrors:  # type: ignore[override] # the overloads are for any exception group
        """Keep the class when ``split`` or ``except*`` takes a part; ``results`` and ``failures`` go with it."""
        part = RowErrors(self.message, excs)
        part.results = self.results
        part.failures = {row: error for row, error in self.failures.items() if error in part.exceptions}
        return part


def _rebuild_group(message: str, exceptions: list[Exception], fields: dict[str, Any]) -> RowErrors:
    group = RowErrors(message, exceptions)
    group.__dict__.update(fields)
    return group


class GuardDied(XMEError, RuntimeError):
    """A call's guard died while on it, so it ran wholly, partly or not at all.

    Fields: ``number`` (of the call in its buffer), ``function``, ``operator``.
    """

    number: int
    function: str
    operator: str

    @classmethod
    def of(cls, number: int, function: str, operator: str) -> GuardDied:
        """Make the error from the call's number in its buffer, its function's name, and who appended it."""
        message = (
            f"whoever ran call {number}, {function} for {operator}, died or was interrupted in the middle of it: it "
            "ran wholly, partly or not at all, and is not run again; methods of an xmem_object are safe from that"
        )
        return cls(message, number=number, function=function, operator=operator)


class ManagerRefuses(XMEError, ValueError):
    """An XMEManager was asked for what makes no sense. Field: ``function``."""

    function: str

    @classmethod
    def of(cls, function: str, why: str) -> ManagerRefuses:
        """Make the error from what was called and what to do instead."""
        return cls(f"{function} is not done: {why}", function=function)


class CallErrors(ExceptionGroup):
    """Calls that were appended have failed, and nobody has fetched that.

    Fields: ``failures`` (call number -> exception), ``results`` (row -> result, where gfun raises this).
    """

    failures: dict[int, Exception]
    results: dict[int, Any] | None = None

    @classmethod
    def of(cls, failures: dict[int, Exception]) -> CallErrors:
        """Make the group from the failed calls."""
        count = len(failures)
        message = f"{count} appended call{'s' if count > 1 else ''} failed, and nobody has fetched that with get()"
        group = cls(message, list(failures.values()))
        group.failures = dict(failures)
        return group

    def __reduce__(self) -> Any:
        return _rebuild_calls, (self.message, list(self.exceptions), self.__dict__)

    def derive(self, excs: Any) -> CallErrors:  # type: ignore[override] # the overloads are for any exception group
        """Keep the class when ``split`` or ``except*`` takes a part."""
        part = CallErrors(self.message, excs)
        part.results = self.results
        part.failures = {number: error for number, error in self.failures.items() if error in part.exceptions}
        return part


def _rebuild_calls(message: str, exceptions: list[Exception], fields: dict[str, Any]) -> CallErrors:
    group = CallErrors(message, exceptions)
    group.__dict__.update(fields)
    return group


class CallingWarning(UserWarning):
    """A keyword was also appended to ``*args``, as the manual has it; ``calling="python"`` turns that off."""

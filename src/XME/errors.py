"""Every exception of XME, in one tree.

Each class carries its facts as fields, says in one sentence what happened, where and what to do, and pickles,
because exceptions cross process borders. Where a builtin class names the same misfortune, the XME class is also
one of that class, so that ``except MemoryError`` or ``except TimeoutError`` catches what its author meant.
"""

from __future__ import annotations

import signal as _signal
import time as _time
from typing import Any


def _rebuild(cls: type[XMEError], args: tuple[Any, ...], fields: dict[str, Any]) -> XMEError:
    error = cls(*args)
    error.__dict__.update(fields)
    return error


class XMEError(Exception):
    """The root of XME's exceptions; ``except XMEError`` catches all of them.

    >>> import pickle
    >>> error = pickle.loads(pickle.dumps(XMEError("a sentence", row=3)))
    >>> error.row, str(error)
    (3, 'a sentence')
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.args, self.__dict__)


class SharedMemoryFull(XMEError, MemoryError):
    """Shared memory could not be reserved. Fields: ``wanted``, ``free``, ``total`` (bytes), ``where`` (the folder)."""

    wanted: int
    free: int
    total: int
    where: str

    @classmethod
    def of(cls, wanted: int, free: int, total: int, where: str) -> SharedMemoryFull:
        """Make the error from its numbers, all in bytes."""
        message = (
            f"{wanted:,} bytes of shared memory were wanted and {free:,} of {total:,} are free in {where}: drop arrays "
            "that are no longer needed, or make it larger (in a container: docker run --shm-size=8g; "
            f"else: mount -o remount,size=8G {where})"
        )
        return cls(message, wanted=wanted, free=free, total=total, where=where)


class BadSegment(XMEError, ValueError):
    """A shared memory segment is not what its name promises. Fields: ``name``, ``reason``."""

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, reason: str) -> BadSegment:
        """Make the error from the segment's name and what is wrong with it."""
        message = (
            f"the shared memory segment {name!r} cannot be used: {reason}; it was damaged, made by another version "
            "of XME, or unlinked by a foreign program (multiprocessing.shared_memory unlinks at exit what it opened)"
        )
        return cls(message, name=name, reason=reason)


class DomainEnded(XMEError, RuntimeError):
    """The program that owned this shared memory has ended. Field: ``domain``."""

    domain: str

    @classmethod
    def of(cls, domain: str) -> DomainEnded:
        """Make the error from the domain's id."""
        message = (
            f"the program that opened domain {domain} has ended, so its names and locks are gone; what is mapped stays "
            "readable, and what must outlive its program is made with name= or .publish(name)"
        )
        return cls(message, domain=domain)


class DomainFull(XMEError, RuntimeError):
    """A domain has no free participant number. Fields: ``domain``, ``capacity``."""

    domain: str
    capacity: int

    @classmethod
    def of(cls, domain: str, capacity: int) -> DomainFull:
        """Make the error from the domain's id and the number of processes that it can hold."""
        message = (
            f"domain {domain} already has {capacity} living processes, as many as it was made for: end some of them, "
            "or set XME_CAPACITY to a larger number before the first process uses XME"
        )
        return cls(message, domain=domain, capacity=capacity)


class ContainerGone(XMEError, RuntimeError):
    """A shared container was unlinked while somebody still wanted its name. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str, why: str = "its owner dropped or unlinked it") -> ContainerGone:
        """Make the error from the container's name."""
        return cls(f"the shared container {name!r} is gone: {why}; keep a reference to it in the process that made it",
                   name=name)


class NameTaken(XMEError, FileExistsError):
    """A public name is already in use. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str) -> NameTaken:
        """Make the error from the public name."""
        return cls(f"the name {name!r} is in use by living processes: XME.attach({name!r}) opens what they share, "
                   "or choose another name", name=name)


class NameUnknown(XMEError, FileNotFoundError):
    """No living process shares anything under this name. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str) -> NameUnknown:
        """Make the error from the public name."""
        return cls(f"nothing is shared under the name {name!r}: it was never made, or its last user has "
                   "ended; `python -m XME ls` lists what there is", name=name)


class ShortLived(XMEError, ValueError):
    """A container that may end first was put into one that may outlive it. Fields: ``container``, ``value``."""

    container: str
    value: str

    @classmethod
    def of(cls, container: str, value: str) -> ShortLived:
        """Make the error from the name of the container and the text of what was put in."""
        return cls(f"{value} cannot be put into the shared container {container!r}: it may end before that does; store a "
                   "plain copy, or make the outer one with nested=True and store plain lists and dicts",
                   container=container, value=value)


class MutexError(XMEError, RuntimeError):
    """A mutex was used in a way that cannot work: released by a stranger, or taken inside its own taking."""


class Deadlock(XMEError, RuntimeError):
    """Threads wait for each other in a circle. Field: ``cycle``, one dict for each, this thread's first.

    Each has ``process`` (its name), ``pid``, ``thread``, ``operator`` (or None), what it ``holds`` that the one before
    it wants (the first: the last one), what it ``waits_for``, and ``since`` when (seconds since the epoch).
    """

    cycle: list[dict[str, Any]]

    @classmethod
    def of(cls, cycle: list[dict[str, Any]]) -> Deadlock:
        """Make the error from the cycle."""
        told = ", and ".join(map(_waiting, cycle))
        message = (
            f"deadlock: {told}; this wait has been given up, so let go of what is held and try again, and take locks "
            "in the same order everywhere"
        )
        return cls(message, cycle=cycle)


def _waiting(link: dict[str, Any]) -> str:
    operator = "" if link["operator"] is None else f", operator {link['operator']}"
    since = _time.strftime("%H:%M:%S", _time.localtime(link["since"]))
    return (
        f"process {link['process']} (pid {link['pid']}, thread {link['thread']}{operator}) holds {link['holds']} and "
        f"waits for {link['waits_for']} since {since}"
    )


class LockTimeout(XMEError, TimeoutError):
    """A lock was not had in time. Fields: ``lock``, ``operator``, ``timeout`` (s), ``holder`` (text, or None)."""

    lock: str
    operator: str
    timeout: float
    holder: str | None

    @classmethod
    def of(cls, lock: str, operator: str, timeout: float, holder: str | None) -> LockTimeout:
        """Make the error from what was wanted, by whom, for how long, and who has it."""
        has = "nobody has it now" if holder is None else f"{holder} has it"
        message = f"{operator} did not get {lock} within {timeout:g} s: {has}; wait longer, or without a limit"
        return cls(message, lock=lock, operator=operator, timeout=timeout, holder=holder)


class NotAuthorised(XMEError, PermissionError):
    """An operator may not have a lock. Fields: ``lock``, ``operator``, ``advice``."""

    lock: str
    operator: str
    advice: str

    @classmethod
    def of(cls, lock: str, operator: str, advice: str) -> NotAuthorised:
        """Make the error from the lock, who wanted it, and what would let him have it."""
        return cls(f"{operator} may not have {lock}: {advice}", lock=lock, operator=operator, advice=advice)


class UnshareableArgument(XMEError, TypeError):
    """An argument cannot travel to another process. Fields: ``argument`` (its path), ``reason``."""

    argument: str
    reason: str

    @classmethod
    def of(cls, argument: str, what: str, advice: str) -> UnshareableArgument:
        """Make the error from the path of the argument, what it is, and what to do instead."""
        return cls(f"{argument} cannot be sent to a worker: it is {what}; {advice}", argument=argument, reason=what)


class UnshareableValue(XMEError, TypeError):
    """A value cannot be stored in a shared container. Fields: ``where`` (the path to it), ``reason``."""

    where: str
    reason: str

    @classmethod
    def of(cls, where: str, what: str, advice: str) -> UnshareableValue:
        """Make the error from the path of the value, what it is, and what to do instead."""
        message = f"{where} cannot be stored in a shared container, which is as it was: it is {what}; {advice}"
        return cls(message, where=where, reason=what)


class UnusableKey(XMEError, TypeError):
    """A key has no form that is the same in every process. Fields: ``key_type`` (its name), ``reason``."""

    key_type: str
    reason: str

    @classmethod
    def of(cls, kind: type, reason: str, advice: str) -> UnusableKey:
        """Make the error from the type of the key, why it cannot be one, and what to do instead."""
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        message = f"a key of type {name} cannot be stored in a shared container: {reason}; {advice}"
        return cls(message, key_type=name, reason=reason)


class UnshareableResult(XMEError, TypeError):
    """A function's result cannot travel back. Fields: ``row``, ``function``, ``reason``."""

    row: int
    function: str
    reason: str

    @classmethod
    def of(cls, function: str, row: int, reason: str) -> UnshareableResult:
        """Make the error from the function's name, its row and why its result does not pickle."""
        return cls(f"the result of {function}, row {row}, cannot be sent back ({reason}): return plain data, arrays or "
                   "something that pickles", function=function, row=row, reason=reason)


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


class LockViolation(XMEError, AssertionError):
    """A lock under test broke a promise. Fields: ``checker`` (the rule), ``report`` (all of it), ``token`` (replay)."""

    checker: str
    report: Any
    token: str | None

    @classmethod
    def of(cls, checker: str, text: str, report: Any, token: str | None) -> LockViolation:
        """Make the error from the report of a failed test."""
        return cls(text, checker=checker, report=report, token=token)


class LockTestFailed(XMEError, RuntimeError):
    """The workers of a lock's test do not work, so nothing is known of the lock. Fields: ``worker``, ``reason``."""

    worker: int
    reason: str

    @classmethod
    def of(cls, worker: int, reason: str) -> LockTestFailed:
        """Make the error from the worker's number and what is wrong with it."""
        message = (
            f"worker {worker} of the lock's test is not ready: {reason}; make_lock must be importable in a new process "
            "(or start_method='fork'), and a lock of multiprocessing's must be made once for all: handed_over=True"
        )
        return cls(message, worker=worker, reason=reason)


class CallingWarning(UserWarning):
    """A keyword was also appended to ``*args``, as the manual has it; ``calling="python"`` turns that off."""

"""What can happen with locks, ours and those under test."""

from __future__ import annotations

import time as _time
from typing import Any

from XME.errors._root import XMEError


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

"""DeadLockFuns: what acquire and release call and return when they do not succeed."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

from XME._security.kinds import DeadLockMark
from XME._store import codec


def packed(name: str, function: Any, mark: DeadLockMark) -> bytes | None:
    """Return a DeadLockFun as bytes that every process understands; None for the mark, which stands for the default.

    Raises:
        TypeError: it cannot be called, or not without arguments.
        UnshareableArgument: it cannot travel to another process.
    """
    if isinstance(function, DeadLockMark) and function == mark:
        return None
    require_callable(name, function)
    _require_no_arguments(name, function)
    try:
        return codec.encode(function)
    except Exception as error:
        raise codec.explain(name, function, error) from error


def call(own: Any, shared: bytes | None, mark: Any) -> Any:
    """Call the DeadLockFun that counts: the call's own, the object's, or the one that gives the mark."""
    if own is not None:
        return own()
    return mark if shared is None else pickle.loads(shared)()


def require_callable(name: str, function: Any) -> None:
    """Refuse what is no function (TypeError)."""
    if function is not None and not callable(function):
        msg = f"{name} must be callable without arguments, not {function!r}"
        raise TypeError(msg)


def _require_no_arguments(name: str, function: Any) -> None:
    """Refuse a function that wants arguments (TypeError): now, and not at the first deadlock in some other process."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some callables of C code do not say what they want.
        return
    try:
        signature.bind()
    except TypeError as error:
        msg = f"{name} is called without arguments, so {function!r} cannot be it ({error}): take a lambda around it"
        raise TypeError(msg) from None

"""DeadLockFuns: what acquire and release call and return when they do not succeed."""

from __future__ import annotations

import pickle
from typing import Any

from XME._store import codec


def packed(name: str, function: Any) -> bytes:
    """Return a DeadLockFun as bytes that every process understands.

    Raises:
        TypeError: it is not callable.
        UnshareableArgument: it cannot travel to another process.
    """
    require_callable(name, function)
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

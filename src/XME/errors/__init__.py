"""Every exception of XME, in one tree.

Each class carries its facts as fields, says in one sentence what happened, where and what to do, and pickles,
because exceptions cross process borders. Where a builtin class names the same misfortune, the XME class is also
one of that class, so that ``except MemoryError`` or ``except TimeoutError`` catches what its author meant.
"""

from __future__ import annotations

from XME.errors._calls import (
    CallErrors,
    CallingWarning,
    CrewFailed,
    GuardDied,
    ManagerRefuses,
    RemoteError,
    RowErrors,
    RowTimeout,
    WorkerDied,
    WorkerTraceback,
)
from XME.errors._locks import Deadlock, LockTestFailed, LockTimeout, LockViolation, MutexError, NotAuthorised
from XME.errors._memory import (
    BadSegment,
    ContainerGone,
    DomainEnded,
    DomainFull,
    NameTaken,
    NameUnknown,
    SharedMemoryFull,
    ShortLived,
)
from XME.errors._messages import BadKey, BadMessage, UnsealableValue
from XME.errors._root import XMEError
from XME.errors._values import UnshareableArgument, UnshareableResult, UnshareableValue, UnusableKey

__all__ = [
    "BadKey", "BadMessage", "BadSegment", "CallErrors", "CallingWarning", "ContainerGone", "CrewFailed", "Deadlock",
    "DomainEnded", "DomainFull", "GuardDied", "LockTestFailed", "LockTimeout", "LockViolation", "ManagerRefuses",
    "MutexError", "NameTaken", "NameUnknown", "NotAuthorised", "RemoteError", "RowErrors", "RowTimeout",
    "SharedMemoryFull", "ShortLived", "UnsealableValue", "UnshareableArgument", "UnshareableResult", "UnshareableValue",
    "UnusableKey", "WorkerDied", "WorkerTraceback", "XMEError",
]  # fmt: skip

# They are known by where users find them, also in tracebacks.
for _name in __all__:
    globals()[_name].__module__ = __name__

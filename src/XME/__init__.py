"""XME: a table of functions over split arguments on all cores, and state shared in raw shared memory."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    _msg = "XME needs POSIX shared memory and fork-safe locks, which Windows does not have: use Linux (WSL works)"
    raise ImportError(_msg)

if TYPE_CHECKING:
    from XME import ArrayOperator, Executor, Logputter, Monitor, Security, errors
    from XME._containers.by_name import attach
    from XME._containers.shared_array import xmem_array
    from XME._containers.shared_dict import xmem_dict
    from XME._containers.shared_list import xmem_list
    from XME._containers.shared_object import xmem_object
    from XME.ArrayOperator import Array
    from XME.Engine import XME, build
    from XME.errors import (
        BadKey,
        BadMessage,
        BadSegment,
        CallErrors,
        CallingWarning,
        ContainerGone,
        CrewFailed,
        Deadlock,
        DomainEnded,
        DomainFull,
        GuardDied,
        LockTimeout,
        ManagerRefuses,
        MutexError,
        NameTaken,
        NameUnknown,
        NotAuthorised,
        RemoteError,
        RowErrors,
        RowTimeout,
        SharedMemoryFull,
        UnsealableValue,
        UnshareableArgument,
        UnshareableResult,
        WorkerDied,
        WorkerTraceback,
        XMEError,
    )
    from XME.Logputter import Logputter as Logger
    from XME.Manager import XMEM_GET_FAIL, HeartJump, XMEGuard, XMEManager

_ERRORS = (
    "BadKey", "BadMessage", "BadSegment", "CallErrors", "CallingWarning", "ContainerGone", "CrewFailed", "Deadlock",
    "DomainEnded", "DomainFull", "GuardDied", "LockTimeout", "ManagerRefuses", "MutexError", "NameTaken", "NameUnknown",
    "NotAuthorised", "RemoteError", "RowErrors", "RowTimeout", "SharedMemoryFull", "UnsealableValue",
    "UnshareableArgument", "UnshareableResult", "WorkerDied", "WorkerTraceback", "XMEError",
)  # fmt: skip
_MODULES = ("ArrayOperator", "Executor", "Logputter", "Monitor", "Security", "errors")
# Loaded when first asked for: who imports XME pays for what he uses, and so does each worker that is started anew.
_PLACES = {
    "XME": ("Engine", "XME"),
    "build": ("Engine", "build"),
    "Array": ("ArrayOperator", "Array"),
    "Logger": ("Logputter", "Logputter"),
    "xmem_array": ("_containers.shared_array", "xmem_array"),
    "xmem_dict": ("_containers.shared_dict", "xmem_dict"),
    "xmem_list": ("_containers.shared_list", "xmem_list"),
    "xmem_object": ("_containers.shared_object", "xmem_object"),
    "attach": ("_containers.by_name", "attach"),
    "XMEManager": ("Manager", "XMEManager"),
    "XMEGuard": ("Manager", "XMEGuard"),
    "HeartJump": ("Manager", "HeartJump"),
    "XMEM_GET_FAIL": ("Manager", "XMEM_GET_FAIL"),
    **{name: ("errors", name) for name in _ERRORS},
}

__all__ = [
    "XME", "XMEM_GET_FAIL", "Array", "ArrayOperator", "BadKey", "BadMessage", "BadSegment", "CallErrors",
    "CallingWarning", "ContainerGone", "CrewFailed", "Deadlock", "DomainEnded", "DomainFull", "Executor", "GuardDied",
    "HeartJump", "LockTimeout", "Logger", "Logputter", "ManagerRefuses", "Monitor", "MutexError", "NameTaken",
    "NameUnknown", "NotAuthorised", "RemoteError", "RowErrors", "RowTimeout", "Security", "SharedMemoryFull",
    "UnsealableValue", "UnshareableArgument", "UnshareableResult", "WorkerDied", "WorkerTraceback", "XMEError",
    "XMEGuard", "XMEManager", "attach", "build", "errors", "xmem_array", "xmem_dict", "xmem_list", "xmem_object",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # it takes longer to import than all the rest here

        value: Any = metadata.version("xme-shm")
    elif name in _MODULES:
        value = importlib.import_module(f"XME.{name}")
    elif name in _PLACES:
        module, attribute = _PLACES[name]
        value = getattr(importlib.import_module(f"XME.{module}"), attribute)
    else:
        msg = f"module 'XME' has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

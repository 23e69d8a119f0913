"""The words of XME.Security: lock types, operators, marks, statistics."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, Final

from XME._core.guarded_mutex import Holder


class LockType(enum.IntEnum):
    """The types of lock, in the manual's order."""

    DISABLE = 0
    MUTEX = 1
    AUTHORISATION = 2
    READWRITE = 3
    SPIN = 4


class Operator(enum.Enum):
    """The operators that every process knows."""

    ADMIN = "ADMIN"

    def __str__(self) -> str:
        return f"<SecProto::Operator:{self.name}>"


ADMIN: Final = Operator.ADMIN


class DeadLockMark(str):
    """A text that is false: what acquire and release give instead of True.

    >>> import pickle
    >>> mark = pickle.loads(pickle.dumps(DEADLOCKMARK_ONLOCK))
    >>> bool(mark), mark == "Onlock failure: illegal operator or deadlock!"
    (False, True)
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


DEADLOCKMARK_ONLOCK: Final = DeadLockMark("Onlock failure: illegal operator or deadlock!")
DEADLOCKMARK_UNLOCK: Final = DeadLockMark("Unlock failure: illegal operator or deadlock!")


@dataclass(frozen=True)
class Statistics:
    """What Security.statistics() tells.

    Attributes:
        type: the lock type.
        holder: who has it alone, or None.
        waiting: how many threads, of all processes, wait to get it: for its holder, for its readers, or for being
            named by authorize() or registe() in time. For its first 25 ms (MuteTime, if that is less) a wait is seen
            only if no other thread of its process is before it.
        reading: how many threads share it.
        owner_deaths: how often its holder was found dead.

    Dead processes are not counted as waiting or reading, stopped ones are.
    """

    type: LockType
    holder: Holder | None
    waiting: int
    reading: int
    owner_deaths: int


def kind_of(lock_type: Any) -> LockType:
    """Return a lock type; ValueError if it is none."""
    try:
        return LockType(lock_type)
    except ValueError:
        known = ", ".join(f"Security.{kind.name}" for kind in LockType)
        msg = f"there is no lock type {lock_type!r}: use one of {known}"
        raise ValueError(msg) from None


def seconds(what: str, value: Any) -> float:
    """Return a number of seconds; TypeError or ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} is a number of seconds, not {value!r}"
        raise TypeError(msg)
    if not math.isfinite(value) or value < 0:
        msg = f"{what} is a number of seconds, 0 or more, not {value!r}"
        raise ValueError(msg)
    return float(value)

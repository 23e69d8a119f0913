"""The records of a history: events, the calls that two of them make up, and the holds that calls make up."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

FOREVER_NS = 1 << 62


class Kind(enum.IntEnum):
    """What a record says about its call. UNKNOWN: the worker died before the answer was written."""

    UNKNOWN = 0
    INVOKE = 1
    OK = 2
    REFUSED = 3
    RAISED = 4


class Op(enum.IntEnum):
    """What was done; from KILL_SENT on by the controller, to a worker."""

    ACQUIRE = 1
    RELEASE = 2
    ACQUIRE_READ = 3
    RELEASE_READ = 4
    SECTION = 5
    KILL_SENT = 6
    REAPED = 7
    STOPPED = 8
    CONTINUED = 9
    END = 10
    LEFT = 11


TAKING = frozenset({Op.ACQUIRE, Op.ACQUIRE_READ})
GIVING = frozenset({Op.RELEASE, Op.RELEASE_READ})
# What the answer's detail starts with when the lock told its new owner that the last one died.
OWNER_DIED = "owner died"


@dataclass(frozen=True, slots=True)
class Event:
    """One record of a history.

    >>> Event(1_000, 0, 0, 4242, Op.ACQUIRE, 1, Kind.INVOKE).owner
    (0, 0)
    """

    time_ns: int
    worker: int
    life: int
    thread: int
    op: Op
    call: int
    kind: Kind
    detail: str = ""
    timeout_s: float | None = None

    @property
    def owner(self) -> tuple[int, int]:
        """Worker and life: who may hold a lock, or wait for it."""
        return self.worker, self.life

    def __str__(self) -> str:
        """Say it in a few words."""
        name = f"w{self.worker}" + (f"'{self.life}" if self.life else "")
        limit = "" if self.timeout_s is None else f"({self.timeout_s:g} s)"
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.time_ns / 1e6:.3f} ms {name} {self.op.name.lower()}{limit} {self.kind.name.lower()}{detail}"


def in_order(event: Event) -> tuple[int, int, int, int, int]:
    """Return what events are sorted by: their time, and what is always the same where times are equal."""
    return event.time_ns, event.worker, event.life, event.call, event.kind


@dataclass(frozen=True, slots=True)
class Call:
    """An operation from its INVOKE to its answer; None if there is none."""

    invoke: Event
    answer: Event | None

    @property
    def op(self) -> Op:
        """What was called."""
        return self.invoke.op

    @property
    def owner(self) -> tuple[int, int]:
        """Who called."""
        return self.invoke.owner

    @property
    def start_ns(self) -> int:
        """When it was about to be called."""
        return self.invoke.time_ns

    @property
    def end_ns(self) -> int:
        """When it had returned; FOREVER_NS if it never did."""
        return FOREVER_NS if self.answer is None else self.answer.time_ns

    @property
    def kind(self) -> Kind:
        """How it ended."""
        return Kind.UNKNOWN if self.answer is None else self.answer.kind


@dataclass(frozen=True, slots=True)
class Hold:
    """What one owner had of the lock, from its outermost acquire to the release that gave it back.

    ``sure_ns`` is the time for which it certainly held (None: its acquire was never answered), ``wanted_ns`` when it
    asked, ``free_ns`` from when it certainly held no more.
    """

    owner: tuple[int, int]
    write: bool
    wanted_ns: int
    sure_ns: tuple[int, int] | None
    free_ns: int
    killed: bool
    events: tuple[Event, ...]
    depth: int = 1


def timeout_or_none(value: float) -> float | None:
    """NaN stands for none in a record."""
    return None if math.isnan(value) else value

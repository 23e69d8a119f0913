"""All handles of locks in this process: what a fork's child and a process that leaves a domain must forget."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol


class Handle(Protocol):
    """A process's access to one lock."""

    _party: Any

    @property
    def is_used(self) -> bool:
        """True while a thread of this process holds the lock or is on its way in or out."""

    @property
    def is_used_here(self) -> bool:
        """True if the calling thread does."""

    def unlearn(self) -> None:
        """Let the next acquire join anew."""

    def lose(self) -> None:
        """Forget what is held."""


handles: weakref.WeakSet[Any] = weakref.WeakSet()


def living(of: weakref.WeakSet[Any]) -> list[Any]:
    """Return what is in a WeakSet now; its own iterator fails when another thread adds something meanwhile."""
    # Copied in one call of C code, in which no other thread runs. The attribute is public, but for the stubs.
    references: set[weakref.ref[Any]] = of.data.copy()  # type: ignore[attr-defined] # the stubs lack it
    return [one for ref in references if (one := ref()) is not None]


def is_party_used(party: Any) -> bool:
    """True if a thread of this process uses a lock of a party."""
    return any(handle._party is party and handle.is_used for handle in living(handles))


def leave_party(party: Any) -> bool:
    """Lose what this thread holds in a party that its process leaves; True if another thread uses a lock there.

    Then the number must stay ours until the process is gone: so it is with daemon threads at a program's exit.
    """
    in_use = False
    for handle in living(handles):
        if handle._party is party:
            # In this order: acquire says TAKING first and then reads the epoch.
            handle.unlearn()
            if handle.is_used:
                if handle.is_used_here:
                    handle.lose()
                else:
                    in_use = True
    return in_use


def recursion_count(local: Any) -> int:
    """Return how often the calling thread has taken an RLock."""
    # RLock tells its depth by name only from Python 3.12 on; its repr always has.
    if hasattr(local, "_recursion_count"):
        return int(local._recursion_count())
    return int(repr(local).rpartition("count=")[2].split()[0])


def _after_fork_in_child() -> None:
    for handle in living(handles):
        handle.lose()


os.register_at_fork(after_in_child=_after_fork_in_child)

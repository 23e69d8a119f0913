"""Faults that are planted in the store of one process, to see that the storm finds them."""

from __future__ import annotations

from typing import Any

from XME._containers import flight, list_quick
from XME._containers.home import W_ROOT
from XME._containers.shared_dict import xmem_dict
from XME._store.change import Change
from XME._store.log import Generation


def _void() -> None:
    """What a dead writer has begun is not voided."""

    def void_nothing(self: Generation, place: int) -> None:
        del self, place

    Generation.void = void_nothing  # type: ignore[method-assign]


def _root() -> None:
    """The root word names a record before that is there."""
    write = Change.write

    def write_late(self: Any, *record: Any) -> int:
        if self.generation is self.origin:
            self._room.words[W_ROOT] = self.generation.number << 32 | self.high
        return write(self, *record)

    Change.write = write_late  # type: ignore[method-assign]
    # Only on the long ways, so that all go them.
    xmem_dict._set_quickly = lambda *_: False  # type: ignore[method-assign, assignment]
    list_quick.Quick._learn = list_quick.Quick._forget  # type: ignore[method-assign]


def _settle() -> None:
    """What the dead have left in flight stays."""
    flight.settle = lambda *_: None  # type: ignore[assignment]
    flight.settle_inherited = lambda domain: domain.names.inherited.clear()


FAULTS = {"void": _void, "root": _root, "settle": _settle}


def plant(fault: str) -> None:
    """Plant a fault in this process."""
    FAULTS[fault]()

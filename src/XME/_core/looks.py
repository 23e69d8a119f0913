"""What can be asked of a mutex without changing anything."""

from __future__ import annotations

from typing import Any

from XME._core.deadlock import ALONE
from XME._core.recovery import HOLDING, INCARNATION_SHIFT, STATE_MASK, TRYING

# What the calling thread is doing with the mutex; kept in the process, not shared.
FREE, TAKING, HELD, LEAVING = range(4)


class Looks:
    """The questions to a RobustMutex."""

    __slots__ = ()

    _words: Any
    _local: Any
    _phase: int
    _count: int
    _serial: int
    label: str | None
    operator: Any

    @property
    def depth(self) -> int:
        """How often the calling thread has taken it; 0 if it does not hold it."""
        return self._count if self.held else 0

    @property
    def held(self) -> bool:
        """True if this thread holds the mutex."""
        return self._phase == HELD and bool(self._local._is_owned())

    def title(self) -> str:
        """Return how messages call it."""
        title = self.label or f"mutex {self._serial}"
        return title if self.operator is None else f"{title} (as {self.operator!s})"

    def holders_of(self, kind: str) -> list[tuple[int, int]]:
        """Return the participants, and their incarnations, that keep others out."""
        if kind != ALONE:
            return []
        held = [(number, self._words[1 + number]) for number in self.holders()]
        return [(number, word >> INCARNATION_SHIFT) for number, word in held if word]

    def kinds_held(self) -> str:
        """Return the kinds of hold (see deadlock.py) that the calling thread has."""
        return ALONE if self.held else ""

    def is_in_hands_of(self, number: int, incarnation: int) -> bool:
        """True if that participant holds the mutex or is on his way in or out; his word stays so if he dies there."""
        word = self._words[1 + number]
        return bool(word) and word >> INCARNATION_SHIFT == incarnation

    def holders(self) -> list[int]:
        """Return the numbers of the participants whose words say that they hold it; more than one if some are dead."""
        return [number for number, word in enumerate(self._words[1:]) if word & STATE_MASK == HOLDING]

    def __repr__(self) -> str:
        """Say who holds it and how many wait."""
        holders = self.holders()
        waiting = sum(word & STATE_MASK == TRYING for word in self._words[1:])
        state = f"held by participant {holders[0]}" if holders else "free"
        return f"<RobustMutex {self._serial}: {state}, {waiting} waiting>"

    @property
    def is_used(self) -> bool:
        """True while a thread of this process holds the mutex or is on its way in or out."""
        return self._phase != FREE

    @property
    def is_used_here(self) -> bool:
        """True if that thread is the calling one."""
        return bool(self._local._is_owned())

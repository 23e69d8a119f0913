"""Recovering a mutex from a dead holder, without making two of it; mutex.py has the whole protocol.

What is broken if a rule is left out (each is a planted fault of the explorer): without the look again under the
recovery lock, or without the epoch, a recovery runs into a holder; in one pass instead of two, somebody who was on his
way in holds what is given out again; clearing words that died after the second pass hides a lost permit.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from XME.errors import MutexError

EPOCH = 0
IDLE, TRYING, HOLDING, RELEASING, ABANDONED = range(5)
STATE_MASK = 7
EPOCH_SHIFT = 3
EPOCH_BITS = 24
INCARNATION_SHIFT = EPOCH_SHIFT + EPOCH_BITS


class Party(Protocol):
    """What the mutex needs to know about processes; a domain's in earnest, simulated in the explorer."""

    number: int
    incarnation: int

    def require(self) -> None:
        """Join if need be; DomainEnded if there is nothing to join."""

    def is_dead(self, number: int, incarnation: int) -> bool:
        """True if that participant is provably dead."""

    def try_recovery_lock(self, serial: int) -> bool:
        """Take this mutex's recovery lock if it is free."""

    def free_recovery_lock(self, serial: int) -> None:
        """Free it."""

    # One word: 1 once the domain has ended.
    ended_words: Any

    @property
    def ended(self) -> bool:
        """True once the domain has ended."""


def drain_stores() -> None:
    """Wait until every store made before now is visible to all cores.

    A store can wait in its core's buffer while a later load has already been made (x86 reorders just that), so a
    TRYING may not be visible yet though its writer has read the old epoch. Microseconds suffice; this takes 2 ms.
    """
    time.sleep(0.002)


def pause() -> None:
    """Give a process that is on its way in or out the time to go on."""
    time.sleep(0.0005)


def is_over(deadline: float | None) -> bool:
    """True once the monotonic clock has passed a deadline; None never passes."""
    return deadline is not None and time.monotonic() >= deadline


class _GivenUpError(Exception):
    """Ends a recovery whose time is over."""


class Recoverable:
    """The words, the semaphore and the party of a mutex, and how it is recovered."""

    __slots__ = ("_party", "_post", "_recovering", "_semaphore", "_serial", "_words", "recoveries")

    _party: Party
    _post: Any
    # True while the recovery lock may be ours; an exception can strike before it is known to be.
    _recovering: bool
    _words: Any
    _semaphore: Any
    _serial: int
    recoveries: int

    def _is_dead_word(self, number: int, word: int) -> bool:
        return word & STATE_MASK == ABANDONED or self._party.is_dead(number, word >> INCARNATION_SHIFT)

    def _find_dead(self) -> bool:
        words = self._words
        number = 0
        capacity = len(words) - 1
        while number < capacity:
            word = words[1 + number]
            if word and self._is_dead_word(number, word):
                return True
            number += 1
        return False

    def _recover(self, deadline: float | None) -> None:
        """Recover the mutex if that is needed and nobody else does; the own word is IDLE or dead.

        It is given up (the next one finishes it) when the time is over or the domain ends: whoever is on his way in
        or out may be stopped for any time.
        """
        self._recovering = True
        try:
            if not self._party.try_recovery_lock(self._serial):
                pause()
                return
            epoch = self._words[EPOCH]
            if not epoch & 1:
                if not self._find_dead():
                    return
                epoch = self._begin_recovery(epoch)
            drain_stores()
            self._await_movers(deadline)
            held, dead = self._take_stock(deadline)
            if not held:
                self._semaphore.drain()
                self._post()
            self._clear(dead)
            self._words[EPOCH] = epoch + 1
            self.recoveries += 1
        except _GivenUpError:
            return
        finally:
            self._free_recovery_lock()

    def _free_recovery_lock(self) -> None:
        """Free the recovery lock if it may be ours; freeing one that is not does nothing."""
        if self._recovering:
            self._party.free_recovery_lock(self._serial)
            self._recovering = False

    def _begin_recovery(self, epoch: int) -> int:
        if epoch + 2 >= 1 << EPOCH_BITS:
            msg = f"this mutex has been recovered {epoch // 2:,} times, as often as it can be: make a new one"
            raise MutexError(msg)
        self._words[EPOCH] = epoch + 1
        return int(epoch + 1)

    def _await_movers(self, deadline: float | None) -> None:
        """Pass everyone once, waiting for whoever is alive and on his way in or out."""
        number = 0
        capacity = len(self._words) - 1
        while number < capacity:
            self._settled_word(number, deadline)
            number += 1

    def _settled_word(self, number: int, deadline: float | None) -> tuple[int, bool]:
        """Return a participant's (word, is it dead) as soon as it is dead, IDLE or HOLDING."""
        words = self._words
        while True:
            word = words[1 + number]
            if not word:
                return 0, False
            if self._is_dead_word(number, word):
                return word, True
            if word & STATE_MASK == HOLDING:
                return word, False
            if is_over(deadline) or self._party.ended:
                raise _GivenUpError
            pause()

    def _take_stock(self, deadline: float | None) -> tuple[bool, list[int]]:
        """Return whether somebody alive is HOLDING, and whose words are dead; made after all movers have passed."""
        held = False
        dead = []
        number = 0
        capacity = len(self._words) - 1
        while number < capacity:
            word, is_dead = self._settled_word(number, deadline)
            if is_dead:
                dead.append(number)
            elif word:
                held = True
            number += 1
        return held, dead

    def _clear(self, dead: list[int]) -> None:
        for number in dead:
            self._words[1 + number] = IDLE

"""Who waits for a lock: one word for each participant, so that anybody can count them.

    words[k]   incarnation (37 bits) << 27 | number of threads of participant k that wait (27 bits); 0: none

Only a wait that lasts longer than a slice is written down: taking a lock that is free, or soon free, costs nothing. The
word is made from a table of this process, under a lock of its own; the word of a dead process counts for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

from XME._core.recovery import HOLDING, INCARNATION_SHIFT, STATE_MASK, TRYING, Party

_COUNT_MASK = (1 << INCARNATION_SHIFT) - 1


class Waiting:
    """The threads that wait for one lock."""

    __slots__ = ("_local", "_party", "_threads", "_words")

    def __init__(self, party: Party, words: Any) -> None:
        """Bind to the words, one for each participant."""
        self._party = party
        self._words = words
        self.forget()

    def forget(self) -> None:
        """Begin anew: the process has forked, or leaves the party. The word is the parent's, or dead."""
        self._threads: set[int] = set()
        # Reentrant: a signal handler may wait for the same lock.
        self._local = threading.RLock()

    def enter(self) -> None:
        """Say that the calling thread waits; said again, it changes nothing."""
        me = get_ident()
        if me not in self._threads:
            with self._local:
                self._threads.add(me)
                self._store(len(self._threads))

    def leave(self) -> None:
        """Say that it does not wait any more; said again, also after an exception in here, it changes nothing."""
        me = get_ident()
        if me in self._threads:
            with self._local:
                # The word first: as long as the thread is in the table, an interrupted leave is done again.
                self._store(len(self._threads) - 1)
                self._threads.discard(me)

    def _store(self, count: int) -> None:
        number = self._party.number
        if number >= 0:
            self._words[number] = self._party.incarnation << INCARNATION_SHIFT | count if count else 0

    def count(self, states: Any, is_dead: Callable[[int, int], bool], *, draining: bool) -> int:
        """Return how many threads wait.

        Args:
            states: the state words of the mutex: of each process one thread is seen there from its first moment on.
            is_dead: tells of a participant and its incarnation whether it is dead.
            draining: True while who holds the mutex waits for readers.
        """
        found = 0
        for number, (word, state) in enumerate(zip(self._words, states, strict=True)):
            waits = state & STATE_MASK == TRYING or (draining and state & STATE_MASK == HOLDING)
            if waits and is_dead(number, state >> INCARNATION_SHIFT):
                waits = False
            threads = word & _COUNT_MASK
            if threads and is_dead(number, word >> INCARNATION_SHIFT):
                threads = 0
            found += max(threads, waits)
        return found

"""Semaphores on which callers wait for their calls: made when needed, used again and again."""

from __future__ import annotations

import threading

from XME._core.domain import Domain
from XME._pool import board as b


class Waiters:
    """The semaphores of one crew's callers."""

    def __init__(self, domain: Domain, board: b.Board) -> None:
        self._domain = domain
        self._board = board
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._lasting: list[int] = []
        self._closed = False

    def take(self) -> int:
        """Return the serial number of a semaphore that nobody else waits on."""
        with self._lock:
            if self._free:
                return self._free.pop()
        serial, semaphore = b.new_semaphore(self._domain, 0)
        semaphore.close()
        return serial

    def take_for_good(self) -> int:
        """Return the serial number of one that does not come back before the end."""
        serial = self.take()
        self._lasting.append(serial)
        return serial

    def give(self, serial: int) -> None:
        """Give one back; a post that comes late is a spurious wake-up of the next caller."""
        # Each call leaves posts behind: nobody would ever fall asleep after enough of them.
        self._board.waiter(serial).drain()
        with self._lock:
            if not self._closed:
                self._free.append(serial)
                return
        self._domain.names.unlink(serial)

    def note_drop(self) -> None:
        """Leave word that they are to be unlinked; for finalizers, so it takes no lock."""
        for serial in (*self._free, *self._lasting):
            self._domain.names.note_drop(serial, always=True)

    def close(self) -> None:
        """Unlink them; those that are out are unlinked when they come back."""
        with self._lock:
            self._closed = True
            unused, self._free, self._lasting = self._free + self._lasting, [], []
        for serial in unused:
            self._domain.names.unlink(serial)

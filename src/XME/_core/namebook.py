"""The names that this process made in one domain.

Every name is in the ledger before it exists and leaves it after it is gone. A name that no other process can know is
unlinked when its maker drops it; one that was handed out lives until the domain ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from XME._core import dropped, layout, ledger, memory, names
from XME.errors import DomainEnded, XMEError

# What goes with the container that its entry names.
_BELONGING = ledger.PARTS | {ledger.Kind.CONTAINER}
# Places are taken back as often as the area has doubled.
_RECLAIM_FROM = 1024


def unlink_both(domain_id: str, serial: int) -> None:
    """Unlink the segment and the semaphore with this serial number, whichever there are."""
    name = names.name_of(domain_id, serial)
    memory.unlink(names.path_of(name))
    memory.unlink(names.semaphore_path(name))


class _Owned:
    """A name that this process made: where the ledger has it, what it names, and whether others may know it."""

    __slots__ = ("handed", "has_semaphore", "index", "owner")

    def __init__(self, index: int, has_semaphore: bool, owner: int) -> None:
        self.index = index
        self.has_semaphore = has_semaphore
        self.handed = False
        # The container that it belongs to and goes with, 0 if it stands for itself.
        self.owner = owner


class Keeper(Protocol):
    """What the name book needs of its domain."""

    id: str
    fd: int
    number: int
    incarnation: int

    @property
    def ended(self) -> bool:
        """True once the domain's opener has ended."""

    def require(self) -> None:
        """Join if need be; DomainEnded if there is nothing to join."""

    def row(self, number: int) -> memoryview:
        """Return a participant's row as words."""

    def incarnation_of(self, number: int) -> int:
        """Return the incarnation in a row."""

    def entries(self, number: int) -> Iterator[ledger.Entry]:
        """Yield a participant's ledger entries."""

    def administration(self) -> AbstractContextManager[None]:
        """Hold the domain's administration: nobody joins meanwhile."""

    def take_block(self) -> int:
        """Return the number of a fresh block of names."""


class NameBook:
    """What one process has made in one domain; begun anew at each joining."""

    def __init__(self, domain: Keeper) -> None:
        self._domain = domain
        self._lock = threading.RLock()
        self._owned: dict[int, _Owned] = {}
        # Finalizers append here and do nothing else: one may run inside any critical section of its own thread.
        self._dropped: deque[tuple[int, bool]] = deque()
        self._handed_below = 0
        self._next_serial = self._block_end = 0
        self._free_entries: list[int] = []
        self._parts: dict[int, set[int]] = {}
        self._reclaim_at = _RECLAIM_FROM
        # What a dead predecessor had in flight: whether it is in use, only its containers can tell.
        self.inherited: list[ledger.Entry] = []

    def __len__(self) -> int:
        """Return how many names of ours exist."""
        return len(self._owned)

    def take_over(self, fd: int, number: int) -> None:
        """Find the free places in the ledger area of the number that was given; a predecessor's entries stay."""
        entries = list(ledger.read(fd, number, self._domain.row(number)[layout.R_LEDGER_END]))
        self.inherited = [entry for entry in entries if entry.kind in ledger.IN_FLIGHT]
        used = {entry.place for entry in entries}
        self._free_entries = [k for k in range(max(used, default=-1), -1, -1) if k not in used]
        self._domain.row(number)[layout.R_LEDGER_END] = max(used, default=-1) + 1

    def enter(self, kind: ledger.Kind, owner: int = 0, *, has_semaphore: bool = True) -> int:
        """Write a new name into the ledger and return its serial number; what it names is made after that.

        Args:
            kind: what the name is for.
            owner: the serial number of the container or call that it belongs to.
            has_semaphore: False if only a segment will bear the name: one system call less when it goes.

        Raises:
            DomainEnded: the domain's opener has ended.
            SharedMemoryFull: the ledger cannot grow.
        """
        domain = self._domain
        domain.require()
        self.tidy()
        with self._lock:
            serial = self._take_serial()
            index = self._take_entry()
            with memory.room_for(16):
                by = domain.incarnation if kind in ledger.IN_FLIGHT else 0
                ledger.write(domain.fd, domain.number, ledger.Entry(index, serial, kind, owner, by))
            part_of = owner if kind in _BELONGING else 0
            self._owned[serial] = _Owned(index, has_semaphore, part_of)
            if part_of:
                self._parts.setdefault(part_of, set()).add(serial)
        return serial

    def _take_serial(self) -> int:
        if self._next_serial == self._block_end:
            block = self._domain.take_block()
            self._next_serial = block * layout.BLOCK_NAMES
            self._block_end = self._next_serial + layout.BLOCK_NAMES
            if self._block_end > 1 << names.SERIAL_BITS:
                msg = f"domain {self._domain.id} has used up its names (2**{names.SERIAL_BITS}): start it again"
                raise XMEError(msg)
        self._next_serial += 1
        return self._next_serial - 1

    def _take_entry(self) -> int:
        if self._free_entries:
            return self._free_entries.pop()
        row = self._domain.row(self._domain.number)
        index = row[layout.R_LEDGER_END]
        if index >= self._reclaim_at:
            self._reclaim(index)
            if self._free_entries:
                return self._free_entries.pop()
        if index >= ledger.CAPACITY:
            msg = f"this process has {ledger.CAPACITY:,} names in shared memory, its limit: drop some containers"
            raise XMEError(msg)
        # Raised before the entry is written: whoever sweeps reads that far.
        row[layout.R_LEDGER_END] = index + 1
        return int(index)

    def _reclaim(self, end: int) -> None:
        """Take back the places of names that other processes have unlinked."""
        domain = self._domain
        for entry in ledger.read(domain.fd, domain.number, end):
            name = names.name_of(domain.id, entry.serial)
            # A lock's second semaphore has no segment.
            is_there = memory.is_there(names.path_of(name)) or memory.is_there(names.semaphore_path(name))
            if not is_there and self._was_made(entry):
                self._forget(entry.serial, entry.place)
        self._reclaim_at = max(_RECLAIM_FROM, 2 * (end - len(self._free_entries)))

    def _was_made(self, entry: ledger.Entry) -> bool:
        """True if what an entry names is not just about to be made, by another thread."""
        if entry.kind in ledger.IN_FLIGHT:
            return False
        owned = self._owned.get(entry.serial)
        # Handed out, or a part, which is in flight until it was made.
        return (owned is not None and owned.handed) or (entry.kind in _BELONGING and entry.owner != 0)

    def _forget(self, serial: int, place: int) -> None:
        owned = self._owned.pop(serial, None)
        if owned is not None and owned.owner:
            parts = self._parts.get(owned.owner, set())
            parts.discard(serial)
            if not parts:
                self._parts.pop(owned.owner, None)
        ledger.clear(self._domain.fd, self._domain.number, place)
        self._free_entries.append(place)

    def make_public(self, serial: int, kind: ledger.Kind, owner: int) -> None:
        """Note that a name which was in the making is in use now: it goes with its container only."""
        owned = self._owned.get(serial)
        if owned is not None:
            entry = ledger.Entry(owned.index, serial, kind, owner)
            ledger.write(self._domain.fd, self._domain.number, entry)

    def note_dropping(self, serial: int, owner: int) -> int:
        """Note that a commit will drop a name, whoever made it; returns the note's place, for `cleared`."""
        with self._lock:
            place = self._take_entry()
            with memory.room_for(16):
                by = self._domain.incarnation
                entry = ledger.Entry(place, serial, ledger.Kind.DROPPING, owner, by)
                ledger.write(self._domain.fd, self._domain.number, entry)
        return place

    def cleared(self, place: int) -> None:
        """Clear a note: what it says was done."""
        with self._lock:
            ledger.clear(self._domain.fd, self._domain.number, place)
            self._free_entries.append(place)

    def confirm(self, serial: int) -> None:
        """Look at `ended` once more after a name was made: whoever swept before could not see it.

        Raises:
            DomainEnded: the domain ended meanwhile; the name is unlinked again.
        """
        if self._domain.ended:
            self.unlink(serial)
            raise DomainEnded.of(self._domain.id)

    def unlink(self, serial: int) -> None:
        """Unlink a name that this process made, with all that belongs to it; nothing happens if it is not ours."""
        with self._lock:
            # Forgotten when they are gone: after a Ctrl-C in between, the next one goes on.
            for part in list(self._parts.get(serial, ())):
                self.unlink(part)
            self._parts.pop(serial, None)
            owned = self._owned.get(serial)
            if owned is None:
                return
            if owned.has_semaphore:
                unlink_both(self._domain.id, serial)
            else:
                memory.unlink(names.path_of(names.name_of(self._domain.id, serial)))
            self._forget(serial, owned.index)

    def mark_handed(self, serial: int) -> None:
        """Remember that another process may know this name: it then lives until the domain ends."""
        owned = self._owned.get(serial)
        if owned is not None:
            owned.handed = True

    def hand_all(self) -> None:
        """Before a fork: every name that lives now is known to the child."""
        self._handed_below = self._next_serial

    def note_drop(self, serial: int, *, always: bool = False) -> None:
        """Leave word that nothing here refers to a name any more; called by finalizers, so it takes no lock.

        Args:
            serial: the name.
            always: unlink it even if other processes know it.
        """
        self._dropped.append((serial, always))

    def tidy(self) -> None:
        """Unlink what was dropped and never handed out; called by ordinary operations, outside critical sections."""
        if not self._dropped:
            return
        with self._lock:
            for serial, always in dropped.each(self._dropped):
                if always:
                    self.unlink(serial)
                else:
                    self._unlink_if_private(serial)

    def unlink_private(self) -> None:
        """Unlink every name of ours that nobody else can know; the process is leaving."""
        self.tidy()
        for serial in list(self._owned):
            self._unlink_if_private(serial)

    def _unlink_if_private(self, serial: int) -> None:
        owned = self._owned.get(serial)
        if owned is not None and not owned.handed and not owned.owner and serial >= self._handed_below:
            self.unlink(serial)

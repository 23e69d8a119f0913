"""What belongs to a container besides its first segment: made before a commit, dropped after it.

A segment in the making, and one that a commit will drop, stand in the ledger as in flight (ledger.Kind). Whether such
a one is in use, the container's root word alone tells: whoever settles looks there, under the container's mutex. Who
settles what::

    a commit that succeeds      its own, at once
    an exception, a Ctrl-C      this process, before its next change of the container
    a death inside the mutex    the next holder: the mutex's epoch has moved (W_SETTLED); also if the dead one's
                                participant number has an heir meanwhile, for entries bear their writer's incarnation
    a death outside of it       whoever gets the dead one's participant number, at his next change of any container
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from XME._containers import home as homes
from XME._containers.home import MUTEX_AT, W_EVEN, W_GONE, W_REFERS, W_SETTLED, W_STORED, W_WHAT, Home
from XME._core import ledger, memory, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._core.namebook import unlink_both
from XME._store import sequence, table, values
from XME._store.log import PLACE_MASK, Generation
from XME.errors import BadSegment, ContainerGone


def store_buffers(home: Home, buffers: Any) -> list[int]:
    """Give each buffer a segment of its own in the container's domain; returns their serial numbers.

    Raises:
        SharedMemoryFull: there is no room; nothing is left behind.
    """
    made: list[int] = []
    try:
        for buffer in buffers:
            # One by one: what was made is unlinked if the next one fails.
            made.append(_make(home, buffer.nbytes, Kind.VALUE, buffer).serial)  # noqa: PERF401 - the list must be there if one fails
    except BaseException:
        for serial in made:
            home.domain.names.unlink(serial)
        raise
    return made


def new_memory(home: Home, nbytes: int) -> tuple[memoryview, Any, int]:
    """Return zeroed memory for a generation, what keeps it alive, and its serial number."""
    block = _make(home, nbytes, Kind.GENERATION, None)
    return block.data, block, block.serial


def _make(home: Home, nbytes: int, kind: Kind, source: memoryview | None) -> segment.Segment:
    domain = home.domain
    serial = domain.names.enter(Kind.MAKING, home.serial, has_semaphore=False)
    try:
        _local.making.append((domain, serial))
        block = segment.make(domain, serial, nbytes, kind, source)
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    return block


class _Local(threading.local):
    """What this thread has made and no change has taken yet: after an exception it is unlinked."""

    def __init__(self) -> None:
        self.making: list[tuple[Domain, int]] = []


_local = _Local()


def making() -> int:
    """Return where what this thread is making begins, for `unlink_making`."""
    return len(_local.making)


def note_making(domain: Domain, serial: int) -> None:
    """Note what is being made for a change."""
    _local.making.append((domain, serial))


def taken(serials: Any) -> None:
    """Forget what a change has taken: from now on it is the change's."""
    _local.making = [entry for entry in _local.making if entry[1] not in serials]


def unlink_making(mark: int) -> None:
    """Unlink what this thread has made since `making()` and no change has taken."""
    for domain, serial in _local.making[mark:]:
        domain.names.unlink(serial)
    del _local.making[mark:]


def open_value(domain: Domain, serial: int) -> memoryview:
    """Map a value's segment for reading only; one mapping a process while anybody refers to it (20 us, then 1).

    Raises:
        ContainerGone: it was dropped.
    """
    key = (domain.id, serial)
    known = _open_values.get(key)
    if known is None:
        with segment.opened(domain, serial) as (fd, nbytes):
            known = memory.map_file(fd, segment.HEADER_BYTES + nbytes, writable=False)
        _open_values[key] = known
    return memoryview(known)[segment.HEADER_BYTES :]


_open_values: weakref.WeakValueDictionary[tuple[str, int], Any] = weakref.WeakValueDictionary()


# -- what is in use ----------------------------------------------------------------------------------------------------


def serials_in_use(words: Any, kind: int, root: int, generation: Generation) -> set[int]:
    """Return the serial numbers of all parts that a container has at a root."""
    found = {words[W_EVEN + (root >> 32 & 1)]} if root >> 32 else set()
    if words[W_REFERS]:
        limit = root & PLACE_MASK
        walk = sequence.places if kind == homes.LIST else table.items
        for place in walk(generation, limit):
            tag = generation.tag(place)
            if tag & values.HAS_SERIALS:
                _, tag, value = table.split(generation, place)
                found.update(values.serials_of(tag, value), values.owned_of(tag, value))
    return found


def dispose(domain: Domain, serial: int, wait_s: float | None) -> bool:
    """Unlink a value's segment, or a container with all its parts; nothing happens if it is gone.

    Returns:
        False if the container's mutex could not be had in `wait_s` seconds: then it is still there.
    """
    try:
        with segment.opened(domain, serial) as (fd, nbytes):
            is_home = nbytes >= 64 and _is_home(fd)
        if is_home and not _dispose_parts(_attached(domain, serial), wait_s):
            return False
    except (ContainerGone, BadSegment):
        pass
    unlink(domain, serial)
    return True


def unlink(domain: Domain, serial: int) -> None:
    """Unlink a name, whoever made it."""
    domain.names.unlink(serial)
    unlink_both(domain.id, serial)


def stands_in_many_places(domain: Domain, serial: int) -> bool:
    """True if a child may stand in more than one place of its parent."""
    try:
        with segment.opened(domain, serial) as (fd, _):
            return os.pread(fd, 8, segment.HEADER_BYTES + 8 * W_STORED)[0] > 1
    except ContainerGone:
        return False


def _is_home(fd: int) -> bool:
    word = int.from_bytes(os.pread(fd, 8, segment.HEADER_BYTES), "little")
    return any(word == homes.what(kind) for kind in homes.NAMES)


def _attached(domain: Domain, serial: int) -> Home:
    home = Home()
    block = segment.attach_anew(domain, serial)
    kind = block.words()[W_WHAT] & 0xFF if block.nbytes >= 64 else 0
    if kind not in homes.NAMES:
        raise BadSegment.of(block.name, "it is no shared container")
    homes.attach(home, domain, serial, kind)
    return home


def _dispose_parts(home: Home, wait_s: float | None) -> bool:
    words = home.map()
    # Nobody begins to change it from now on; who is in the middle of that has the mutex, and what he makes is seen.
    words[W_GONE] = 1
    if not home.mutex.acquire(wait_s):
        return False
    try:
        root, generation = home.current()
        records = words[W_EVEN + (root >> 32 & 1)] if root >> 32 else 0
        parts = serials_in_use(words, home.kind, root, generation) - {records}
    finally:
        home.mutex.release()
    if [part for part in parts if not dispose(home.domain, part, wait_s)]:
        return False
    # Last, because whoever goes on after a kill, or when a part was busy, finds the others in there.
    if records:
        unlink(home.domain, records)
    return True


# -- settling ----------------------------------------------------------------------------------------------------------


def settle(home: Home, root: int, generation: Generation) -> None:
    """Settle what dead writers left in flight; the mutex is held.

    Killed in here, the mutex's epoch moves again, and the next holder does it.
    """
    words = home.words
    epoch = words[MUTEX_AT]
    domain = home.domain
    in_use: set[int] | None = None
    is_whole = True
    for number in range(domain.capacity):
        # Read before death is proved: a successor's entries would count as the dead one's.
        entries = [
            entry for entry in domain.entries(number) if entry.kind in ledger.IN_FLIGHT and entry.owner == home.serial
        ]
        if entries and domain.is_alive(number):
            # Also what his heir has not settled yet, who has the number now.
            incarnation = domain.incarnation_of(number)
            entries = [entry for entry in entries if entry.incarnation != incarnation]
        if not entries:
            continue
        if in_use is None:
            in_use = serials_in_use(words, home.kind, root, generation)
        for entry in entries:
            is_whole &= _settle_of_dead(domain, number, entry, entry.serial in in_use)
    if is_whole:
        words[W_SETTLED] = epoch


def _settle_of_dead(domain: Domain, number: int, entry: ledger.Entry, in_use: bool) -> bool:
    # Another container's mutex is not waited for under this one's.
    if not in_use and not dispose(domain, entry.serial, 0):
        return False
    # The number may be given again at any time, and its new owner has taken over the entry: then it is his to clear.
    with domain.administration():
        if domain.is_alive(number) or entry not in domain.entries(number):
            return True
        if in_use and entry.kind == Kind.MAKING:
            ledger.write(domain.fd, number, entry._replace(kind=Kind.VALUE, incarnation=0))
        else:
            ledger.clear(domain.fd, number, entry.place)
    return True


def settle_inherited(domain: Domain) -> None:
    """Settle what the former owner of this process's number left in flight, as far as no mutex must be waited for."""
    book = domain.names
    for entry in list(book.inherited):
        in_use = _is_in_use(domain, entry)
        if in_use is None or not (in_use or dispose(domain, entry.serial, 0)):
            continue
        try:
            # Who takes it out clears it: its place in the ledger, freed by two threads, would be given to two names.
            book.inherited.remove(entry)
        except ValueError:
            continue
        if in_use and entry.kind == Kind.MAKING:
            ledger.write(domain.fd, domain.number, entry._replace(kind=Kind.VALUE, incarnation=0))
        else:
            book.cleared(entry.place)


def _is_in_use(domain: Domain, entry: ledger.Entry) -> bool | None:
    """Return whether the owner of an entry uses what it names; None if its mutex is not free."""
    try:
        home = _attached(domain, entry.owner)
        if not home.mutex.acquire(0):
            return None
        try:
            return entry.serial in in_use_now(home)
        finally:
            home.mutex.release()
    except (ContainerGone, BadSegment):
        # Also at a later step: others may be on their way of unlinking it.
        return False


def in_use_now(home: Home) -> set[int]:
    """Return the serial numbers of the parts that are in use at the root; the mutex is held."""
    root, generation = home.current()
    return serials_in_use(home.words, home.kind, root, generation)

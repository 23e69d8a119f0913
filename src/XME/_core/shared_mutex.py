"""A RobustMutex in a segment of its own, with a name; handles are one object a process and mutex."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from XME._core import names, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._core.mutex import RobustMutex
from XME._core.program import join, program_domain
from XME._core.semaphore import Semaphore


def words_needed(domain: Domain) -> int:
    """Return how many 8-byte words a mutex of this domain takes."""
    return 1 + domain.capacity


class SharedMutex(RobustMutex):
    """A RobustMutex that pickles by its name.

    >>> mutex = create()
    >>> with mutex:
    ...     mutex.held
    True
    """

    __slots__ = ("_domain", "_segment")

    def __init__(self, domain: Domain, memory: segment.Segment, semaphore: Semaphore) -> None:
        """Bind to a segment that holds nothing but the words."""
        self._domain = domain
        self._segment = memory
        super().__init__(domain, memory.words(), semaphore, memory.serial)

    def __reduce__(self) -> Any:
        """Pickle as domain and serial number."""
        self._domain.names.mark_handed(self._segment.serial)
        return attach, (self._domain.id, self._segment.serial)


def create(domain: Domain | None = None) -> SharedMutex:
    """Make a mutex in a domain, by default the program's (some 100 us)."""
    domain = program_domain() if domain is None else domain
    serial = domain.names.enter(Kind.CONTAINER)
    try:
        # The semaphore first: who finds the segment finds it too.
        semaphore = Semaphore.create(names.name_of(domain.id, serial), 1)
        block = segment.make(domain, serial, 8 * words_needed(domain), Kind.CONTAINER, None)
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    segment.remember(block)
    mutex = SharedMutex(domain, block, semaphore)
    _by_name[domain.id, serial] = mutex
    return mutex


def attach(domain_id: str, serial: int) -> SharedMutex:
    """Return this process's handle of a mutex.

    Raises:
        ContainerGone: it was unlinked.
        DomainEnded: the program that owns it has ended.
    """
    with _lock:
        mutex = _by_name.get((domain_id, serial))
        if mutex is None:
            domain = join(domain_id)
            semaphore = Semaphore(names.name_of(domain_id, serial))
            mutex = SharedMutex(domain, segment.attach(domain, serial), semaphore)
            _by_name[domain_id, serial] = mutex
        return mutex


_by_name: weakref.WeakValueDictionary[tuple[str, int], SharedMutex] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)

"""Named domains: a container with a public name is a domain of its own.

Its participants are those who hold a handle of it, of whatever program of the user. It ends when the last of them has
left or is dead, or by `end`::

    founding   a new domain, joined; the container is made in it; its entry is added to the registry
    joining    entry -> domain; nobody in it alive -> it is dead, swept, and the name unknown; else joined
    publishing an entry that points to a container of its program's domain, which stays where it is and ends with that
    hold       one live handle more; when the last one here is dropped, a note is left ...
    tidy       ... and the next ordinary operation (or the process's end) leaves the domain
    end        `ended` is set, then the names and the registry's entry go
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from XME._core import dropped, layout, program, registry
from XME._core.domain import Domain, create
from XME.errors import BadSegment, ContainerGone, DomainEnded, NameUnknown

# Held while handles come and go, so that no domain is left while another thread attaches to it. Reentrant: a signal
# handler may unpickle a handle.
lock = threading.RLock()
_handles: dict[str, weakref.WeakSet[Any]] = {}
# Of the domains whose handles were dropped, the ids.
_dropped: deque[str] = deque()


@contextlib.contextmanager
def founding(name: str) -> Iterator[Domain]:
    """Open a new domain for a public name; it ends again if the block fails.

    Raises:
        NameTaken: the name is in use.
    """
    registry.check_name(name)
    registry.load_lock()
    program.sweep_once()
    tidy()
    registry.require_free(name)
    with lock:
        domain = create(layout.NAMED, label=name)
        program.remember(domain)
        try:
            yield domain
        except BaseException:
            end(domain)
            raise


@contextlib.contextmanager
def joining(name: str) -> Iterator[tuple[registry.Entry, Domain]]:
    """Join the domain of a public name; handles are made and held inside the block.

    Raises:
        NameUnknown: there is no such name, or nobody who shares it is alive.
        BadSegment: its entry is damaged.
        PermissionError: it belongs to another user.
    """
    registry.check_name(name)
    registry.load_lock()
    program.sweep_once()
    tidy()
    with lock:
        entry, domain = _joined(name)
        try:
            yield entry, domain
        finally:
            _leave_if_unused(domain)


def _joined(name: str) -> tuple[registry.Entry, Domain]:
    entry = None
    while True:
        entry, former = registry.read(name), entry
        if entry is None or entry == former:
            raise NameUnknown.of(name)
        try:
            return entry, _join(entry.domain)
        except DomainEnded:
            # Dead, or replaced by a new one of the same name since the entry was read: read it again.
            registry.remove(name, entry.domain)


def _join(domain_id: str) -> Domain:
    # Were a dead one joined, it would live again without those who were to keep it.
    domain = program.join(domain_id, living=True)
    domain.require()
    return domain


@contextlib.contextmanager
def joining_by_id(domain_id: str, name: str) -> Iterator[Domain]:
    """Join the named domain that a handle was pickled from; handles are made and held inside the block.

    Raises:
        ContainerGone: it has ended.
    """
    registry.load_lock()
    tidy()
    with lock:
        try:
            domain = _join(domain_id)
        except DomainEnded:
            registry.remove(name, domain_id)
            raise ContainerGone.of(name, "it was unlinked, or the last process that used it has ended") from None
        try:
            yield domain
        finally:
            _leave_if_unused(domain)


@contextlib.contextmanager
def explaining(domain: Domain, name: str) -> Iterator[None]:
    """Turn a missing segment of a domain that lives into a BadSegment that names the likely cause."""
    try:
        yield
    except ContainerGone:
        if domain.ended:
            raise
        raise BadSegment.of(name, "its segment is missing though its users live") from None


def hold(domain: Domain, handle: Any) -> None:
    """Count a handle: the domain is not left while it lives. Called with `lock` held."""
    handles = _handles.get(domain.id)
    if handles is None:
        handles = _handles[domain.id] = weakref.WeakSet()
    handles.add(handle)
    weakref.finalize(handle, _dropped.append, domain.id).atexit = False


def tidy() -> None:
    """Leave the named domains whose last handle here was dropped; called by ordinary operations."""
    if not _dropped:
        return
    with lock:
        for domain_id in dropped.each(_dropped):
            domain = program.known(domain_id)
            if domain is not None:
                _leave_if_unused(domain)


def publish(domain: Domain, entry: registry.Entry) -> None:
    """Give a public name to a container that lies in its program's domain, and ends with that.

    Raises:
        NameTaken: the name is in use.
        DomainEnded: the program has ended.
    """
    registry.load_lock()
    tidy()
    domain.require()
    # Before the name: whoever ends the domain looks for names if this says so.
    domain.words[layout.W_PUBLISHED] = 1
    registry.add(entry)
    if domain.ended:
        registry.remove(entry.name, domain.id, entry.serial)
        raise DomainEnded.of(domain.id)


def _leave_if_unused(domain: Domain) -> None:
    # A program's domain is left at the end: also others of its handles may be here, which are not counted.
    if domain.kind == layout.NAMED and not _handles.get(domain.id):
        _handles.pop(domain.id, None)
        program.leave(domain)


def end(domain: Domain) -> None:
    """End a named domain for everybody; who has its memory mapped keeps that.

    Raises:
        DomainEnded: it has ended, and this process is not in it.
    """
    with lock:
        # Also if it has ended: who did that may have been killed before its names were gone.
        if not domain.joined:
            domain.require()
        domain.words[layout.W_ENDED] = 1
        registry.remove(domain.label, domain.id)
        domain._sweep_names()
        _handles.pop(domain.id, None)
        program.leave(domain)


def _after_fork_in_child() -> None:
    global lock
    lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)

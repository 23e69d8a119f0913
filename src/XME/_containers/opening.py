"""This process's handles of the shared containers: one a container, however it came here."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from typing import Any

from XME._containers import home as homes
from XME._containers.home import W_NESTED, W_PARENT
from XME._core import layout, named, program
from XME._core.domain import Domain
from XME._core.registry import Entry
from XME.errors import DomainEnded

# Which class opens which kind; a module adds its own, and is imported when its kind is met.
CLASSES: dict[int, type[Any]] = {}


def keep(handle: Any) -> None:
    """Note the handle of a container that was made here."""
    with _lock:
        _handles[handle.domain.id, handle.serial] = handle


def restored(kind: int, domain_id: str, serial: int, public_name: str | None, origin: str | None = None) -> Any:
    """Return this process's handle of a container that another one told of; `origin`: see program.origin_beside.

    Raises:
        ContainerGone: it was unlinked.
        DomainEnded: the program that owns it has ended.
    """
    handle = _handles.get((domain_id, serial))
    if handle is not None:
        return handle
    if public_name is None:
        named.tidy()
        program.belong_to(origin)
        domain = program.join(domain_id)
        if domain.ended:
            raise DomainEnded.of(domain_id)
        return handle_of(kind, domain, serial, None)
    with named.joining_by_id(domain_id, public_name) as domain, named.explaining(domain, public_name):
        return handle_of(kind, domain, serial, public_name)


def handle_of(kind: int, domain: Domain, serial: int, public_name: str | None) -> Any:
    """Return this process's one handle of a container of a domain that it has joined."""
    with _lock:
        handle = _handles.get((domain.id, serial))
        if handle is None:
            cls: Any = class_of(kind)
            handle = cls.__new__(cls)
            handle._reset()
            homes.attach(handle, domain, serial, kind)
            words = handle.map()
            handle._is_nested = bool(words[W_NESTED])
            parent = words[W_PARENT]
            if parent:
                handle._parent = _handles.get((domain.id, parent), parent)
            _handles[domain.id, serial] = handle
            if public_name is not None:
                handle._bear(public_name)
        return handle


def has_handles(domain_id: str) -> bool:
    """True if there are handles of containers of a domain."""
    return any(known == domain_id for known, _ in list(_handles))


def open_entry(domain: Domain, entry: Entry) -> Any:
    """Open a container with a public name from its registry entry; named.lock is held.

    Raises:
        ContainerGone: it was unlinked.
    """
    kind = next(number for number, name in homes.NAMES.items() if name == entry.kind)
    if domain.kind == layout.NAMED:
        with named.explaining(domain, entry.name):
            return handle_of(kind, domain, entry.serial, entry.name)
    return handle_of(kind, domain, entry.serial, None)


def class_of(kind: int) -> type[Any]:
    """Return the class that opens containers of a kind."""
    if kind not in CLASSES:
        importlib.import_module(f"XME._containers.shared_{homes.NAMES[kind]}")
    return CLASSES[kind]


_handles: weakref.WeakValueDictionary[tuple[str, int], Any] = weakref.WeakValueDictionary()
# Reentrant: a signal handler may unpickle a handle while its own thread is in the middle of that.
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for handle in list(_handles.values()):
        # What another thread was changing at the fork is the parent's.
        handle._change = None
        handle._marks = []
        handle._made = {}
        handle._notes = {}
        handle._doubtful = {}
        handle._is_dirty = True


os.register_at_fork(after_in_child=_after_fork_in_child)

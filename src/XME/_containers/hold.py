"""What every view of one shared array has in common in this process: the memory, and the names that it has.

One `Hold` a process and segment. Each shared view refers to it, so it lives exactly as long as some handle does, and
with it the segment's name (if no other process knows that) and this process's part in a named domain. The bytes live
longer where need be: plain views refer to the mapping alone.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import numpy as np

from XME._core import layout, memory, named, names, program, registry, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME.errors import ContainerGone, DomainEnded

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Hold:
    """A segment and its names, shared by all handles of this process.

    Attributes:
        segment: the memory under the name that handles are pickled by.
        root: its bytes, header included, as a plain array that every view has as its base.
        name: the public name, or None.
    """

    __slots__ = ("__weakref__", "_first", "_start", "gone", "name", "root", "segment")

    def __init__(self, block: segment.Segment, name: str | None) -> None:
        self.segment = block
        # Published memory keeps its first name as well, for those who were given that.
        self._first: segment.Segment | None = None
        self.name = name
        self.gone = False
        self.root: _Bytes = np.frombuffer(block.map, np.uint8)
        self._start = 0

    @property
    def start(self) -> int:
        """The address of the header; asked for when a view is pickled, so that making one need not pay for it."""
        if not self._start:
            self._start = self.root.__array_interface__["data"][0]
        return self._start

    @property
    def place(self) -> tuple[str, int, str | None]:
        """Where another process finds it: domain, serial number, public name. Whoever asks is about to tell others.

        Raises:
            ContainerGone: it was unlinked.
            DomainEnded: the program that it belongs to has ended.
        """
        block = self.segment
        domain = block.domain
        if self.gone:
            raise ContainerGone.of(self.name or block.name)
        if not domain.joined:
            program.join(domain.id)
        if domain.ended:
            raise ContainerGone.of(self.name) if self.name else DomainEnded.of(domain.id)
        domain.names.mark_handed(block.serial)
        return domain.id, block.serial, self.name

    def publish(self, name: str, kind: str, metadata: dict[str, Any]) -> None:
        """Give the memory a public name, and so a domain of its own.

        Raises:
            ValueError: it has another one already.
            NameTaken: the name is in use.
            ContainerGone, DomainEnded: it has no name any more that a second could be linked to.
        """
        if self.name is not None:
            if name == self.name:
                return
            msg = f"this array is published as {self.name!r} already: unlink() it first, or keep that name"
            raise ValueError(msg)
        with named.founding(name) as domain:
            block = segment.link(self.segment, domain, Kind.CONTAINER)
            register(domain, block, name, kind, metadata)
            self._first, self.segment, self.name = self.segment, block, name
            _holds[domain.id, block.serial] = self
            named.hold(domain, self)

    def unlink(self) -> None:
        """Take all its names away, for everybody; who has it mapped keeps that.

        Again if it is said again: a Ctrl-C, or a kill in another process, may have struck the first time.
        """
        self.gone = True
        for block in (self.segment, self._first):
            if block is not None:
                _holds.pop((block.domain.id, block.serial), None)
                segment.forget(block)
                _unlink(block)


def _unlink(block: segment.Segment) -> None:
    domain = block.domain
    try:
        if domain.kind == layout.NAMED:
            program.join(domain.id)
            named.end(domain)
            return
    except DomainEnded:
        return
    block.unlink()
    # Another process may have made it: its ledger entry then stays until that process tidies or the domain ends.
    memory.unlink(names.path_of(block.name))


def register(domain: Domain, block: segment.Segment, name: str, kind: str, metadata: dict[str, Any]) -> None:
    """Add a finished segment of a named domain to the registry, under its public name."""
    # It belongs to all who attach: its maker's leaving must not unlink it.
    domain.names.mark_handed(block.serial)
    registry.add(registry.Entry(name, domain.id, block.serial, kind, metadata))


def of_new(block: segment.Segment, name: str | None) -> Hold:
    """Return the hold of a segment that was made here."""
    segment.remember(block)
    hold = Hold(block, name)
    _holds[block.domain.id, block.serial] = hold
    if name is not None:
        named.hold(block.domain, hold)
    return hold


def of_attached(block: segment.Segment, name: str | None) -> Hold:
    """Return the hold of a segment that this process attached to, one for all its handles."""
    with _lock:
        hold = _holds.get((block.domain.id, block.serial))
        if hold is None:
            hold = _holds[block.domain.id, block.serial] = Hold(block, name)
            if name is not None:
                named.hold(block.domain, hold)
        return hold


def find(domain_id: str, serial: int, name: str | None) -> Hold:
    """Return the hold of a place that another process told, attaching if need be.

    Raises:
        ContainerGone: it was unlinked.
        DomainEnded: the program that it belongs to has ended.
        BadSegment: it is damaged, or of another version.
    """
    hold = _holds.get((domain_id, serial))
    if hold is not None:
        return hold
    if name is None:
        named.tidy()
        domain = program.join(domain_id)
        if domain.ended:
            raise DomainEnded.of(domain_id)
        return of_attached(segment.attach(domain, serial), None)
    with named.joining_by_id(domain_id, name) as domain, named.explaining(domain, name):
        return of_attached(segment.attach(domain, serial), name)


_holds: weakref.WeakValueDictionary[tuple[str, int], Hold] = weakref.WeakValueDictionary()
# Reentrant: a signal handler may unpickle a handle.
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)

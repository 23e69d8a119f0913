"""One block of shared memory: create, attach, let go.

The bytes of a segment (all numbers are 8-byte words)::

    0     magic
    8     version of this layout
    16    payload: how many bytes follow the header
    24    serial number, which is in the name too: a segment that is used again gets a new one
    32    kind (ledger.Kind)
    40    free for the owner, zero at first
    48    the serial number in a named domain, if it was published and so has a second name there; else zero
    56    zero
    64    payload

``multiprocessing.shared_memory.SharedMemory(name)`` opens a segment from any program (and, up to Python 3.12, unlinks
it when that program ends).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Iterator

from XME._core import memory, names
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME.errors import BadSegment, ContainerGone, DomainEnded

HEADER_BYTES = 64
_MAGIC = b"XMESEG\0\1"
_VERSION = 1
_HEADER = struct.Struct("<8s4Q24x")
_LOOK = struct.Struct("<8s4Q8xQ8x")
_SERIAL_AT = 24
W_OWNER, W_SECOND_SERIAL = 5, 6
# What one write(2) within a page reserves as well: it is whole or not there.
_SMALL = 4096
# One write(2) copies at most this much, so that a Ctrl-C is seen in between.
_CHUNK = 16 << 20


class Segment:
    """A mapped segment. The mapping lives as long as anything refers to its bytes.

    Attributes:
        domain: the domain whose name it bears.
        serial: its number there.
        nbytes: the size of the payload.
        map: the mapping, header included.
    """

    __slots__ = ("__weakref__", "domain", "map", "nbytes", "serial")

    def __init__(self, domain: Domain, serial: int, nbytes: int, mapping: mmap.mmap) -> None:
        self.domain = domain
        self.serial = serial
        self.nbytes = nbytes
        self.map = mapping

    @property
    def name(self) -> str:
        """The name under which the segment lies in shared memory."""
        return names.name_of(self.domain.id, self.serial)

    @property
    def data(self) -> memoryview:
        """A new view of the payload; the mapping cannot be closed while it lives."""
        return memoryview(self.map)[HEADER_BYTES : HEADER_BYTES + self.nbytes]

    def words(self, offset: int = 0, count: int | None = None) -> memoryview:
        """Return a view of the payload as 8-byte words, from a byte offset that is a multiple of 8."""
        end = self.nbytes - self.nbytes % 8 if count is None else offset + 8 * count
        return memoryview(self.map)[HEADER_BYTES + offset : HEADER_BYTES + end].cast("Q")

    def unlink(self) -> None:
        """Remove the name, if this process made it; who has the memory mapped keeps it."""
        self.domain.names.unlink(self.serial)

    def close(self) -> bool:
        """Unmap; False if something still refers to the bytes (then nothing happens)."""
        try:
            self.map.close()
        except BufferError:
            return False
        return True


def create(domain: Domain, nbytes: int, kind: Kind, *, owner: int = 0, source: memoryview | None = None) -> Segment:
    """Make a segment, whole or not at all, and map it.

    Its pages are reserved, so no store into it can be a SIGBUS. With a `source` they are reserved and filled by
    write(2), which is as fast as the kernel gives fresh pages; two threads were measured and do not help.

    Args:
        domain: whose segment it is.
        nbytes: size of the payload.
        kind: what it is for; stands in the ledger.
        owner: the serial number of the container or call that it belongs to.
        source: contiguous bytes to begin with, at most `nbytes`; the rest is zero.

    Raises:
        SharedMemoryFull: there is no room.
        DomainEnded: the program that owns the domain has ended.
    """
    serial = domain.names.enter(kind, owner, has_semaphore=False)
    try:
        segment = make(domain, serial, nbytes, kind, source)
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    return segment


def make(domain: Domain, serial: int, nbytes: int, kind: Kind, source: memoryview | None) -> Segment:
    """Make the segment of a serial number that is in the ledger already (see create)."""
    total = HEADER_BYTES + nbytes
    fd = memory.new_file()
    try:
        if total <= _SMALL and (source is None or source.nbytes == nbytes):
            # One write reserves the page as well.
            write_header(fd, serial, nbytes, kind, bytes(nbytes if source is None else source))
        else:
            if source is None or source.nbytes < nbytes:
                memory.reserve(fd, total)
            write_payload(fd, 0, source, total)
            write_header(fd, serial, nbytes, kind)
        mapping = memory.map_file(fd, total)
        memory.link(fd, names.path_of(names.name_of(domain.id, serial)))
    finally:
        os.close(fd)
    return Segment(domain, serial, nbytes, mapping)


def write_header(fd: int, serial: int, nbytes: int, kind: Kind, payload: bytes = b"") -> None:
    """Write a segment's header, and a small payload with it."""
    with memory.room_for(HEADER_BYTES + len(payload), fd):
        os.pwrite(fd, _HEADER.pack(_MAGIC, _VERSION, nbytes, serial, kind) + payload, 0)


def renumber(mapping: mmap.mmap, serial: int) -> None:
    """Write a new serial number into a mapped segment's header; it has been renamed."""
    struct.pack_into("<Q", mapping, _SERIAL_AT, serial)


def write_payload(fd: int, offset: int, source: memoryview | None, wanted: int) -> None:
    """Write contiguous bytes to an offset of the payload with write(2)."""
    if source is None:
        return
    data = source.cast("B")
    done = 0
    with memory.room_for(wanted, fd):
        while done < data.nbytes:
            done += os.pwrite(fd, data[done : done + _CHUNK], HEADER_BYTES + offset + done)


def attach(domain: Domain, serial: int) -> Segment:
    """Map an existing segment; one mapping a process and segment.

    Raises:
        ContainerGone: its name was unlinked.
        BadSegment: it is damaged, foreign or of another version.
        DomainEnded: the program that owns it has ended.
        PermissionError: it belongs to another user.
    """
    key = (domain.id, serial)
    with _lock:
        segment = _attached.get(key)
        if segment is None:
            segment = _attached.setdefault(key, attach_anew(domain, serial))
        return segment


def attach_anew(domain: Domain, serial: int) -> Segment:
    """Map an existing segment, without sharing the mapping with others in this process that attach it."""
    with opened(domain, serial) as (fd, nbytes):
        return Segment(domain, serial, nbytes, memory.map_file(fd, HEADER_BYTES + nbytes))


@contextlib.contextmanager
def opened(domain: Domain, serial: int) -> Iterator[tuple[int, int]]:
    """Open a segment's file and check its header; yields (descriptor, payload bytes)."""
    name = names.name_of(domain.id, serial)
    try:
        fd = memory.open_file(names.path_of(name))
    except FileNotFoundError:
        if domain.ended:
            raise DomainEnded.of(domain.id) from None
        raise ContainerGone.of(name) from None
    try:
        yield fd, _checked_size(fd, name, serial)
    finally:
        os.close(fd)


def _checked_size(fd: int, name: str, serial: int) -> int:
    stat = memory.require_owner(fd, name)
    head = os.pread(fd, HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES:
        raise BadSegment.of(name, "it is shorter than a header")
    magic, version, nbytes, found, _kind, second = _LOOK.unpack(head)
    if magic != _MAGIC:
        raise BadSegment.of(name, "it does not begin with a segment's magic number")
    if version != _VERSION:
        raise BadSegment.of(name, f"its layout is version {version}, and this is {_VERSION}")
    if serial not in (found, second):
        raise BadSegment.of(name, f"its header says that it is number {found}, and the name says {serial}")
    if stat.st_size < HEADER_BYTES + nbytes:
        raise BadSegment.of(name, f"it has {stat.st_size} bytes, and its header promises {HEADER_BYTES + nbytes}")
    return int(nbytes)


def link(source: Segment, domain: Domain, kind: Kind) -> Segment:
    """Give a segment a second name in a named domain; both names are of the same memory and the same mapping.

    Raises:
        ContainerGone: its first name was unlinked.
        DomainEnded: one of the two domains has ended.
    """
    serial = domain.names.enter(kind, has_semaphore=False)
    try:
        with opened(source.domain, source.serial) as (fd, nbytes):
            # The header first: who finds the new name must find its number there.
            memoryview(source.map)[:HEADER_BYTES].cast("Q")[W_SECOND_SERIAL] = serial
            memory.link(fd, names.path_of(names.name_of(domain.id, serial)))
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    return Segment(domain, serial, nbytes, source.map)


def forget(segment: Segment) -> None:
    """Let no later attach in this process find a segment by its name: the name is gone."""
    _attached.pop((segment.domain.id, segment.serial), None)


def remember(segment: Segment) -> None:
    """Let later attaches in this process find a segment that was made here, and note when it is dropped."""
    _attached[segment.domain.id, segment.serial] = segment
    # The finalizer takes no lock and unlinks nothing: it may run in the middle of anything.
    weakref.finalize(segment, segment.domain.names.note_drop, segment.serial).atexit = False


_attached: weakref.WeakValueDictionary[tuple[str, int], Segment] = weakref.WeakValueDictionary()
# Reentrant: a signal handler may unpickle a handle while its own thread is in the middle of that.
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)

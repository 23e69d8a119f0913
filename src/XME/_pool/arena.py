"""Where results lie: a worker writes them once, its parent reads them in place.

An arena belongs to one worker process. It is a chain of segments that are only ever appended to; a large buffer gets a
segment of its own. A result is a record (words of 8 bytes)::

    pickle bytes | number of buffers | (segment or 0 for this one, offset, bytes) a buffer | pickle | buffers, aligned

and is found by one word: segment (36 bits) | offset in units of 16 bytes (28 bits). The parent unlinks a segment's name
as soon as it has mapped it; the memory lives as long as results that are views of it do.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from typing import Any

from XME._core import ledger, memory, names, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._pool.board import S_ARENA
from XME._store import codec
from XME.errors import BadSegment, ContainerGone

_UNIT = 16
_OFFSET_BITS = 28
_FIRST_CHUNK = 1 << 20
_LATER_CHUNK = 1 << 24
# From here on a buffer gets a segment of its own, which write(2) fills faster than stores into fresh pages.
_OWN_SEGMENT = 4 << 20
_HEAD = struct.Struct("<2Q")
_BUFFER = struct.Struct("<3Q")


def _aligned(offset: int, unit: int = 64) -> int:
    return -(-offset // unit) * unit


class Arena:
    """The writing side, in a worker.

    Attributes:
        shared: bytes put into shared memory so far; `pickled`: bytes pickled so far.
    """

    def __init__(self, domain: Domain, slot: memoryview) -> None:
        """Bind to a domain and to the worker's slot on the board, which tells the segment that is written to."""
        self._domain = domain
        self._slot = slot
        self._chunk: segment.Segment | None = None
        self._data: memoryview | None = None
        self._end = 0
        self._chunk_bytes = _FIRST_CHUNK
        self._own: list[int] = []
        self._current = 0
        self.shared = 0
        self.pickled = 0

    def put(self, value: Any) -> int:
        """Write a result and return the word that finds it.

        Raises:
            SharedMemoryFull: there is no room.
            Exception: whatever pickling raises.
        """
        if codec.is_simple(value):
            return self._put_simple(pickle.dumps(value, 5))
        data, buffers = codec.encode_result(value)
        table_at = _HEAD.size + _BUFFER.size * len(buffers)
        places, end = self._lay_out(buffers, table_at + len(data))
        start = self._room(end)
        view = self._data
        assert view is not None  # _room has just seen to it
        _HEAD.pack_into(view, start, len(data), len(buffers))
        for k, (buffer, place) in enumerate(zip(buffers, places, strict=True)):
            inside = place >= 0
            serial, offset = (0, start + place) if inside else (self._own_segment(buffer), 0)
            _BUFFER.pack_into(view, start + _HEAD.size + _BUFFER.size * k, serial, offset, buffer.nbytes)
            if inside:
                view[start + place : start + place + buffer.nbytes] = buffer
            self.shared += buffer.nbytes
        view[start + table_at : start + table_at + len(data)] = data
        self.pickled += len(data)
        return self._current << _OFFSET_BITS | start // _UNIT

    def _put_simple(self, data: bytes) -> int:
        nbytes = len(data)
        start = self._room(_HEAD.size + nbytes)
        view = self._data
        assert view is not None  # _room has just seen to it
        _HEAD.pack_into(view, start, nbytes, 0)
        view[start + _HEAD.size : start + _HEAD.size + nbytes] = data
        self.pickled += nbytes
        return self._current << _OFFSET_BITS | start // _UNIT

    @staticmethod
    def _lay_out(buffers: list[memoryview], end: int) -> tuple[list[int], int]:
        places = []
        for buffer in buffers:
            if buffer.nbytes >= _OWN_SEGMENT:
                places.append(-1)
            else:
                places.append(_aligned(end))
                end = places[-1] + buffer.nbytes
        return places, end

    def _room(self, nbytes: int) -> int:
        # The payload of a segment begins 64 bytes behind a page, so 64 keeps what is aligned aligned.
        start = _aligned(self._end)
        if self._chunk is None or start + nbytes > self._chunk.nbytes:
            self._new_chunk(nbytes)
            start = 0
        self._end = start + nbytes
        return start

    def _new_chunk(self, nbytes: int) -> None:
        self.tidy()
        chunk = segment.create(
            self._domain, max(nbytes, self._chunk_bytes), Kind.RESULT, owner=self._domain.incarnation
        )
        self._domain.names.mark_handed(chunk.serial)
        if self._chunk is not None:
            self._own.append(self._chunk.serial)
            self._data.release()  # type: ignore[union-attr] # it comes and goes with _chunk
            self._chunk.close()
            self._chunk_bytes = _LATER_CHUNK
        self._chunk, self._data, self._current = chunk, chunk.data, chunk.serial
        # Before any outcome can name it: the parent forgets what no worker writes to.
        self._slot[S_ARENA] = chunk.serial

    def _own_segment(self, buffer: memoryview) -> int:
        made = segment.create(
            self._domain, buffer.nbytes, Kind.RESULT, owner=self._domain.incarnation, source=buffer
        )
        self._domain.names.mark_handed(made.serial)
        made.close()
        self._own.append(made.serial)
        return made.serial

    def tidy(self) -> None:
        """Strike those segments from the ledger whose names the parent has unlinked meanwhile."""
        still = []
        for serial in self._own:
            if os.path.exists(names.path_of(names.name_of(self._domain.id, serial))):
                still.append(serial)
            else:
                self._domain.names.unlink(serial)
        self._own = still


class ArenaReader:
    """The reading side, in the parent: maps arenas, and forgets them when nothing can lie there any more."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._mapped: dict[int, segment.Segment] = {}
        self._retired: dict[int, int] = {}

    def adopt(self, serial: int) -> segment.Segment:
        """Map a segment of results and unlink its name."""
        found = self._mapped.get(serial)
        if found is None:
            found = segment.attach_anew(self._domain, serial)
            memory.unlink(names.path_of(found.name))
            self._mapped[serial] = found
        return found

    def take(self, word: int) -> Any:
        """Return the result that a word finds; its large arrays are views of the arena, writable and nobody else's."""
        chunk = self.adopt(word >> _OFFSET_BITS)
        start = (word & ((1 << _OFFSET_BITS) - 1)) * _UNIT
        nbytes, count = _HEAD.unpack_from(chunk.map, segment.HEADER_BYTES + start)
        if not count:
            first = segment.HEADER_BYTES + start + _HEAD.size
            return pickle.loads(chunk.map[first : first + nbytes])  # our own worker wrote it
        view = chunk.data
        at = start + _HEAD.size
        buffers = []
        for _ in range(count):
            serial, offset, length = _BUFFER.unpack_from(view, at)
            at += _BUFFER.size
            source = view if serial == 0 else self._take_own(serial)
            buffers.append(source[offset : offset + length])
        return pickle.loads(view[at : at + nbytes], buffers=buffers)  # our own worker wrote it

    def adopt_all(self, number: int, incarnation: int) -> None:
        """Map what a dead worker has left, then settle its names: results that nobody has taken yet stay readable."""
        # By the entry's own incarnation: a successor may have the number by now, and leaves what was there alone.
        for entry in list(self._domain.entries(number)):
            if entry.kind == Kind.RESULT and entry.owner == incarnation:
                with contextlib.suppress(ContainerGone, BadSegment):
                    self.adopt(entry.serial)
                ledger.clear(self._domain.fd, number, entry.place)

    def _take_own(self, serial: int) -> memoryview:
        if serial in self._mapped:
            return self._mapped.pop(serial).data
        mapped = segment.attach_anew(self._domain, serial)
        memory.unlink(names.path_of(mapped.name))
        return mapped.data


    def discard(self, places: list[int]) -> None:
        """Unlink the segments of results that nobody will take."""
        for word in places:
            with contextlib.suppress(ContainerGone, BadSegment):
                view = self.adopt(word >> _OFFSET_BITS).data
                start = (word & ((1 << _OFFSET_BITS) - 1)) * _UNIT
                _, count = _HEAD.unpack_from(view, start)
                for k in range(count):
                    serial, _, _ = _BUFFER.unpack_from(view, start + _HEAD.size + _BUFFER.size * k)
                    if serial:
                        self._take_own(serial)

    def retire(self, current: set[int], last_call: int) -> None:
        """Note which mapped segments no worker writes to any more: no call after `last_call` can have results there."""
        for serial in self._mapped:
            if serial in current:
                self._retired.pop(serial, None)
            else:
                self._retired.setdefault(serial, last_call)

    def forget_before(self, first_call: int) -> None:
        """Drop the mappings in which only calls before this one can have results; those that are views keep theirs."""
        for serial in [serial for serial, last in self._retired.items() if last < first_call]:
            del self._retired[serial]
            self._mapped.pop(serial, None)

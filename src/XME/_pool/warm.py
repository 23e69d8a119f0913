"""Segments for a call's arguments, kept warm.

Fresh shared pages are slow (about 2 GB/s), warm ones as fast as any memory. So a segment that a call's arguments were
in is used again, under a new name, if and only if every worker has let go of it: a worker says so only after the
mapping is closed, which Python refuses while anything refers to its bytes. In any doubt (the worker died, it forked
while it had the segment mapped) the segment is unlinked and never used again.

    lent       the call runs
    cooling    the call has ended; some worker may still have it mapped
    free       everybody has let go
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from enum import Enum
from itertools import repeat

from XME._core import names, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME.errors import SharedMemoryFull

# A segment is used for anything from half its size upwards.
_WASTE = 2
# Copies of at least this many bytes are made by two threads; fewer are done before a thread has started.
_TWO_THREADS = 8 << 20
# The share of /dev/shm that warm segments may keep, and how many: each has a mapping, and maybe a descriptor.
_SHARE = 4
_MOST = 64
_MADV_POPULATE_WRITE = 23
# How long to wait for workers that are about to let go: this, and as long as a copy into fresh pages saves.
_PATIENCE_S = 0.005
_PATIENCE_S_PER_BYTE = 2e-10


class LetGo(Enum):
    """What is known of a call whose arguments were mapped by workers."""

    YES = 1
    NOT_YET = 2
    NEVER = 3


def bound() -> int:
    """Return how many bytes of warm segments are kept at most."""
    stat = os.statvfs(names.FOLDER)
    return stat.f_blocks * stat.f_frsize // _SHARE


class WarmSegments:
    """The segments of a crew's calls: lends them, takes them back, uses them again when that is safe."""

    def __init__(self, domain: Domain, state: Callable[[int], LetGo]) -> None:
        """Bind to a domain; `state` says of a call that has ended whether its workers have let go."""
        self._domain = domain
        self._state = state
        self._lock = threading.Lock()
        self._free: list[segment.Segment] = []
        self._cooling: list[tuple[int, segment.Segment]] = []
        # Those that write(2) has filled, of which no page is mapped here.
        self._unmapped: weakref.WeakSet[segment.Segment] = weakref.WeakSet()

    def put(self, sources: list[memoryview], offsets: list[int], nbytes: int) -> segment.Segment:
        """Copy contiguous bytes to their offsets in a segment, a warm one if there is one of about that size.

        Raises:
            SharedMemoryFull: there is no room, even without the warm ones.
        """
        found = self._take(nbytes)
        if found is None:
            if len(sources) == 1:
                found = self._made(nbytes, sources[0])
                self._unmapped.add(found)
                return found
            found = self._made(nbytes, None)
        try:
            for source, offset in zip(sources, offsets, strict=True):
                copy(source, found.data[offset:])
        except BaseException:
            # A Ctrl-C: nobody else knows of this segment any more.
            found.unlink()
            raise
        return found

    def blank(self, nbytes: int) -> segment.Segment:
        """Return a new segment of zeros."""
        return self._made(nbytes, None)

    def _made(self, nbytes: int, source: memoryview | None) -> segment.Segment:
        try:
            return segment.create(self._domain, nbytes, Kind.CALL, source=source)
        except SharedMemoryFull:
            self.drop_all()
            return segment.create(self._domain, nbytes, Kind.CALL, source=source)

    def _take(self, nbytes: int) -> segment.Segment | None:
        self.review()
        # Letting go takes a worker a moment after its last row, and waiting for that is cheaper than fresh pages.
        deadline = time.monotonic() + _PATIENCE_S + nbytes * _PATIENCE_S_PER_BYTE
        while not self._fits(self._free, nbytes):
            if not self._fits([used for _, used in self._cooling], nbytes) or time.monotonic() > deadline:
                return None
            time.sleep(_PATIENCE_S / 50)
            self.review()
        with self._lock:
            best = min(self._fits(self._free, nbytes), key=lambda found: found.nbytes)
            self._free.remove(best)
        return self._renamed(best)

    @staticmethod
    def _fits(segments: list[segment.Segment], nbytes: int) -> list[segment.Segment]:
        return [found for found in segments if nbytes <= found.nbytes <= _WASTE * nbytes]

    def _renamed(self, old: segment.Segment) -> segment.Segment:
        """Give a segment a new name and number: who still has read the old name finds nothing."""
        book = self._domain.names
        serial = book.enter(Kind.CALL)
        os.rename(names.path_of(old.name), names.path_of(names.name_of(self._domain.id, serial)))
        segment.renumber(old.map, serial)
        book.confirm(serial)
        book.unlink(old.serial)
        return segment.Segment(self._domain, serial, old.nbytes, old.map)

    def populate(self, used: segment.Segment) -> None:
        """Map a segment's pages in one go, so that the next copy into it does not stop at each.

        Only of a segment whose pages are not mapped yet: to go through those that are takes half as long as a copy.
        """
        if used in self._unmapped:
            self._unmapped.discard(used)
            with contextlib.suppress(OSError, ValueError):
                used.map.madvise(_MADV_POPULATE_WRITE)

    def take_back(self, segments: list[segment.Segment], call: int) -> None:
        """Take over the segments of a call that has ended; they cool until everybody has let go."""
        with self._lock:
            # In one call of C code: after a Ctrl-C each is in one place.
            self._cooling.extend(zip(repeat(call), map(segments.pop, repeat(-1, len(segments))), strict=False))

    def review(self) -> None:
        """Move what everybody has let go of to the free ones, and unlink what can never be used again."""
        with self._lock:
            calls = {call for call, _ in self._cooling}
        # Outside our lock, because this asks the dispatcher, who takes its own; that is the outer one elsewhere.
        states = {call: self._state(call) for call in calls}
        with self._lock:
            states = {call: states.get(call, LetGo.NOT_YET) for call, _ in self._cooling}
            self._free += [used for call, used in self._cooling if states[call] is LetGo.YES]
            gone = [used for call, used in self._cooling if states[call] is LetGo.NEVER]
            self._cooling = [pair for pair in self._cooling if states[pair[0]] is LetGo.NOT_YET]
        for used in gone:
            used.unlink()
        if self._free or self._cooling:
            self._keep_within(bound())

    def _keep_within(self, limit: int) -> None:
        with self._lock:
            total = sum(used.nbytes for used in self._free) + sum(used.nbytes for _, used in self._cooling)
            gone = []
            # See Dispatcher._await_slot.
            while True:
                kept = len(self._free) + len(self._cooling)
                if not kept or (total <= limit and kept <= _MOST):
                    break
                used = self._cooling.pop(0)[1] if self._cooling else self._free.pop(0)
                total -= used.nbytes
                gone.append(used)
        for used in gone:
            used.unlink()

    def drop_all(self) -> None:
        """Unlink everything that is not lent."""
        self._keep_within(-1)


def copy(source: memoryview, target: memoryview) -> None:
    """Copy bytes, a large copy by two threads."""
    source = source.cast("B")
    nbytes = source.nbytes
    if nbytes < _TWO_THREADS:
        target[:nbytes] = source
        return
    import numpy as np  # numpy copies without the GIL; whoever has such arrays has numpy

    to, of = np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8)
    half = nbytes // 2
    helper = threading.Thread(target=np.copyto, args=(to[:half], of[:half]))
    helper.start()
    np.copyto(to[half:nbytes], of[half:])
    helper.join()

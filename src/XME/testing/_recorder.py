"""The records of one worker, in a mapped file that outlives it.

Mapped pages belong to the kernel: what a worker stored is there after it was killed. No counter and no lock is shared
with anybody, since either would order the workers and hide their races.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

from XME.testing._event import Event, Kind, Op, timeout_or_none

RECORD = 64
_FORMAT = struct.Struct("<qIIHHB3xd31s")
_KIND = RECORD - 1
_NO_TIMEOUT = float("nan")


def make_file(path: str, records: int) -> None:
    """Make the file for so many records, all empty."""
    with open(path, "xb") as file:
        file.truncate(records * RECORD)


class Recorder:
    """The writing side; one thread at a time.

    >>> import tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make_file(os.path.join(folder, "w0"), 8)
    ...     Recorder(os.path.join(folder, "w0"), 0, 0).write(Op.ACQUIRE, Kind.INVOKE, 1, None)
    ...     [(event.op.name, event.kind.name) for event in read_file(os.path.join(folder, "w0"))]
    [('ACQUIRE', 'INVOKE')]
    """

    def __init__(self, path: str, worker: int, life: int) -> None:
        """Map the file and go on behind what an earlier life has written."""
        fd = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        self._worker = worker
        self._life = life
        self._thread = threading.get_native_id()
        self._at = 0
        while self._at < len(self._map) and _is_used(self._map, self._at):
            self._at += RECORD

    def write(self, op: Op, kind: Kind, call: int, timeout_s: float | None, detail: str = "") -> None:
        """Add a record with the time of now; about 2 us.

        Raises:
            BufferError: the file is full.
        """
        now = time.monotonic_ns()
        at = self._at
        if at >= len(self._map):
            raise BufferError("the history of a worker is full: it was made for fewer calls")
        limit = _NO_TIMEOUT if timeout_s is None else timeout_s
        text = detail.encode()[:31]
        record = _FORMAT.pack(now, call, self._thread, self._worker, self._life, op, limit, text)
        self._map[at : at + _KIND] = record
        # Last: a worker that is killed before this leaves a record of unknown kind, not a wrong one.
        self._map[at + _KIND] = kind
        self._at = at + RECORD

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()


def _is_used(data: Any, at: int) -> bool:
    return any(data[at : at + RECORD])


def read_file(path: str) -> Iterator[Event]:
    """Give the records of a file, whoever has died while writing them."""
    with open(path, "rb") as file:
        data = file.read()
    for at in range(0, len(data), RECORD):
        if not _is_used(data, at):
            return
        event = _event_in(data[at : at + RECORD])
        if event is not None:
            yield event


def _event_in(record: bytes) -> Event | None:
    now, call, thread, worker, life, op, limit, text = _FORMAT.unpack(record[:_KIND])
    kind = Kind(record[_KIND])
    # A torn INVOKE says nothing: its call has not begun. A torn answer says that there was one.
    if kind is Kind.UNKNOWN and op not in Op._value2member_map_:
        return None
    detail = text.rstrip(b"\0").decode(errors="replace")
    return Event(now, worker, life, thread, Op(op), call, kind, detail, timeout_or_none(limit))

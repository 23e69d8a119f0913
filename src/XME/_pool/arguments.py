"""The worker's side of a payload: buffers are mapped, functions found, rows of arguments made.

What is mapped for a call is let go of after its last claim; whether that worked is what decides if the segments are
used again (warm.py). Mappings are kept out of children that C code forks; a fork by Python while a call's arguments are
mapped shows them to the child and makes them escape for good.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

from XME._core import memory, segment
from XME._core.domain import Domain
from XME._core.handles import living
from XME._pool.wire import ArrayColumn, BlockColumn, Buffer, Pickled, WholeColumn

# A row's part of a large array is copied up to this size; beyond, it is mapped copy-on-write.
_COPIED_BYTES = 1 << 18
# So many are left open before it is looked which of them rows have dropped: a mapping may keep a descriptor.
_PRIVATE_MAPS = 64
_MADV_DONTFORK = getattr(mmap, "MADV_DONTFORK", None)
_MADV_DOFORK = getattr(mmap, "MADV_DOFORK", None)


class Mappings:
    """What a worker has mapped for one call."""

    def __init__(self, domain: Domain, call: int) -> None:
        self.call = call
        self.domain = domain
        self._maps: list[mmap.mmap] = []
        self._shared: dict[int, mmap.mmap] = {}
        self.escaped = False
        _alive.add(self)

    def _keep(self, mapping: mmap.mmap) -> mmap.mmap:
        if _MADV_DONTFORK is not None:
            mapping.madvise(_MADV_DONTFORK)
        self._maps.append(mapping)
        return mapping

    def shared(self, buffer: Buffer) -> memoryview:
        """Return a read-only view of a buffer; one mapping a segment."""
        mapping = self._shared.get(buffer.serial)
        if mapping is None:
            with segment.opened(self.domain, buffer.serial) as (fd, nbytes):
                mapping = memory.map_file(fd, segment.HEADER_BYTES + nbytes, writable=False)
            self._shared[buffer.serial] = self._keep(mapping)
        start = segment.HEADER_BYTES + buffer.offset
        return memoryview(mapping)[start : start + buffer.nbytes]

    def private(self, buffer: Buffer, first: int, nbytes: int) -> Any:
        """Return a writable view of part of a buffer that nobody else sees the changes of."""
        if nbytes <= _COPIED_BYTES:
            return bytearray(self.shared(buffer)[first : first + nbytes])
        if len(self._maps) - len(self._shared) >= _PRIVATE_MAPS:
            self.drop_private()
        start = segment.HEADER_BYTES + buffer.offset + first
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        with segment.opened(self.domain, buffer.serial) as (fd, _):
            mapping = self._keep(memory.map_private(fd, start - page + nbytes, page))
        return memoryview(mapping)[start - page : start - page + nbytes]

    def load(self, pickled: Pickled, *, private: bool = False) -> Any:
        """Unpickle; the buffers become read-only views, or the caller's own."""
        buffers: list[Any] = []
        for buffer in pickled.buffers:
            if private:
                own = bytearray(buffer) if isinstance(buffer, bytes) else self.private(buffer, 0, buffer.nbytes)
                buffers.append(own)
            else:
                buffers.append(buffer if isinstance(buffer, bytes) else self.shared(buffer))
        return pickle.loads(pickled.data, buffers=buffers)  # our own parent wrote it

    @property
    def has_private(self) -> bool:
        """True if rows were given parts that are mapped for them alone."""
        return len(self._maps) > len(self._shared)

    def drop_private(self) -> None:
        """Close what nothing refers to any more; a row's private part goes with its row."""
        if len(self._maps) > len(self._shared):
            kept = set(map(id, self._shared.values()))
            self._maps = [found for found in self._maps if id(found) in kept or not _closed(found)]

    def let_go(self) -> bool:
        """Close every mapping; True if nothing refers to any and none was seen by a fork's child."""
        self._shared.clear()
        self._maps = [found for found in self._maps if not _closed(found)]
        return not self._maps and not self.escaped

    def before_fork(self) -> None:
        """Show the mappings to the child, who may use them as its parent does; they are never used again."""
        if self._maps:
            self.escaped = True
            for mapping in self._maps:
                if _MADV_DOFORK is not None:
                    mapping.madvise(_MADV_DOFORK)


def _closed(mapping: mmap.mmap) -> bool:
    try:
        mapping.close()
    except BufferError:
        return False
    return True


_alive: weakref.WeakSet[Mappings] = weakref.WeakSet()


def _before_fork() -> None:
    for mappings in living(_alive):
        mappings.before_fork()


os.register_at_fork(before=_before_fork)


# -- columns ---------------------------------------------------------------------------------------------------------


def rows_of(reader: Any, first: int, end: int) -> Iterator[Any]:
    """Iterate over a column's values for the rows from `first` to `end`; rows beyond its own repeat its last."""
    if end <= reader.rows:
        values: Iterator[Any] = reader.read(first, end)
        return values
    own_end = min(end, reader.rows)
    inside: Iterator[Any] = reader.read(first, own_end) if first < own_end else iter(())
    beyond = end - max(first, reader.rows)
    if beyond <= 0:
        return inside
    # Made anew for each row: a row may change what is its own.
    last = reader.rows - 1
    return chain(inside, (next(reader.read(last, last + 1)) for _ in range(beyond)))


class _PlainReader:
    """Values that a row may have as they are."""

    def __init__(self, values: Any) -> None:
        self.sequence = values
        self.rows = len(values)

    def read(self, first: int, end: int) -> Iterator[Any]:
        return iter(self.sequence[first:end])


class _WholeReader:
    sequence = None

    def __init__(self, column: WholeColumn, mappings: Mappings) -> None:
        from XME.ArrayOperator import Array  # only columns that are cut into blocks need it

        values = column.values
        self._is_plain = isinstance(values, Pickled)
        self._array = Array(mappings.load(values) if self._is_plain else values, column.blocks)
        self.rows = len(self._array)

    def read(self, first: int, end: int) -> Iterator[Any]:
        rows = map(self._array.row, range(first, end))
        # A row of what is shared is meant to be shared.
        return map(_copied, rows) if self._is_plain else rows


def _copied(value: Any) -> Any:
    return value.copy() if hasattr(value, "flags") else value


class _ArrayReader:
    sequence = None

    def __init__(self, column: ArrayColumn, mappings: Mappings) -> None:
        self._column = column
        self._mappings = mappings
        self.rows = column.shape[0] if column.blocks is None else column.blocks
        inner = 1
        for length in column.shape[1:]:
            inner *= length
        self._row_bytes = inner * column.dtype.itemsize

    def _bounds(self, row: int) -> tuple[int, int]:
        blocks, length = self._column.blocks, self._column.shape[0]
        if blocks is None:
            return row, row + 1
        size, longer = divmod(length, blocks)
        return row * size + min(row, longer), (row + 1) * size + min(row + 1, longer)

    def read(self, first: int, end: int) -> Iterator[Any]:
        import numpy as np  # whoever has such a column has numpy

        column = self._column
        if column.blocks is None and len(column.shape) == 1:
            view = np.frombuffer(self._mappings.shared(column.buffer), column.dtype)
            return iter(view[first:end].copy())
        return map(self._part, range(first, end))

    def _part(self, row: int) -> Any:
        import numpy as np  # whoever has such a column has numpy

        low, high = self._bounds(row)
        column = self._column
        raw = self._mappings.private(column.buffer, low * self._row_bytes, (high - low) * self._row_bytes)
        part = np.frombuffer(raw, column.dtype) if len(raw) else np.empty(0, column.dtype)
        shape = column.shape[1:] if column.blocks is None else (high - low, *column.shape[1:])
        return part.reshape(shape)


class _BlockReader:
    sequence = None

    def __init__(self, column: BlockColumn, mappings: Mappings) -> None:
        self.rows = column.rows
        self._column = column
        self._mappings = mappings
        self._latest: tuple[int, list[Any]] = (-1, [])

    def _values(self, k: int, first: int, end: int) -> Iterator[Any]:
        """Iterate over the values of some rows of a block; what rows may change is made for each of them."""
        block = self._column.blocks[k]
        if isinstance(block, list):
            return (self._mappings.load(Pickled(*found), private=True) for found in block[first:end])
        if self._latest[0] != k:
            self._latest = k, pickle.loads(block)  # our own parent wrote it
        return iter(self._latest[1][first:end])

    def read(self, first: int, end: int) -> Iterator[Any]:
        size = self._column.block_rows
        blocks = range(first // size, (end - 1) // size + 1)
        return chain.from_iterable(self._values(k, max(0, first - k * size), end - k * size) for k in blocks)


def reader_of(column: Any, mappings: Mappings) -> Any:
    """Return what reads a column's rows in a worker."""
    if isinstance(column, range | str | bytes | list):
        return _PlainReader(column)
    if isinstance(column, ArrayColumn):
        return _ArrayReader(column, mappings)
    if isinstance(column, BlockColumn):
        return _BlockReader(column, mappings)
    return _WholeReader(column, mappings)


def arguments(
    count: int, common: dict[Any, Any], columns: dict[Any, Iterator[Any]]
) -> tuple[list[Any], dict[str, Any]]:
    """Return (one iterator for each positional argument, iterators of split keywords and common ones by name)."""
    positional = [columns[k] if k in columns else repeat(common[k]) for k in range(count)]
    keywords = {key: value for key, value in columns.items() if isinstance(key, str)}
    return positional, keywords

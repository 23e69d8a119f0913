"""What a call sends: functions, common arguments once, split arguments as columns.

The payload is one pickle. Large buffers lie in segments (see places.py) and are named in it; what is small stays
inside. Workers hold only its place. Which part of an argument goes where::

    common arrays      every buffer apart, so that the worker can make it a read-only view
    functions          see shelf.py; a callable with a state is a common argument
    xmem_array         its name and offset (its own pickling)
    Array(range, ...)  as it is; Array(xmem_array) by name
    Array(big array)   one segment; a row's part is mapped privately (copy on write)
    Array(list, ...)   each row pickled by itself; what is immutable in blocks of rows
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from XME._core import memory, segment
from XME._pool.inherited import Inheritance
from XME._pool.places import Places
from XME._pool.shelf import Shelf
from XME._pool.wire import ArrayColumn, BlockColumn, Buffer, FunctionRef, Pickled, WholeColumn
from XME._store import arrays, codec
from XME.ArrayOperator import Array, Entry, ExecutionTable, Injected
from XME.errors import SharedMemoryFull, UnshareableArgument

# A block of a column has at most this many rows, and about so many bytes.
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 1 << 14
_SAMPLE_ROWS = 8


@dataclass
class Sent:
    """A payload's bytes, the segments that it names, and what must live until the call has ended."""

    data: bytes = b""
    segments: list[segment.Segment] = field(default_factory=list)
    shared: int = 0
    generation: int = 0
    keeps: list[Any] = field(default_factory=list)


class _Sender:
    """Encodes one call."""

    def __init__(self, places: Places, inheritance: Inheritance) -> None:
        self.places = places
        self._inheritance = inheritance

    @cached_property
    def common_reducers(self) -> dict[type, codec.Reducer]:
        """What is pickled in its own way; arrays come back read-only."""
        return self._with_arrays(arrays.read_only)

    @cached_property
    def split_reducers(self) -> dict[type, codec.Reducer]:
        """The same, and arrays come back as the row's own."""
        return self._with_arrays(arrays.by_buffer)

    def _with_arrays(self, reducer: codec.Reducer) -> dict[type, codec.Reducer]:
        numpy = arrays.loaded_numpy()
        return {**self._inheritance.reducers(), **({} if numpy is None else {numpy.ndarray: reducer})}

    def pickled(self, value: Any) -> Pickled:
        """Encode what is common to all rows; every buffer is kept apart, so that it can be made read-only."""
        return self._placed(*_encoded(value, self.common_reducers))

    def _placed(self, data: bytes, raws: list[memoryview]) -> Pickled:
        buffers: list[bytes | Buffer] = []
        for raw in raws:
            if raw.nbytes < codec.LARGE_BYTES:
                buffers.append(bytes(raw))
            else:
                self.places.put_into(raw, buffers)
        return Pickled(data, buffers)

    def column(self, array: Array) -> Any:
        """Encode what is split."""
        values, blocks = array.values, array.blocks
        if type(values) in (range, str, bytes):
            return values if blocks is None else WholeColumn(values, blocks)
        if blocks is None and _is_short_and_plain(values):
            return list(values)
        if _is_shared(values):
            return WholeColumn(values, blocks)
        numpy = arrays.loaded_numpy()
        if numpy is not None and isinstance(values, numpy.ndarray) and not values.dtype.hasobject:
            return self._array_column(numpy, values, blocks)
        if blocks is None and isinstance(values, list | tuple) and all(map(_is_shared, values)):
            # Names and offsets: a row's value is everybody's, so one pickle does for all rows.
            return WholeColumn(list(values), None)
        return self._block_column(array)

    def _array_column(self, numpy: Any, values: Any, blocks: int | None) -> Any:
        if values.nbytes < codec.LARGE_BYTES or type(values) not in (numpy.ndarray, numpy.memmap):
            return WholeColumn(self.pickled(values), blocks)
        whole = numpy.ascontiguousarray(values.view(numpy.ndarray))
        raw = memoryview(whole.reshape(-1).view(numpy.uint8))
        return ArrayColumn(self.places.put(raw), values.dtype, values.shape, blocks)

    def _block_column(self, array: Array) -> BlockColumn:
        step = _rows_a_block(_slice(array, 0, _SAMPLE_ROWS))
        blocks = [self._block(_slice(array, first, first + step)) for first in range(0, len(array), step)]
        return BlockColumn(len(array), step, blocks)

    def _block(self, values: list[Any]) -> Any:
        if codec.is_immutable(values):
            return pickle.dumps(values, 5)
        # What rows may change, they must not share, though their values were one object here.
        return [tuple(self._placed(*encoded)) for encoded in codec.encode_each(values, self.split_reducers)]


def _rows_a_block(sample: list[Any]) -> int:
    """Return for how many rows a block is good: who claims one of its rows reads all of an immutable block."""
    if not codec.is_immutable(sample):
        return _BLOCK_ROWS
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES * len(sample) // len(pickle.dumps(sample, 5))))


def _encoded(value: Any, reducers: dict[type, codec.Reducer]) -> tuple[bytes, list[memoryview]]:
    raws: list[memoryview] = []

    def keep_apart(raw: memoryview) -> bool:
        raws.append(raw)
        return True

    return codec.encode(value, reducers, keep_apart), raws


def _slice(array: Array, first: int, end: int) -> list[Any]:
    if array.blocks is None and type(array.values) in (list, tuple):
        return list(array.values[first:end])
    return [array.row(k) for k in range(first, min(end, len(array)))]


def _is_short_and_plain(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) <= _BLOCK_ROWS and codec.is_plain(tuple(values))


def _is_shared(values: Any) -> bool:
    return bool(getattr(values, "shared", False)) and hasattr(values, "publish")


def send(
    table: ExecutionTable, entries: tuple[Entry, ...], shelf: Shelf, places: Places, inheritance: Inheritance
) -> Sent:
    """Encode the entries of a call for its workers; the segments are in `places` from the beginning.

    Raises:
        UnshareableArgument: an argument cannot travel; it names which and what to do.
        SharedMemoryFull: a large array finds no room.
    """
    sender = _Sender(places, inheritance)
    try:
        parts, keeps = [], []
        for entry in entries:
            part, kept = _entry(sender, entry, shelf)
            parts.append(part)
            keeps.append(kept)
        log = table.log if any(entry.injects for entry in entries) else None
        places.flush()
        data = pickle.dumps((parts, log), 5)
    except BaseException as error:
        places.unlink()
        if isinstance(error, SharedMemoryFull) and places.nbytes:
            # Of use to the caller is what his call wants, and what is free without it.
            raise memory.full(places.nbytes + error.wanted) from error
        raise
    return Sent(data, places.segments, places.nbytes, inheritance.generation, [keeps, inheritance.take_used()])


def _entry(sender: _Sender, entry: Entry, shelf: Shelf) -> tuple[tuple[Any, ...], Any]:
    """Return (an entry's part of the payload, what must live until the call has ended)."""
    columns: dict[int | str, Any] = {}
    named: list[tuple[int | str, Any]] = [*enumerate(entry.args), *entry.kwargs.items()]
    for key, value in named:
        if isinstance(value, Array):
            columns[key] = _guarded(sender, value, _title(entry, key)) if len(value) else []
    common = ({k: v for k, v in named if k not in columns}, len(entry.args))
    (digest, (data, buffers)), kept = _function(sender, entry, shelf)
    args = _encode_common(sender, entry, common)
    return (digest, data, buffers, entry.name, args, columns, entry.rows, entry.injects), kept


def _function(sender: _Sender, entry: Entry, shelf: Shelf) -> tuple[FunctionRef, Any]:
    if shelf.keeps(entry.function):
        return shelf.reference(entry.function, entry.name)
    try:
        return FunctionRef(b"", sender.pickled(entry.function)), None
    except (MemoryError, UnshareableArgument):
        raise
    except Exception as error:
        raise codec.explain(f"the function {entry.name}", entry.function, error, sender.common_reducers) from error


def _encode_common(sender: _Sender, entry: Entry, common: tuple[dict[Any, Any], int]) -> Any:
    values = tuple(common[0].values())
    if codec.is_plain(values):
        return common
    try:
        return sender.pickled(common)
    except (MemoryError, UnshareableArgument):
        raise
    except Exception as error:
        reducers = sender.common_reducers
        for key, value in common[0].items():
            if not isinstance(value, Injected) and not codec.travels(value, reducers):
                raise codec.explain(_title(entry, key), value, error, reducers) from error
        raise


def _guarded(sender: _Sender, array: Array, title: str) -> Any:
    try:
        return sender.column(array)
    except (MemoryError, UnshareableArgument):
        raise
    except Exception as error:
        for k in range(len(array)):
            if not codec.travels(array.row(k), sender.split_reducers):
                raise codec.explain(f"{title}, row {k},", array.row(k), error, sender.split_reducers) from error
        raise


def _title(entry: Entry, key: int | str) -> str:
    which = f"positional argument {key}" if isinstance(key, int) else f"argument {key!r}"
    return f"{which} of {entry.name}"

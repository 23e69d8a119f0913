"""What a call sends: functions, common arguments once, split arguments as columns.

The payload is one pickle of a `Payload`. Large buffers lie in segments of their own and are named in it; what is small
stays inside. Workers hold only its place. Which part of an argument goes where::

    common arrays      every buffer apart, so that the worker can make it a read-only view
    xmem_array         its name and offset (its own pickling)
    Array(range, ...)  as it is; Array(xmem_array) by name
    Array(big array)   one segment; a row's part is mapped privately (copy on write)
    Array(list, ...)   in blocks of rows, each pickled by itself, so that a worker reads only what it has claimed
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from XME._core import segment
from XME._pool.inherited import Inheritance
from XME._pool.warm import WarmSegments
from XME._pool.wire import ArrayColumn, BlockColumn, Buffer, Pickled, WholeColumn
from XME._store import codec
from XME.ArrayOperator import Array, Entry, ExecutionTable, Injected
from XME.errors import UnshareableArgument

# A block of a column has at most this many rows.
_BLOCK_ROWS = 1024


@dataclass
class Sent:
    """A payload's bytes, and the segments that it names."""

    data: bytes = b""
    segments: list[segment.Segment] = field(default_factory=list)
    shared: int = 0
    generation: int = 0


class _Sender:
    """Encodes one call."""

    def __init__(self, warm: WarmSegments, inheritance: Inheritance) -> None:
        self.sent = Sent()
        self._warm = warm
        self._inheritance = inheritance
        self._reducers: dict[type, Callable[[Any], Any]] = dict(inheritance.reducers())
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            self._reducers[numpy.ndarray] = _contiguous

    def pickled(self, value: Any, *, inline_below: int = codec.LARGE_BYTES) -> Pickled:
        """Encode a value; every buffer is kept apart, the large ones in segments."""
        buffers: list[bytes | Buffer] = []

        def keep_apart(raw: memoryview) -> bool:
            buffers.append(bytes(raw) if raw.nbytes < inline_below else self.place(raw))
            return True

        return Pickled(codec.encode(value, self._reducers, keep_apart), buffers)

    def place(self, raw: memoryview) -> Buffer:
        """Put bytes into a segment."""
        used = self._warm.put(raw)
        self.sent.segments.append(used)
        self.sent.shared += raw.nbytes
        return Buffer(used.serial, raw.nbytes)

    def column(self, array: Array) -> Any:
        """Encode what is split."""
        values = array.values
        numpy = sys.modules.get("numpy")
        if array.blocks is None and (isinstance(values, range | str | bytes) or _is_short_and_plain(values)):
            return values if isinstance(values, range | str | bytes) else list(values)
        if isinstance(values, range | str | bytes) or _is_shared(values):
            return WholeColumn(values, array.blocks)
        if numpy is not None and isinstance(values, numpy.ndarray) and not values.dtype.hasobject and values.ndim:
            if type(values) is numpy.ndarray and values.nbytes >= codec.LARGE_BYTES:
                whole = numpy.ascontiguousarray(values)
                raw = memoryview(whole.reshape(-1).view(numpy.uint8))
                return ArrayColumn(self.place(raw), values.dtype, values.shape, array.blocks)
            return WholeColumn(values, array.blocks)
        if array.blocks is None and isinstance(values, list | tuple) and all(map(_is_shared, values)):
            # Names and offsets: a row's value is everybody's, so one pickle does for all rows.
            return WholeColumn(list(values), None)
        return self._block_column(array)

    def _block_column(self, array: Array) -> BlockColumn:
        rows = len(array)
        heavy = array.blocks is not None or not codec.is_plain((array.row(0),))
        block_rows = 1 if heavy and rows <= _BLOCK_ROWS else _BLOCK_ROWS
        blocks = []
        for first in range(0, rows, block_rows):
            block = [array.row(k) for k in range(first, min(rows, first + block_rows))]
            blocks.append(self._block(block))
        return BlockColumn(rows, block_rows, blocks)

    def _block(self, block: list[Any]) -> Pickled:
        if codec.is_plain(tuple(block)):
            return Pickled(pickle.dumps(block, 5), [])
        return self.pickled(block)


def _contiguous(array: Any) -> Any:
    """Make numpy pickle a strided array out of band, which it does for contiguous ones only."""
    if array.dtype.hasobject or array.flags.c_contiguous or array.flags.f_contiguous:
        return NotImplemented
    return sys.modules["numpy"].ascontiguousarray(array).__reduce_ex__(5)


def _is_short_and_plain(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) <= _BLOCK_ROWS and codec.is_plain(tuple(values))


def _is_shared(values: Any) -> bool:
    return bool(getattr(values, "shared", False)) and hasattr(values, "publish")


def send(table: ExecutionTable, entries: tuple[Entry, ...], shelf: Any, warm: WarmSegments, inheritance: Inheritance) -> Sent:
    """Encode the entries of a call for its workers.

    Raises:
        UnshareableArgument: an argument cannot travel; it names which and what to do.
        SharedMemoryFull: a large array finds no room.
    """
    sender = _Sender(warm, inheritance)
    try:
        parts = [_entry(sender, entry, shelf) for entry in entries]
        log = table.log if any(entry.injects for entry in entries) else None
        sender.sent.data = pickle.dumps((parts, log), 5)
    except BaseException:
        for used in sender.sent.segments:
            used.unlink()
        raise
    sender.sent.generation = inheritance.generation
    return sender.sent


def _entry(sender: _Sender, entry: Entry, shelf: Any) -> tuple[Any, ...]:
    columns: dict[int | str, Any] = {}
    named = [*enumerate(entry.args), *entry.kwargs.items()]
    for key, value in named:
        if isinstance(value, Array):
            columns[key] = _guarded(sender.column, value, _title(entry, key))
    common = ({k: v for k, v in named if k not in columns}, len(entry.args))
    digest, (data, buffers) = shelf.reference(entry.function, entry.name)
    args = _encode_common(sender, entry, common)
    return digest, data, buffers, entry.name, args, columns, entry.rows, entry.injects


def _encode_common(sender: _Sender, entry: Entry, common: tuple[dict[Any, Any], int]) -> Any:
    values = tuple(common[0].values())
    if codec.is_plain(values):
        return common
    try:
        return sender.pickled(common)
    except (MemoryError, UnshareableArgument):
        raise
    except Exception as error:
        for key, value in common[0].items():
            if not isinstance(value, Injected) and not _travels(sender, value):
                raise codec.explain(_title(entry, key), value, error) from error
        raise


def _travels(sender: _Sender, value: Any) -> bool:
    try:
        sender.pickled(value, inline_below=sys.maxsize)
    except Exception:  # noqa: BLE001 - any failure of any __reduce__ means just that
        return False
    return True


def _guarded(encode: Callable[[Any], Any], value: Any, title: str) -> Any:
    try:
        return encode(value)
    except (MemoryError, UnshareableArgument):
        raise
    except Exception as error:
        for k in range(len(value)):
            if not codec.travels(value.row(k)):
                raise codec.explain(f"{title}, row {k},", value.row(k), error) from error
        raise


def _title(entry: Entry, key: int | str) -> str:
    which = f"positional argument {key}" if isinstance(key, int) else f"argument {key!r}"
    return f"{which} of {entry.name}"

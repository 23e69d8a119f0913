"""What a payload is made of, as it travels; no more than a worker must import."""

from __future__ import annotations

from typing import Any, NamedTuple


class Buffer(NamedTuple):
    """A buffer that lies in a segment: the segment's serial number, offset and bytes."""

    serial: int
    offset: int
    nbytes: int


class Pickled(NamedTuple):
    """A pickle and its buffers, each inline or in a segment."""

    data: bytes
    buffers: list[bytes | Buffer]


class WholeColumn(NamedTuple):
    """Split values that travel whole: shared arrays as they are, small arrays, records and the like pickled."""

    values: Any
    blocks: int | None


class ArrayColumn(NamedTuple):
    """A large plain array, in a segment."""

    buffer: Buffer
    dtype: Any
    shape: tuple[int, ...]
    blocks: int | None


class BlockColumn(NamedTuple):
    """Other split values in blocks of so many rows: the pickle of a list, or a list of (pickle, buffers) a row."""

    rows: int
    block_rows: int
    blocks: list[bytes | list[tuple[bytes, list[bytes | Buffer]]]]


class EntryPayload(NamedTuple):
    """An entry of the execution table, ready to travel; columns stand where the Arrays stood.

    It travels as a plain tuple: a worker that reads a payload of builtin types looks up no class.

    Attributes:
        digest, data, buffers: the function's pickle and its digest.
        common: (arguments that are not split by position or name, number of positional ones), if all are plain; else
            its pickle.
        columns: by position or name; a range, string or list of plain values stands for itself.
    """

    digest: bytes
    data: bytes
    buffers: list[bytes | Buffer]
    name: str
    common: Any
    columns: dict[int | str, Any]
    rows: int
    injects: bool


class FunctionRef(NamedTuple):
    """A function: the digest of its pickle, and the pickle if the worker should not have it yet.

    Without a digest it is made anew for each call: it has a state that may have changed.
    """

    digest: bytes
    pickled: Pickled

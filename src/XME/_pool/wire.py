"""What a payload is made of, as it travels; no more than a worker must import."""

from __future__ import annotations

from typing import Any, NamedTuple


class Buffer(NamedTuple):
    """A buffer that lies in a segment: serial number and bytes."""

    serial: int
    nbytes: int


class Pickled(NamedTuple):
    """A pickle and its buffers, each inline or in a segment."""

    data: bytes
    buffers: list[bytes | Buffer]


class WholeColumn(NamedTuple):
    """Split values that travel as they are: ranges, strings, shared arrays."""

    values: Any
    blocks: int | None


class ArrayColumn(NamedTuple):
    """A large plain array, in a segment."""

    buffer: Buffer
    dtype: Any
    shape: tuple[int, ...]
    blocks: int | None


class BlockColumn(NamedTuple):
    """Other split values, so many rows a block, each block pickled by itself."""

    rows: int
    block_rows: int
    blocks: list[Pickled]


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
    """A function: the digest of its pickle, and the pickle if the worker should not have it yet."""

    digest: bytes
    pickled: Pickled

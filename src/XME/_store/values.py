"""Values as a tag, bytes and large buffers, and back.

What a record holds::

    tag            payload                        decoded
    NONE.. FALSE   nothing                        the constant
    INT            8 bytes, signed                (BIG_INT: as many as it needs)
    FLOAT          8 bytes
    STR, BYTES     UTF-8; the bytes themselves
    BYTEARRAY      the bytes                      the reader's own copy
    PICKLE         a pickle
    BUFFERS        u64 bytes of the pickle, u32 number of buffers, u32 bytes of each (all ones: it is a large one),
                   the pickle, the small buffers  arrays over buffers that nobody can write
    APART          nothing: what BUFFERS has is the first large buffer
    ARRAY          dtype and shape (arrays.spell), the elements

With HAS_SERIALS in the tag these come first: u32 number of large buffers, u32 number of owned containers; per buffer
u64 serial number of its segment and u64 bytes; per container u64 serial number. STR, BYTES and BYTEARRAY have all their
content in the one large buffer then, ARRAY its elements.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from XME._store import arrays, codec, pickling
from XME.errors import UnshareableValue, XMEError

LARGE_BYTES = codec.LARGE_BYTES
# A bit of the tag: segments or containers belong to the value.
HAS_SERIALS = 16
NONE, TRUE, FALSE, INT, BIG_INT, FLOAT, STR, BYTES, BYTEARRAY, PICKLE, BUFFERS, APART, ARRAY = range(13)
# How a decoded value may be kept and given out again: not at all, as it is, as value.view().
NOT_KEPT, AS_IT_IS, AS_VIEW = range(3)

_INT = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_COUNTS = struct.Struct("<II")
_SEGMENT = struct.Struct("<QQ")
_BODY = struct.Struct("<QI")
_IS_LARGE = 0xFFFFFFFF

OpenSegment = Callable[[int], memoryview]
_pack_int, _pack_float = _INT.pack, _FLOAT.pack


class Encoded(NamedTuple):
    """A value ready to be written.

    Attributes:
        tag: 0 to 31; with HAS_SERIALS, `payload_with` makes the bytes.
        payload: the bytes otherwise.
        large: buffers that become segments before the record is written. They are the value's own memory.
        children: the shared containers that the value refers to, each once.
    """

    tag: int
    payload: bytes
    large: Sequence[memoryview]
    children: Sequence[Any]


# A named tuple's own constructor would cost as much as all the rest.
_made = tuple.__new__


def encode(value: Any, where: str = "the value") -> Encoded:
    """Encode a value.

    Args:
        value: anything that pickles or cloudpickles.
        where: how an error calls the value, such as ``d['a']``.

    Raises:
        UnshareableValue: part of it does not pickle; says which, and what to do.
        ContainerGone, DomainEnded: it refers to a shared container that others cannot find any more.

    Costs about 0.2 us for numbers, text and bytes, 2 us for a small dict, 5 us for a small array.

    >>> encode(258).payload.hex()
    '0201000000000000'
    """
    kind = type(value)
    if kind is int:
        try:
            return _made(Encoded, (INT, _pack_int(value), (), ()))
        except struct.error:
            return _big_int(value, where)
    if kind is str:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            return _pickled(value, where)
        return _made(Encoded, (STR, data, (), ())) if len(data) < LARGE_BYTES else _apart(STR, data)
    if kind is float:
        return _made(Encoded, (FLOAT, _pack_float(value), (), ()))
    way = _WAYS.get(kind)
    if way is not None:
        return way(value)
    numpy = arrays.loaded_numpy()
    if numpy is not None and kind is numpy.ndarray and (head := arrays.spell(value)) is not None:
        return _array(value, head)
    return _pickled(value, where)


def _array(array: Any, head: bytes) -> Encoded:
    if array.nbytes < LARGE_BYTES:
        return Encoded(ARRAY, head + array.tobytes(), (), ())
    return Encoded(ARRAY | HAS_SERIALS, head, (arrays.elements(array),), ())


def _big_int(value: int, where: str) -> Encoded:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return Encoded(BIG_INT, data, (), ()) if len(data) < LARGE_BYTES else _pickled(value, where)


def _bytes(value: bytes) -> Encoded:
    return Encoded(BYTES, value, (), ()) if len(value) < LARGE_BYTES else _apart(BYTES, value)


def _bytearray(value: bytearray) -> Encoded:
    return Encoded(BYTEARRAY, bytes(value), (), ()) if len(value) < LARGE_BYTES else _apart(BYTEARRAY, value)


def _apart(tag: int, data: bytes | bytearray) -> Encoded:
    return Encoded(tag | HAS_SERIALS, b"", (memoryview(data),), ())


_CONSTANTS = (None, True, False)
_ENCODED = {value: Encoded(tag, b"", (), ()) for tag, value in enumerate(_CONSTANTS)}
_WAYS: dict[type, Callable[[Any], Encoded]] = {
    bool: _ENCODED.__getitem__,
    type(None): _ENCODED.__getitem__,
    bytes: _bytes,
    bytearray: _bytearray,
}


def _pickled(value: Any, where: str) -> Encoded:
    if pickling.is_plain(value):
        data = pickle.dumps(value, 5)
        return _made(Encoded, (PICKLE, data, (), ())) if len(data) < LARGE_BYTES else _with_buffers(data, [], [])
    raws: list[memoryview] = []

    def keep_apart(raw: memoryview) -> bool:
        raws.append(raw)
        return True

    children: list[Any] = []
    try:
        data = pickling.collected(children, pickling.dumps, value, keep_apart)
    except (XMEError, MemoryError):
        raise
    except Exception:
        raws.clear()
        children.clear()
        data = pickling.collected(children, _pickled_anyway, value, where, keep_apart)
    if not raws and not children and len(data) < LARGE_BYTES:
        return _made(Encoded, (PICKLE, data, (), ()))
    return _with_buffers(data, raws, list({id(child): child for child in children}.values()))


def _pickled_anyway(value: Any, where: str, keep_apart: Callable[[memoryview], bool]) -> bytes:
    try:
        return pickling.dumps_anyway(value, keep_apart)
    except (XMEError, MemoryError):
        raise
    except Exception as error:
        raise _explained(where, value, error) from error


def _explained(where: str, value: Any, error: BaseException) -> UnshareableValue:
    path, what, advice = codec.explained(where, value, error, pickling.reducers())
    # The codec speaks to those who pass arguments.
    advice = next((ours for start, ours in _ADVICE.items() if what.startswith(start)), advice)
    return UnshareableValue.of(path, what, advice)


_ADVICE = {
    "a threading lock": "leave it out: every method of a container is atomic, and atomic() makes one of several",
    "a multiprocessing manager": "store the proxies that it made (manager.list(), ...), not the manager",
    "a multiprocessing ": "pass it to the processes as an argument; to guard a container use its atomic()",
    "a generator": "store list(...) of it",
    "a socket": "store the address",
    "an open file": "store its path",
    "a ": "store plain data, or what to make it from",
}


def _with_buffers(data: bytes, raws: list[memoryview], children: list[Any]) -> Encoded:
    large: list[memoryview] = []
    small: list[memoryview] = []
    sizes = []
    for raw in raws:
        is_large = raw.nbytes >= LARGE_BYTES
        (large if is_large else small).append(raw)
        sizes.append(_IS_LARGE if is_large else raw.nbytes)
    body = b"".join([struct.pack(f"<QI{len(raws)}I", len(data), len(raws), *sizes), data, *small])
    if len(body) >= LARGE_BYTES:
        return Encoded(APART | HAS_SERIALS, b"", [memoryview(body), *large], children)
    return Encoded(BUFFERS | HAS_SERIALS if large or children else BUFFERS, body, large, children)


def payload_with(encoded: Encoded, serials: Sequence[int], owned: Sequence[int] = ()) -> bytes:
    """Return the payload of a value with HAS_SERIALS.

    Args:
        encoded: what `encode` returned.
        serials: the serial numbers of the segments of its large buffers, in their order.
        owned: the serial numbers of those of its containers that belong to it.
    """
    parts = [_COUNTS.pack(len(serials), len(owned))]
    parts += [_SEGMENT.pack(serial, raw.nbytes) for serial, raw in zip(serials, encoded.large, strict=True)]
    return b"".join([*parts, struct.pack(f"<{len(owned)}Q", *owned), encoded.payload])


def serials_of(tag: int, data: memoryview | bytes) -> list[int]:
    """Return the serial numbers of a value's large segments; nothing is decoded.

    >>> encoded = encode(b"x" * LARGE_BYTES)
    >>> serials_of(encoded.tag, payload_with(encoded, [7]))
    [7]
    """
    if not tag & HAS_SERIALS:
        return []
    segments, _ = _COUNTS.unpack_from(data)
    return [_SEGMENT.unpack_from(data, _COUNTS.size + _SEGMENT.size * k)[0] for k in range(segments)]


def owned_of(tag: int, data: memoryview | bytes) -> list[int]:
    """Return the serial numbers of the containers that belong to a value."""
    if not tag & HAS_SERIALS:
        return []
    segments, owned = _COUNTS.unpack_from(data)
    return list(struct.unpack_from(f"<{owned}Q", data, _COUNTS.size + _SEGMENT.size * segments))


def decode(tag: int, data: memoryview, open_segment: OpenSegment) -> tuple[Any, int]:
    """Return a value, and how it may be kept: NOT_KEPT, AS_IT_IS, or AS_VIEW (each reader gets a `view()` of it).

    Args:
        tag: the record's.
        data: the record's value bytes; nothing refers to them afterwards.
        open_segment: gives the payload of a large buffer's segment; arrays keep it alive. What it raises goes through.

    Costs about 0.2 us for numbers, text and bytes.

    >>> encoded = encode("pears")
    >>> decode(encoded.tag, memoryview(encoded.payload), open) == ("pears", AS_IT_IS)
    True
    """
    if tag == INT:
        return _INT.unpack(data)[0], 1
    if tag == STR:
        return str(data, "utf-8"), 1
    if tag == FLOAT:
        return _FLOAT.unpack(data)[0], 1
    if tag <= FALSE:
        return _CONSTANTS[tag], 1
    if tag == BYTES:
        return bytes(data), 1
    if tag == PICKLE:
        value = pickle.loads(data)
        return value, kept_how(value)
    return _decode_rest(tag, data, open_segment)


def decode_own(tag: int, data: memoryview, open_segment: OpenSegment) -> Any:
    """Return a value as `decode` does, but the arrays in it are the caller's own, to be changed."""
    if tag & ~HAS_SERIALS == ARRAY:
        return decode(tag, data, open_segment)[0].copy()
    if tag == BUFFERS:
        return _decode_body(data, iter(()), bytearray)[0]
    if tag & ~HAS_SERIALS not in {BUFFERS, APART}:
        return decode(tag, data, open_segment)[0]
    large, rest = _large_of(data, open_segment)
    return _decode_body(next(large) if tag & ~HAS_SERIALS == APART else rest, large, bytearray)[0]


def _decode_rest(tag: int, data: memoryview, open_segment: OpenSegment) -> tuple[Any, int]:
    if tag == BIG_INT:
        return int.from_bytes(data, "little", signed=True), AS_IT_IS
    if tag == BYTEARRAY:
        return bytearray(data), NOT_KEPT
    if tag == ARRAY:
        end = arrays.spelled_bytes(data)
        return arrays.from_spelled(data, bytes(data[end:])), AS_VIEW
    if not tag & HAS_SERIALS:
        return _decode_body(data, iter(()))
    large, rest = _large_of(data, open_segment)
    tag &= ~HAS_SERIALS
    if tag == BUFFERS:
        return _decode_body(rest, large)
    first = next(large)
    if tag == ARRAY:
        return arrays.from_spelled(rest, first), AS_VIEW
    return _decode_body(first, large) if tag == APART else decode(tag, first, open_segment)


def _large_of(data: memoryview, open_segment: OpenSegment) -> tuple[Iterator[memoryview], memoryview]:
    segments, owned = _COUNTS.unpack_from(data)
    end = _COUNTS.size + _SEGMENT.size * segments
    places = list(_SEGMENT.iter_unpack(data[_COUNTS.size : end]))
    large = (open_segment(serial).toreadonly()[:nbytes] for serial, nbytes in places)
    return large, data[end + 8 * owned :]


def _decode_body(body: memoryview, large: Iterator[memoryview], own: Any = None) -> tuple[Any, int]:
    nbytes, count = _BODY.unpack_from(body)
    sizes = struct.unpack_from(f"<{count}I", body, _BODY.size)
    start = _BODY.size + 4 * count
    ends = accumulate((0 if size == _IS_LARGE else size for size in sizes), initial=start + nbytes)
    # Small ones are copied: the record goes away with its generation.
    places = zip(sizes, pairwise(ends), strict=True)
    buffers = [next(large) if size == _IS_LARGE else bytes(body[a:b]) for size, (a, b) in places]
    if own is not None:
        buffers = list(map(own, buffers))
    value = pickle.loads(body[start : start + nbytes], buffers=buffers)
    return value, kept_how(value)


_IMMUTABLE = codec.PLAIN_TYPES | {range, type(...)}
# By module, class: what is of none of them has not loaded them.
_MORE_IMMUTABLE = frozenset(
    {
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "decimal.Decimal",
        "fractions.Fraction", "uuid.UUID",
    }
)


def kept_how(value: Any) -> int:
    """Return how a decoded value may be given out again: NOT_KEPT, AS_IT_IS or AS_VIEW."""
    kind = type(value)
    if kind is dict or kind is list:
        return NOT_KEPT
    numpy = arrays.loaded_numpy()
    if numpy is not None and kind is numpy.ndarray:
        # An array of objects owns its memory, so its reader may make it writable; then it must be his alone.
        return NOT_KEPT if value.dtype.hasobject or value.flags.writeable else AS_VIEW
    return AS_IT_IS if _is_immutable(value) else NOT_KEPT


def _is_immutable(value: Any) -> bool:
    kind = type(value)
    if kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_is_immutable, value))
    if f"{kind.__module__}.{kind.__qualname__}" in _MORE_IMMUTABLE:
        return True
    numpy = sys.modules.get("numpy")
    # Not numpy.void, whose fields can be set.
    return numpy is not None and kind.__module__ == "numpy" and isinstance(value, (numpy.number, numpy.bool_))

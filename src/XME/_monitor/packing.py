"""What can be in a sealed message, as msgpack: data alone, no class and no function, so that nothing is ever executed.

What msgpack has no form for is an extension. A value that holds others is a list that begins with an empty extension,
its mark::

    tuple, set, frozenset     mark, elements
    array                     mark, dtype (as JSON has it), shape, whether in Fortran's order, bytes
    numpy scalar              mark, dtype, bytes
    datetime, date, time      mark, ISO text, fold, name of the zone or None
    timedelta                 mark, days, seconds, microseconds

and the others (large int, complex, Decimal, UUID) are an extension with their bytes. A shared list, dict or array goes
in as its content.
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgpack
import numpy as np

from XME._containers import dtype_json
from XME._containers.shared_array import xmem_array
from XME._containers.shared_dict import xmem_dict
from XME._containers.shared_list import xmem_list
from XME._monitor.weighing import require_light
from XME.errors import UnsealableValue

_TUPLE, _SET, _FROZENSET, _ARRAY, _SCALAR, _DATETIME, _DATE, _TIME, _TIMEDELTA = range(1, 10)
_INT, _COMPLEX, _DECIMAL, _UUID = range(32, 36)
SETS: Final = frozenset({_SET, _FROZENSET})
# Kinds of dtypes that are data: no objects.
_KINDS: Final = frozenset("biufcSUmMV")
_PAIR = struct.Struct("<dd")
_LONGEST_DTYPE: Final = 1 << 16
# So deep a message may be nested for certain; each version of msgpack has a limit of its own above that.
DEEPEST: Final = 500
# Lone surrogates are text too.
_SURROGATES: Final = "surrogatepass"
_CANNOT: Final = (
    "a message holds None, numbers, text, bytes, lists, tuples, sets, dicts, dates and times, Decimal, UUID, arrays, "
    "and shared containers as their content"
)


class NotAMessageError(Exception):
    """The bytes are msgpack, but not of this module's making."""


class Mark:
    """An empty extension: what the list is that begins with it."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


_MARKS: Final = {code: Mark(code) for code in range(_TUPLE, _TIMEDELTA + 1)}
_PACKED_MARKS: Final = {code: msgpack.ExtType(code, b"") for code in _MARKS}


# -- packing -----------------------------------------------------------------------------------------------------------


def pack(messages: dict[Any, Any]) -> bytes:
    """Return messages as msgpack.

    Raises:
        UnsealableValue: one of them cannot be in a message; names it.
    """
    try:
        packed: bytes = msgpack.Packer(
            default=_extended, strict_types=True, unicode_errors=_SURROGATES, autoreset=True
        ).pack(messages)
    except _Refused as refused:
        raise _explained(messages, refused.culprit, refused.reason) from None
    except (ValueError, RecursionError) as error:
        advice = f"send it flatter, or in parts (at most {DEEPEST} levels)"
        raise UnsealableValue.of("one of these messages", f"too deep or too large ({error})", advice) from None
    return packed


class _Refused(Exception):
    """A value that has no form. Fields: ``culprit``, ``reason`` (None: its type)."""

    def __init__(self, culprit: Any, reason: str | None = None) -> None:
        super().__init__()
        self.culprit = culprit
        self.reason = reason


def _extended(value: Any) -> Any:
    """Return what msgpack packs in the place of a value that it does not know."""
    way = _WAYS.get(type(value))
    if way is not None:
        return way(value)
    if isinstance(value, np.generic):
        return _scalar(value)
    raise _Refused(value)


def _listed(code: int) -> Callable[[Any], list[Any]]:
    mark = _PACKED_MARKS[code]
    return lambda value: [mark, *value]


def _int(value: int) -> Any:
    return msgpack.ExtType(_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _array(array: Any) -> list[Any]:
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise _Refused(array, "an array of objects")
    try:
        spelled = dtype_json.to_json(array.dtype)
    except TypeError:
        raise _Refused(array, f"an array of {array.dtype}") from None
    is_fortran = not array.flags.c_contiguous and array.flags.f_contiguous
    flat = array.T if is_fortran else np.ascontiguousarray(array)
    # Some dtypes (dates) export no buffer, bytes always do.
    data = flat.reshape(-1).view(np.uint8).data if array.size and array.dtype.itemsize else b""
    return [_PACKED_MARKS[_ARRAY], spelled, list(array.shape), is_fortran, data]


def _scalar(value: np.generic) -> list[Any]:
    # An empty text has a dtype without bytes, of which no array can be made; its array has one with room.
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise _Refused(value, "a numpy scalar that holds objects")
    return [_PACKED_MARKS[_SCALAR], dtype_json.to_json(array.dtype), array.tobytes()]


def _zone(value: Any) -> str | None:
    """Return the name of the zone of a date or time; what has a fixed offset carries it in its text."""
    zone = value.tzinfo
    if zone is None or (type(zone) is dt.timezone and zone == dt.timezone(zone.utcoffset(None))):
        return None
    key = getattr(zone, "key", None) if type(zone) is zoneinfo.ZoneInfo else None
    if key is None:
        raise _Refused(value, f"a time of the zone {zone!r}, which has no name that others know")
    return str(key)


def _datetime(value: dt.datetime) -> list[Any]:
    zone = _zone(value)
    text = (value if zone is None else value.replace(tzinfo=None)).isoformat()
    return [_PACKED_MARKS[_DATETIME], text, value.fold, zone]


def _time(value: dt.time) -> list[Any]:
    zone = _zone(value)
    text = (value if zone is None else value.replace(tzinfo=None)).isoformat()
    return [_PACKED_MARKS[_TIME], text, value.fold, zone]


_WAYS: Final[dict[type, Callable[[Any], Any]]] = {
    tuple: _listed(_TUPLE),
    set: _listed(_SET),
    frozenset: _listed(_FROZENSET),
    int: _int,
    complex: lambda value: msgpack.ExtType(_COMPLEX, _PAIR.pack(value.real, value.imag)),
    decimal.Decimal: lambda value: msgpack.ExtType(_DECIMAL, str(value).encode()),
    uuid.UUID: lambda value: msgpack.ExtType(_UUID, value.bytes),
    dt.datetime: _datetime,
    dt.date: lambda value: [_PACKED_MARKS[_DATE], value.isoformat()],
    dt.time: _time,
    dt.timedelta: lambda value: [_PACKED_MARKS[_TIMEDELTA], value.days, value.seconds, value.microseconds],
    np.ndarray: _array,
    xmem_array: _array,
    xmem_dict: xmem_dict.todict,
    xmem_list: xmem_list.tolist,
}


def _explained(value: Any, culprit: Any, reason: str | None) -> UnsealableValue:
    path = _path_to(culprit, "message", value, DEEPEST)
    kind: type = type(culprit)
    what = reason or f"an object of {kind.__module__}.{kind.__qualname__}"
    return UnsealableValue.of(path or "a message", what, _CANNOT)


def _path_to(culprit: Any, path: str, value: Any, levels: int) -> str | None:
    """Return where in a value something stands, None if it does not."""
    if value is culprit:
        return path
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
        parts += [(f"a key of {path}", key) for key in value]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"{path}[{k}]", part) for k, part in enumerate(value)]
    else:
        return None
    found = (_path_to(culprit, name, part, levels - 1) for name, part in parts if levels)
    return next(filter(None, found), None)


# -- unpacking ---------------------------------------------------------------------------------------------------------


def unpack(packed: bytes, max_size: int) -> dict[Any, Any]:
    """Return the messages of packed bytes.

    Raises:
        Exception, of many kinds: they are not what `pack` returns, or take more than `max_size` bytes unpacked.
    """
    require_light(packed, max_size, SETS)
    reader = _Reader()
    messages = msgpack.unpackb(
        packed,
        raw=False,
        strict_map_key=False,
        # A time stamp, which `pack` never makes, becomes a number.
        timestamp=1,
        unicode_errors=_SURROGATES,
        list_hook=reader.list_made,
        ext_hook=reader.ext_made,
    )
    if reader.marks:
        raise NotAMessageError("a mark that is not the first of its list")
    if type(messages) is not dict:
        raise NotAMessageError("it is no dict of messages")
    return messages


class _Reader:
    """What unpacking calls for each list and each extension."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        # Marks that no list has begun with yet.
        self.marks = 0

    def ext_made(self, code: int, data: bytes) -> Any:
        mark = _MARKS.get(code)
        if mark is None:
            return _PLAIN[code](data)
        if data:
            raise NotAMessageError("a mark with content")
        self.marks += 1
        return mark

    def list_made(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not Mark:
            return items
        self.marks -= 1
        mark = items.pop(0)
        return _MADE[mark.code](items)


def _no_more(items: list[Any], *kinds: type) -> list[Any]:
    """Return the parts of a value, which must be of these types."""
    if len(items) != len(kinds) or any(type(item) is not kind for item, kind in zip(items, kinds, strict=True)):
        raise NotAMessageError("a value in parts that do not fit")
    return items


def _dtype_of(spelled: Any) -> Any:
    if len(str(spelled)) > _LONGEST_DTYPE:
        raise NotAMessageError("a dtype that is too long")
    dtype = dtype_json.from_json(spelled)
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise NotAMessageError("a dtype that is not data")
    return dtype


def _array_made(items: list[Any]) -> Any:
    if len(items) != 4:
        raise NotAMessageError("an array in parts that do not fit")
    spelled, shape, is_fortran, data = items
    dtype = _dtype_of(spelled)
    if type(is_fortran) is not bool or type(data) is not bytes:
        raise NotAMessageError("an array in parts that do not fit")
    if any(type(length) is not int or length < 0 for length in shape):
        raise NotAMessageError("an array of no possible shape")
    made: Any = np.ndarray(tuple(shape), dtype, buffer=data, order="F" if is_fortran else "C")
    if made.nbytes != len(data):
        raise NotAMessageError("an array of another size than its bytes")
    return made


def _scalar_made(items: list[Any]) -> Any:
    if len(items) != 2 or type(items[1]) is not bytes:
        raise NotAMessageError("a number in parts that do not fit")
    dtype = _dtype_of(items[0])
    if dtype.itemsize != len(items[1]):
        raise NotAMessageError("a number of another size than its bytes")
    made: Any = np.ndarray((), dtype, buffer=items[1] or None)
    return made[()]


def _zoned(made: Any, fold: Any, zone: Any) -> Any:
    if fold not in {0, 1} or type(zone) not in {str, type(None)}:
        raise NotAMessageError("a time in parts that do not fit")
    made = made.replace(fold=fold)
    return made if zone is None else made.replace(tzinfo=zoneinfo.ZoneInfo(zone))


def _datetime_made(items: list[Any]) -> Any:
    text, fold, zone = items
    return _zoned(dt.datetime.fromisoformat(text), fold, zone)


def _time_made(items: list[Any]) -> Any:
    text, fold, zone = items
    return _zoned(dt.time.fromisoformat(text), fold, zone)


def _timedelta_made(items: list[Any]) -> Any:
    days, seconds, microseconds = _no_more(items, int, int, int)
    return dt.timedelta(days, seconds, microseconds)


def _unknown(_data: bytes) -> NoReturn:
    raise NotAMessageError("an extension of another kind")


class _Plain(dict[int, Callable[[bytes], Any]]):
    """What the bytes of an extension become, by its code."""

    def __missing__(self, code: int) -> Callable[[bytes], Any]:
        return _unknown


_PLAIN: Final = _Plain(
    {
        _INT: lambda data: int.from_bytes(data, "little", signed=True),
        _COMPLEX: lambda data: complex(*_PAIR.unpack(data)),
        _DECIMAL: lambda data: decimal.Decimal(data.decode()),
        _UUID: lambda data: uuid.UUID(bytes=data),
    }
)
_MADE: Final[dict[int, Callable[[list[Any]], Any]]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _ARRAY: _array_made,
    _SCALAR: _scalar_made,
    _DATETIME: _datetime_made,
    _DATE: lambda items: dt.date.fromisoformat(*_no_more(items, str)),
    _TIME: _time_made,
    _TIMEDELTA: _timedelta_made,
}

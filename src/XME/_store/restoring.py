"""Canonical bytes of keys back into keys. The table of the bytes stands in keys.py."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

from XME._store import pickling

SURROGATES = "surrogatepass"
_COUNT = struct.Struct("<I")
_INT = struct.Struct("<Bq")
_FLOAT = struct.Struct("<Bd")
_DATE = struct.Struct("<BI")
_NAIVE = struct.Struct("<BIII")
_DELTA = struct.Struct("<BiII")


def restore(canonical: bytes, spelled: bytes = b"") -> Any:
    r"""Return the key.

    Where its class is unknown (another program's ``__main__``) this is a plain key that is equal: for a named tuple the
    tuple, for a member of an IntEnum the int.

    Raises:
        AttributeError, ImportError: it is a member of an Enum that this process does not know.

    >>> restore(b"apples"), restore(b"\x85apples"), restore(b"\x88")
    ('apples', b'apples', None)
    """
    if spelled:
        try:
            return pickle.loads(spelled)
        except (AttributeError, ImportError):
            pass
    back = _BACK.get(canonical[0]) if canonical else None
    if back is not None:
        return back(canonical)
    try:
        return canonical.decode()
    except UnicodeDecodeError:
        return canonical.decode("utf-8", SURROGATES)


def _split(joined: bytes) -> list[bytes]:
    (count,) = _COUNT.unpack_from(joined, 1)
    lengths = struct.unpack_from(f"<{count}I", joined, 5)
    ends = pairwise(accumulate(lengths, initial=5 + 4 * count))
    return [joined[start:end] for start, end in ends]


def _restore_datetime(data: bytes) -> Any:
    from datetime import datetime, timedelta

    _, days, seconds, microseconds = _NAIVE.unpack(data)
    return datetime.fromordinal(days) + timedelta(0, seconds, microseconds)


def _restore_utc(data: bytes) -> Any:
    from datetime import UTC, datetime, timedelta

    _, days, seconds, microseconds = _DELTA.unpack(data)
    return datetime.fromordinal(days).replace(tzinfo=UTC) + timedelta(0, seconds, microseconds)


def _restore_time(data: bytes) -> Any:
    from datetime import time

    _, seconds, microseconds = struct.unpack("<BII", data)
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, microseconds)


def _restore_offset_time(data: bytes) -> Any:
    from datetime import UTC, time, timedelta, timezone

    _, seconds, microseconds, rest = _DELTA.unpack(data)
    # What is not a time of the day in UTC is one with an offset.
    shown = min(max(seconds, 0), 86399)
    offset = timedelta(0, shown - seconds, rest)
    zone = timezone(offset) if offset else UTC
    return time(shown // 3600, shown // 60 % 60, shown % 60, microseconds, zone)


def _restore_range(data: bytes) -> range:
    length, start, step = map(restore, _split(data))
    return range(start, start + length * step, step)


def _restore_enum(data: bytes) -> Any:
    module, name, last = map(restore, _split(data))
    kind: Any = pickling.get(module, name)
    return kind[last] if data[0] == 0x94 else kind(last)


def _lazy(module: str, name: str, *how: Any) -> Any:
    """Return a class, or what one of its constructors makes, importing its module."""
    return getattr(pickling.get(module, name), how[0])(*how[1:]) if how else pickling.get(module, name)


_BACK: dict[int, Callable[[bytes], Any]] = {
    0x80: lambda data: _INT.unpack(data)[1],
    0x81: lambda data: int.from_bytes(data[1:], "little", signed=True),
    0x82: lambda data: _FLOAT.unpack(data)[1],
    0x83: lambda data: _lazy("fractions", "Fraction")(*map(restore, _split(data))),
    0x84: lambda data: complex(*map(restore, _split(data))),
    0x85: lambda data: data[1:],
    0x86: lambda data: tuple(map(restore, _split(data))),
    0x87: lambda data: frozenset(map(restore, _split(data))),
    0x88: lambda _data: None,
    0x89: lambda _data: ...,
    0x8A: lambda data: _lazy("datetime", "date", "fromordinal", _DATE.unpack(data)[1]),
    0x8B: _restore_datetime,
    0x8C: _restore_utc,
    0x8D: _restore_time,
    0x8E: _restore_offset_time,
    0x8F: lambda data: _lazy("datetime", "timedelta")(*_DELTA.unpack(data)[1:]),
    0x90: lambda data: _lazy("uuid", "UUID")(bytes=data[1:]),
    0x91: lambda data: _lazy("pathlib", "PosixPath")(data[1:].decode("utf-8", SURROGATES)),
    0x92: lambda data: _lazy("pathlib", "PureWindowsPath")(data[1:].decode("utf-8", SURROGATES)),
    0x93: _restore_range,
    0x94: _restore_enum,
    0x95: _restore_enum,
}

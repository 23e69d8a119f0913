"""Keys as bytes: equal exactly where two keys are one key of a dict, in whatever process and under whatever hash seed.

Canonical bytes. Text is its UTF-8; everything else begins with a byte that no UTF-8 begins with::

    80  int of 8 bytes      88  None                90  UUID: 16 bytes
    81  larger int          89  Ellipsis            91  posix path: its text
    82  float, no integer   8a  date                92  windows path: its text in lower case
    83  other fraction      8b  datetime, naive     93  range: length, first, step
    84  complex             8c  datetime, in UTC    94  enum member: module, class, name
    85  bytes               8d  time, naive         95  flag: module, class, value
    86  tuple               8e  time with an offset
    87  frozenset           8f  timedelta

What consists of parts has their number, the length of each (4 bytes), the parts. Numbers that are equal are one number:
an integer if they are that, else a float if one is exactly that. How a key was written (True, 1.0, a named tuple) is
kept beside it.
"""

from __future__ import annotations

import enum
import math
import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from XME._store import pickling
from XME._store.restoring import SURROGATES, restore
from XME.errors import UnusableKey

_Way = Callable[[Any], bytes]

_INT = struct.Struct("<Bq")
_FLOAT = struct.Struct("<Bd")
_DATE = struct.Struct("<BI")
_NAIVE = struct.Struct("<BIII")
_DELTA = struct.Struct("<BiII")
_OFFSET_TIME = struct.Struct("<BiII")
_LENGTH = struct.Struct("<I")
# Beyond, the number that a Decimal stands for fills megabytes.
_MOST_DIGITS = 100_000
# So many types are remembered; more are looked up each time, so that classes made on the fly can go again.
_REMEMBERED = 1000
_ALWAYS_EXACT = frozenset({str, int, bytes, type(None), type(...)})


def canonical(key: Any) -> bytes:
    """Return the bytes that stand for a key; two keys of a dict are one key exactly if these are equal.

    Raises:
        TypeError: the key is not hashable (the builtin's text), or has no such bytes (UnusableKey).

    Costs some 0.1 us for text, bytes and ints.

    >>> canonical(1) == canonical(True) == canonical(1.0) != canonical("1")
    True
    """
    try:
        return _WAYS[type(key)](key)
    except UnicodeEncodeError:
        if not isinstance(key, str):
            raise
        return str.encode(key, "utf-8", SURROGATES)


# The name is also that of what it makes.
_canonical = canonical


def stable_hash(canonical: bytes) -> int:
    """Return 32 bits, never zero, that are the same in every process.

    >>> stable_hash(canonical("apples"))
    1892462639
    """
    return crc32(canonical) or 1


def spelled(key: Any, canonical: bytes) -> bytes:
    """Return what `restore` needs besides the canonical bytes to give this very key back; mostly nothing.

    >>> spelled("a", canonical("a")), restore(canonical(True), spelled(True, canonical(True)))
    (b'', True)
    """
    kind = type(key)
    if kind in _ALWAYS_EXACT or _is_exact(key, canonical):
        return b""
    try:
        # By names, classes of __main__ too: where they are unknown, the canonical bytes give a key that is equal.
        data = pickle.dumps(key, 5)
    except Exception:
        data = pickling.dumps_whole(key)
    # Not all come back: numpy's text loses zeros at its end.
    return data if _canonical(pickle.loads(data)) == canonical else b""


def _integer(key: Any) -> bytes:
    try:
        return _INT.pack(0x80, key)
    except struct.error:
        number = int(key)
        return b"\x81" + number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _numpy_integer(key: Any) -> bytes:
    return _integer(int(key))


def _float(key: Any) -> bytes:
    if key.is_integer():
        return _integer(int(key))
    if math.isnan(key):
        raise _nan(key)
    return _FLOAT.pack(0x82, key)


def _fraction(key: Any) -> bytes:
    """Encode any number that is a ratio of two integers."""
    above, below = key.as_integer_ratio()
    if below == 1:
        return _integer(above)
    if below & (below - 1) == 0:
        try:
            number = above / below
        except OverflowError:
            number = 0.0
        if number.as_integer_ratio() == (above, below):
            return _FLOAT.pack(0x82, number)
    return _joined(0x83, (_integer(above), _integer(below)))


def _decimal(key: Any) -> bytes:
    if key.is_nan():
        raise _nan(key)
    if key.is_infinite():
        return _float(float(key))
    exponent = key.as_tuple().exponent
    if key and (abs(exponent) > _MOST_DIGITS or abs(key.adjusted()) > _MOST_DIGITS):
        raise UnusableKey.of(type(key), f"its exponent {exponent} is too large", "use str(key)")
    return _fraction(key)


def _complex(key: Any) -> bytes:
    if not key.imag:
        return canonical(key.real)
    return _joined(0x84, (canonical(key.real), canonical(key.imag)))


def _numpy_float(key: Any) -> bytes:
    return _float(float(key))


def _bytes(key: Any) -> bytes:
    return b"\x85%b" % key


def _text(key: Any) -> bytes:
    return str.encode(key)


def _tuple(key: Any) -> bytes:
    return _joined(0x86, [canonical(part) for part in key])


def _frozenset(key: Any) -> bytes:
    return _joined(0x87, sorted(map(canonical, key)))


def _joined(tag: int, parts: Sequence[bytes]) -> bytes:
    head = struct.pack(f"<BI{len(parts)}I", tag, len(parts), *map(len, parts))
    return b"".join([head, *parts])


def _date(key: Any) -> bytes:
    return _DATE.pack(0x8A, key.toordinal())


def _datetime(key: Any) -> bytes:
    offset = key.utcoffset()
    seconds = (key.hour * 60 + key.minute) * 60 + key.second
    if offset is None:
        return _NAIVE.pack(0x8B, key.toordinal(), seconds, key.microsecond)
    if key.replace(fold=not key.fold).utcoffset() != offset:
        # Python makes it unequal to every time of another zone, yet equal to its twin of its own zone.
        reason = f"{key} lies in an hour that its zone's clocks repeat or skip"
        raise UnusableKey.of(type(key), reason, "use key.astimezone(datetime.timezone.utc)")
    from datetime import timedelta

    since = timedelta(key.toordinal(), seconds, key.microsecond) - offset
    return _DELTA.pack(0x8C, since.days, since.seconds, since.microseconds)


def _time(key: Any) -> bytes:
    offset = key.utcoffset()
    seconds = (key.hour * 60 + key.minute) * 60 + key.second
    if offset is None:
        return _DATE.pack(0x8D, seconds) + _LENGTH.pack(key.microsecond)
    # Equal in comparison and hash: comparison leaves the offset's microseconds out, the hash has them in.
    seconds -= offset.days * 86400 + offset.seconds
    return _OFFSET_TIME.pack(0x8E, seconds, key.microsecond, offset.microseconds)


def _timedelta(key: Any) -> bytes:
    return _DELTA.pack(0x8F, key.days, key.seconds, key.microseconds)


def _uuid(key: Any) -> bytes:
    return b"\x90" + bytes(key.bytes)


def _posix_path(key: Any) -> bytes:
    return b"\x91" + str(key).encode("utf-8", SURROGATES)


def _windows_path(key: Any) -> bytes:
    return b"\x92" + str(key).lower().encode("utf-8", SURROGATES)


def _range(key: Any) -> bytes:
    # Two ranges are equal if they give the same numbers. len() has a limit.
    length = (key[-1] - key.start) // key.step + 1 if key else 0
    parts = (length, key.start if length else 0, key.step if length > 1 else 1)
    return _joined(0x93, list(map(_integer, parts)))


def _enum(key: Any) -> bytes:
    kind = type(key)
    if pickling.found(kind.__module__, kind.__qualname__) is not kind:
        reason = f"its class {kind.__qualname__} is not found by that name in its module"
        raise UnusableKey.of(kind, reason, "define the class at the top of a module, or use key.name")
    is_flag = isinstance(key, enum.Flag)
    # Another process may have the same program under this name.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    last = canonical(key.value if is_flag else key.name)
    return _joined(0x95 if is_flag else 0x94, (module.encode(), kind.__qualname__.encode(), last))


def _nan(key: Any) -> UnusableKey:
    return UnusableKey.of(type(key), "NaN is not equal to itself, so nobody would find it again", "use None or a str")


def _refuse(key: Any) -> bytes:
    # What is not hashable says so itself, in the words that a dict has for it.
    hash(key)
    kind = type(key)
    reason = "only its own class knows what it is equal to, which is not the same in every process"
    raise UnusableKey.of(kind, reason, _advice(kind))


def _advice(kind: type) -> str:
    if kind is memoryview:
        return "use bytes(key)"
    if kind.__module__.partition(".")[0] == "pandas" and hasattr(kind, "to_pydatetime"):
        return "use key.to_pydatetime()"
    if kind.__module__.partition(".")[0] == "numpy" and "longdouble" not in kind.__name__:
        return "use key.item()"
    return "use a str, bytes, a number or a tuple of such that stands for it"


# By module, class: who has such a key has loaded its module.
_LAZY: dict[tuple[str, str], _Way] = {
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("datetime", "date"): _date,
    ("datetime", "datetime"): _datetime,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("uuid", "UUID"): _uuid,
    ("pathlib", "PurePosixPath"): _posix_path,
    ("pathlib", "PureWindowsPath"): _windows_path,
    ("enum", "Enum"): _enum,
    ("enum", "Flag"): _enum,
}
_NUMPY: dict[str, _Way] = {
    "bool_": _numpy_integer,
    "integer": _numpy_integer,
    "floating": _numpy_float,
    "complexfloating": _complex,
    "str_": _text,
    "bytes_": _bytes,
}


def _way_of(kind: type) -> _Way:
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
        # A long double is equal to a float and not to the Fraction that this float is equal to.
        if issubclass(kind, (numpy.timedelta64, numpy.longdouble, numpy.clongdouble)):
            return _refuse
        return next((way for name, way in _NUMPY.items() if issubclass(kind, getattr(numpy, name))), _refuse)
    known: dict[type, _Way] = {}
    for (module, name), way in _LAZY.items():
        base = getattr(sys.modules.get(module), name, None)
        if base is not None:
            known[base] = way
    for base in kind.__mro__:
        found = _WAYS.get(base) or known.get(base)
        if found is not None:
            return found if _compares_as(kind, base) else _refuse
    return _refuse


def _compares_as(kind: Any, base: Any) -> bool:
    return kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__


class _Ways(dict[type, _Way]):
    def __missing__(self, kind: type) -> _Way:
        way = _way_of(kind)
        if way is not _refuse and len(self) < _REMEMBERED:
            self[kind] = way
        return way


_WAYS = _Ways(
    {
        str: str.encode,
        int: _integer,
        bytes: _bytes,
        bool: _integer,
        float: _float,
        complex: _complex,
        tuple: _tuple,
        frozenset: _frozenset,
        range: _range,
        type(None): lambda _key: b"\x88",
        type(...): lambda _key: b"\x89",
    }
)


def _is_exact(key: Any, data: bytes) -> bool:
    """True if the canonical bytes give the same type and spelling back."""
    kind = type(key)
    if kind in _ALWAYS_EXACT:
        return True
    if kind is tuple or kind is frozenset:
        return all(type(part) in _ALWAYS_EXACT or _is_exact(part, canonical(part)) for part in key)
    lead = data[:1]
    if lead in (b"\x94", b"\x95"):
        return True
    zone = getattr(key, "tzinfo", None)
    is_local = zone is not None and not (lead in (b"\x8c", b"\x8e") and zone is pickling.get("datetime", "UTC"))
    if is_local or lead in (b"\x86", b"\x87"):
        return False
    back = restore(data)
    is_safe = getattr(key, "is_safe", None) is getattr(back, "is_safe", None)
    # Of builtin types, and these show all that makes a difference: the sign of zero, the fold of a time.
    return type(back) is kind and is_safe and repr(back) == repr(key)

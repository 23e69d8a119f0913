"""How much memory packed bytes would take unpacked, found out without unpacking them.

A byte of msgpack may become an empty dict, and five bytes may ask for a list of four thousand million places.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

# No byte becomes more than this many.
WORST: Final = 96
# The heads of lists, whose places are made before their elements are read: 2 and 4 bytes of length follow.
_LIST_16, _LIST_32 = b"\xdc", b"\xdd"
_U8, _U16, _U32 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I")
_NUMBER, _TEXT, _BYTES, _EXT, _LIST, _DICT, _WRONG = range(7)
_PLACE: Final = 8
_OBJECT: Final = 32
_ENTRY: Final = 104
# What a list weighs more an element when it becomes a set.
_SET_ENTRY: Final = 72
_SHORT: Final = 64
# What the first few objects weigh is not counted.
_FREE: Final = 1 << 16


class TooHeavyError(ValueError):
    """The bytes would take more memory than allowed, or claim more than they have."""


def require_light(packed: bytes, limit: int, sets: frozenset[int]) -> None:
    """Refuse packed bytes that would take more than `limit` bytes unpacked (nothing to 0.1 us a value).

    Args:
        packed: the bytes.
        limit: how much.
        sets: the codes of extensions that make a set of the list that they are the first element of.

    Raises:
        TooHeavyError: they would, or they are not whole.
    """
    if WORST * len(packed) <= limit + _FREE and _claims(packed) <= limit + _FREE:
        return
    _Scale(packed, limit, sets).weigh()


def _claims(packed: bytes) -> int:
    """Return how many bytes of places packed bytes may claim at most, without looking at what they are."""
    if _LIST_32 in packed:
        return 1 << 62
    # To look for one takes a thirtieth of the time that counting takes, and most text has none.
    return packed.count(_LIST_16) * _PLACE * 0xFFFF if _LIST_16 in packed else 0


class _Scale:
    """One pass over packed bytes."""

    __slots__ = ("_at", "_data", "_expected", "_latest", "_limit", "_sets", "_weight")

    def __init__(self, data: bytes, limit: int, sets: frozenset[int]) -> None:
        self._data = memoryview(data)
        self._limit = limit + _FREE
        self._sets = sets
        self._at = 0
        self._weight = 0
        # How many values must still come.
        self._expected = 1
        # How long the list was that began last.
        self._latest = 0

    def weigh(self) -> None:
        data, end = self._data, len(self._data)
        while self._expected:
            # Each takes a byte at least.
            if self._expected > end - self._at:
                raise TooHeavyError("it claims more than it has")
            self._weigh_simple()
            if self._expected:
                self._expected -= 1
                kind, count = self._head(data[self._at])
                _WEIGH[kind](self, count)
            if self._weight > self._limit or self._at > end:
                raise TooHeavyError("it takes too much memory" if self._at <= end else "it claims more than it has")

    def _weigh_simple(self) -> None:
        """Step over the values that are numbers or short text, which most are (0.1 us each)."""
        data, at, weight, limit = self._data, self._at, self._weight, self._limit
        left = self._expected
        try:
            while left and weight <= limit:
                size = _SIZES[data[at]]
                if not size:
                    break
                weight += _WEIGHTS[data[at]]
                at += size
                left -= 1
        except IndexError:
            raise TooHeavyError("it claims more than it has") from None
        self._at, self._weight, self._expected = at, weight, left
        if left and at >= len(data):
            raise TooHeavyError("it claims more than it has")

    def _head(self, first: int) -> tuple[int, int]:
        """Step over the head of a value; returns (kind, count)."""
        kind, count, form = _HEADS[first]
        self._at += 1
        if form is not None:
            if self._at + form.size > len(self._data):
                raise TooHeavyError("it claims more than it has")
            (count,) = form.unpack_from(self._data, self._at)
            self._at += form.size
        return kind, count

    def _number(self, count: int) -> None:
        self._at += count
        self._weight += _PLACE + _OBJECT

    def _text(self, count: int) -> None:
        end = self._at + count
        width = 4 if count <= _SHORT else _width(self._data[self._at : end])
        self._weight += 80 + count * width
        self._at = end

    def _bytes(self, count: int) -> None:
        self._weight += 48 + count
        self._at += count

    def _ext(self, count: int) -> None:
        if self._at < len(self._data):
            code = self._data[self._at]
            self._weight += self._latest * (_SET_ENTRY if code in self._sets else _PLACE) if not count else 0
        self._at += 1 + count
        self._weight += 160 + 2 * count

    def _list(self, count: int) -> None:
        self._weight += 72 + _PLACE * count
        self._expected += count
        self._latest = count

    def _dict(self, count: int) -> None:
        self._weight += 72 + _ENTRY * count
        self._expected += 2 * count

    def _wrong(self, _count: int) -> None:
        raise TooHeavyError("it is not msgpack")


def _width(text: memoryview) -> int:
    """Return how many bytes a character takes at most: one character of another script makes all of them wide."""
    highest = int(np.frombuffer(text, np.uint8).max())
    return 4 if highest >= 0xF0 else 2 if highest >= 0xC4 else 1


_WEIGH: Final[tuple[Callable[[Any, int], None], ...]] = (
    _Scale._number, _Scale._text, _Scale._bytes, _Scale._ext, _Scale._list, _Scale._dict, _Scale._wrong,
)  # fmt: skip


def _heads() -> list[tuple[int, int, struct.Struct | None]]:
    """Return, for each first byte, (kind, count, how the count is written behind it)."""
    heads: list[tuple[int, int, struct.Struct | None]] = [(_WRONG, 0, None)] * 256
    heads[0x00:0x80] = [(_NUMBER, 0, None)] * 0x80
    heads[0x80:0x90] = [(_DICT, count, None) for count in range(16)]
    heads[0x90:0xA0] = [(_LIST, count, None) for count in range(16)]
    heads[0xA0:0xC0] = [(_TEXT, count, None) for count in range(32)]
    heads[0xC0] = heads[0xC2] = heads[0xC3] = (_NUMBER, 0, None)
    heads[0xC4:0xC7] = [(_BYTES, 0, form) for form in (_U8, _U16, _U32)]
    heads[0xC7:0xCA] = [(_EXT, 0, form) for form in (_U8, _U16, _U32)]
    heads[0xCA:0xD4] = [(_NUMBER, count, None) for count in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)]
    heads[0xD4:0xD9] = [(_EXT, count, None) for count in (1, 2, 4, 8, 16)]
    heads[0xD9:0xDC] = [(_TEXT, 0, form) for form in (_U8, _U16, _U32)]
    heads[0xDC:0xDE] = [(_LIST, 0, form) for form in (_U16, _U32)]
    heads[0xDE:0xE0] = [(_DICT, 0, form) for form in (_U16, _U32)]
    heads[0xE0:0x100] = [(_NUMBER, 0, None)] * 0x20
    return heads


_HEADS: Final = _heads()
# How many bytes a value takes, and what it weighs, where its first byte says both; 0 where it does not.
_SIZES: Final = [1 + count if form is None and kind in {_NUMBER, _TEXT} else 0 for kind, count, form in _HEADS]
_WEIGHTS: Final = [80 + 4 * count if kind == _TEXT else _PLACE + _OBJECT for kind, count, _ in _HEADS]

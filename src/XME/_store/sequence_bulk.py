"""Many elements of a list at once: from values to records, and from records to values.

A million numbers take some 0.1 s, a million short texts 1 s: what is the same for all is done by numpy.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from XME._store import log, values
from XME._store.log import HEADER_BYTES, UNIT, Generation
from XME._store.moving import FEW

Places: TypeAlias = "array[int]"
# (value, what an error calls it) -> (tag, bytes, what was made for it); see Container._encode.
EncodeOne = Callable[[Any, str], tuple[int, bytes, dict[int, Any]]]

# Values that need no encoder; what they become is immutable.
QUICK: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (values.INT, struct.Struct("<q").pack),
    float: (values.FLOAT, struct.Struct("<d").pack),
    str: (values.STR, str.encode),
    bytes: (values.BYTES, bytes),
}
QUICK_BYTES = 4096

_HEADER = struct.Struct("<QIIIIII")
_HEADER_TYPE = [("head", "<u8"), ("previous", "<u4"), ("count", "<u4"), ("end", "<u4"), ("live", "<u4"),
                ("extra", "<u4"), ("spare", "<u4")]  # fmt: skip
_NUMBER_UNITS = 3
_PADDING_OF_NUMBER = 8
_Numbers = tuple[int, int, int, int]


class Batch:
    """New elements, encoded.

    Attributes:
        units: how many units their records take.
    """

    __slots__ = ("_payloads", "_tags", "units")

    def __init__(self, tags: Sequence[int] = (), payloads: Sequence[bytes] = ()) -> None:
        """Take tags and bytes, as many of the one as of the other."""
        self._tags = tags
        self._payloads = payloads
        self.units = sum([(HEADER_BYTES + UNIT - 1 + len(payload)) >> 4 for payload in payloads])

    def __len__(self) -> int:
        return len(self._tags)

    def element(self, position: int) -> tuple[int, bytes]:
        """Return the tag and the bytes of an element."""
        return self._tags[position], self._payloads[position]

    def records(self, high: int, previous: Places | None, numbers: _Numbers) -> tuple[int, Any, Places]:
        """Return the head of the first record, all bytes behind that, and the places of all.

        Args:
            high: the place of the first.
            previous: what their positions led to; None if that was nothing.
            numbers: count, end, live and extra, as the last of them must say them.
        """
        if len(self) >= FEW:
            return _many_records(self._tags, self._payloads, high, previous, numbers)
        parts: list[Any] = []
        found: Places = array("I")
        for k, (tag, payload) in enumerate(zip(self._tags, self._payloads, strict=True)):
            used = HEADER_BYTES + len(payload)
            units = (used + UNIT - 1) // UNIT
            padding = units * UNIT - used
            head = units | tag << log.TAG_SHIFT | padding << log.PAD_SHIFT
            parts += _HEADER.pack(head, previous[k] if previous else 0, *numbers, 0), payload, bytes(padding)
            found.append(high)
            high += units
        whole = b"".join(parts)
        return int.from_bytes(whole[:8], "little"), memoryview(whole)[8:], found


class _Numbers64(Batch):
    """Numbers of 8 bytes, all of one type, in a numpy array."""

    __slots__ = ("_numbers", "_tag")

    def __init__(self, tag: int, numbers: Any) -> None:
        """Take a tag, and an array of int64 or float64."""
        self._tag = tag
        self._numbers = numbers
        self.units = _NUMBER_UNITS * len(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def element(self, position: int) -> tuple[int, bytes]:
        """Return the tag and the bytes of an element."""
        return self._tag, self._numbers[position].tobytes()

    def records(self, high: int, previous: Places | None, numbers: _Numbers) -> tuple[int, Any, Places]:
        """Return what Batch.records does."""
        import numpy as np

        count = len(self._numbers)
        kind = np.dtype([*_HEADER_TYPE, ("number", self._numbers.dtype), ("padding", "<u8")])
        whole: Any = np.zeros(count, kind)
        head = _NUMBER_UNITS | self._tag << log.TAG_SHIFT | _PADDING_OF_NUMBER << log.PAD_SHIFT
        whole["head"] = head
        whole["number"] = self._numbers
        _fill(whole, previous, numbers)
        found = np.arange(high, high + self.units, _NUMBER_UNITS).astype(np.uint32)
        return head, memoryview(whole.view(np.uint8))[8:], array("I", found.tobytes())


def _fill(headers: Any, previous: Places | None, numbers: _Numbers) -> None:
    if previous:
        headers["previous"] = previous
    for name, number in zip(("count", "end", "live", "extra"), numbers, strict=True):
        headers[name] = number


def _many_records(
    tags: Sequence[int], payloads: Sequence[bytes], high: int, previous: Places | None, numbers: _Numbers
) -> tuple[int, Any, Places]:
    import numpy as np

    lengths = np.fromiter(map(len, payloads), np.uint64, len(payloads))
    units = (lengths + np.uint64(HEADER_BYTES + UNIT - 1)) >> np.uint64(4)
    padding = units * np.uint64(UNIT) - lengths - np.uint64(HEADER_BYTES)
    headers = np.zeros(len(payloads), _HEADER_TYPE)
    headers["head"] = units | np.array(tags, np.uint64) << log.TAG_SHIFT | padding << log.PAD_SHIFT
    _fill(headers, previous, numbers)
    parts: list[Any] = [None] * (2 * len(payloads))
    parts[::2] = headers.view(f"V{HEADER_BYTES}").tolist()
    padded = (lengths + padding).tolist()
    parts[1::2] = [payload.ljust(length, b"\0") for payload, length in zip(payloads, padded, strict=True)]
    ends = np.cumsum(units)
    found = (ends - units + np.uint64(high)).astype(np.uint32)
    return int(headers["head"][0]), memoryview(b"".join(parts))[8:], array("I", found.tobytes())


def encode_all(items: Sequence[Any], encode_one: EncodeOne, made: dict[int, Any]) -> Batch:
    """Encode elements; `made` gets what was made for them, also if it fails.

    Raises:
        What encode_one raises.
    """
    if len(items) >= FEW and (batch := _as_numbers(items)) is not None:
        return batch
    tags = []
    payloads = []
    for k, item in enumerate(items):
        try:
            tag, encode = QUICK[type(item)]
            payload = encode(item)
        except (KeyError, ValueError, struct.error):
            payload = None
        if payload is None or len(payload) > QUICK_BYTES:
            tag, payload, parts = encode_one(item, f"[{k}]")
            made.update(parts)
        tags.append(tag)
        payloads.append(payload)
    return Batch(tags, payloads)


def _as_numbers(items: Sequence[Any]) -> Batch | None:
    kinds = set(map(type, items))
    if kinds not in ({int}, {float}):
        return None
    import numpy as np

    try:
        if kinds == {int}:
            return _Numbers64(values.INT, np.array(items, np.int64))
    except OverflowError:
        return None
    return _Numbers64(values.FLOAT, np.array(items, np.float64))


def decode_all(generation: Generation, places: Places, open_segment: values.OpenSegment) -> list[Any]:
    """Return the values of the records at these places."""
    if len(places) < FEW:
        tag, value, decode = generation.tag, generation.value, values.decode
        return [decode(tag(place), value(place), open_segment)[0] for place in places]
    import numpy as np

    where = np.frombuffer(places, np.uint32).astype(np.int64)
    words = np.frombuffer(generation.words, np.uint64)
    heads = words[2 * where]
    tags = heads >> np.uint64(log.TAG_SHIFT) & np.uint64(log.TAG_MASK)
    kinds = np.unique(tags).tolist()
    if len(kinds) == 1:
        return _decode_alike(generation, kinds[0], where, heads, open_segment)
    found: list[Any] = [None] * len(places)
    for kind in kinds:
        chosen = (tags == kind).nonzero()[0]
        decoded = _decode_alike(generation, kind, where[chosen], heads[chosen], open_segment)
        for k, value in zip(chosen.tolist(), decoded, strict=True):
            found[k] = value
    return found


def _decode_alike(generation: Generation, tag: int, where: Any, heads: Any, open_segment: Any) -> list[Any]:
    import numpy as np

    if tag in (values.INT, values.FLOAT):
        kind = np.int64 if tag == values.INT else np.float64
        numbers: list[Any] = np.frombuffer(generation.words, kind)[2 * where + HEADER_BYTES // 8].tolist()
        return numbers
    data = generation.data
    begins = where * UNIT + HEADER_BYTES
    units = (heads & np.uint64(log.UNITS_MASK)).astype(np.int64)
    ends = (where + units) * UNIT - (heads >> np.uint64(log.PAD_SHIFT) & np.uint64(15)).astype(np.int64)
    spans = zip(begins.tolist(), ends.tolist(), strict=True)
    if tag == values.STR:
        return [str(data[begin:end], "utf-8") for begin, end in spans]
    decode = values.decode
    return [decode(tag, data[begin:end], open_segment)[0] for begin, end in spans]

"""How numpy arrays are pickled here: always as one buffer, whatever their class, strides and dtype are.

numpy itself gives a buffer only for contiguous arrays of exactly its own class, and copies the rest into the pickle:
strided ones, times (no buffer has such a type), records, matrices and memory maps. What is copied that way would be
large where it should be a name, and writable where it should be a view.
"""

from __future__ import annotations

import pickle
import struct
import sys
from typing import Any

# Kinds of dtypes that numpy exports as buffers in any case. Structured ones may have a time inside.
_EXPORTED = frozenset("?biufcSU")


# Kinds whose short spelling says everything.
_SPELLED = _EXPORTED | frozenset("mM")


def loaded_numpy() -> Any:
    """Return numpy if it is loaded: who has arrays has it. Another thread may be in the middle of importing it."""
    numpy = sys.modules.get("numpy")
    return numpy if hasattr(numpy, "ndarray") and hasattr(numpy, "memmap") else None


def by_buffer(array: Any) -> Any:
    """Reduce an array to one buffer; it comes back as writable as the buffer is."""
    import numpy as np

    kind: Any = type(array)
    if array.dtype.hasobject or not array.itemsize:
        return NotImplemented
    if kind is not np.ndarray and not _is_plain_inside(kind):
        return NotImplemented
    if kind is np.ndarray and array.dtype.kind in _EXPORTED and (array.flags.c_contiguous or array.flags.f_contiguous):
        return NotImplemented
    return _reduced(array.view(np.ndarray), kind)


def read_only(array: Any) -> Any:
    """Reduce an array as `by_buffer` does; what has no buffer (objects, masks) is made read-only where it arrives."""
    import numpy as np

    kind: Any = type(array)
    usual_way: Any = np.ndarray.__reduce_ex__
    if kind.__reduce_ex__ is not usual_way:
        # It has its own way to travel: it is shared.
        return NotImplemented
    reduced = by_buffer(array)
    if reduced is not NotImplemented or (kind is np.ndarray and not array.dtype.hasobject):
        return reduced
    usual = array.__reduce_ex__(5)
    if not isinstance(usual, tuple) or len(usual) != 3 or usual[2] is None:
        return NotImplemented
    return *usual, None, None, _set_read_only


def writable(array: Any) -> Any:
    """Reduce an array as `by_buffer` does, but so that it comes back writable although it is read-only here."""
    import numpy as np

    if array.flags.writeable or array.dtype.hasobject or not array.itemsize:
        return by_buffer(array)
    if type(array) is not np.ndarray and not _is_plain_inside(type(array)):
        return NotImplemented
    return _reduced(np.asarray(_Alias(_contiguous(array.view(np.ndarray)))), type(array), array.dtype)


def is_awkward(value: Any, numpy: Any) -> bool:
    """True if numpy would copy an array into its pickle."""
    if type(value) is not numpy.ndarray or value.dtype.hasobject:
        return False
    return value.dtype.kind not in _EXPORTED or not (value.flags.c_contiguous or value.flags.f_contiguous)


def spell(array: Any) -> bytes | None:
    """Return what a plain array of numbers, times or text is besides its elements; None for all others.

    The bytes: number of dimensions, length of the dtype's name, the name, 8 bytes for each dimension.
    """
    dtype = array.dtype
    if dtype.kind not in _SPELLED or not dtype.itemsize or dtype.isbuiltin == 2 or dtype.metadata is not None:
        return None
    if not array.flags.c_contiguous:
        return None
    name: bytes = dtype.str.encode()
    return struct.pack(f"<BB{len(name)}s{array.ndim}Q", array.ndim, len(name), name, *array.shape)


def elements(array: Any) -> memoryview:
    """Return the bytes of a contiguous array, which are the array's own."""
    raw: memoryview = array.reshape(-1).view("u1").data
    return raw


def spelled_bytes(data: memoryview) -> int:
    """Return the length of a spelling that other bytes follow."""
    return 2 + data[1] + 8 * data[0]


def from_spelled(data: memoryview, buffer: memoryview | bytes) -> Any:
    """Return the array over a buffer; it is as writable as that."""
    import numpy as np

    end = 2 + data[1]
    shape = struct.unpack_from(f"<{data[0]}Q", data, end)
    return np.frombuffer(buffer, str(data[2:end], "ascii")).reshape(shape)


def _is_plain_inside(kind: Any) -> bool:
    """True if a subclass of ndarray is nothing but its array, as far as pickle can know."""
    import numpy as np

    return all(
        getattr(kind, name) is getattr(np.ndarray, name) for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )


def _contiguous(array: Any) -> Any:
    return array if array.flags.c_contiguous or array.flags.f_contiguous else array.copy()


def _reduced(array: Any, kind: type, dtype: Any = None) -> Any:
    import numpy as np

    array = _contiguous(array)
    order = "C" if array.flags.c_contiguous else "F"
    flat = array if order == "C" else array.T
    raw = flat.reshape(-1).view(np.uint8)
    return _rebuilt, (pickle.PickleBuffer(raw), dtype or array.dtype, array.shape, order, kind)


def _rebuilt(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any, kind: type) -> Any:
    import numpy as np

    # ndarray() would look behind a read-only memoryview, and its reader could make the array writable.
    array: Any = np.frombuffer(buffer, dtype).reshape(shape, order=order)
    return array if kind is np.ndarray else array.view(kind)


def _set_read_only(array: Any, state: Any) -> None:
    array.__setstate__(state)
    mask: Any = getattr(array, "_mask", None)
    for part in (array, mask):
        if hasattr(part, "flags"):
            part.flags.writeable = False


class _Alias:
    """Shows numpy a read-only array as if it were writable; whoever takes it only reads."""

    def __init__(self, array: Any) -> None:
        self._array = array
        shown = dict(array.__array_interface__)
        shown["data"] = (shown["data"][0], False)
        # Bytes, because not every dtype can be shown this way; the caller knows which it is.
        self.__array_interface__ = shown

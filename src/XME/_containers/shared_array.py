"""`xmem_array`: a numpy array in shared memory, which pickles as a name and an offset.

Who refers to what::

    xmem_array ---> Hold ---> Segment        the name lives as long as some handle does
        |             |          |
        v base        v          v
       root (a plain array) -> the mapping   the bytes live as long as any view, plain ones included

A view is shared if its memory lies in the segment, whatever its shape, strides and dtype are. What numpy makes anew
from shared arrays (copies, results, fancy indexing) is ordinary memory and behaves so.
"""

from __future__ import annotations

import copy
import math
import operator
from typing import Any, Literal, Self, SupportsIndex

import numpy as np

from XME._containers import dtype_json
from XME._containers import hold as holds
from XME._core import memory, named, program, segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._core.registry import Entry
from XME._store import pickling
from XME.errors import BadSegment

_Dtype = np.dtype[Any]
_Plain = np.ndarray[Any, _Dtype]
_Order = Literal["C", "F"]

_KIND = "array"
_ORDERS = (None, "C", "F")
# Kinds of dtypes that copyto converts on the way, without a second copy of the whole.
_NUMBERS = frozenset("?biufc")
# Kinds whose short spelling says everything: numbers, times, bytes and text.
_SPELLED = _NUMBERS | frozenset("mMSU")


class xmem_array(np.ndarray[Any, np.dtype[Any]]):
    """A numpy array in shared memory: every process that gets it reads and writes the same bytes.

    It is an `numpy.ndarray` in everything. It, and every view of it (slices, transposes, fields, reshapes), pickles as
    a name and an offset, so handing it over costs some microseconds whatever its size, and comes back writable and
    shared. Results of arithmetic, copies and fancy indexing are ordinary memory: their `shared` is False, and they
    pickle as their content. `repr` says ``xmem_array`` for what is shared and ``array`` for what is not.

    Args:
        source: an int or a tuple of ints is a shape (the array is then full of zeros). Everything else is content:
            an array keeps its dtype, and Fortran order if it has it; a list, a number or a nested sequence becomes
            what `numpy.asarray` makes of it. A list of ints is content.
        dtype: the dtype; by default float64 for a shape, the content's own otherwise.
        name: a public name (1 to 128 bytes of UTF-8) under which `XME.attach` finds it from any program of this user.
            Named arrays live until the last process that holds one drops it or ends, or until `unlink`.
        order: "C" or "F"; by default C, or the content's.

    Raises:
        SharedMemoryFull: shared memory has no room for it; says how much was wanted and how much is free.
        TypeError: the dtype holds Python objects, which cannot be shared.
        NameTaken: the public name is in use.

    Costs about 0.1 ms, and as much per byte as the kernel takes to give fresh memory (2 GB/s).

    >>> import pickle
    >>> a = xmem_array([[1, 2, 3], [4, 5, 6]])
    >>> pickle.loads(pickle.dumps(a[:, ::-1]))[0, 0] = 30
    >>> a
    xmem_array([[ 1,  2, 30],
                [ 4,  5,  6]])
    >>> (a + 1).tolist()
    [[2, 3, 31], [5, 6, 7]]
    >>> xmem_array((2, 3), dtype="f4").shape
    (2, 3)
    """

    __slots__ = ("_hold",)
    # Below a plain array's: concatenate, dot and the like then make plain arrays where they mix.
    __array_priority__ = -100.0
    _hold: holds.Hold | None

    def __new__(cls, source: Any, dtype: Any = None, *, name: str | None = None, order: _Order | None = None) -> Self:
        """Make a new array in shared memory."""
        if order not in _ORDERS:
            msg = f'order must be "C", "F" or None, not {order!r}'
            raise ValueError(msg)
        content, shape, dtype = _layout_of(source, dtype)
        if order is None:
            order = "F" if content is not None and content.flags.fnc else "C"
        named.tidy()
        if name is None:
            return cls._made(program.program_domain(), content, shape, dtype, order, None)
        with named.founding(name) as domain:
            array = cls._made(domain, content, shape, dtype, order, name)
            assert array._hold is not None
            holds.register(domain, array._hold.segment, name, _KIND, _described(array))
            return array

    @classmethod
    def _made(
        cls, domain: Domain, content: _Plain | None, shape: tuple[int, ...], dtype: _Dtype, order: _Order,
        name: str | None,
    ) -> Self:
        source = _bytes_of(content, dtype, order)
        block = _reserved(domain, math.prod(shape) * dtype.itemsize, source)
        hold = holds.of_new(block, name)
        array = np.ndarray.__new__(cls, shape, dtype, hold.root, segment.HEADER_BYTES, None, order)
        array._hold = hold
        if content is not None and source is None:
            np.copyto(array, content, casting="unsafe")
        return array

    def __array_finalize__(self, source: Any) -> None:
        hold = getattr(source, "_hold", None)
        if hold is not None:
            base = self.base
            # A view of `source` refers to it or to what that refers to. Anything else may be new memory.
            if base is None or (base is not source and base is not source.base and not _has_elements_in(self, hold)):
                hold = None
        self._hold = hold

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Let results of arithmetic be plain arrays, and results without dimensions be scalars."""
        if array is self or getattr(array, "_hold", None) is not None:
            return array
        # numpy 1 makes its results of this class, and does not say when it wants a scalar.
        result = np.asarray(array)
        return result[()] if return_scalar or (result.ndim == 0 and _IS_NUMPY_1) else result

    @property
    def shared(self) -> bool:
        """True if these elements lie in shared memory, so that other processes see what is stored in them.

        >>> a = xmem_array(3)
        >>> a.shared, a[1:].shared, a.copy().shared
        (True, True, False)
        """
        return self._hold is not None

    @property
    def name(self) -> str | None:
        """The public name under which `XME.attach` finds it, or None."""
        hold = self._hold
        return None if hold is None or hold.gone else hold.name

    def publish(self, name: str) -> Self:
        """Give this array a public name, under which `XME.attach` finds it from any program of this user.

        A view publishes itself: who attaches gets the same view. Nothing is copied.

        Args:
            name: 1 to 128 bytes of UTF-8.

        Returns:
            The array itself.

        Raises:
            NameTaken: the name is in use.
            ValueError: the array is not in shared memory, or has another public name.

        Costs some 100 us, whatever the size.

        >>> xmem_array([1.5, 2.5]).publish("publish-doctest")
        xmem_array([1.5, 2.5], name='publish-doctest')
        """
        hold = self._hold
        if hold is None or not _lies_in(self, hold):
            msg = "this array is a copy in ordinary memory: XME.xmem_array(array, name=...) makes a shared one of it"
            raise ValueError(msg)
        named.tidy()
        hold.publish(name, _KIND, _described(self))
        return self

    def unlink(self) -> None:
        """Take the array's name away: nobody can get it any more, and who has it keeps the memory.

        The memory goes back to the system when the last process drops it. For an array with a public name this ends
        its domain for everybody. Nothing happens if it is done twice, or to an array that is not shared.

        >>> a = xmem_array(3)
        >>> a.unlink()
        >>> a[0] = 1.0
        """
        if self._hold is not None:
            self._hold.unlink()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle as a name and an offset; what is not shared, as the plain array that it is."""
        hold = self._hold
        if hold is None or not _lies_in(self, hold):
            plain = np.asarray(self)
            return pickling.reduce_array(plain) if pickling.is_collecting() else plain.__reduce_ex__(protocol)
        pickling.met(self)
        where = (*hold.place, _offset(self, hold))
        origin = program.origin_beside(hold.segment.domain)
        return _restored, (*where, _spelled(self.dtype), self.shape, self.strides, self.flags.writeable, origin)

    def __copy__(self) -> Any:
        """Return the content as a plain array."""
        return copy.copy(np.asarray(self))

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        """Return the content as a plain array."""
        return copy.deepcopy(np.asarray(self), memo)

    def __repr__(self) -> str:
        if self._hold is None:
            return repr(np.asarray(self))
        text = np.array_repr(self)
        return text if self.name is None else f"{text[:-1]}, name={self.name!r})"


_IS_NUMPY_1 = np.lib.NumpyVersion(np.__version__) < "2.0.0"


def _layout_of(source: Any, dtype: Any) -> tuple[_Plain | None, tuple[int, ...], _Dtype]:
    """Return (content or None, shape, dtype)."""
    shape = _as_shape(source)
    if shape is None:
        content = _as_content(source, dtype)
        wanted = content.dtype if dtype is None else _dtype_for(content, dtype)
        _refuse_objects(wanted)
        return content, content.shape, wanted
    if any(n < 0 for n in shape):
        msg = f"a shape has no negative lengths: {shape}"
        raise ValueError(msg)
    # An array without elements tells what numpy makes of the dtype ("U" becomes "<U1", subarrays become dimensions),
    # and refuses too many dimensions before anything is made.
    probe = np.empty((0,) * len(shape), dtype)
    _refuse_objects(probe.dtype)
    return None, shape + probe.shape[len(shape) :], probe.dtype


def _as_shape(source: Any) -> tuple[int, ...] | None:
    parts = source if type(source) is tuple else (source,)
    if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in parts):
        return tuple(operator.index(n) for n in parts)
    return None


def _as_content(source: Any, dtype: Any) -> _Plain:
    if isinstance(source, np.ndarray):
        content = np.asarray(source)
        # Refused before it is converted: each of many objects would be asked for a number.
        _refuse_objects(content.dtype)
        if dtype is None or _converts_in_place(content.dtype, np.dtype(dtype)):
            return content
        return np.asarray(content, dtype)
    return np.asarray(source, dtype)


def _converts_in_place(have: _Dtype, want: _Dtype) -> bool:
    return have.kind in _NUMBERS and want.kind in _NUMBERS


def _dtype_for(content: _Plain, dtype: Any) -> _Dtype:
    wanted = np.dtype(dtype)
    return wanted if _converts_in_place(content.dtype, wanted) else content.dtype


def _refuse_objects(dtype: _Dtype) -> None:
    if dtype.hasobject:
        msg = (
            f"an array of dtype {dtype} holds Python objects, which live in one process and cannot lie in shared "
            "memory: give a dtype of numbers, text of fixed length ('U10') or fields of those, or use a list"
        )
        raise TypeError(msg)


def _reserved(domain: Domain, nbytes: int, source: memoryview | None) -> segment.Segment:
    try:
        return segment.create(domain, nbytes, Kind.CONTAINER, source=source)
    except OverflowError:
        # More than any file can have.
        raise memory.full(nbytes) from None


def _bytes_of(content: _Plain | None, dtype: _Dtype, order: _Order) -> memoryview | None:
    """Return the content's bytes if they lie as they shall lie: then one write(2) copies them."""
    if content is None or content.nbytes == 0 or content.dtype != dtype:
        return None
    flat = content if order == "C" else content.T
    return flat.reshape(-1).view(np.uint8).data if flat.flags.c_contiguous else None


def _offset(array: _Plain, hold: holds.Hold) -> int:
    # Where no element is, numpy lets the address point anywhere.
    address: int = array.__array_interface__["data"][0] if array.size else hold.start + segment.HEADER_BYTES
    return address - hold.start


def _lies_in(array: _Plain, hold: holds.Hold) -> bool:
    """True if every element lies in the payload of the segment."""
    if not array.size:
        return True
    first = last = _offset(array, hold)
    if array.flags.c_contiguous:
        last += array.nbytes
    else:
        for n, stride in zip(array.shape, array.strides, strict=True):
            if stride < 0:
                first += (n - 1) * stride
            else:
                last += (n - 1) * stride
        last += array.itemsize
    return first >= segment.HEADER_BYTES and last <= segment.HEADER_BYTES + hold.segment.nbytes


def _has_elements_in(array: _Plain, hold: holds.Hold) -> bool:
    return array.size != 0 and _lies_in(array, hold)


def _spelled(dtype: _Dtype) -> Any:
    return dtype.str if dtype.kind in _SPELLED and dtype.isbuiltin != 2 and dtype.metadata is None else dtype


def _restored(
    domain_id: str, serial: int, name: str | None, offset: int, dtype: Any, shape: tuple[int, ...],
    strides: tuple[int, ...], writeable: bool, origin: str | None = None,
) -> xmem_array:
    """Return the view that another process pickled; `origin`: see program.origin_beside."""
    program.belong_to(origin)
    array = _view(holds.find(domain_id, serial, name), offset, dtype, shape, strides)
    if not writeable:
        array.flags.writeable = False
    return array


def _view(
    hold: holds.Hold, offset: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> xmem_array:
    try:
        array: xmem_array = np.ndarray.__new__(xmem_array, shape, dtype, hold.root, offset, strides)
    except (TypeError, ValueError) as error:
        raise BadSegment.of(hold.segment.name, f"the array that is said to lie in it does not ({error})") from error
    array._hold = hold
    return array


def _described(array: xmem_array) -> dict[str, Any]:
    assert array._hold is not None
    return {
        "dtype": dtype_json.to_json(array.dtype),
        "shape": array.shape,
        "strides": array.strides,
        "offset": _offset(array, array._hold),
        "writeable": array.flags.writeable,
    }


def open_entry(domain: Domain, entry: Entry) -> xmem_array:
    """Open a named array from its registry entry; named.lock is held."""
    with named.explaining(domain, entry.name):
        block = segment.attach(domain, entry.serial)
    hold = holds.of_attached(block, entry.name)
    try:
        said = entry.metadata
        dtype = dtype_json.from_json(said["dtype"])
        shape, strides = tuple(said["shape"]), tuple(said["strides"])
        offset, writeable = said["offset"], said["writeable"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadSegment.of(entry.name, "its registry entry does not describe an array") from error
    array = _view(hold, offset, dtype, shape, strides)
    if not writeable:
        array.flags.writeable = False
    return array

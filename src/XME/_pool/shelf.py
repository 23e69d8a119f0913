"""The functions that a crew's workers know: pickled once, sent by digest."""

from __future__ import annotations

import hashlib
import types
from collections import OrderedDict
from typing import Any

from XME._core import segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._pool.inherited import Inheritance
from XME._pool.wire import Buffer, FunctionRef, Pickled
from XME._store import arrays, codec

KEPT = 512


class _Kept:
    """A function's reference, and what it needs: while somebody keeps this, its large buffers have names."""

    def __init__(self, function: Any, reference: FunctionRef, segments: list[segment.Segment], used: list[Any]) -> None:
        self.function = function
        self.reference = reference
        self._segments = segments
        self._used = used

    def __del__(self) -> None:
        # A finalizer may run in the middle of anything, so it only leaves word.
        for used in self._segments:
            used.domain.names.note_drop(used.serial, always=True)


class Shelf:
    """Function references by identity; a function of ``__main__`` travels with the globals that it has when put here.

    Functions of importable modules travel by reference, lambdas, closures and those of ``__main__`` by value. Arrays
    among the globals and closure variables of these are a worker's own, as if it had imported them.
    """

    def __init__(self, domain: Domain, inheritance: Inheritance) -> None:
        self._domain = domain
        self._inheritance = inheritance
        self._known: OrderedDict[int, _Kept] = OrderedDict()

    @staticmethod
    def keeps(function: Any) -> bool:
        """True if a function may be pickled once for all: what has a state (methods, partials) may change it."""
        kind = type(function)
        if kind is types.BuiltinFunctionType:
            return function.__self__ is None or isinstance(function.__self__, types.ModuleType)
        return kind is types.FunctionType or isinstance(function, type) or kind.__name__ == "ufunc"

    def reference(self, function: Any, name: str) -> tuple[FunctionRef, Any]:
        """Return how a worker finds a function (0.2 us if it is known, else about 100 us), and what to keep meanwhile.

        Raises:
            UnshareableArgument: a closure variable or global of it cannot travel.
        """
        found = self._known.get(id(function))
        if found is None:
            found = self._known[id(function)] = self._put(function, name)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found.reference, found

    def _put(self, function: Any, name: str) -> _Kept:
        segments: list[segment.Segment] = []
        buffers: list[bytes | Buffer] = []

        def keep_apart(raw: memoryview) -> bool:
            if raw.nbytes < codec.LARGE_BYTES:
                return False
            # Not a warm segment: the function keeps it for as long as it is known.
            segments.append(segment.create(self._domain, raw.nbytes, Kind.CALL, source=raw))
            self._domain.names.mark_handed(segments[-1].serial)
            buffers.append(Buffer(segments[-1].serial, 0, raw.nbytes))
            return True

        numpy = arrays.loaded_numpy()
        reducers = self._inheritance.reducers() | ({} if numpy is None else {numpy.ndarray: arrays.writable})
        already = len(self._inheritance.used)
        try:
            data = codec.encode(function, reducers, keep_apart)
        except BaseException as error:
            for used in segments:
                used.unlink()
            if isinstance(error, MemoryError) or not isinstance(error, Exception):
                raise
            raise codec.explain(f"the function {name}", function, error, reducers) from error
        digest = hashlib.blake2b(data, digest_size=16)
        # Two closures over arrays of one shape differ in nothing but where those lie.
        digest.update(repr(buffers).encode())
        reference = FunctionRef(digest.digest(), Pickled(data, buffers))
        return _Kept(function, reference, segments, self._inheritance.used[already:])

    def clear(self) -> None:
        """Forget all functions."""
        self._known.clear()
        self._domain.names.tidy()

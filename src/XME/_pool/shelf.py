"""The functions that a crew's workers know: pickled once, sent by digest."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from XME._core import segment
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._pool.inherited import Inheritance
from XME._pool.wire import Buffer, FunctionRef, Pickled
from XME._store import codec

_KEPT = 512


class Shelf:
    """Function references by identity. A function of ``__main__`` travels with the globals of the moment it was put here.

    Functions of importable modules travel by reference, lambdas, closures and those of ``__main__`` by value.
    """

    def __init__(self, domain: Domain, inheritance: Inheritance) -> None:
        self._domain = domain
        self._inheritance = inheritance
        self._known: OrderedDict[Any, tuple[Any, FunctionRef, list[segment.Segment]]] = OrderedDict()

    def reference(self, function: Any, name: str) -> FunctionRef:
        """Return how a worker finds a function (0.2 us if it is known, else about 100 us).

        Raises:
            UnshareableArgument: a closure variable or global of it cannot travel.
        """
        key = _identity(function)
        found = self._known.get(key)
        if found is None:
            found = self._put(key, function, name)
        return found[1]

    def _put(self, key: Any, function: Any, name: str) -> tuple[Any, FunctionRef, list[segment.Segment]]:
        segments: list[segment.Segment] = []
        buffers: list[bytes | Buffer] = []

        def keep_apart(raw: memoryview) -> bool:
            if raw.nbytes < codec.LARGE_BYTES:
                return False
            # Not a warm segment: the function keeps it for as long as it is known.
            segments.append(segment.create(self._domain, raw.nbytes, Kind.CALL, source=raw))
            self._domain.names.mark_handed(segments[-1].serial)
            buffers.append(Buffer(segments[-1].serial, raw.nbytes))
            return True

        try:
            data = codec.encode(function, self._inheritance.reducers(), keep_apart)
        except MemoryError:
            raise
        except Exception as error:
            raise codec.explain(f"the function {name}", function, error) from error
        reference = FunctionRef(hashlib.blake2b(data, digest_size=16).digest(), Pickled(data, buffers))
        self._known[key] = function, reference, segments
        while len(self._known) > _KEPT:
            self._drop(self._known.popitem(last=False)[1][2])
        return self._known[key]

    @staticmethod
    def _drop(segments: list[segment.Segment]) -> None:
        for used in segments:
            used.unlink()

    def clear(self) -> None:
        """Forget all functions."""
        while self._known:
            self._drop(self._known.popitem()[1][2])


def _identity(function: Any) -> Any:
    # A bound method is a new object each time it is looked up.
    owner = getattr(function, "__self__", None)
    inner = getattr(function, "__func__", None)
    return id(function) if inner is None else (id(inner), id(owner))

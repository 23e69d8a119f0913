"""What does it cost to seal and to open 100 small messages, from and into a Monitor of its own?"""

from __future__ import annotations

import pickle
from typing import Any

from benchmarks.registry import Case, Scale, Series, need
from benchmarks.stores.timing import operation_series

_KEY = bytes(range(32))
_MESSAGES = {f"key {number}": number if number % 3 else f"text {number}" for number in range(100)}


def _xme(scale: Scale) -> list[Series]:
    monitor = need("XME.Monitor").Monitor
    there = monitor()
    there.update(_MESSAGES)
    sealed = there.marshal(key=_KEY)

    def seal(count: int) -> None:
        for _ in range(count):
            there.marshal(key=_KEY)

    def unseal(count: int) -> None:
        for _ in range(count):
            monitor().unmarshal(sealed, key=_KEY)

    here = monitor()
    here.unmarshal(sealed, key=_KEY)
    assert here.get() == _MESSAGES
    return [operation_series(seal, int, scale, "sealed"), operation_series(unseal, int, scale, "opened")]


def _pickle(scale: Scale) -> list[Series]:
    packed = pickle.dumps(_MESSAGES, 5)

    def each(function: Any, value: Any) -> Any:
        return lambda count: [function(value) for _ in range(count)]

    return [
        operation_series(each(pickle.dumps, _MESSAGES), int, scale, "sealed"),
        operation_series(each(pickle.loads, packed), int, scale, "opened"),
    ]


def _run(rival: str, scale: Scale) -> list[Series]:
    return _xme(scale) if rival == "xme" else _pickle(scale)


CASE = Case(
    "message_small", "100 small messages sealed and opened", "µs", ("xme", "pickle"), _run,
    reach={"sealed": 50.0, "opened": 50.0},
)  # fmt: skip

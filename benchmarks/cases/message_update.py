"""What does it cost to set one message and to read it, when nobody else wants to?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Manager
from typing import Any

from benchmarks.registry import Case, Scale, Series, need
from benchmarks.stores.timing import operation_series

Pair = tuple[Callable[..., Any], Callable[[str], Any]]


@contextmanager
def _xme() -> Iterator[dict[str, Pair]]:
    module, security = need("XME.Monitor"), need("XME.Security")
    admin = security.ADMIN
    shared = need("XME").xmem_object("board", module.Monitor)
    guarded = need("XME").xmem_object("board", module.Monitor, security=security.Security())
    private = module.Monitor()
    yield {
        "": (shared.update, shared.get),
        "behind a Security": (lambda message: guarded.update(message, admin), guarded.get),
        "that nobody else knows": (private.update, private.get),
    }


@contextmanager
def _manager() -> Iterator[dict[str, Pair]]:
    with Manager() as manager:
        board = manager.dict()
        yield {"": (board.update, board.get)}


_RIVALS = {"xme": _xme, "manager": _manager}


def _timed(update: Callable[..., Any], get: Callable[[str], Any], scale: Scale, label: str) -> Series:
    def run(messages: list[dict[str, int]]) -> None:
        for message in messages:
            update(message)
            get("key")

    update({"key": -1})
    assert get("key") == -1
    return operation_series(run, lambda count: [{"key": number} for number in range(count)], scale, label)


def _run(rival: str, scale: Scale) -> list[Series]:
    with _RIVALS[rival]() as pairs:
        return [_timed(update, get, scale, label) for label, (update, get) in pairs.items()]


CASE = Case("message_update", "one message set and read", "µs", tuple(_RIVALS), _run, reach={"": 10.0})

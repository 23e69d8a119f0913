"""A container that another process has made: how it is to come new to something that others have.

    the measuring process                       the keeper
        |  spawn  --------------------------->  opens the rival's store
        |  make n keys  --------------------->  makes them
        |  <------------------------- token     and holds them until the next order
        |  fork -> a child attaches by the token, measures, answers, ends
        |  nothing more  -------------------->  drops what it holds, closes its store, ends

A child of the measuring process has all the code warm and, of this container, nothing at all.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.registry import NotMeasuredError
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import open_store

KEEPER_LIMIT_S = 120.0
Fill = Callable[[Store, Any], None]


def _keep(orders: Connection, rival: str) -> None:
    with open_store(rival, public=True) as store:
        handle: Any = None
        while (order := orders.recv()) is not None:
            if handle is not None:
                store.drop(handle)
                handle = None
            count, fill = order
            handle = store.make(count)
            if fill is not None:
                fill(store, handle)
            orders.send(store.token(handle))
        if handle is not None:
            store.drop(handle)
        del handle


class Keeper:
    """The other end: asks for containers."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders

    def make(self, count: int, fill: Fill | None = None) -> Any:
        """Have a container of ``count`` keys made, and the one before dropped; return its token.

        ``fill(store, handle)`` is run there as well.

        Raises:
            NotMeasuredError: when the keeper ended instead, or is not done within its limit.
        """
        self._orders.send((count, fill))
        if not self._orders.poll(KEEPER_LIMIT_S):
            raise NotMeasuredError(f"{count:,} keys were not made within {KEEPER_LIMIT_S:g} s")
        try:
            return self._orders.recv()
        except EOFError:
            raise NotMeasuredError(f"the process that made {count:,} keys failed, see stderr") from None


@contextmanager
def keeper(rival: str) -> Iterator[Keeper]:
    """Start a process that makes containers for this one; it is ended at the end, at once if it does not listen."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # Not daemonic: a Manager's server is a child of the keeper.
    process = context.Process(target=_keep, args=(theirs, rival))
    process.start()
    theirs.close()
    try:
        yield Keeper(ours)
        ours.send(None)
        process.join(KEEPER_LIMIT_S)
    finally:
        ours.close()
        if process.is_alive():
            process.kill()
            process.join()

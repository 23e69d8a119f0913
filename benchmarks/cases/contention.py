"""Two processes set keys of one dict and two get them, as fast as they can: what does an operation cost in all?

The samples are the µs of one operation: of all four processes counted together, and of the sets and the gets alone,
which shows whom the others keep from working. The facts name the operations a second of the last sample.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from benchmarks.cases.sizes import cycled, some_numbers
from benchmarks.registry import Case, NotMeasuredError, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import SINGLE_STORES, open_store
from benchmarks.stores.keeper import keeper

KEYS, ROLES = 1_000, ("write", "write", "read", "read")
# Between two looks at the clock; and how long a round may take beyond its time before it is called stuck.
BATCH_S, GRACE_S = 0.005, 20.0


def _batch(run: Callable[[list[Any]], None], keys: list[Any]) -> list[Any]:
    """Return as many keys as take about ``BATCH_S`` here, alone."""
    wanted = 1
    while wanted < 4 * KEYS:
        batch = cycled(keys, wanted)
        start = monotonic()
        run(batch)
        if monotonic() - start > BATCH_S / 2:
            break
        wanted *= 2
    return cycled(keys, wanted)


def _work(connection: Connection, store: Store, token: Any, handle: Any, role: str) -> None:
    """Answer every order (from when, until when) with the operations done, or with what went wrong."""
    try:
        mine = handle if store.inherited else store.attach(token)
        keys = [store.key(number) for number in some_numbers(KEYS)]
        act = store.write if role == "write" else store.read

        def run(batch: list[Any]) -> None:
            act(mine, batch)

        batch = _batch(run, keys)
        connection.send(len(batch))
        while (order := connection.recv()) is not None:
            connection.send(_until(run, batch, *order))
    # What a rival raises when two write at once is a finding about it, and its text belongs into the table.
    except Exception as error:
        connection.send(f"a process that {role}s failed: {type(error).__name__}: {str(error)[:150]}")


def _until(run: Callable[[list[Any]], None], batch: list[Any], start: float, end: float) -> int:
    while monotonic() < start:
        pass
    done = 0
    while True:
        run(batch)
        done += len(batch)
        if monotonic() >= end:
            return done


def _answers(connections: list[Any], limit_s: float) -> list[int]:
    found = []
    for connection in connections:
        if not connection.poll(limit_s):
            raise NotMeasuredError(f"stuck: a process did not come back within {limit_s:g} s of its time")
        answer = connection.recv()
        if isinstance(answer, str):
            raise NotMeasuredError(answer)
        found.append(answer)
    return found


@contextmanager
def _workers(store: Store, token: Any, handle: Any) -> Iterator[list[Any]]:
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in ROLES]
    processes = [
        context.Process(target=_work, args=(theirs, store, token, handle, role), daemon=True)
        for (_, theirs), role in zip(pairs, ROLES, strict=True)
    ]
    for process in processes:
        process.start()
    ours = [connection for connection, _ in pairs]
    try:
        yield ours
        for connection in ours:
            connection.send(None)
    finally:
        for process in processes:
            process.join(5.0)
            # One that is stuck in a rival's lock does not end by itself.
            process.kill()
            process.join()


def _measure(store: Store, token: Any, handle: Any, scale: Scale) -> list[Series]:
    found: dict[str, list[float]] = {"all": [], "sets": [], "gets": []}
    with _workers(store, token, handle) as connections:
        _answers(connections, GRACE_S)
        for _ in range(scale.pick(7, 2)):
            start = monotonic() + 0.05
            end = start + scale.pick(0.5, 0.2)
            for connection in connections:
                connection.send((start, end))
            done = _answers(connections, end - start + GRACE_S)
            # The last batches end behind the time: what they took beyond it is theirs too.
            taken = (monotonic() - start) * 1e6
            # Every process ends at least one batch, so no count is zero.
            for label, count in (("all", sum(done)), ("sets", sum(done[:2])), ("gets", sum(done[2:]))):
                found[label].append(taken / count)
    facts = {"processes": len(ROLES), "keys": KEYS}
    return [
        Series(samples, label, {**facts, "operations a second": round(1e6 / samples[-1])})
        for label, samples in found.items()
    ]


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_store(rival, public=True) as store:
        if store.inherited:
            handle = store.make(KEYS)
            try:
                return _measure(store, None, handle, scale)
            finally:
                store.drop(handle)
        with keeper(rival) as other:
            return _measure(store, other.make(KEYS), None, scale)


CASE = Case(
    "contention",
    "an operation, while 2 processes set and 2 get keys of one dict",
    "µs",
    SINGLE_STORES,
    _run,
)

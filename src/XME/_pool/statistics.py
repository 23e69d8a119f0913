"""What an executor has counted."""

from __future__ import annotations

from dataclasses import dataclass

from XME._pool.dispatch import Dispatcher


@dataclass(frozen=True)
class Statistics:
    """What an executor has done so far.

    Attributes:
        rows, claims: how many rows were run, in how many claims.
        bytes_pickled: bytes of pickles, of arguments and results.
        bytes_shared: bytes of large buffers that were put into shared memory, of arguments and results.
        working_s, waiting_s: seconds that each worker (by its number) ran rows, and slept.
    """

    rows: int
    claims: int
    bytes_pickled: int
    bytes_shared: int
    working_s: dict[int, float]
    waiting_s: dict[int, float]


def of(engine: Dispatcher | None) -> Statistics:
    """Return what a dispatcher and its crew have counted; all zero if nothing was ever run."""
    counts = {} if engine is None else engine.counts()
    pickled = 0 if engine is None else engine.pickled
    shared = 0 if engine is None else engine.shared
    return Statistics(
        rows=sum(found[0] for found in counts.values()),
        claims=sum(found[1] for found in counts.values()),
        bytes_pickled=pickled + sum(found[5] for found in counts.values()),
        bytes_shared=shared + sum(found[4] for found in counts.values()),
        working_s={serial: found[2] / 1e9 for serial, found in counts.items()},
        waiting_s={serial: found[3] / 1e9 for serial, found in counts.items()},
    )

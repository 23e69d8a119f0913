"""How long from nothing to the results of rows that all had to run at the same time?

The rows wait for each other at named semaphores, so the call ends only when every worker is up and has run one.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

from benchmarks.clock import cores, samples
from benchmarks.gates import gates
from benchmarks.registry import Case, Scale, Series, need
from benchmarks.work import meet

Start = Callable[[str, tuple[str, ...]], Any]


def _xme(method: str, names: tuple[str, ...]) -> Any:
    XME = need("XME")
    xme = XME.XME(meet, pnum=cores(), start_method=method)
    return xme.fun(names, xme.Array(range(len(names)))), xme.close


def _pool(method: str, names: tuple[str, ...]) -> Any:
    pool = multiprocessing.get_context(method).Pool(cores())
    return pool.starmap(meet, [(names, row) for row in range(len(names))], chunksize=1), pool.terminate


def _processpool(method: str, names: tuple[str, ...]) -> Any:
    futures = need("concurrent.futures")
    executor = futures.ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context(method))
    return list(executor.map(meet, repeat(names), range(len(names)))), executor.shutdown


_STARTS: dict[str, Start] = {"xme": _xme, "pool": _pool, "processpool": _processpool}


def _started(start: Start, method: str, names: tuple[str, ...], kept: list[Any]) -> None:
    results, close = start(method, names)
    assert len(set(results)) == len(names), "two rows shared a worker"
    kept.append(close)


def _close(kept: list[Any]) -> None:
    kept.pop()()


def _one_method(rival: str, method: str, times: int) -> Series:
    kept: list[Any] = []
    with gates(cores()) as (names, _):
        call = partial(_started, _STARTS[rival], method, names, kept)
        found = samples(call, times, scale=1e3, warm_up=0, after=partial(_close, kept))
    return Series(found, method, {"workers": cores()})


def _run(rival: str, scale: Scale) -> list[Series]:
    methods = [
        method for method in ("fork", "spawn", "forkserver") if method in multiprocessing.get_all_start_methods()
    ]
    return [_one_method(rival, method, scale.pick(15, 4)) for method in methods]


CASE = Case(
    "start_barrier",
    "from making the pool to the results of rows that wait for each other",
    "ms",
    tuple(_STARTS),
    _run,
    bound=("pool", 1.0),
    limit_s=180.0,
)

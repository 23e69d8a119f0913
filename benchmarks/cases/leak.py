"""Do calls, and arrays that come and go, leave anything behind? What has grown after 10,000 of each must be nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import cores
from benchmarks.registry import Case, NotMeasuredError, Scale, Series, need
from benchmarks.work import increment

TURNS = 10_000
# What is allowed to be filled once: caches, free lists, segments that are kept warm.
WARM_UP = 500
CALLS, DROPS = "calls", "arrays made and dropped"
# Small: the allocator gives and takes a few pages as it likes. A leak of 100 bytes a turn would be 1 MB.
REACH = {"file descriptors": 0.0, "mappings": 0.0, "names in /dev/shm": 0.0, "resident, MB": 1.0}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _mappings() -> int:
    """Return how many files are mapped; anonymous memory is the allocators', who take and keep whole arenas of it."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    # address, rights, offset, device, inode, path
    return sum(line.split(maxsplit=5)[4] != "0" for line in lines)


def counts() -> dict[str, float]:
    """Return what this process holds now: file descriptors, mapped files, names in /dev/shm, resident MB."""
    gc.collect()
    return {
        "file descriptors": float(len(os.listdir("/proc/self/fd"))),
        "mappings": float(_mappings()),
        "names in /dev/shm": float(len(os.listdir("/dev/shm"))),
        "resident, MB": _resident_mb(),
    }


def _grown(turn: Callable[[], Any], turns: int, what: str) -> list[Series]:
    for _ in range(WARM_UP):
        turn()
    before = counts()
    for _ in range(turns):
        turn()
    after = counts()
    return [
        Series([after[name] - before[name]], f"{name}: {what}", {"turns": turns, "before": round(before[name], 1)})
        for name in before
    ]


def _create_and_drop(XME: Any) -> None:
    array = XME.xmem_array((1 << 10,), dtype="f8")
    array[0] = 1.0


def _run(rival: str, scale: Scale) -> list[Series]:
    del rival
    if not Path("/proc/self/fd").is_dir() or not Path("/dev/shm").is_dir():
        raise NotMeasuredError("this system has no /proc/self/fd and /dev/shm to count in")
    XME = need("XME")
    turns = scale.pick(TURNS, TURNS // 10)
    with XME.XME(increment, pnum=cores()) as xme:
        calls = _grown(partial(xme.fun, 1), turns, CALLS)
    return calls + _grown(partial(_create_and_drop, XME), turns, DROPS)


CASE = Case(
    "leak",
    "what is there more after many turns than before",
    "more",
    ("xme",),
    _run,
    reach={f"{name}: {what}": most for name, most in REACH.items() for what in (CALLS, DROPS)},
    limit_s=300.0,
)

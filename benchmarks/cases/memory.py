"""How much memory do eight workers take that have read every page of one array?

The measure is PSS (each shared page counted once, divided among those who map it), summed over the caller and all
processes below it, after all eight have read the array and while they still hold it, minus the same sum before the
array was made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gates import gates
from benchmarks.registry import Case, NotMeasuredError, Scale, Series, need
from benchmarks.work import GATE_LIMIT_S, read_and_stay

WORKERS = 8
Finish = Callable[[], list[float]]


def family() -> list[int]:
    """Return the pids of this process and of all below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold anything, blanks and brackets too: the fields start after the last one.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_gb(pids: list[int]) -> float:
    """Return the summed PSS of these processes, in GB."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e9


class _Futures:
    """Executors with the interface of concurrent.futures."""

    def __init__(self, rival: str) -> None:
        if rival == "xme":
            self._executor = need("XME").Executor.Executor(max_workers=WORKERS)
        elif rival == "loky":
            self._executor = need("loky").get_reusable_executor(max_workers=WORKERS, timeout=600)
        else:
            self._executor = need("concurrent.futures").ProcessPoolExecutor(WORKERS)

    def start(self, array: Any, names: tuple[str, ...]) -> Finish:
        futures = [self._executor.submit(read_and_stay, array, names) for _ in range(WORKERS)]
        return lambda: [future.result(GATE_LIMIT_S) for future in futures]

    def close(self) -> None:
        self._executor.shutdown()


class _Joblib:
    """joblib.Parallel blocks its caller, so a thread waits for it."""

    def __init__(self) -> None:
        joblib = need("joblib")
        self._parallel = joblib.Parallel(n_jobs=WORKERS, batch_size=1)
        self._task = joblib.delayed(read_and_stay)
        self._thread = ThreadPoolExecutor(1)

    def start(self, array: Any, names: tuple[str, ...]) -> Finish:
        call = self._thread.submit(lambda: self._parallel(self._task(array, names) for _ in range(WORKERS)))
        return lambda: call.result(GATE_LIMIT_S)

    def close(self) -> None:
        self._thread.shutdown()
        need("joblib.externals.loky").get_reusable_executor().shutdown()


class _Ray:
    """Ray with as many workers as rows, whatever the number of cores."""

    def __init__(self) -> None:
        self._ray = need("ray")
        self._ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._task = self._ray.remote(read_and_stay)

    def start(self, array: Any, names: tuple[str, ...]) -> Finish:
        reference = self._ray.put(array)
        waiting = [self._task.remote(reference, names) for _ in range(WORKERS)]
        return lambda: self._ray.get(waiting, timeout=GATE_LIMIT_S)

    def close(self) -> None:
        self._ray.shutdown()


def _crew(rival: str) -> Any:
    return {"joblib": _Joblib, "ray": _Ray}.get(rival, lambda: _Futures(rival))()


def _hold(crew: Any, array: Any) -> tuple[float, list[float]]:
    """Return the family's PSS while all workers hold ``array``, and what they read."""
    with gates(2) as (names, (ready, go)):
        finish = crew.start(array, names)
        for _ in range(WORKERS):
            ready.acquire(GATE_LIMIT_S)
        held = pss_gb(family())
        for _ in range(WORKERS):
            go.release()
        return held, finish()


def _new_array(rival: str, nbytes: int) -> Any:
    if rival == "xme":
        array = need("XME").xmem_array((nbytes // 8,), dtype="f8")
        array[:] = 1.0
        return array
    return np.ones(nbytes // 8)


def _grown_gb(crew: Any, rival: str, nbytes: int) -> float:
    before = pss_gb(family())
    held, totals = _hold(crew, _new_array(rival, nbytes))
    assert totals == [nbytes // 8 // 512] * WORKERS
    return held - before


def _run(rival: str, scale: Scale) -> list[Series]:
    if not Path("/proc/self/smaps_rollup").exists():
        raise NotMeasuredError("this kernel has no /proc/PID/smaps_rollup")
    nbytes = scale.pick(1 << 30, 1 << 27)
    crew = _crew(rival)
    try:
        _hold(crew, np.zeros(1 << 10))
        found = [_grown_gb(crew, rival, nbytes) * 1e9 / nbytes for _ in range(scale.pick(3, 1))]
    finally:
        crew.close()
    return [Series(found, facts={"workers": WORKERS, "array, MiB": nbytes >> 20})]


CASE = Case(
    "memory",
    "PSS that eight workers take to read one array",
    "x its size",
    ("xme", "processpool", "loky", "joblib", "ray"),
    _run,
    reach={"": 1.05},
    limit_s=240.0,
)

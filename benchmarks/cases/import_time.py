"""What does the import cost beyond numpy's? Whole interpreters are timed, in pairs, one after the other."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from benchmarks.registry import Case, Scale, Series, need

MODULES = {
    "xme": "XME",
    "pool": "multiprocessing.pool",
    "processpool": "concurrent.futures.process",
    "mpire": "mpire",
    "joblib": "joblib",
    "loky": "loky",
    "ray": "ray",
    "dask": "distributed",
}


def _wall_ms(statement: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, timeout=60)
    return (perf_counter() - start) * 1e3


def _run(rival: str, scale: Scale) -> list[Series]:
    need(MODULES[rival])
    statement = f"import numpy, {MODULES[rival]}"
    # The first pair fills the file cache and writes the byte code.
    _wall_ms("import numpy")
    _wall_ms(statement)
    pairs = [(_wall_ms("import numpy"), _wall_ms(statement)) for _ in range(scale.pick(20, 5))]
    base = sorted(numpy for numpy, _ in pairs)[len(pairs) // 2]
    return [Series([both - numpy for numpy, both in pairs], facts={"numpy alone, ms": round(base)})]


CASE = Case("import_time", "an import beyond numpy's own", "ms", tuple(MODULES), _run, reach={"": 30.0})

"""What does the import cost beyond numpy's? Whole interpreters are timed, in pairs, one after the other.

XME's modules are loaded when they are first used: a second series names what a program that runs a function uses.
"""

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


# label -> what is run behind the import.
_USES = {"": "", "with XME.XME and Executor": "; XME.XME, XME.Executor.Executor"}


def _wall_ms(statement: str) -> float:
    start = perf_counter()
    # Without a time limit: with one, subprocess looks only every so often whether the program has ended.
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (perf_counter() - start) * 1e3


def _series(statement: str, label: str, pairs: int) -> Series:
    # The first pair fills the file cache and writes the byte code.
    _wall_ms("import numpy")
    _wall_ms(statement)
    found = [(_wall_ms("import numpy"), _wall_ms(statement)) for _ in range(pairs)]
    base = sorted(numpy for numpy, _ in found)[len(found) // 2]
    return Series([both - numpy for numpy, both in found], label, {"numpy alone, ms": round(base)})


def _run(rival: str, scale: Scale) -> list[Series]:
    need(MODULES[rival])
    uses = _USES if rival == "xme" else {"": ""}
    statement = f"import numpy, {MODULES[rival]}"
    return [_series(statement + use, label, scale.pick(20, 5)) for label, use in uses.items()]


CASE = Case("import_time", "an import beyond numpy's own", "ms", tuple(MODULES), _run, reach={"": 30.0})

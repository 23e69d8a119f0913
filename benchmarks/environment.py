"""Where the samples come from: the line that is stored beside them."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.clock import cores

DISTRIBUTIONS = (
    "xme-shm",
    "numpy",
    "posix_ipc",
    "cloudpickle",
    "mpire",
    "joblib",
    "loky",
    "ray",
    "dask",
    "distributed",
    "filelock",
    "fasteners",
    "ultradict",
    "shared-memory-dict",
    "lmdb",
    "diskcache",
    "redis",
    "hiredis",
)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def describe() -> dict[str, Any]:
    """Return the facts of this machine and environment, ready for JSON."""
    shm = Path("/dev/shm")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_model(),
        "cores": cores(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "shm_gb": round(shutil.disk_usage(shm).total / 1e9, 1) if shm.is_dir() else None,
        "start_method": multiprocessing.get_start_method(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
    }


def line(environment: dict[str, Any]) -> str:
    """Say an environment in one line."""
    facts = [
        environment["date"],
        f"Python {environment['python']}",
        environment["kernel"],
        environment["cpu"],
        f"{environment['cores']} cores",
        f"{environment['memory_gb']} GB",
        f"load {environment['load'][0]} at the start",
        f"start method {environment['start_method']}",
        *(f"{name} {version}" for name, version in environment["versions"].items() if version),
    ]
    return "; ".join(facts)

"""How many processes make sense here: the cores that this process may use."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from XME._pool import inherited

_ROOT = Path("/sys/fs/cgroup")
# A quota that was read is believed for so long: reading it takes as long as half a fork, and a start asks four times.
_BELIEVED_S = 1.0
# When it was read, and what it was.
_last_quota = (-math.inf, 0)


def available_cores() -> int:
    """Give the number of cores that this process may use: affinity, cgroup quota and an outer crew's share count.

    >>> available_cores() >= 1
    True
    """
    cores = min(affine_cores(), _by_quota_of_late())
    # What an outer crew leaves to each of its workers, so that crews within crews do not multiply.
    share = inherited.cores
    return cores if share is None else max(1, min(cores, share))


def limit_cores(share: int | None) -> None:
    """Say in a worker how many processes it may start in its turn (None: as many as there are cores)."""
    inherited.cores = share


def affine_cores() -> int:
    """Give the number of cores that this process may run on.

    >>> affine_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _by_quota_of_late() -> int:
    global _last_quota
    read, cores = _last_quota
    now = time.monotonic()
    if now - read > _BELIEVED_S:
        cores = _by_quota(_ROOT, Path("/proc/self/cgroup"))
        _last_quota = now, cores
    return cores


def _by_quota(root: Path, memberships: Path) -> int:
    """Give the smallest quota of this process's cgroup and its ancestors, rounded up; no quota is no limit."""
    quotas = [quota for folder in _cgroup_folders(root, memberships) if (quota := _quota(folder)) is not None]
    return max(1, math.ceil(min(quotas))) if quotas else 1 << 30


def _cgroup_folders(root: Path, memberships: Path) -> list[Path]:
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return []
    folders = [root, root / "cpu"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root if not controllers else root / "cpu" if "cpu" in controllers.split(",") else None
        # A path with ".." is outside what this container sees; its limit then stands at the root that it does see.
        parts = [part for part in path.split("/") if part]
        if base is not None and ".." not in parts:
            folders += [base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None

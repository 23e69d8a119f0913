"""What memory is taken, from what the kernel counts: blocks of files in memory, private pages of a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

SHM = Path("/dev/shm")


def allocated_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes that the pages of these files take: a file in memory has pages only where it was written."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def segment_bytes(prefix: str) -> int:
    """Return the bytes of all shared memory whose names begin like this."""
    return allocated_bytes(SHM.glob(f"{prefix.lstrip('/')}*"))


def own_domains() -> set[str]:
    """Return how the names of XME's shared memory begin in the domains that this process has containers of.

    A file is known by its number: it had no name yet when it was mapped. What ends in a serial number of zero is a
    domain's own file, and of other programs' domains XME looks at these.
    """
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {int(line.split()[4]) for line in lines if str(SHM) in line}
    found = set()
    for path in SHM.glob("xm" + 28 * "?"):
        with contextlib.suppress(FileNotFoundError):
            if not path.name.endswith("AAAAAA") and path.stat().st_ino in mapped:
                found.add(path.name[:24])
    if not found:
        raise RuntimeError("this process has no shared memory of XME mapped, so what it takes cannot be told")
    return found


def private_bytes(pid: int) -> int:
    """Return the bytes of a process that it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
